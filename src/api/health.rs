//! Is the process there, and can it serve?

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;

use super::Api;
use super::problem::Fault;

/// A node that needs longer is not ready.
const LIMIT: Duration = Duration::from_secs(2);

/// The process answers. The one address that needs no token: it tells nothing.
pub(super) async fn live() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// The node can serve linearizable reads: it reaches a leader with a quorum.
pub(super) async fn ready(State(api): State<Api>) -> Result<StatusCode, Fault> {
    api.node.linearize(LIMIT).await?;
    Ok(StatusCode::NO_CONTENT)
}
