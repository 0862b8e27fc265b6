//! Fetches what jobs bring along: contents of files, from whichever node has them.
//!
//! A content is what its hash says or it is not taken. Some of them are kept in memory, so
//! that a job that runs often costs no node anything. What cannot be had for a while is
//! given up: its attempt does not begin without it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use horai_core::model::file::{Digest, JobFile};
use horai_proto::logs as pb;
use horai_proto::logs::worker_files_client::WorkerFilesClient;
use horai_proto::worker::File;
use horai_raft::host;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Endpoint;

use super::attach::{Identity, identified};
use super::jobs::Furniture;
use super::wire;
use crate::chunks::content::{file_ref, unpack};

/// Bytes of contents that are kept.
const KEPT: usize = 16 << 20;
/// How long one node may take.
const LIMIT: Duration = Duration::from_secs(3);
/// Before the nodes are asked again,
const PAUSE: Duration = Duration::from_millis(300);
/// and for how long: longer than an election takes. So a file that nobody has is not asked
/// for again and again by an attempt that is given back and comes back at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer: a content and its marks.
const MAX_ANSWER: usize = 1 << 20;

/// See the module.
pub(super) struct Bring {
    identity: Identity,
    /// `http://host:port` of each node, the one that answered last first.
    nodes: Mutex<Vec<String>>,
    kept: Mutex<Kept>,
}

impl Bring {
    /// From the nodes at these addresses, until others are known.
    pub(super) fn new(identity: Identity, nodes: Vec<String>) -> Self {
        Self { identity, nodes: Mutex::new(nodes), kept: Mutex::default() }
    }

    /// Hears where nodes are.
    pub(super) fn know(&self, nodes: Vec<String>) {
        *lock(&self.nodes) = nodes;
    }

    /// The files of an order with their contents; or why they cannot be had.
    pub(super) async fn all(&self, files: &[File]) -> Result<Vec<Furniture>, String> {
        let mut found = Vec::with_capacity(files.len());
        let until = Instant::now() + PATIENCE;
        for (name, file) in wire::files_of(files)? {
            let content = loop {
                match self.one(&file).await {
                    Ok(content) => break content,
                    Err(_) if Instant::now() + PAUSE < until => sleep(PAUSE).await,
                    Err(why) => return Err(format!("file {name} cannot be had: {why}")),
                }
            };
            found.push(Furniture { name, mode: file.mode, content });
        }
        Ok(found)
    }

    async fn one(&self, file: &JobFile) -> Result<Bytes, String> {
        if let Some(content) = lock(&self.kept).get(file.digest) {
            return Ok(content);
        }
        let nodes = lock(&self.nodes).clone();
        let mut why = "this worker knows no node".to_owned();
        for (place, node) in nodes.iter().enumerate() {
            let asked = timeout(LIMIT, self.ask(node, file.digest)).await;
            match asked.unwrap_or_else(|_| Err("it does not answer".to_owned())) {
                Ok(content) if content.len() == file.len as usize => {
                    if place > 0 {
                        lock(&self.nodes).sort_by_key(|other| other != node);
                    }
                    lock(&self.kept).put(file.digest, content.clone());
                    return Ok(content);
                }
                Ok(_) => why = format!("{node} has one of another length"),
                Err(problem) => why = format!("{node}: {problem}"),
            }
        }
        Err(why)
    }

    async fn ask(&self, node: &str, digest: Digest) -> Result<Bytes, String> {
        let endpoint = Endpoint::from_shared(node.to_owned()).map_err(|e| e.to_string())?;
        let endpoint = endpoint.connect_timeout(LIMIT).tcp_nodelay(true);
        let channel = host::connect(&endpoint, self.identity.dial.as_ref()).await;
        let channel = channel.map_err(|error| error.to_string())?;
        let mut client = WorkerFilesClient::new(channel).max_decoding_message_size(MAX_ANSWER);
        let request = identified(&self.identity, file_ref(digest)).map_err(|e| e.to_string())?;
        let answer = client.fetch(request).await.map_err(|status| status.message().to_owned())?;
        checked(&answer.into_inner(), digest)
    }
}

/// What was sent, if it is what was asked for.
fn checked(content: &pb::Content, wanted: Digest) -> Result<Bytes, String> {
    match unpack(content) {
        Ok((digest, bytes)) if digest == wanted => Ok(bytes),
        Ok((digest, _)) => Err(format!("it sent the content {digest}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Contents that may be wanted again; those that were not for longest go first.
#[derive(Debug, Default)]
struct Kept {
    contents: BTreeMap<Digest, (Bytes, u64)>,
    bytes: usize,
    uses: u64,
}

impl Kept {
    fn get(&mut self, digest: Digest) -> Option<Bytes> {
        self.uses += 1;
        let (content, used) = self.contents.get_mut(&digest)?;
        *used = self.uses;
        Some(content.clone())
    }

    fn put(&mut self, digest: Digest, content: Bytes) {
        self.uses += 1;
        self.bytes += content.len();
        if let Some((old, _)) = self.contents.insert(digest, (content, self.uses)) {
            self.bytes -= old.len();
        }
        while self.bytes > KEPT {
            let oldest = self.contents.iter().min_by_key(|(_, (_, used))| *used);
            let Some(oldest) = oldest.map(|(digest, _)| *digest) else { return };
            if let Some((old, _)) = self.contents.remove(&oldest) {
                self.bytes -= old.len();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunks::content::{digest_of, pack};

    #[test]
    fn only_what_was_asked_for_is_taken() {
        let bytes = Bytes::from_static(b"abc");
        let digest = digest_of(&bytes);
        assert_eq!(checked(&pack(&bytes), digest), Ok(bytes));
        assert!(checked(&pack(&Bytes::from_static(b"abd")), digest).is_err());
        let forged = pb::Content { data: Bytes::from_static(b"abd"), ..pack(&Bytes::new()) };
        assert!(checked(&forged, digest).is_err());
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_used_stays() {
        let mut kept = Kept::default();
        let content = Bytes::from(vec![0; 256 << 10]);
        let digest = |n: u8| Digest([n; 32]);
        for n in 0..100 {
            kept.put(digest(n), content.clone());
            kept.put(digest(n), content.clone());
            assert!(kept.get(digest(0)).is_some());
        }
        assert_eq!((kept.contents.len(), kept.bytes), (64, KEPT));
        assert!(kept.get(digest(1)).is_none() && kept.get(digest(99)).is_some());
    }
}
