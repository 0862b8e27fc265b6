//! Workers' streams against one real node, and real workers against those.

use std::collections::BTreeMap;
use std::net::TcpListener as Port;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use horai::chunks::{Content, Limits, Store};
use horai::logs::{Keep, LogError, LogPart, LogRequest, Logs};
use horai::session::{Node, Sessions};
use horai::worker::{Config, agent};
use horai_core::ids::{AttemptKey, Incarnation, LeaderId, Name, RunId, WorkerId};
use horai_core::machine::command::{Actor, Command, Envelope};
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State;
use horai_core::model::access::{AccessToken, TokenPurpose};
use horai_core::model::cluster::ClusterSettings;
use horai_core::model::job::{Executor, JobSpec};
use horai_core::model::resources::Amounts;
use horai_core::model::run::{RunResult, RunState};
use horai_core::time::{Span, UtcMillis};
use horai_proto::worker::from_worker::Body as Say;
use horai_proto::worker::to_worker::Body as Hear;
use horai_proto::worker::worker_link_client::WorkerLinkClient;
use horai_proto::worker::{self as pb};
use horai_raft::node::{Options, RaftNode};
use horai_raft::types::Member;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};

const PATIENCE: Duration = Duration::from_secs(30);
const TOKEN: &str = "a-token-for-tests-alone";

/// One node that leads, with its worker port.
struct Cluster {
    node: Arc<Node>,
    sessions: Arc<Sessions>,
    logs: Arc<Logs>,
    leader: LeaderId,
    address: String,
    home: tempfile::TempDir,
}

async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let waited = timeout(PATIENCE, async {
        loop {
            match look() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    });
    waited.await.expect("what is waited for comes")
}

