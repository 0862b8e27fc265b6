//! Real nodes in one process, on real disks and sockets.

mod basics;
mod leaders;
mod proposals;
mod support;
