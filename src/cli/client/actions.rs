//! What clients ask of a job's actions.

use reqwest::Method;

use super::transport::{Answer, Call, read};
use super::{ApiError, Client, pages};
use crate::api::dto::{
    ActionDto, ActionRef, ExplainDto, Page, RenderedDto, RunRef, StartedRun, Time, TrialDto,
};

impl Client {
    /// All of a job's actions that are kept, ascending; of one batch key, if one is given.
    pub async fn all_actions(
        &self,
        job: &str,
        batch: Option<&str>,
    ) -> Result<Vec<ActionDto>, ApiError> {
        let path = ["jobs", job, "actions"];
        pages::first(usize::MAX, async |size, next| {
            let call = Call::get(&path).with("from", next).with("batch", batch);
            self.read(call.with("limit", Some(size))).await
        })
        .await
    }

    /// What a run for an action would start; by an earlier definition, if one is given.
    pub async fn render(
        &self,
        action: &ActionRef,
        revision: Option<u64>,
    ) -> Result<RenderedDto, ApiError> {
        let path = ["jobs", &action.job, "render"];
        let call = Call::get(&path).with("revision", revision);
        self.read(call.with("nominal", Some(Time(action.nominal)))).await
    }

    /// One action.
    pub async fn action(&self, action: &ActionRef) -> Result<ActionDto, ApiError> {
        self.get(&["actions", &action.to_string()]).await
    }

    /// What follows from an action, by however many steps.
    pub async fn downstream(&self, action: &ActionRef) -> Result<Page<ActionDto>, ApiError> {
        self.get(&["actions", &action.to_string(), "downstream"]).await
    }

    /// What [`Self::recover`] would run again: the action, and what waits for it, which goes
    /// on when it succeeds; or, if `downstream`, all that follows from it.
    pub async fn recover_preview(
        &self,
        action: &ActionRef,
        downstream: bool,
    ) -> Result<Vec<ActionDto>, ApiError> {
        let mut would = vec![self.action(action).await?];
        let below = self.downstream(action).await?.items.into_iter();
        let was_held = |down: &ActionDto| match down.state.as_str() {
            "waiting" => true,
            "skipped" => down.reason.as_deref() == Some("upstream"),
            _ => false,
        };
        would.extend(below.filter(|down| downstream || was_held(down)));
        Ok(would)
    }

    /// Runs an action again; with all that follows from it if `downstream`. No run is made
    /// of a job that has nothing to do in the cluster's area.
    pub async fn recover(
        &self,
        action: &ActionRef,
        downstream: bool,
    ) -> Result<Option<RunRef>, ApiError> {
        let verb = if downstream { "super-recover" } else { "recover" };
        let action = action.to_string();
        let path = ["actions", &action, verb];
        let call = Call::write(Method::POST, &path);
        match self.send(&call).await? {
            Answer::Whole(body) if body.is_empty() => Ok(None),
            answer => read::<StartedRun>(answer).map(|started| Some(started.run)),
        }
    }

    /// Says what it has come to: `force-success` or `skip`.
    pub async fn settle_action(&self, action: &ActionRef, verb: &str) -> Result<(), ApiError> {
        let action = action.to_string();
        let path = ["actions", &action, verb];
        let call = Call::write(Method::POST, &path);
        self.send(&call).await.map(drop)
    }

    /// What [`Self::settle_action`] would do.
    ///
    /// # Errors
    /// [`ApiError`] as for every call.
    pub async fn settle_preview(
        &self,
        action: &ActionRef,
        verb: &str,
    ) -> Result<TrialDto, ApiError> {
        self.get(&["actions", &action.to_string(), verb]).await
    }

    /// Why an action does not run.
    pub async fn explain_action(&self, action: &ActionRef) -> Result<ExplainDto, ApiError> {
        self.get(&["actions", &action.to_string(), "explain"]).await
    }
}
