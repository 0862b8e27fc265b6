//! The services against one state in one process: no Raft, any clock.

mod clock;
mod edges;
mod graphs;
mod holds;
mod limits;
mod node;
mod planning;
mod choice;
mod pools;
mod random;
mod secrets;
mod services;
mod simulation;
mod spreads;
mod support;
