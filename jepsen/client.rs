//! The HTTP client of the workloads.
//!
//! One request to one node, never sent twice, never redirected. The answer is put
//! into one of three classes: it happened, it certainly did not, nobody knows. A
//! write that no answer came to is unknown, even if the connection broke: the node
//! may have taken it. Only a connection that was refused was certainly not used.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::error::chain;
use crate::history::Came;

/// Longer than the product waits for a commit, so that its own answer is heard.
const LIMIT: Duration = Duration::from_secs(12);
/// A node that is cut off does not take connections.
const CONNECT: Duration = Duration::from_secs(2);

/// A client of one node.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// Name of the node.
    pub(crate) node: String,
    url: String,
    token: String,
    http: reqwest::Client,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    method: Method,
    path: &'a str,
    query: Vec<(&'a str, String)>,
    headers: Vec<(&'a str, String)>,
    body: Option<Value>,
}

impl<'a> Request<'a> {
    /// Of a method at a path below `/api/v1/`.
    pub(crate) fn new(method: Method, path: &'a str) -> Self {
        Self { method, path, query: Vec::new(), headers: Vec::new(), body: None }
    }

    /// A read.
    pub(crate) fn get(path: &'a str) -> Self {
        Self::new(Method::GET, path)
    }

    /// A write.
    pub(crate) fn post(path: &'a str, body: Value) -> Self {
        Self::new(Method::POST, path).body(body)
    }

    /// With a parameter.
    pub(crate) fn query(mut self, name: &'a str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// With a header.
    pub(crate) fn header(mut self, name: &'a str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// With a body.
    pub(crate) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    fn is_read(&self) -> bool {
        self.method == Method::GET
    }
}

/// What a node answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// The body as JSON; text that is none stands as a string.
    pub(crate) body: Value,
    /// The revision that the `ETag` names.
    pub(crate) etag: Option<u64>,
    /// The kind of body.
    pub(crate) content: String,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// 2xx.
    Done(Answer),
    /// Certainly not done: refused by the node, or never sent.
    Refused(Option<Answer>, String),
    /// Nobody knows.
    Unknown(Option<Answer>, String),
}

impl Outcome {
    /// As a row, with a result made of the answer.
    pub(crate) fn came(&self, result: impl FnOnce(&Answer) -> Value) -> Came {
        match self {
            Self::Done(answer) => Came { ver: answer.etag, ..Came::ok(result(answer)) },
            Self::Refused(_, why) => Came::fail(why.clone()),
            Self::Unknown(_, why) => Came::info(why.clone()),
        }
    }

    /// The body of a request that was done.
    pub(crate) fn body(&self) -> Option<&Value> {
        match self {
            Self::Done(answer) => Some(&answer.body),
            Self::Refused(..) | Self::Unknown(..) => None,
        }
    }
}

impl Client {
    /// A client of the node at `url`, such as `http://198.18.0.1:7600`.
    ///
    /// # Errors
    /// No client can be made at all.
    pub(crate) fn new(node: &str, url: &str, token: &str) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .build()?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { node: node.to_owned(), url, token: token.to_owned(), http })
    }

    /// Sends a request once.
    pub(crate) async fn send(&self, request: Request<'_>) -> Outcome {
        let is_read = request.is_read();
        match self.raw(request).await {
            Ok(answer) => classify(answer, is_read),
            Err(error) if is_read || error.is_connect() || error.is_builder() => {
                Outcome::Refused(None, chain(&error))
            }
            Err(error) => Outcome::Unknown(None, chain(&error)),
        }
    }

    /// The answer, whatever it is.
    pub(crate) async fn raw(&self, request: Request<'_>) -> Result<Answer, reqwest::Error> {
        let answer = self.open(request).await?;
        let status = answer.status().as_u16();
        let header = |name: &str| {
            let value = answer.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let etag = header("etag").and_then(|tag| tag.trim_matches('"').parse().ok());
        let content = header("content-type").unwrap_or_default();
        let bytes = answer.bytes().await?;
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(Answer { status, body, etag, content })
    }

    /// The answer while its body is still to come.
    pub(crate) async fn open(
        &self,
        request: Request<'_>,
    ) -> Result<reqwest::Response, reqwest::Error> {
        let url = format!("{}/api/v1/{}", self.url, request.path);
        let mut builder = self.http.request(request.method, url).bearer_auth(&self.token);
        if !request.query.is_empty() {
            builder = builder.query(&request.query);
        }
        for (name, value) in request.headers {
            builder = builder.header(name, value);
        }
        if let Some(body) = &request.body {
            builder = builder.json(body);
        }
        builder.send().await
    }
}

/// A read changes nothing, so one that was not answered certainly did not happen.
fn classify(answer: Answer, is_read: bool) -> Outcome {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    if status.is_success() {
        return Outcome::Done(answer);
    }
    let code = answer.body["code"].as_str().unwrap_or("no problem body").to_owned();
    let why = format!("{} {code}: {}", answer.status, answer.body["detail"].as_str().unwrap_or(""));
    // 4xx are refusals before or by the machine. Any 5xx of a write may have been
    // sent on to a leader that took it.
    if status.is_client_error() || is_read {
        Outcome::Refused(Some(answer), why)
    } else {
        Outcome::Unknown(Some(answer), why)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn answer(status: u16, body: Value) -> Answer {
        Answer { status, body, etag: None, content: String::new() }
    }

    #[test]
    fn only_what_certainly_did_not_happen_is_a_failure() {
        let code = |code: &str| json!({ "code": code });
        let class = |status, body, is_read| match classify(answer(status, body), is_read) {
            Outcome::Done(_) => "ok",
            Outcome::Refused(..) => "fail",
            Outcome::Unknown(..) => "info",
        };
        assert_eq!(class(201, json!({}), false), "ok");
        assert_eq!(class(412, code("wrong_revision"), false), "fail");
        assert_eq!(class(503, code("unavailable"), false), "info");
        assert_eq!(class(503, code("outcome_unknown"), false), "info");
        assert_eq!(class(503, code("unavailable"), true), "fail");
        assert_eq!(class(500, json!("oops"), false), "info");
        assert_eq!(class(302, json!(null), false), "info");
    }

    #[tokio::test]
    async fn a_refused_connection_failed_and_a_broken_one_is_unknown() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let client = Client::new("n1", &format!("http://{at}"), "t").unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 16];
            stream.read_exact(&mut head).await.unwrap();
            // Gone in the middle of a request, like a node that is killed.
            stream.shutdown().await.unwrap();
            drop((stream, listener));
        });
        let sent = client.send(Request::post("jobs", json!({}))).await;
        assert!(matches!(sent, Outcome::Unknown(None, _)), "{sent:?}");
        served.await.unwrap();
        let sent = client.send(Request::post("jobs", json!({}))).await;
        assert!(matches!(sent, Outcome::Refused(None, _)), "{sent:?}");
    }
}
