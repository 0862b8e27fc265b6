//! What became of runs and actions, as one asks for it.

use super::{ApiError, Client};
use crate::api::dto::{ActionRef, HistoryDto, Page, RunRef};

impl Client {
    /// Every change of a run that is known, oldest first.
    pub async fn run_history(&self, run: RunRef) -> Result<Vec<HistoryDto>, ApiError> {
        let page: Page<HistoryDto> = self.get(&["runs", &run.to_string(), "history"]).await?;
        Ok(page.items)
    }

    /// The same of an action.
    pub async fn action_history(&self, action: &ActionRef) -> Result<Vec<HistoryDto>, ApiError> {
        let path = ["actions", &action.to_string(), "history"];
        let page: Page<HistoryDto> = self.get(&path).await?;
        Ok(page.items)
    }
}
