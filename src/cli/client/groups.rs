//! Groups of jobs, as one asks for them.

use reqwest::Method;

use super::transport::Call;
use super::{ApiError, Client};
use crate::api::dto::{GroupDto, Page, SetGroup};
use crate::api::group_definition::GroupDefinition;

impl Client {
    /// Groups by path, a page.
    pub async fn groups(&self, after: Option<&str>) -> Result<Page<GroupDto>, ApiError> {
        self.read(Call::get(&["groups"]).with("after", after)).await
    }

    /// A group.
    pub async fn group(&self, path: &str) -> Result<GroupDto, ApiError> {
        self.get(&["groups", path]).await
    }

    /// Gives a group parameters, if its record has the revision `expected`; 0 = if it has
    /// none. With `force` even if jobs name parameters that it loses.
    pub async fn put_group(
        &self,
        path: &str,
        group: &GroupDefinition,
        expected: Option<u64>,
        force: bool,
    ) -> Result<SetGroup, ApiError> {
        let path = ["groups", path];
        let call = Call { expected, ..Call::write(Method::PUT, &path).body(group)? };
        self.read(call.with("force", force.then_some(true))).await
    }

    /// Removes the record of a group, if it has the revision `expected`. With `force` even
    /// if jobs name its parameters.
    pub async fn delete_group(
        &self,
        path: &str,
        expected: Option<u64>,
        force: bool,
    ) -> Result<(), ApiError> {
        let path = ["groups", path];
        let call = Call { expected, ..Call::write(Method::DELETE, &path) };
        self.send(&call.with("force", force.then_some(true))).await.map(drop)
    }
}
