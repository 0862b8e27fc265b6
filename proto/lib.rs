//! Generated wire messages, and what is shown of those that may hold secrets.

/// Output of attempts: `logs.proto`.
#[allow(missing_docs, clippy::all)]
pub mod logs {
    tonic::include_proto!("horai.logs.v1");
}

/// Node to node: `raft.proto`.
#[allow(missing_docs, clippy::all)]
pub mod raft {
    tonic::include_proto!("horai.raft.v1");
}

/// Worker to node: `worker.proto`.
#[allow(missing_docs, clippy::all)]
pub mod worker {
    tonic::include_proto!("horai.worker.v1");

    /// Which attempt: its texts may hold secrets.
    impl std::fmt::Debug for Start {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Start")
                .field("attempt", &self.attempt)
                .field("fence", &self.fence)
                .field("job", &self.job)
                .finish_non_exhaustive()
        }
    }
}
