//! The replicated state machine: the only place where state changes.
//!
//! `apply` is total: every decodable command has an outcome on every state, and
//! a refusal is an [`outcome::Reject`], never an error or a panic. It replicates
//! decisions, so it must not import [`crate::timing`]; instants and derived
//! actions arrive computed, in [`command::Command::PlanActions`].

mod apply;
pub mod command;
mod files;
mod holds;
mod index;
pub mod invariants;
mod kept;
mod limits;
pub mod outcome;
mod parts;
mod places;
mod pools;
pub mod queue;
mod secrets;
pub mod snapshot;
pub mod state;
mod surroundings;
mod table;

#[cfg(test)]
pub(crate) mod tests;
