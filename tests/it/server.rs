//! Whole nodes: founded, started, asked, stopped.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use horai::config::{self, NodeConfig};
use horai::founding::{self, Choices, Founded};
use horai::joining;
use horai_core::ids::NodeId;
use horai_proto::worker::to_worker::Body as Hear;
use horai_proto::worker::worker_link_client::WorkerLinkClient;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

const PATIENCE: Duration = Duration::from_secs(30);

/// A node's folder, its configuration and its tokens.
struct Home {
    folder: tempfile::TempDir,
    founded: Founded,
}

/// Writes a node's file, with ports that the system chooses.
fn configure(folder: &Path, name: &str) -> NodeConfig {
    let home = folder.display();
    let text = format!(
        "[node]\ndata_dir = \"{home}/{name}\"\ntoken_file = \"{home}/token\"\n\
         http = \"127.0.0.1:0\"\ngrpc = \"127.0.0.1:0\"\nraft = \"127.0.0.1:0\"\n"
    );
    let file = folder.join(format!("{name}.toml"));
    std::fs::write(&file, text).unwrap();
    config::load(&file, []).unwrap()
}

impl Home {
    fn found() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = configure(folder.path(), "node");
        let founded = founding::found(&config, &Choices::default()).unwrap();
        Self { folder, founded }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn node(&self) -> Process {
        Process::start("node", &self.path("node.toml"))
    }
}

/// A process with the line in which it said that it is ready.
struct Process {
    child: Child,
    ready: String,
}

