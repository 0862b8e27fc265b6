//! One node, its API, and requests without sockets.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use horai_core::ids::{ActionKey, AttemptKey, Incarnation, JobId, Name, RunId, Token, WorkerId};
use horai_core::machine::command::{
    Actor, Command, EndReport, Envelope, PlanBatch, PlanSource, PlannedAction,
};
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State;
use horai_core::model::access::{AccessToken, TokenPurpose};
use horai_core::model::cluster::ClusterSettings;
use horai_core::model::edge::NoMatch;
use horai_core::model::run::EndKind;
use horai_core::model::worker::WorkerProfile;
use horai_core::time::UtcMillis;
use horai_raft::membership::admission::token_hash;
use horai_raft::node::{Options, RaftNode};
use horai_raft::types::Member;
use serde_json::Value;
use tower::ServiceExt;

use crate::api::{ApiState, router};
use crate::chunks::{Limits, Store};
use crate::logs::{Keep, Logs};
use crate::secrets::Keyring;
use crate::session::{Node, Sessions};

pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Of the one worker.
const INCARNATION: Incarnation = Incarnation(1);

pub(super) struct Cluster {
    pub(super) node: Arc<Node>,
    pub(super) logs: Arc<Logs>,
    pub(super) router: Router,
    _home: tempfile::TempDir,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Answer {
    /// The problem's code; empty if it is none.
    pub(super) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// Field, value, remedy of the first error.
    pub(super) fn field(&self) -> [&str; 3] {
        let error = &self.body["errors"][0];
        ["field", "value", "remedy"].map(|key| error[key].as_str().unwrap_or_default())
    }
}

impl Cluster {
    /// A node that leads and has a cluster's settings and tokens.
    pub(super) async fn start() -> Self {
        Self::start_with(Keyring::none()).await
    }

    /// The same with keys of secrets.
    pub(super) async fn start_with(keys: Keyring) -> Self {
        let cluster = Self::blank_with(keys).await;
        cluster.propose(Command::InitCluster(ClusterSettings::new(7))).await;
        for (name, purpose) in [("admin", TokenPurpose::Admin), ("join", TokenPurpose::Join)] {
            let hash = token_hash(name);
            let token = AccessToken { purpose, hash, expires: None, created: UtcMillis(0) };
            let name = Name::new(name).unwrap();
            cluster.propose(Command::PutToken { name, token }).await;
        }
        cluster
    }

    /// A node that leads and holds nothing.
    pub(super) async fn blank() -> Self {
        Self::blank_with(Keyring::none()).await
    }

    async fn blank_with(keys: Keyring) -> Self {
        let home = tempfile::tempdir().unwrap();
        let id = uuid::Uuid::new_v4();
        let stores = horai_raft::open::create(&home.path().join("raft"), id, 1).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let member = Member {
            raft_addr: port.local_addr().unwrap().to_string(),
            store_uuid: stores.identity.get().store.as_u128(),
            ..Member::default()
        };
        let node = RaftNode::open(stores, State::default(), port, &Options::default()).await;
        let node: Arc<Node> = Arc::new(node.unwrap());
        node.init(member).await.unwrap();
        let mut leads = node.leadership();
        let led = tokio::time::timeout(PATIENCE, leads.wait_for(|now| now.own.is_some())).await;
        led.unwrap().unwrap();
        until("cluster time", || node.cluster_now().is_some()).await;
        let sessions = Sessions::with_keys(Arc::clone(&node), Arc::new(keys));
        let logs = logs(&node, home.path(), Keep::default());
        let router =
            router(ApiState { node: Arc::clone(&node), sessions, logs: Arc::clone(&logs) });
        Self { node, logs, router, _home: home }
    }

