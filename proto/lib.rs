//! Generated wire messages, and nothing else.

/// Node to node: `raft.proto`.
#[allow(missing_docs, clippy::all)]
pub mod raft {
    tonic::include_proto!("horai.raft.v1");
}

/// Worker to node: `worker.proto`.
#[allow(missing_docs, clippy::all)]
pub mod worker {
    tonic::include_proto!("horai.worker.v1");
}
