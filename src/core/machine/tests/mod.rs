//! Tests of the machine as a whole: one rule each, and random command lists.

mod anchors;
mod areas;
mod backfills;
mod calendars;
mod deletion;
mod delays;
mod duties;
mod edges;
mod ends;
mod golden;
mod groups;
mod limits;
mod manual;
mod outputs;
mod overlap;
mod pauses;
mod pools;
mod random;
mod reports;
mod reruns;
mod rules;
mod secrets;
pub(crate) mod support;
mod sweeps;
mod upstream;
