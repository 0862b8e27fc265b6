//! Pools, as one asks for them.

use super::transport::Call;
use super::{ApiError, Client};
use crate::api::dto::{Page, PoolDto, SetPool};
use crate::api::pool_definition::PoolDefinition;

impl Client {
    /// Pools by name, a page.
    pub async fn pools(&self, after: Option<&str>) -> Result<Page<PoolDto>, ApiError> {
        self.read(Call::get(&["pools"]).with("after", after)).await
    }

    /// A pool.
    pub async fn pool(&self, name: &str) -> Result<PoolDto, ApiError> {
        self.get(&["pools", name]).await
    }

    /// Creates or changes a pool, if it has the revision `expected`.
    pub async fn put_pool(
        &self,
        name: &str,
        pool: &PoolDefinition,
        expected: Option<u64>,
    ) -> Result<SetPool, ApiError> {
        self.put(&["pools", name], pool, expected).await
    }

    /// Removes a pool that nothing names, if it has the revision `expected`.
    pub async fn delete_pool(&self, name: &str, expected: Option<u64>) -> Result<(), ApiError> {
        self.delete(&["pools", name], expected).await
    }
}
