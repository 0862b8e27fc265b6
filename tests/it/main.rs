//! Integration tests: one binary, real processes.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod worker;
