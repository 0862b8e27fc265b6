//! A client of the HTTP API: any node of a cluster will do.
//!
//! It tries the next node when one cannot be reached, and asks again while the
//! cluster is without a leader. Every write carries a request id of its own,
//! so that asking again, at whatever node, does nothing twice. All of it ends
//! at one time limit. It prints nothing and keeps no state but which node
//! answered last.

mod actions;
mod backfills;
mod groups;
mod history;
mod holds;
mod logs;
mod outputs;
pub mod pages;
mod pools;
mod secrets;
mod transport;
mod worker_groups;
mod workers;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use horai_core::time::{Span, UtcMillis};
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::dto::{
    AcquireRequest, AppliedJob, AppliedJobs, AreaRequest, ClusterDto, ExplainDto, JobDto, JobSet,
    LeaseDto, LockDto, LockTokenRequest, NewTokenDto, NodeRequest, Page, Problem, RemovalDto,
    RemovedDto, RunDto, RunRef, SnapshotDto, SpanText, Time, TimeRequest, TokenDto,
    TransferRequest,
};
use crate::api::job_definition::JobDefinition;
use crate::error::{ErrorCode, FieldError, chain};
pub use holds::Held;
pub use logs::{LogStream, LogsQuery};
use transport::{Answer, Call, read};

/// How long one request may take, all tries together.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// To reach a node on a network that works.
const CONNECT: Duration = Duration::from_secs(2);

/// The cluster said no, or did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ApiError {
    /// What went wrong, in the API's own form.
    pub problem: Box<Problem>,
}

impl ApiError {
    /// An error that this side of the wire found.
    pub fn new(code: ErrorCode, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: Box::new(Problem::new(code, detail, remedy)) }
    }

    /// The row of the table.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.problem.code()
    }
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        Self { problem: Box::new(error.into()) }
    }
}

/// Speaks to a cluster. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
    timeout: Duration,
}

#[derive(Debug)]
struct Shared {
    http: reqwest::Client,
    urls: Vec<Url>,
    token: String,
    /// The node that answered last.
    preferred: AtomicUsize,
}

/// Which part of a list of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunsQuery<'a> {
    /// Of this job alone.
    pub job: Option<&'a str>,
    /// At most so many.
    pub limit: Option<u32>,
    /// Newer than this, oldest first; else the newest come first.
    pub after: Option<RunRef>,
}

/// Which runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Which<'a> {
    /// Of this job alone: its name, or `#` and its number.
    pub job: Option<&'a str>,
    /// Of this kind alone.
    pub kind: Option<&'a str>,
    /// In this state alone.
    pub state: Option<&'a str>,
}

