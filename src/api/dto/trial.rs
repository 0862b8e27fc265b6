//! What something that is asked for would do.

use serde::{Deserialize, Serialize};

use super::runs::RunDto;
use super::text::ActionRef;

/// What would follow at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialDto {
    /// The run that would be made; its number is only the next one that is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunDto>,
    /// How many actions would have another state.
    pub change_count: u64,
    /// Up to 1,000 of them.
    pub changes: Vec<ChangeDto>,
}

/// An action that would have another state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeDto {
    /// Which.
    pub action: ActionRef,
    /// Its state.
    pub from: String,
    /// What it would be.
    pub to: String,
}
