//! What every request passes before its handler: a name, a net for panics, a
//! bound on number and time, and the token.

use std::panic::AssertUnwindSafe;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use horai_core::model::access::{TokenHash, TokenPurpose};
use horai_raft::membership::admission::token_hash;
use sha2::{Digest, Sha256};

use super::Api;
use super::problem::Fault;
use crate::error::ErrorCode;
use crate::telemetry::survivable;

/// Tells a caller's secret from the hash of its token, which every node keeps.
const SECRET: &[u8] = b"horai: what a token may derive\0";
/// Names a request, in answers and in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Whose request it is.
#[derive(Clone)]
pub(super) struct Caller {
    /// The name of the token that it brought.
    pub(super) name: String,
    /// A secret that only who holds this token can compute.
    pub(super) secret: [u8; 32],
}

/// Gives the request its id, and turns a panic into an answer: what one request
/// brings about must not end a node.
pub(super) async fn name_and_catch(request: Request, next: Next) -> Response {
    let id = uuid::Uuid::now_v7().to_string();
    let what = format!("{} {}", request.method(), request.uri().path());
    let mut answer = match AssertUnwindSafe(survivable(next.run(request))).catch_unwind().await {
        Ok(answer) => answer,
        Err(_) => {
            let detail = "the node failed on this request";
            let remedy = "report it, with the node's log under the request's id";
            Fault::new(ErrorCode::Internal, detail, remedy).into_response()
        }
    };
    if answer.status().is_server_error() {
        let status = answer.status().as_u16();
        tracing::warn!(request = %id, what, status, "a request was not served");
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert(REQUEST_ID, id);
    }
    answer
}

/// Bounds how many requests are served at once, and how long each may take.
pub(super) async fn bound(State(api): State<Api>, request: Request, next: Next) -> Response {
    let Ok(_slot) = api.slots.try_acquire() else {
        let detail = "the node serves as many requests as it can";
        let remedy = "ask again in a moment, or another node";
        return Fault::new(ErrorCode::LimitReached, detail, remedy).into_response();
    };
    let is_read = request.method() == Method::GET;
    match tokio::time::timeout(api.limit, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) if is_read => {
            let detail = format!("no answer within {:?}", api.limit);
            Fault::new(ErrorCode::Unavailable, detail, "ask again, or another node").into_response()
        }
        Err(_) => {
            let detail = format!("no outcome within {:?}", api.limit);
            let remedy = "ask again with the same Idempotency-Key, or look first";
            Fault::new(ErrorCode::OutcomeUnknown, detail, remedy).into_response()
        }
    }
}

/// Lets a request with a valid token through, and says whose it is.
pub(super) async fn authenticate(
    State(api): State<Api>,
    mut request: Request,
    next: Next,
) -> Response {
    let bearer = request.headers().get(header::AUTHORIZATION);
    let token = bearer.and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let Some(token) = token else {
        let detail = "the request brings no bearer token";
        let remedy = "send the header Authorization: Bearer TOKEN";
        return Fault::new(ErrorCode::Unauthenticated, detail, remedy).into_response();
    };
    match caller(&api, &token_hash(token)) {
        Ok(name) => {
            let secret = Sha256::new().chain_update(SECRET).chain_update(token).finalize().into();
            request.extensions_mut().insert(Caller { name, secret });
            next.run(request).await
        }
        Err(fault) => fault.into_response(),
    }
}

fn caller(api: &Api, hash: &TokenHash) -> Result<String, Fault> {
    api.read(|state| {
        if state.settings().is_none() {
            let detail = "this node does not hold the cluster's state yet";
            let remedy = "ask again, or another node";
            return Err(Fault::new(ErrorCode::Unavailable, detail, remedy));
        }
        match state.token_by_hash(hash).map(|(name, token)| (name, token.purpose)) {
            Some((name, TokenPurpose::Admin)) => Ok(format!("token:{name}")),
            Some((name, TokenPurpose::Join)) => {
                let detail = format!("token {name} lets nodes join, nothing else");
                Err(Fault::new(ErrorCode::Denied, detail, "use the cluster's admin token"))
            }
            None => {
                let detail = "the cluster does not know this token, or it has expired";
                let remedy = "use the admin token of this cluster: --token, HORAI_TOKEN";
                Err(Fault::new(ErrorCode::Unauthenticated, detail, remedy))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::middleware::from_fn;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let router = Router::new()
            .route("/", get(async || -> &'static str { panic!("a handler failed") }))
            .layer(from_fn(name_and_catch));
        let answer = router.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status().as_u16(), 500);
        assert!(answer.headers().contains_key("x-request-id"));
        let body = to_bytes(answer.into_body(), 4096).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["code"], "internal", "{body}");
        assert!(!body.to_string().contains("a handler failed"), "the reason is for the log");
    }
}
