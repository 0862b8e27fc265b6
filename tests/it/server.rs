//! Whole nodes: founded, started, asked, stopped.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use horai::config::{self, NodeConfig};
use horai::founding::{self, Founded};
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

impl Home {
    fn found() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().display();
        let text = format!(
            "[node]\ndata_dir = \"{home}/node\"\ntoken_file = \"{home}/token\"\n\
             http = \"127.0.0.1:0\"\ngrpc = \"127.0.0.1:0\"\nraft = \"127.0.0.1:0\"\n"
        );
        std::fs::write(folder.path().join("node.toml"), text).unwrap();
        let config: NodeConfig = config::load(&folder.path().join("node.toml"), []).unwrap();
        let founded = founding::found(&config, "UTC").unwrap();
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
    let first = timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap();
    first.body.unwrap()
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
