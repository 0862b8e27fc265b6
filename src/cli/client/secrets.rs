//! Secrets, as one asks for them.

use reqwest::Method;

use super::transport::{Call, read};
use super::{ApiError, Client};
use crate::api::dto::{Page, RekeyedDto, SecretDto, SecretSet, SetSecret};

impl Client {
    /// Secrets by name, a page.
    pub async fn secrets(&self, after: Option<&str>) -> Result<Page<SecretDto>, ApiError> {
        self.read(Call::get(&["secrets"]).with("after", after)).await
    }

    /// A secret, as far as it is told.
    pub async fn secret(&self, name: &str) -> Result<SecretDto, ApiError> {
        self.get(&["secrets", name]).await
    }

    /// Gives a secret a value, if it has the revision `expected`.
    pub async fn set_secret(
        &self,
        name: &str,
        secret: &SetSecret,
        expected: Option<u64>,
    ) -> Result<SecretSet, ApiError> {
        self.put(&["secrets", name], secret, expected).await
    }

    /// Removes a secret that no job names, if it has the revision `expected`.
    pub async fn delete_secret(&self, name: &str, expected: Option<u64>) -> Result<(), ApiError> {
        self.delete(&["secrets", name], expected).await
    }

    /// Writes all secrets under the first key of the node that answers.
    pub async fn rekey_secrets(&self) -> Result<RekeyedDto, ApiError> {
        let path = ["cluster", "secrets", "rekey"];
        read(self.send(&Call::write(Method::POST, &path)).await?)
    }
}
