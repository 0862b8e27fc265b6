//! The deterministic core: what Horai schedules, and the machine that decides.
//!
//! The same commands, applied in the same order, give the same state and the
//! same hash on every node and every version that knows those commands. So
//! nothing here does I/O, reads a clock, draws randomness, logs, uses floats
//! or iterates a hash map: `Cargo.toml`, `clippy.toml` and the tidy test hold
//! that line.
//!
//! Reading order: [`ids`] and [`time`], then the nouns in [`model`], then
//! [`machine`], which changes them. [`timing`] computes instants for the
//! leader, and [`derivation`] what dependencies make of them; the machine must
//! import neither, because decisions are replicated, not computations whose inputs
//! differ between versions.

pub mod derivation;
pub mod history;
pub mod ids;
pub mod machine;
pub mod model;
pub mod mutants;
pub mod near;
pub mod placement;
pub mod time;
pub mod timing;
