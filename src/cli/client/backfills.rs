//! Back-fills, and runs beside the plan.

use reqwest::Method;

use super::transport::{Call, read};
use super::{ApiError, Client, pages};
use crate::api::dto::{
    BackfillDto, BackfillInstantDto, BackfillPreview, BackfillRef, BackfillRequest, Page, RunRef,
    RunRequest, StartedBackfill, StartedRun, TrialDto,
};

impl Client {
    /// Runs a job now, outside its plan.
    pub async fn trigger_job(&self, name: &str, run: &RunRequest) -> Result<RunRef, ApiError> {
        let mut call = Call::write(Method::POST, &["jobs", name, "trigger"]);
        if *run != RunRequest::default() {
            call = call.body(run)?;
        }
        read::<StartedRun>(self.send(&call).await?).map(|started| started.run)
    }

    /// The run that [`Self::trigger_job`] would make.
    ///
    /// # Errors
    /// [`ApiError`] as for every call.
    pub async fn trigger_preview(
        &self,
        name: &str,
        run: &RunRequest,
    ) -> Result<TrialDto, ApiError> {
        let call = Call::write(Method::POST, &["jobs", name, "trigger", "preview"]).body(run)?;
        read(self.send(&call).await?)
    }

    /// Begins a back-fill.
    pub async fn start_backfill(
        &self,
        job: &str,
        request: &BackfillRequest,
    ) -> Result<BackfillRef, ApiError> {
        let call = Call::write(Method::POST, &["jobs", job, "backfills"]).body(request)?;
        read::<StartedBackfill>(self.send(&call).await?).map(|started| started.backfill)
    }

    /// What a back-fill would run.
    pub async fn preview_backfill(
        &self,
        job: &str,
        request: &BackfillRequest,
    ) -> Result<BackfillPreview, ApiError> {
        let path = ["jobs", job, "backfills", "preview"];
        read(self.send(&Call::write(Method::POST, &path).body(request)?).await?)
    }

    /// Back-fills, newest first, a page.
    pub async fn backfills(
        &self,
        job: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Page<BackfillDto>, ApiError> {
        self.read(Call::get(&["backfills"]).with("job", job).with("limit", limit)).await
    }

    /// One back-fill.
    pub async fn backfill(&self, id: BackfillRef) -> Result<BackfillDto, ApiError> {
        self.get(&["backfills", &id.to_string()]).await
    }

    /// All instants of a back-fill, of one state if that is said, ascending.
    pub async fn backfill_instants(
        &self,
        id: BackfillRef,
        state: Option<&str>,
    ) -> Result<Vec<BackfillInstantDto>, ApiError> {
        let id = id.to_string();
        pages::first(usize::MAX, async |size, next| {
            let call = Call::get(&["backfills", &id, "instants"]).with("limit", Some(size));
            self.read(call.with("state", state).with("after", next)).await
        })
        .await
    }

    /// Holds a back-fill (`pause`), lets it go on (`resume`) or ends it (`stop`).
    pub async fn steer_backfill(&self, id: BackfillRef, verb: &str) -> Result<(), ApiError> {
        let path = ["backfills", &id.to_string(), verb];
        self.send(&Call::write(Method::POST, &path)).await.map(drop)
    }

    /// Begins another one of what failed.
    pub async fn rerun_backfill(&self, id: BackfillRef) -> Result<BackfillRef, ApiError> {
        let path = ["backfills", &id.to_string(), "rerun"];
        let answer = self.send(&Call::write(Method::POST, &path)).await?;
        read::<StartedBackfill>(answer).map(|started| started.backfill)
    }
}