impl Cluster {
    async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let cluster = uuid::Uuid::new_v4();
        let stores = horai_raft::open::create(&home.path().join("raft"), cluster, 1).unwrap();
        let raft = Port::bind("127.0.0.1:0").unwrap();
        let member = Member {
            raft_addr: raft.local_addr().unwrap().to_string(),
            store_uuid: stores.identity.get().store.as_u128(),
            ..Member::default()
        };
        let node = RaftNode::open(stores, State::default(), raft, &Options::default()).await;
        let node: Arc<Node> = Arc::new(node.unwrap());
        node.init(member).await.unwrap();
        let mut watch = node.leadership();
        let led = timeout(PATIENCE, watch.wait_for(|now| now.own.is_some())).await;
        let leader = led.unwrap().unwrap().own.unwrap();
        until(|| node.cluster_now()).await;
        let sessions = Sessions::new(Arc::clone(&node));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let store = Store::open(&home.path().join("logs"), Limits::default()).unwrap();
        store.opened().await;
        let logs = Logs::new(Arc::clone(&node), Arc::new(store), Keep::default());
        let served = Arc::clone(&sessions).serve(listener, logs.routes(), CancellationToken::new());
        tokio::spawn(served);
        let cluster = Self { node, sessions, logs, leader, address, home };
        cluster.ask(Command::InitCluster(ClusterSettings::new(7))).await;
        cluster.put_token(TOKEN, TokenPurpose::Admin).await;
        cluster.put_token("join", TokenPurpose::Join).await;
        cluster.ask(Command::LeaderStarted(leader)).await;
        cluster
    }

    /// A token whose text is its name.
    async fn put_token(&self, name: &str, purpose: TokenPurpose) {
        let hash = Sha256::digest(name.as_bytes()).into();
        let token = AccessToken { purpose, hash, expires: None, created: UtcMillis(0) };
        self.ask(Command::PutToken { name: Name::new(name).unwrap(), token }).await;
    }

    async fn ask(&self, command: Command) -> Outcome {
        let actor = Actor::User("test".into());
        let envelope = Envelope { actor, request: None, command };
        let outcome = self.node.propose(&envelope, PATIENCE).await.unwrap();
        assert!(!matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
        outcome
    }

    fn worker(&self, name: &str) -> DropGuard {
        let config = Config {
            name: Name::new(name).unwrap(),
            data_dir: self.home.path().join(name),
            nodes: vec![self.address.clone()],
            groups: vec![Name::new("default").unwrap()],
            labels: BTreeMap::new(),
            slots: 8,
            amounts: Amounts::default(),
            token: TOKEN.into(),
            shim_program: Some(env!("CARGO_BIN_EXE_horai").into()),
            heartbeat: Duration::from_millis(50),
            stop_after: Duration::ZERO,
            disk_reserve: Config::DISK_RESERVE,
            interpreters: horai::worker::interpreters::Interpreters::ready(),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move { agent::run(config, stopped).await.unwrap() });
        stop.drop_guard()
    }

    /// Makes a run of a job and gives it to a worker, who is not told yet.
    async fn dispatch(&self, worker: WorkerId, executor: Executor) -> RunId {
        let name = Name::new("job").unwrap();
        let spec = JobSpec {
            executor,
            grace: Span(200),
            env: BTreeMap::from([("COLOUR".into(), "red".into())]),
            zone: Some("Asia/Tokyo".into()),
            ..JobSpec::noop(name)
        };
        let applied = self.ask(Command::ApplyJob { spec: Box::new(spec), expected: None }).await;
        let Outcome::Job { job, .. } = applied else { panic!("{applied:?}") };
        let made = self.ask(Command::TriggerJob { job }).await;
        let Outcome::Run { run } = made else { panic!("{made:?}") };
        let incarnation = self.incarnation(worker);
        self.ask(Command::Dispatch { run, number: 1, worker, incarnation }).await;
        run
    }

    fn incarnation(&self, worker: WorkerId) -> Incarnation {
        self.node.read(|state| state.worker(worker).unwrap().profile.incarnation)
    }

    async fn connected(&self, count: usize) -> Vec<WorkerId> {
        until(|| Some(self.sessions.connected()).filter(|all| all.len() == count)).await
    }

    async fn result(&self, run: RunId) -> RunResult {
        until(|| {
            self.node.read(|state| match state.run(run).unwrap().state {
                RunState::Finished { result, .. } => Some(result),
                _ => None,
            })
        })
        .await
    }

    async fn log(&self, request: LogRequest) -> Result<(String, u64), LogError> {
        let mut parts = self.logs.read(request).await?;
        let mut text = Vec::new();
        loop {
            match timeout(PATIENCE, parts.recv()).await.unwrap().unwrap() {
                LogPart::Piece(piece) => {
                    assert_eq!(piece.from, request.offset + text.len() as u64);
                    let Content::Data { bytes, .. } = piece.content else { panic!("a gap") };
                    text.extend_from_slice(&bytes);
                }
                LogPart::End { total } => return Ok((String::from_utf8(text).unwrap(), total)),
                LogPart::Failed(error) => return Err(error),
            }
        }
    }
}

fn whole(run: RunId) -> LogRequest {
    LogRequest {
        key: AttemptKey { run, shard: 0, number: 1 },
        offset: 0,
        follow: false,
        local: false,
    }
}

