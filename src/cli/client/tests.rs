//! The client against small servers that fail on purpose.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};

use super::*;
use crate::api::dto::RunRequest;

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// An address where nobody listens.
fn dead() -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", port.local_addr().unwrap())
}

#[tokio::test]
async fn a_write_goes_on_at_the_next_node_under_one_request_id() {
    let keys: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&keys);
    let trigger = async move |headers: HeaderMap| {
        let mut keys = heard.lock().unwrap();
        keys.push(headers["idempotency-key"].to_str().unwrap().to_owned());
        match keys.len() {
            1 => {
                let problem = Problem::new(ErrorCode::Unavailable, "no leader", "wait");
                let body = serde_json::to_string(&problem).unwrap();
                (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
            }
            _ => (StatusCode::CREATED, r#"{"run": "r-7"}"#).into_response(),
        }
    };
    let url = serve(Router::new().route("/api/v1/jobs/a/trigger", post(trigger))).await;
    let client = Client::new(vec![dead(), url], "t").unwrap();
    assert_eq!(client.trigger_job("a", &RunRequest::default()).await.unwrap().to_string(), "r-7");
    client.trigger_job("a", &RunRequest::default()).await.unwrap();
    let keys = keys.lock().unwrap();
    assert_eq!(keys.len(), 3);
    assert_eq!(keys[0], keys[1], "asked again under the same id");
    assert_ne!(keys[1], keys[2], "another request has another id");
}

#[tokio::test]
async fn it_ends_with_the_time_limit_and_says_what_is_known() {
    let client = Client::new(vec![dead(), dead()], "t").unwrap();
    let client = client.with_timeout(Duration::from_millis(200));
    let error = client.trigger_job("a", &RunRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable, "nobody took it: {error}");
    let silent = Router::new().fallback(async || std::future::pending::<()>().await);
    let client = Client::new(vec![serve(silent).await], "t").unwrap();
    let client = client.with_timeout(Duration::from_millis(200));
    let error = client.trigger_job("a", &RunRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutcomeUnknown, "{error}");
    assert_eq!(client.job("a").await.unwrap_err().code(), ErrorCode::Unavailable);
}

#[tokio::test]
async fn what_is_no_address_or_no_answer_of_ours_is_told() {
    for bad in ["", "127.0.0.1:7600", "https://a:1", "http://"] {
        let error = Client::new(vec![bad.to_owned()], "t").unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidValue, "{bad:?}");
    }
    assert!(Client::new(Vec::new(), "t").is_err());
    let other = Router::new().route("/api/v1/jobs/a", get(async || (StatusCode::IM_A_TEAPOT, "x")));
    let client = Client::new(vec![serve(other).await], "t").unwrap();
    let error = client.job("a").await.unwrap_err();
    assert!(error.problem.detail.contains("418"), "{error}");
    assert_eq!(client.job("..").await.unwrap_err().code(), ErrorCode::InvalidValue);
}

#[tokio::test]
async fn output_goes_on_behind_the_last_byte_after_a_silence_and_a_break() {
    const LIMIT: Duration = Duration::from_millis(300);
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&asked);
    let logs = async move |axum::extract::RawQuery(query): axum::extract::RawQuery| {
        let mut asked = heard.lock().unwrap();
        asked.push(query.unwrap());
        let event =
            |name: &str, data: &str| format!("event: {name}\nid: r-1.2@0\ndata: {data}\n\n");
        let said = |from: u64, text: &str| {
            let to = from + text.len() as u64;
            event("output", &format!(r#"{{"from":{from},"to":{to},"text":"{text}"}}"#))
        };
        let alive = || ": alive\n\n".to_owned();
        let parts = match asked.len() {
            // Half an event counts for nothing.
            1 => vec![said(0, "one"), alive(), alive(), alive(), "event: outp".to_owned()],
            _ => vec![said(3, "two"), event("end", r#"{"total":6}"#)],
        };
        let breaks = asked.len() == 1;
        let parts = futures_util::stream::unfold(parts.into_iter(), move |mut parts| async move {
            let part = parts.next();
            tokio::time::sleep(LIMIT / 2).await;
            match part {
                Some(part) => Some((Ok(part), parts)),
                None => breaks.then(|| (Err(std::io::Error::other("it ends")), parts)),
            }
        });
        let body = axum::body::Body::from_stream(parts);
        ([("horai-attempt", "r-1.2"), ("content-type", "text/event-stream")], body)
    };
    let url = serve(Router::new().route("/api/v1/runs/r-1/logs", get(logs))).await;
    let client = Client::new(vec![url], "t").unwrap().with_timeout(LIMIT);
    let query = LogsQuery { follow: true, ..LogsQuery::default() };
    let mut logs = client.logs("r-1".parse().unwrap(), query).await.unwrap();
    let mut text = String::new();
    while let Some(event) = logs.next().await.unwrap() {
        text.push_str(&event.text.unwrap());
    }
    assert_eq!((text.as_str(), logs.offset()), ("onetwo", 6));
    // What follows is of the attempt that was begun with.
    assert_eq!(*asked.lock().unwrap(), ["offset=0&follow=true", "attempt=2&offset=3&follow=true"]);
}
