//! Tests of the machine as a whole: one rule each, and random command lists.

mod anchors;
mod backfills;
mod calendars;
mod deletion;
mod delays;
mod edges;
mod ends;
mod golden;
mod limits;
mod manual;
mod overlap;
mod pauses;
mod pools;
mod random;
mod reports;
mod reruns;
mod rules;
pub(crate) mod support;
mod sweeps;
mod upstream;
