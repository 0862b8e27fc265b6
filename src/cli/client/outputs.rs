//! What jobs keep, as one asks for it.

use reqwest::Method;

use super::transport::Call;
use super::{ApiError, Client};
use crate::api::dto::{EditState, JobStateDto};

impl Client {
    /// What a job keeps for its next run.
    pub async fn job_state(&self, job: &str) -> Result<JobStateDto, ApiError> {
        self.get(&["jobs", job, "state"]).await
    }

    /// Changes it, key by key.
    pub async fn edit_state(&self, job: &str, edit: &EditState) -> Result<(), ApiError> {
        let call = Call::write(Method::PUT, &["jobs", job, "state"]).body(edit)?;
        self.send(&call).await.map(drop)
    }
}
