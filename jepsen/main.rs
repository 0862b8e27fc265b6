//! Breaks running clusters.
fn main() {}
