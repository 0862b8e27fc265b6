//! When: instants of triggers, computed by the leader. The machine must not import it.
//!
//! Everything here is a pure function of its arguments and of two data sets
//! that are compiled in: the cron grammar and the IANA zones. Two versions of
//! Horai may differ in both, which is why the leader computes and the log
//! carries the instants.
//!
//! Reading order: [`zone`] and [`cron`], then [`next_fire`], which joins them;
//! [`schedule`] reads a trigger of any kind, with the [`calendar`]s that bound
//! it, [`check`] does so for a whole job, and [`plan`] turns a cursor into what
//! the log is asked for. A [`period`] is a stretch of local time as an interval of
//! instants, and [`local`] what a clock shows, with its arithmetic; a [`batch`] key
//! names the stretch of data that an instant is about. [`simulate`] answers
//! for Quartz's own triggers.

pub mod batch;
pub mod calendar;
pub mod check;
pub mod cron;
mod daily_window;
mod interval;
pub mod local;
pub mod next_fire;
pub mod period;
pub mod plan;
pub mod schedule;
pub mod simulate;
mod wall;
pub mod zone;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod next_fire_tests;
#[cfg(test)]
mod sweep_tests;