    pub(super) async fn propose(&self, command: Command) -> Outcome {
        let actor = Actor::User("test".to_owned());
        let envelope = Envelope { actor, request: None, command };
        let outcome = self.node.propose(&envelope, PATIENCE).await.unwrap();
        assert!(!matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
        outcome
    }

    /// A worker that the state knows, though no stream of it stands here.
    pub(super) async fn worker(&self) -> WorkerId {
        let profile = WorkerProfile {
            name: Name::new("w").unwrap(),
            incarnation: INCARNATION,
            boot_id: 1,
            groups: vec![Name::new("default").unwrap()],
            labels: BTreeMap::new(),
            slots: 9,
            host: String::new(),
            version: String::new(),
            amounts: Default::default(),
            stops_within: None,
            isolation: Box::default(),
            interpreters: std::collections::BTreeSet::new(),
        };
        match self.propose(Command::AttachWorker(Box::new(profile))).await {
            Outcome::Worker { worker } => worker,
            other => panic!("{other:?}"),
        }
    }

    /// Gives a run's first attempt to the worker.
    pub(super) async fn dispatch(&self, run: RunId, worker: WorkerId) -> (AttemptKey, Token) {
        let number = 1;
        let dispatch = Command::Dispatch { run, number, worker, incarnation: INCARNATION };
        match self.propose(dispatch).await {
            Outcome::Dispatched { token } => (AttemptKey { run, shard: 0, number }, token),
            other => panic!("{other:?}"),
        }
    }

    /// Plans the first action of a job's only trigger, at the next whole second. Nobody
    /// leads here, so nobody releases it.
    pub(super) async fn plan_one(&self, job: &str) -> ActionKey {
        self.plan(job, None, &[], &[]).await
    }

    /// The same at an instant, with what it waits for and of which jobs it found none.
    pub(super) async fn plan(
        &self,
        job: &str,
        at: Option<UtcMillis>,
        upstream: &[ActionKey],
        unmatched: &[(JobId, NoMatch)],
    ) -> ActionKey {
        let name = Name::new(job).unwrap();
        let batch = self.node.read(|state| {
            let job = state.job_by_name(&name).unwrap();
            let source = PlanSource::Trigger(job.spec.triggers[0].name.clone());
            let from = state.cursor(job.id, &source).unwrap();
            let nominal = at.unwrap_or(UtcMillis((from.0.div_euclid(1000) + 1) * 1000));
            let action = PlannedAction {
                nominal,
                due: nominal,
                upstream: upstream.to_vec(),
                catch_up: false,
                unmatched: unmatched.to_vec(),
            };
            PlanBatch {
                job: job.id,
                revision: job.revision,
                source,
                from,
                through: nominal,
                actions: vec![action],
                missed: None,
            }
        });
        let key = ActionKey { job: batch.job, nominal: batch.through };
        self.propose(Command::PlanActions(vec![batch])).await;
        key
    }

    /// Nobody leads here: what is due is released by this.
    pub(super) async fn tick(&self) {
        let actor = Actor::Leader(self.node.read(State::leader));
        let tick = Envelope { actor, request: None, command: Command::Tick };
        self.node.propose(&tick, PATIENCE).await.unwrap();
    }

    /// Waits until cluster time has come there.
    pub(super) async fn wait_until(&self, at: UtcMillis) {
        until("the time", || self.node.cluster_now().is_some_and(|now| now >= at)).await;
    }

    /// A request with the admin's token.
    pub(super) async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.with(method, path, body, &[]).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    /// The same with further headers.
    pub(super) async fn with(
        &self,
        method: &str,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let headers = [&[("authorization", "Bearer admin")], headers].concat();
        self.raw(method, &format!("/api/v1/{path}"), body, &headers).await
    }

    pub(super) async fn raw(
        &self,
        method: &str,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let answer = Answer { status: parts.status, headers: parts.headers, body };
        if answer.status.is_client_error() || answer.status.is_server_error() {
            let kind = answer.headers.get("content-type").unwrap();
            assert_eq!(kind, "application/problem+json", "{method} {path}");
            assert_eq!(answer.body["status"], answer.status.as_u16(), "{method} {path}");
            for field in ["code", "title", "detail", "remedy"] {
                assert_ne!(answer.body[field].as_str().unwrap_or_default(), "", "{method} {path}");
            }
        }
        assert!(answer.headers.contains_key("x-request-id"), "{method} {path}");
        answer
    }

    /// How many jobs there are: nothing may be half applied.
    pub(super) fn jobs(&self) -> usize {
        self.node.read(State::job_count)
    }
}

/// An empty store of logs.
pub(super) fn logs(node: &Arc<Node>, folder: &Path, keep: Keep) -> Arc<Logs> {
    let store = Store::open(&folder.join("logs"), Limits::default()).unwrap();
    Logs::new(Arc::clone(node), Arc::new(store), keep)
}

/// Waits for something to be true.
pub(super) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited {PATIENCE:?} in vain for {what}");
}

/// An attempt's end of which nothing else is known.
pub(super) fn report(how: EndKind) -> EndReport {
    EndReport { how, started: None, ended: None, output_bytes: 0, output_crc: 0 }
}

/// An object with further fields.
pub(super) fn extended(mut object: Value, more: &Value) -> Value {
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}
