//! A client that takes and gives back one lock all the time, over whichever node
//! answers, and keeps every token it was given.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::Cluster;

/// Runs beside a test, and is asked at its end.
pub(crate) struct LockUser {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u64>>,
}

impl LockUser {
    pub(crate) fn begin(cluster: &Cluster) -> Self {
        let urls: Vec<String> = cluster.nodes.iter().map(|n| n.address("http")).collect();
        let token = cluster.token.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(take_and_release(&urls, &token, &stopped))
        });
        Self { stop, thread }
    }

    /// Ends it; tokens must have grown all the time, and there must be some.
    #[track_caller]
    pub(crate) fn end(self) {
        self.stop.store(true, Ordering::Release);
        let tokens = self.thread.join().unwrap();
        assert!(tokens.len() > 5, "the lock was granted {} times", tokens.len());
        let fault = tokens.windows(2).find(|pair| pair[1] <= pair[0]);
        assert_eq!(fault, None, "a token that did not grow");
    }
}

async fn take_and_release(urls: &[String], token: &str, stop: &AtomicBool) -> Vec<u64> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(2)).build().unwrap();
    let mut tokens = Vec::new();
    let mut turn = 0_usize;
    let ask = async |turn: usize, verb: &str, body: Value| -> Option<Value> {
        let url = format!("http://{}/api/v1/locks/tested/{verb}", urls[turn % urls.len()]);
        let sent = client.post(url).bearer_auth(token).json(&body).send().await.ok()?;
        if !sent.status().is_success() {
            return None;
        }
        sent.json().await.ok()
    };
    while !stop.load(Ordering::Acquire) {
        turn += 1;
        // A new owner each time: a grant whose answer was lost ends with its lease.
        let body = json!({"owner": format!("user-{turn}"), "ttl": "2s"});
        if let Some(held) = ask(turn, "acquire", body).await
            && let Some(token) = held["token"].as_u64()
        {
            tokens.push(token);
            // Lost or not: the lease ends by itself.
            let _ = ask(turn, "release", json!({ "token": token })).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokens
}
