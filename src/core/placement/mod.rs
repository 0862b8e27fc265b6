//! Where: which waiting run goes to which worker, and why one waits. Pure, and only read by the leader.
