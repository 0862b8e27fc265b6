//! What each node tells of itself, asked five times a second: the evidence of polls.
//!
//! Every answer is a row of `nodes.jsonl`; nothing is judged here.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::error::{Failure, chain};
use crate::store::{Poll, write_row};
use crate::time::Stamp;

/// Between two polls of one node.
const EVERY: Duration = Duration::from_millis(200);
/// A node that needs longer is silent.
const LIMIT: Duration = Duration::from_secs(1);

/// A node to ask.
#[derive(Debug, Clone)]
struct Node {
    name: String,
    url: String,
    token: String,
    http: reqwest::Client,
}

/// Asks all nodes until it is told to stop.
pub(crate) struct Poller {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<io::Result<()>>>,
}

impl Poller {
    /// Starts, with one task a node: a silent one must not hold up the others. Nodes
    /// are names and where their API is.
    ///
    /// # Errors
    /// The file cannot be made, or no client at all.
    pub(crate) fn start<'a>(
        nodes: impl IntoIterator<Item = (&'a str, String)>,
        token: &str,
        file: &Path,
        runtime: &Handle,
    ) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let file = Arc::new(Mutex::new(File::create(file)?));
        let http = reqwest::Client::builder().timeout(LIMIT).no_proxy().build()?;
        let task = |(name, url): (&str, String)| {
            let node = Node {
                name: name.to_owned(),
                url: format!("{}/api/v1/cluster", url.trim_end_matches('/')),
                token: token.to_owned(),
                http: http.clone(),
            };
            runtime.spawn(watch(node, Arc::clone(&stop), Arc::clone(&file)))
        };
        let tasks = nodes.into_iter().map(task).collect();
        Ok(Self { stop, tasks })
    }

    /// Stops and waits for the last rows.
    ///
    /// # Errors
    /// Rows are missing: one could not be written, or a task panicked.
    pub(crate) async fn stop(self) -> io::Result<()> {
        self.stop.store(true, Ordering::Release);
        for task in self.tasks {
            task.await.map_err(io::Error::other)??;
        }
        Ok(())
    }
}

async fn watch(node: Node, stop: Arc<AtomicBool>, file: Arc<Mutex<File>>) -> io::Result<()> {
    while !stop.load(Ordering::Acquire) {
        let row = ask(&node).await;
        write_row(&mut *file.lock().unwrap_or_else(PoisonError::into_inner), &row)?;
        tokio::time::sleep(EVERY).await;
    }
    Ok(())
}

async fn ask(node: &Node) -> Poll {
    let request = node.http.get(&node.url).query(&[("consistency", "stale")]);
    let request = request.bearer_auth(&node.token);
    let answer = async { request.send().await?.error_for_status()?.json::<Value>().await };
    let answer = answer.await;
    let Stamp { t, utc } = Stamp::now();
    let poll = Poll { t, utc, node: node.name.clone(), ..Poll::default() };
    match answer {
        Ok(told) => Poll {
            ok: true,
            number: told["node"].as_u64(),
            leader: told["leader"]["node"].as_u64(),
            term: told["leader"]["term"].as_u64().unwrap_or(0),
            applied: told["applied_index"].as_u64().unwrap_or(0),
            state_hash: told["state_hash"].as_str().unwrap_or_default().to_owned(),
            members: json!(told["members"].as_array().map_or(0, Vec::len)),
            counts: told["counts"].clone(),
            time: told["time"].clone(),
            ..poll
        },
        Err(error) => Poll { error: Some(chain(&error)), ..poll },
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::store::read_rows;

    const TOLD: &str = r#"{"node":1,"leader":{"node":2,"term":7},"applied_index":40,
        "state_hash":"ab","members":[{},{},{}],"counts":{"jobs":3},"time":"x"}"#;

    #[tokio::test]
    async fn a_node_that_answers_and_one_that_does_not_are_rows() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = [0; 1024];
                let length = stream.read(&mut asked).await.unwrap();
                let asked = String::from_utf8_lossy(&asked[..length]).to_lowercase();
                assert!(asked.starts_with("get /api/v1/cluster?consistency=stale "), "{asked}");
                assert!(asked.contains("authorization: bearer secret"), "{asked}");
                let head = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}",
                    TOLD.len()
                );
                stream.write_all((head + "\r\n\r\n" + TOLD).as_bytes()).await.unwrap();
            }
        });
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nodes.jsonl");
        let nodes = [("n1", url), ("n2", format!("http://{silent}"))];
        let poller = Poller::start(nodes, "secret", &file, &Handle::current()).unwrap();
        let rows = || read_rows::<Poll>(&file).unwrap().rows;
        while rows().len() < 4 || !rows().iter().any(|row| row.ok) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        poller.stop().await.unwrap();
        let row = |node: &str| rows().into_iter().find(|row| row.node == node).unwrap();
        let good = row("n1");
        assert_eq!((good.ok, good.number, good.leader), (true, Some(1), Some(2)), "{good:?}");
        assert_eq!((good.term, good.applied, good.state_hash.as_str()), (7, 40, "ab"));
        assert_eq!((good.members, good.counts), (json!(3), json!({"jobs": 3})));
        let bad = row("n2");
        assert!(!bad.ok && bad.error.is_some() && bad.number.is_none(), "{bad:?}");
        served.abort();
    }

    #[tokio::test]
    async fn rows_that_cannot_be_written_are_told() {
        let nodes = [("n1", "http://127.0.0.1:1".to_owned())];
        let full = Path::new("/dev/full");
        let poller = Poller::start(nodes, "t", full, &Handle::current()).unwrap();
        while !poller.tasks.iter().all(JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(poller.stop().await.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
