//! Real nodes in one process, on real disks and sockets.

mod basics;
mod closing;
mod leaders;
mod membership;
mod proposals;
mod setup;
mod snapshots;
mod support;