impl Process {
    fn start(verb: &str, config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_horai"))
            .args([verb, "--config"])
            .arg(config)
            .env("HORAI_CFG__LOG__LEVEL", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        Self { child, ready }
    }

    fn address(&self, service: &str) -> String {
        let key = format!("{service}=");
        let found = self.ready.split_whitespace().find_map(|word| word.strip_prefix(&key));
        found.unwrap_or_else(|| panic!("no {service} in {:?}", self.ready)).to_owned()
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Stops it kindly; it must end well.
    fn stop(mut self) {
        self.signal("-TERM");
        let begun = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if begun.elapsed() > PATIENCE => panic!("it does not stop"),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        assert!(status.success(), "{status:?}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns when one of these nodes leads.
async fn leader(addresses: &[String], token: &str) {
    let led = timeout(PATIENCE, async {
        for address in addresses.iter().cycle() {
            let said = timeout(Duration::from_millis(200), greeting(address, token)).await;
            if matches!(said, Ok(Hear::Lead(_))) {
                return;
            }
        }
    });
    led.await.expect("one of them leads");
}

async fn until(is_so: impl Fn() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect("what is waited for comes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_join_take_over_and_replace_one_that_is_lost() {
    let home = Home::found();
    let admin = home.founded.token.text().to_owned();
    let one = home.node();
    let seeds = [one.address("raft")];
    let mut others = Vec::new();
    for (name, number) in [("two", 2), ("three", 3)] {
        let config = configure(home.folder.path(), name);
        let token = home.founded.join_token.text();
        let refused = joining::join(&config, &seeds, "nobody's token", None).await.unwrap_err();
        assert!(matches!(refused, joining::Error::Ask(_)), "{refused}");
        let joined = joining::join(&config, &seeds, token, None).await.unwrap();
        assert_eq!((joined.node, joined.cluster), (NodeId(number), home.founded.cluster));
        let again = joining::join(&config, &seeds, token, None).await.unwrap();
        assert_eq!(again, joined, "asking again changes nothing");
        let node = Process::start("node", &home.path(&format!("{name}.toml")));
        // The note goes when it votes.
        let note = home.path(name).join("joining.json");
        until(|| !note.exists()).await;
        let exists = joining::join(&config, &seeds, token, None).await.unwrap_err();
        assert!(matches!(exists, joining::Error::Exists { .. }), "{exists}");
        others.push(node);
    }
    // A leader that stops hands over; one that is killed is followed.
    one.stop();
    let addresses: Vec<String> = others.iter().map(|node| node.address("grpc")).collect();
    leader(&addresses, &admin).await;

    // The first is lost for good: its folder gets a new node, and is kept aside.
    let config = configure(home.folder.path(), "node");
    let seeds: Vec<String> = others.iter().map(|node| node.address("raft")).collect();
    let wrong = joining::join(&config, &seeds, &admin, Some(NodeId(3))).await.unwrap_err();
    assert!(matches!(wrong, joining::Error::Exists { node: 1, .. }), "{wrong}");
    let joined = joining::join(&config, &seeds, &admin, Some(NodeId(1))).await.unwrap();
    assert_eq!(joined.node, NodeId(4));
    assert!(home.path("node.old-1").join("raft").exists());
    let four = home.node();
    assert!(four.ready.starts_with("node 4 ready"), "{:?}", four.ready);
    let note = home.path("node/joining.json");
    until(|| !note.exists()).await;

    // Three vote again: any one may be killed.
    let three = others.pop().unwrap();
    drop(three);
    leader(&[addresses[0].clone(), four.address("grpc")], &admin).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_applied_over_http_fires_and_runs_on_a_worker() {
    let home = Home::found();
    let token = home.founded.token.text();
    let node = home.node();
    let text = format!(
        "[worker]\nname = \"w1\"\ndata_dir = \"{0}/worker\"\nnodes = [\"{1}\"]\n\
         token_file = \"{0}/token\"\nheartbeat_ms = 200\n",
        home.folder.path().display(),
        node.address("grpc"),
    );
    std::fs::write(home.path("worker.toml"), text).unwrap();
    let worker = Process::start("worker", &home.path("worker.toml"));
    let base = format!("http://{}/api/v1", node.address("http"));
    let client = reqwest::Client::new();
    let jobs = serde_json::json!({"jobs": [
        {"name": "tick", "triggers": [{"cron": "* * * * * ?"}], "shell": "echo $HORAI_ACTION_ID"},
    ]});
    let post = client.post(format!("{base}/jobs")).bearer_auth(token).json(&jobs);
    let answer = post.send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    let nobody = client.get(format!("{base}/runs")).bearer_auth("nobody").send().await.unwrap();
    assert_eq!(nobody.status().as_u16(), 401);
    let done = timeout(PATIENCE, async {
        loop {
            let get = client.get(format!("{base}/runs?job=tick")).bearer_auth(token);
            let body: serde_json::Value = get.send().await.unwrap().json().await.unwrap();
            let text = body.to_string();
            if let Some(run) = find(&body, |v| v["state"] == "success" && v["id"].is_string()) {
                return run;
            }
            assert!(!text.contains("\"failed\""), "{text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let run = done.await.expect("a run succeeds");
    let id = run["id"].as_str().unwrap();
    let logs = client.get(format!("{base}/runs/{id}/logs")).bearer_auth(token);
    let output = logs.send().await.unwrap().text().await.unwrap();
    assert!(output.starts_with("tick@2"), "{output}");
    worker.stop();
    node.stop();
}

/// The first object inside that is what is looked for.
fn find(
    value: &serde_json::Value,
    is_it: impl Fn(&serde_json::Value) -> bool + Copy,
) -> Option<serde_json::Value> {
    match value {
        serde_json::Value::Object(_) if is_it(value) => Some(value.clone()),
        serde_json::Value::Object(map) => map.values().find_map(|v| find(v, is_it)),
        serde_json::Value::Array(all) => all.iter().find_map(|v| find(v, is_it)),
        _ => None,
    }
}

/// What a node says first to a worker with this token.
async fn greeting(address: &str, token: &str) -> Hear {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = WorkerLinkClient::new(endpoint.connect().await.unwrap());
    let (_to, frames) = tokio::sync::mpsc::channel(1);
    let mut request = tonic::Request::new(ReceiverStream::new(frames));
    let metadata = request.metadata_mut();
    metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
    metadata.insert("horai-worker", "w1".parse().unwrap());
    metadata.insert("horai-incarnation", format!("{:032x}", 1).parse().unwrap());
    let mut answers = client.attach(request).await.unwrap().into_inner();
    loop {
        let frame = timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap();
        match frame.body.unwrap() {
            // Who the nodes are comes at any time.
            Hear::Nodes(_) => {}
            first => return first,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founded_node_starts_knows_its_tokens_and_starts_again() {
    let home = Home::found();
    let note = home.path("node/founding.json");
    assert!(note.exists());
    for start in 1..=2 {
        let node = home.node();
        assert!(node.ready.starts_with("node 1 ready http=127.0.0.1:"), "{:?}", node.ready);
        assert!(!note.exists(), "the first start is complete when it is ready");
        let grpc = node.address("grpc");
        match greeting(&grpc, home.founded.token.text()).await {
            Hear::Lead(lead) => assert!(lead.term >= start && lead.node == 1, "{lead:?}"),
            other => panic!("{other:?}"),
        }
        for (token, code) in
            [(home.founded.join_token.text(), "denied"), ("a-token-of-nobody", "unauthenticated")]
        {
            match greeting(&grpc, token).await {
                Hear::Refused(refused) => assert_eq!(refused.code, code),
                other => panic!("{other:?}"),
            }
        }
        node.stop();
    }
}

#[test]
fn a_worker_says_that_it_is_ready_and_stops() {
    let home = Home::found();
    let folder = home.path("worker");
    let text = format!(
        "[worker]\nname = \"w1\"\ndata_dir = \"{}\"\nnodes = [\"127.0.0.1:1\"]\n\
         token_file = \"{}\"\nheartbeat_ms = 100\n",
        folder.display(),
        home.path("token").display()
    );
    std::fs::write(home.path("worker.toml"), text).unwrap();
    let worker = Process::start("worker", &home.path("worker.toml"));
    assert_eq!(worker.ready, "worker w1 ready\n");
    worker.stop();
    // A folder that is in use, and a token that is not there.
    let first = Process::start("worker", &home.path("worker.toml"));
    let mut second = Process::start("worker", &home.path("worker.toml"));
    assert_eq!((second.ready.as_str(), second.child.wait().unwrap().code()), ("", Some(1)));
    drop(first);
    std::fs::remove_file(home.path("token")).unwrap();
    let mut third = Process::start("worker", &home.path("worker.toml"));
    assert_eq!((third.ready.as_str(), third.child.wait().unwrap().code()), ("", Some(64)));
}

#[test]
fn a_node_without_a_store_or_with_a_taken_port_says_what_to_do() {
    let home = Home::found();
    let config = home.path("node.toml");
    let fails = |key: &str, value: &str| {
        let run = Command::new(env!("CARGO_BIN_EXE_horai"))
            .args(["node", "--config"])
            .arg(&config)
            .env(key, value)
            .output()
            .unwrap();
        assert!(run.stdout.is_empty());
        (run.status.code(), String::from_utf8(run.stderr).unwrap())
    };
    let empty = home.path("empty").display().to_string();
    let (code, text) = fails("HORAI_CFG__NODE__DATA_DIR", &empty);
    assert!(code == Some(1) && text.contains("cluster init"), "{text}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, text) = fails("HORAI_CFG__NODE__GRPC", &address);
    assert!(code == Some(64) && text.contains("node.grpc") && text.contains(&address), "{text}");
    let (code, text) = fails("HORAI_CFG__NODE__HTTP", "0.0.0.0:0");
    assert!(code == Some(64) && text.contains("advertise_http"), "{text}");
}