impl Client {
    /// A client of the nodes at `urls`, such as `http://127.0.0.1:7600`.
    ///
    /// # Errors
    /// If there is no address, or one cannot be read.
    pub fn new(urls: Vec<String>, token: impl Into<String>) -> Result<Self, ApiError> {
        let urls = urls.iter().map(|url| read_url(url)).collect::<Result<Vec<_>, _>>()?;
        if urls.is_empty() {
            return Err(FieldError::invalid(
                "url",
                "",
                "there is no node to ask",
                "give --url or set HORAI_URL, such as http://127.0.0.1:7600",
            )
            .into());
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .user_agent(concat!("horai/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| ApiError::new(ErrorCode::Internal, chain(&e), "report this"))?;
        let (token, preferred) = (token.into(), AtomicUsize::new(0));
        let shared = Arc::new(Shared { http, urls, token, preferred });
        Ok(Self { shared, timeout: DEFAULT_TIMEOUT })
    }

    /// The same with another time limit for each request.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// True if a node can serve linearizable reads.
    ///
    /// # Errors
    /// If none can.
    pub async fn readyz(&self) -> Result<(), ApiError> {
        self.send(&Call::get(&["readyz"])).await.map(drop)
    }

    /// A node's view of the cluster.
    ///
    /// # Errors
    /// [`ApiError`], as with all that follow.
    pub async fn cluster(&self) -> Result<ClusterDto, ApiError> {
        self.get(&["cluster"]).await
    }

    /// Hands leadership to a node.
    pub async fn transfer(&self, to: u64) -> Result<(), ApiError> {
        self.post(&["cluster", "transfer"], &TransferRequest { to }).await
    }

    /// Says where the cluster stands.
    pub async fn set_area(&self, area: Option<String>) -> Result<(), ApiError> {
        let body = AreaRequest { area };
        let call = Call::write(Method::PUT, &["cluster", "area"]).body(&body)?;
        self.send(&call).await.map(drop)
    }

    /// Takes a snapshot on the node that answers.
    pub async fn snapshot(&self) -> Result<SnapshotDto, ApiError> {
        read(self.send(&Call::write(Method::POST, &["cluster", "snapshot"])).await?)
    }

    /// Takes a node out of the cluster, for ever.
    pub async fn remove_node(&self, node: u64, lose_logs: bool) -> Result<(), ApiError> {
        self.post(&["cluster", "remove"], &NodeRequest { node, lose_logs }).await
    }

    /// A new token with which a node may join.
    pub async fn join_token(&self, expires_in: Option<Span>) -> Result<TokenDto, ApiError> {
        let expires_in = expires_in.map(SpanText);
        let body = NewTokenDto { purpose: "join".to_owned(), expires_in };
        let call = Call::write(Method::POST, &["cluster", "tokens"]).body(&body)?;
        read(self.send(&call).await?)
    }

    /// Vouches for the time after a full stop.
    pub async fn confirm_time(&self, time: UtcMillis) -> Result<(), ApiError> {
        self.post(&["cluster", "time"], &TimeRequest { time: Time(time) }).await
    }

    /// Jobs by name, a page.
    pub async fn jobs(
        &self,
        limit: Option<u32>,
        after: Option<&str>,
    ) -> Result<Page<JobDto>, ApiError> {
        let call = Call::get(&["jobs"]).with("limit", limit).with("after", after);
        self.read(call).await
    }

    /// Creates or changes jobs as one set, upstream jobs first.
    pub async fn apply(&self, jobs: &[JobDefinition]) -> Result<AppliedJobs, ApiError> {
        let body = JobSet { jobs: jobs.to_vec() };
        let call = Call::write(Method::POST, &["jobs"]).body(&body)?;
        read(self.send(&call).await?)
    }

    /// A job.
    pub async fn job(&self, name: &str) -> Result<JobDto, ApiError> {
        self.get(&["jobs", name]).await
    }

    /// The content of one of a job's files.
    pub async fn job_file(
        &self,
        job: &str,
        file: &str,
        revision: Option<u64>,
    ) -> Result<Vec<u8>, ApiError> {
        let path = ["jobs", job, "file"];
        let call = Call::get(&path).with("name", Some(file)).with("revision", revision);
        Ok(match self.send(&call).await? {
            Answer::Whole(bytes) => bytes,
            // Only what asks for a stream gets one.
            Answer::Stream(_) => Vec::new(),
        })
    }

    /// Of each of a job's triggers, why it gives no action at present.
    pub async fn explain_job(&self, name: &str) -> Result<Vec<ExplainDto>, ApiError> {
        let page: Page<ExplainDto> = self.get(&["jobs", name, "explain"]).await?;
        Ok(page.items)
    }

    /// Creates or changes a job that has the revision `expected`; 0 = that does not exist.
    pub async fn put_job(
        &self,
        job: &JobDefinition,
        expected: Option<u64>,
    ) -> Result<AppliedJob, ApiError> {
        self.put(&["jobs", &job.name], job, expected).await
    }

    /// Removes a job that has the revision `expected`.
    pub async fn delete_job(&self, name: &str, expected: Option<u64>) -> Result<(), ApiError> {
        self.delete(&["jobs", name], expected).await
    }

    /// Removes a job even if others depend on it (`force`), or with its live runs
    /// (`cancel`).
    pub async fn remove_job(
        &self,
        name: &str,
        expected: Option<u64>,
        (force, cancel): (bool, bool),
    ) -> Result<RemovedDto, ApiError> {
        let path = ["jobs", name];
        let call = Call { expected, ..Call::write(Method::DELETE, &path) };
        let call = call.with("force", force.then_some(true));
        read(self.send(&call.with("cancel", cancel.then_some(true))).await?)
    }

    /// What removing a job would do.
    pub async fn removal(
        &self,
        name: &str,
        force: bool,
        cancel: bool,
    ) -> Result<RemovalDto, ApiError> {
        let call = Call::get(&["jobs", name, "removal"]).with("force", force.then_some(true));
        self.read(call.with("cancel", cancel.then_some(true))).await
    }

    /// Runs, a page; [`Self::newest_runs`] has more than one.
    pub async fn runs(&self, query: RunsQuery<'_>) -> Result<Page<RunDto>, ApiError> {
        let call = Call::get(&["runs"]).with("job", query.job).with("limit", query.limit);
        self.read(call.with("after", query.after)).await
    }

    /// The newest `limit` runs of those asked for, newest first.
    pub async fn newest_runs(
        &self,
        which: Which<'_>,
        limit: usize,
    ) -> Result<Vec<RunDto>, ApiError> {
        pages::first(limit, async |size, next| {
            let call = Call::get(&["runs"]).with("job", which.job).with("kind", which.kind);
            let call = call.with("state", which.state).with("limit", Some(size));
            self.read(call.with("before", next)).await
        })
        .await
    }

    /// A run.
    pub async fn run(&self, run: RunRef) -> Result<RunDto, ApiError> {
        self.get(&["runs", &run.to_string()]).await
    }

    /// One shard of a run.
    pub async fn shard(&self, run: RunRef, shard: u32) -> Result<RunDto, ApiError> {
        let run = run.to_string();
        self.read(Call::get(&["runs", &run]).with("shard", Some(shard))).await
    }

    /// Asks for the end of one shard of a run; the others go on.
    pub async fn cancel_shard(&self, run: RunRef, shard: u32) -> Result<(), ApiError> {
        let run = run.to_string();
        let call = Call::write(Method::POST, &["runs", &run, "cancel"]);
        self.send(&call.with("shard", Some(shard))).await.map(drop)
    }

    /// Why one shard of a run does not run.
    pub async fn explain_shard(&self, run: RunRef, shard: u32) -> Result<ExplainDto, ApiError> {
        let run = run.to_string();
        self.read(Call::get(&["runs", &run, "explain"]).with("shard", Some(shard))).await
    }

    /// Asks for a run's end.
    pub async fn cancel_run(&self, run: RunRef) -> Result<(), ApiError> {
        let run = run.to_string();
        self.send(&Call::write(Method::POST, &["runs", &run, "cancel"])).await.map(drop)
    }

    /// Why a run does not run.
    pub async fn explain_run(&self, run: RunRef) -> Result<ExplainDto, ApiError> {
        self.get(&["runs", &run.to_string(), "explain"]).await
    }

    /// Locks by name, a page.
    pub async fn locks(&self, after: Option<&str>) -> Result<Page<LockDto>, ApiError> {
        self.read(Call::get(&["locks"]).with("after", after)).await
    }

    /// Takes a lock, or a place in its queue.
    pub async fn acquire(&self, lock: &str, ask: &AcquireRequest) -> Result<LeaseDto, ApiError> {
        let call = Call::write(Method::POST, &["locks", lock, "acquire"]).body(ask)?;
        read(self.send(&call).await?)
    }

    /// Starts a lease anew.
    pub async fn renew(&self, lock: &str, token: u64) -> Result<LeaseDto, ApiError> {
        let call = Call::write(Method::POST, &["locks", lock, "renew"])
            .body(&LockTokenRequest { token })?;
        read(self.send(&call).await?)
    }

    /// Gives a lock back.
    pub async fn release(&self, lock: &str, token: u64) -> Result<(), ApiError> {
        self.post(&["locks", lock, "release"], &LockTokenRequest { token }).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ApiError> {
        self.read(Call::get(path)).await
    }

    async fn read<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, ApiError> {
        read(self.send(&call).await?)
    }

    /// Writes what is at the path down, if it has the revision `expected`; 0 = if there is
    /// nothing.
    async fn put<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
        expected: Option<u64>,
    ) -> Result<T, ApiError> {
        let call = Call { expected, ..Call::write(Method::PUT, path).body(body)? };
        self.read(call).await
    }

    /// Removes what is at the path, if it has the revision `expected`.
    async fn delete(&self, path: &[&str], expected: Option<u64>) -> Result<(), ApiError> {
        let call = Call { expected, ..Call::write(Method::DELETE, path) };
        self.send(&call).await.map(drop)
    }

    async fn post(&self, path: &[&str], body: &impl Serialize) -> Result<(), ApiError> {
        self.send(&Call::write(Method::POST, path).body(body)?).await.map(drop)
    }
}

fn read_url(text: &str) -> Result<Url, ApiError> {
    let wrong =
        |problem: String| FieldError::invalid("url", text, problem, "write it as http://HOST:PORT");
    let url = Url::parse(text).map_err(|e| wrong(format!("this is not an address: {e}")))?;
    if url.scheme() != "http" || !url.has_host() {
        return Err(wrong("only http addresses are spoken to".to_owned()).into());
    }
    Ok(url)
}

#[cfg(test)]
mod tests;
