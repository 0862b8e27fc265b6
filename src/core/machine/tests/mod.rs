//! Tests of the machine as a whole: one rule each, and random command lists.

mod anchors;
mod golden;
mod random;
mod rules;
pub(crate) mod support;
