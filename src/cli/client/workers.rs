//! Workers, as one asks for them.

use reqwest::Method;

use super::transport::Call;
use super::{ApiError, Client};
use crate::api::dto::{DrainRequest, Page, WorkerDto};

impl Client {
    /// Workers, in the order in which they first attached, a page.
    pub async fn workers(&self, after: Option<&str>) -> Result<Page<WorkerDto>, ApiError> {
        self.read(Call::get(&["workers"]).with("after", after)).await
    }

    /// A worker.
    pub async fn worker(&self, name: &str) -> Result<WorkerDto, ApiError> {
        self.get(&["workers", name]).await
    }

    /// A worker and, if it answers, what runs there now.
    pub async fn worker_and_sight(&self, name: &str) -> Result<WorkerDto, ApiError> {
        self.read(Call::get(&["workers", name]).with("sight", Some("true"))).await
    }

    /// Says what a worker is given: `cordon` or `uncordon`.
    pub async fn cordon_worker(&self, name: &str, verb: &str) -> Result<(), ApiError> {
        self.send(&Call::write(Method::POST, &["workers", name, verb])).await.map(drop)
    }

    /// Empties a worker.
    pub async fn drain_worker(&self, name: &str, how: &DrainRequest) -> Result<(), ApiError> {
        self.post(&["workers", name, "drain"], how).await
    }

    /// Forgets a worker; even if attempts may be alive there, by `force`.
    pub async fn remove_worker(&self, name: &str, force: bool) -> Result<(), ApiError> {
        let path = ["workers", name];
        let call = Call::write(Method::DELETE, &path).with("force", force.then_some(true));
        self.send(&call).await.map(drop)
    }
}
