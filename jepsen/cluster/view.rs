//! What each node tells of itself, asked five times a second: the evidence of polls.
//!
//! Every answer is a row of `nodes.jsonl`; nothing is judged here.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::Cluster;
use crate::env::Error;
use crate::time::Stamp;

/// Between two polls of one node.
const EVERY: Duration = Duration::from_millis(200);
/// A node that needs longer is silent.
const LIMIT: Duration = Duration::from_secs(1);

/// Asks all nodes until it is told to stop.
pub(crate) struct Poller {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Poller {
    /// Starts, with one task a node: a silent one must not hold up the others.
    pub(crate) fn start(cluster: &Cluster, file: File) -> Result<Self, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let file = Arc::new(Mutex::new(file));
        let http = reqwest::Client::builder().timeout(LIMIT).no_proxy().build();
        let http = http.map_err(|e| Error::Misuse(format!("no HTTP client: {e}")))?;
        let mut tasks = Vec::new();
        for node in &cluster.nodes {
            let url = format!("{}/api/v1/cluster?consistency=stale", node.url());
            let request = http.get(url).bearer_auth(&cluster.token);
            let (name, stop, file) = (node.name.clone(), Arc::clone(&stop), Arc::clone(&file));
            tasks.push(cluster.runtime.spawn(async move {
                while !stop.load(Ordering::Acquire) {
                    let Some(request) = request.try_clone() else { return };
                    let row = ask(&name, request).await;
                    let line = format!("{row}\n");
                    append(&file, &line);
                    tokio::time::sleep(EVERY).await;
                }
            }));
        }
        Ok(Self { stop, tasks })
    }

    /// Stops and waits for the last rows.
    pub(crate) async fn stop(self) {
        self.stop.store(true, Ordering::Release);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

fn append(file: &Mutex<File>, line: &str) {
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    // A full store shows in the other files too, and fails the run.
    let _ = file.write_all(line.as_bytes());
}

async fn ask(node: &str, request: reqwest::RequestBuilder) -> Value {
    let answer = async { request.send().await?.error_for_status()?.json::<Value>().await };
    let answer = answer.await;
    let at = Stamp::now();
    let mut row = json!({"t": at.t, "utc": at.utc, "node": node, "ok": answer.is_ok()});
    match answer {
        Ok(said) => {
            row["leader"] = said["leader"]["node"].clone();
            row["term"] = json!(said["leader"]["term"].as_u64().unwrap_or(0));
            row["applied"] = json!(said["applied_index"].as_u64().unwrap_or(0));
            row["state_hash"] = json!(said["state_hash"].as_str().unwrap_or_default());
            row["members"] = json!(said["members"].as_array().map_or(0, Vec::len));
            row["counts"] = said["counts"].clone();
            row["number"] = said["node"].clone();
            row["time"] = said["time"].clone();
        }
        Err(error) => row["error"] = json!(crate::error::chain(&error)),
    }
    row
}
