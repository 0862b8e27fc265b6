//! The services against one state in one process: no Raft, any clock.

mod clock;
mod edges;
mod holds;
mod node;
mod planning;
mod pools;
mod random;
mod services;
mod simulation;
mod support;
