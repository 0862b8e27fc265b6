//! Tests of the stores as a whole: openraft's suite, crashes, refusals.

mod support;

mod crash;
mod pitfalls;
mod refusals;
mod snapshots;
mod suite;
