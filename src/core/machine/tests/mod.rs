//! Tests of the machine as a whole: one rule each, and random command lists.

mod golden;
mod random;
mod reports;
mod rules;
pub(crate) mod support;