fn shell(script: &str) -> Executor {
    Executor::Shell { interpreter: vec!["/bin/sh".into()], script: script.into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_attaches_runs_what_is_committed_and_forgets() {
    let cluster = Cluster::start().await;
    let mut changed = cluster.sessions.changed();
    let _worker = cluster.worker("w1");
    // Without a leader it is there, and takes no orders.
    until(|| cluster.sessions.connected().is_empty().then_some(())).await;
    cluster.sessions.lead(cluster.leader);
    timeout(PATIENCE, changed.changed()).await.unwrap().unwrap();
    let worker = cluster.connected(1).await[0];
    assert!(cluster.sessions.is_connected(worker));
    let run = cluster.dispatch(worker, Executor::Noop).await;
    cluster.sessions.start(worker, vec![run]);
    assert_eq!(cluster.result(run).await, RunResult::Success);
    let attached = cluster.node.read(|state| state.worker(worker).unwrap().registered);
    until(|| {
        let heard = cluster.node.read(|state| state.worker(worker).unwrap().last_heartbeat);
        (heard > attached).then_some(())
    })
    .await;
    assert!(until(|| cluster.sessions.load(worker)).await.memory_total > 0);
    // Whoever led before may not end what another began.
    cluster.sessions.stop_leading(LeaderId::default());
    assert_eq!(cluster.sessions.connected(), [worker]);
    cluster.sessions.stop_leading(cluster.leader);
    assert!(cluster.sessions.connected().is_empty() && cluster.sessions.is_connected(worker));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_told_is_told_when_the_worker_attaches_again() {
    let cluster = Cluster::start().await;
    cluster.sessions.lead(cluster.leader);
    let worker = cluster.worker("w1");
    let id = cluster.connected(1).await[0];
    let noop = cluster.dispatch(id, Executor::Noop).await;
    // A cut stream: the worker is out, and back under the same incarnation.
    drop(worker);
    cluster.connected(0).await;
    cluster.sessions.start(id, vec![noop]);
    let cancelled = cluster.dispatch(id, shell("sleep 600")).await;
    cluster.ask(Command::CancelRun { run: cancelled }).await;
    let _worker = until_free(&cluster, "w1").await;
    assert_eq!(cluster.connected(1).await, [id]);
    assert_eq!(cluster.result(noop).await, RunResult::Success);
    assert_eq!(cluster.result(cancelled).await, RunResult::Cancelled);
}

/// Starts a worker again once its predecessor has let go of the folder.
async fn until_free(cluster: &Cluster, name: &str) -> DropGuard {
    let lock = cluster.home.path().join(name).join("worker.lock");
    until(|| std::fs::File::open(&lock).unwrap().try_lock().ok()).await;
    cluster.worker(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_has_its_environment_and_its_output_is_read_live_and_later() {
    let cluster = Cluster::start().await;
    cluster.sessions.lead(cluster.leader);
    let _worker = cluster.worker("w1");
    let worker = cluster.connected(1).await[0];
    let script = "echo $COLOUR $HORAI_SHARD_TOTAL $HORAI_RUN_ID $HORAI_NOMINAL_TIME; \
                  while [ ! -e go ]; do sleep 0.02; done; echo end";
    let run = cluster.dispatch(worker, shell(script)).await;
    cluster.sessions.start(worker, vec![run]);
    let folder = cluster.home.path().join(format!("w1/attempts/{run}-0-1/work"));
    until(|| folder.exists().then_some(())).await;
    let follow = LogRequest { follow: true, ..whole(run) };
    let mut parts = cluster.logs.read(follow).await.unwrap();
    let mut next = async || match timeout(PATIENCE, parts.recv()).await.unwrap().unwrap() {
        LogPart::Piece(piece) => match piece.content {
            Content::Data { bytes, .. } => Ok(String::from_utf8(bytes.to_vec()).unwrap()),
            Content::Gap => panic!("a gap"),
        },
        end => Err(end),
    };
    let first = next().await.unwrap();
    assert!(
        first.starts_with(&format!("red 1 r-{run} ")) && first.ends_with("+09:00\n"),
        "{first}"
    );
    std::fs::write(folder.join("go"), "").unwrap();
    assert_eq!(next().await.unwrap(), "end\n");
    let total = first.len() as u64 + 4;
    assert_eq!(next().await, Err(LogPart::End { total }));
    assert_eq!(cluster.result(run).await, RunResult::Success);
    let part = LogRequest { offset: 4, ..whole(run) };
    let rest = format!("{}end\n", &first[4..]);
    assert_eq!(cluster.log(part).await.unwrap(), (rest, total));
    assert_eq!(cluster.log(whole(RunId(999))).await.unwrap(), (String::new(), 0));
    // What is safe in the cluster is kept nowhere else.
    let folder = cluster.home.path().join(format!("w1/attempts/{run}-0-1"));
    until(|| (!folder.exists()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_reaches_the_job() {
    let cluster = Cluster::start().await;
    cluster.sessions.lead(cluster.leader);
    let _worker = cluster.worker("w1");
    let worker = cluster.connected(1).await[0];
    let run = cluster.dispatch(worker, shell("sleep 600")).await;
    cluster.sessions.start(worker, vec![run]);
    cluster.ask(Command::CancelRun { run }).await;
    cluster.sessions.cancel(run);
    assert_eq!(cluster.result(run).await, RunResult::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stands_still_is_out_soon_and_back_when_it_goes_on() {
    let cluster = Cluster::start().await;
    cluster.sessions.lead(cluster.leader);
    let config = cluster.home.path().join("worker.toml");
    let text = format!(
        "[worker]\nname = \"w1\"\ndata_dir = \"{0}/w1\"\nnodes = [\"{1}\"]\n\
         token_file = \"{0}/token\"\n[log]\nlevel = \"error\"\n",
        cluster.home.path().display(),
        cluster.address.trim_start_matches("http://")
    );
    std::fs::write(&config, text).unwrap();
    std::fs::write(cluster.home.path().join("token"), TOKEN).unwrap();
    let mut worker = std::process::Command::new(env!("CARGO_BIN_EXE_horai"))
        .args(["worker", "--config"])
        .arg(&config)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let signal = |signal: &str| {
        let pid = worker.id().to_string();
        let sent = std::process::Command::new("kill").args([signal, &pid]).status();
        assert!(sent.unwrap().success());
    };
    let all = cluster.connected(1).await;
    signal("-STOP");
    let begun = std::time::Instant::now();
    cluster.connected(0).await;
    let took = begun.elapsed();
    signal("-CONT");
    assert_eq!(cluster.connected(1).await, all);
    worker.kill().unwrap();
    worker.wait().unwrap();
    cluster.connected(0).await;
    // A second, and room for a machine that is busy with other tests.
    assert!(took < Duration::from_secs(3), "{took:?}");
}

/// A worker that the test plays.
struct Played {
    to: mpsc::Sender<pb::FromWorker>,
    from: tonic::Streaming<pb::ToWorker>,
}

impl Played {
    async fn open(cluster: &Cluster, name: &str, incarnation: u128, token: &str) -> Self {
        let endpoint = tonic::transport::Endpoint::from_shared(cluster.address.clone()).unwrap();
        let mut client = WorkerLinkClient::new(endpoint.connect().await.unwrap());
        let (to, frames) = mpsc::channel(16);
        let mut request = tonic::Request::new(ReceiverStream::new(frames));
        let metadata = request.metadata_mut();
        metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
        metadata.insert("horai-worker", name.parse().unwrap());
        metadata.insert("horai-incarnation", format!("{incarnation:032x}").parse().unwrap());
        Self { to, from: client.attach(request).await.unwrap().into_inner() }
    }

    async fn say(&self, body: Say) {
        self.to.send(pb::FromWorker { body: Some(body) }).await.unwrap();
    }

    /// None at the stream's end.
    async fn hear(&mut self) -> Option<Hear> {
        let frame = timeout(PATIENCE, self.from.message()).await.unwrap().unwrap()?;
        Some(frame.body.unwrap())
    }

    async fn refused(&mut self) -> pb::Refused {
        loop {
            match self.hear().await.expect("a reason before the end") {
                Hear::Refused(refused) => {
                    assert_eq!(self.hear().await, None, "the stream ends after a refusal");
                    return refused;
                }
                Hear::Lead(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn hello(name: &str, incarnation: u128) -> pb::Hello {
    pb::Hello {
        name: name.into(),
        incarnation: incarnation.to_be_bytes().to_vec().into(),
        boot_id: 5u128.to_be_bytes().to_vec().into(),
        groups: vec!["default".into()],
        slots: 4,
        protocol: 1,
        ..Default::default()
    }
}

fn done(run: u64, number: u32, token: u64) -> pb::Result {
    pb::Result {
        attempt: Some(pb::AttemptId { run, shard: 0, number, token }),
        how: Some(pb::result::How::Exited(0)),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_refused_with_a_reason() {
    let cluster = Cluster::start().await;
    cluster.sessions.lead(cluster.leader);
    for (token, code) in [("wrong", "unauthenticated"), ("join", "denied")] {
        let mut stranger = Played::open(&cluster, "w1", 1, token).await;
        assert_eq!(stranger.refused().await.code, code);
    }
    let mut worker = Played::open(&cluster, "w1", 1, TOKEN).await;
    assert!(matches!(worker.hear().await, Some(Hear::Lead(_))));
    let mut other = Played::open(&cluster, "w1", 2, TOKEN).await;
    let refused = other.refused().await;
    assert!(refused.code == "conflict" && refused.message.contains("w1"), "{refused:?}");
    worker.say(Say::Hello(pb::Hello { protocol: 9, ..hello("w1", 1) })).await;
    let refused = worker.refused().await;
    assert!(refused.message.contains("protocol 9"), "{refused:?}");
    let mut many = Played::open(&cluster, "w1", 1, TOKEN).await;
    many.say(Say::Hello(hello("w1", 1))).await;
    cluster.connected(1).await;
    // A token that is dropped ends what it opened.
    cluster.ask(Command::DropToken { name: Name::new(TOKEN).unwrap() }).await;
    many.say(Say::Heartbeat(pb::Heartbeat::default())).await;
    loop {
        match many.hear().await {
            Some(Hear::Refused(refused)) => break assert_eq!(refused.code, "unauthenticated"),
            Some(_) => {}
            None => panic!("no reason given"),
        }
    }
    cluster.connected(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_are_forgotten_once_they_mean_nothing_more() {
    let cluster = Cluster::start().await;
    let mut worker = Played::open(&cluster, "w1", 1, TOKEN).await;
    cluster.sessions.lead(cluster.leader);
    assert!(matches!(worker.hear().await, Some(Hear::Lead(_))));
    let live = vec![pb::AttemptId { run: 77, shard: 0, number: 1, token: 3 }];
    let results = vec![done(78, 1, 4)];
    worker.say(Say::Hello(pb::Hello { live, more: true, ..hello("w1", 1) })).await;
    worker.say(Say::Hello(pb::Hello { results, ..hello("w1", 1) })).await;
    let Some(Hear::Welcome(welcome)) = worker.hear().await else { panic!("no welcome") };
    assert_eq!((welcome.node, welcome.cluster), (1, format!("{:032x}", 7)));
    let Some(Hear::Verdicts(verdicts)) = worker.hear().await else { panic!("no verdicts") };
    assert_eq!(verdicts.verdicts[0].decision(), pb::verdict::Decision::Kill);
    let Some(Hear::Forgets(forgets)) = worker.hear().await else { panic!("not forgotten") };
    assert_eq!(forgets.attempts, [done(78, 1, 4).attempt.unwrap()]);

    // The first report counts, the second means nothing; both are forgotten.
    let id = cluster.connected(1).await[0];
    let run = cluster.dispatch(id, Executor::Noop).await;
    cluster.sessions.start(id, vec![run]);
    let Some(Hear::Starts(starts)) = worker.hear().await else { panic!("no order") };
    let attempt = starts.starts[0].attempt.unwrap();
    for _ in 0..2 {
        let result = done(attempt.run, attempt.number, attempt.token);
        worker.say(Say::Results(pb::Results { results: vec![result] })).await;
        let Some(Hear::Forgets(forgets)) = worker.hear().await else { panic!("not forgotten") };
        assert_eq!(forgets.attempts, [attempt]);
    }
    assert_eq!(cluster.result(run).await, RunResult::Success);

    // A heartbeat is acknowledged after its commit.
    worker.say(Say::Heartbeat(pb::Heartbeat { seq: 9, ..Default::default() })).await;
    let Some(Hear::HeartbeatAck(ack)) = worker.hear().await else { panic!("no ack") };
    assert_eq!(ack.seq, 9);

    // Nobody leads: what is said now is not heard.
    cluster.sessions.stop_leading(cluster.leader);
    worker.say(Say::Results(pb::Results { results: vec![done(5, 1, 5)] })).await;
    worker.say(Say::Heartbeat(pb::Heartbeat { memory_total: 42, ..Default::default() })).await;
    until(|| cluster.sessions.load(id).filter(|load| load.memory_total == 42)).await;
    cluster.sessions.lead(cluster.leader);
    assert!(matches!(worker.hear().await, Some(Hear::Lead(_))));

    // The end of the node ends the stream.
    cluster.sessions.close();
    assert_eq!(worker.hear().await, None);
    let late = Played::open(&cluster, "w2", 2, TOKEN).await.refused().await;
    assert_eq!(late.code, "unavailable");
    assert!(Path::new(&cluster.home.path().join("raft")).exists());
}
