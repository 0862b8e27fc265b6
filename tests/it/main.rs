//! Integration tests: one binary, real processes.

#[cfg(test)]
mod worker;
