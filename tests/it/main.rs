//! Integration tests: one binary, real processes.

mod worker;
