//! Horai.
fn main() {}
