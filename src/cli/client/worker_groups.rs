//! Worker groups, as one asks for them.

use reqwest::Method;

use super::transport::{Call, read};
use super::{ApiError, Client};
use crate::api::dto::{Page, SetWorkerGroup, WorkerGroupDto};
use crate::api::worker_group_definition::WorkerGroupDefinition;

impl Client {
    /// Worker groups by name, a page.
    pub async fn worker_groups(
        &self,
        after: Option<&str>,
    ) -> Result<Page<WorkerGroupDto>, ApiError> {
        self.read(Call::get(&["worker-groups"]).with("after", after)).await
    }

    /// A worker group.
    pub async fn worker_group(&self, name: &str) -> Result<WorkerGroupDto, ApiError> {
        self.get(&["worker-groups", name]).await
    }

    /// Gives a worker group a definition.
    pub async fn put_worker_group(
        &self,
        group: &WorkerGroupDefinition,
    ) -> Result<SetWorkerGroup, ApiError> {
        let path = ["worker-groups", group.name.as_str()];
        read(self.send(&Call::write(Method::PUT, &path).body(group)?).await?)
    }

    /// Takes a worker group's definition away, if it has the revision `expected`.
    pub async fn delete_worker_group(
        &self,
        name: &str,
        expected: Option<u64>,
    ) -> Result<(), ApiError> {
        let path = ["worker-groups", name];
        let call = Call { expected, ..Call::write(Method::DELETE, &path) };
        self.send(&call).await.map(drop)
    }
}
