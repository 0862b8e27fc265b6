//! A worker against a master that the test plays: real streams, shims and jobs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use horai::chunks::Content;
use horai::worker::output::Reader;
use horai::worker::{Config, agent};
use horai_core::ids::{AttemptKey, Name, RunId};
use horai_core::model::resources::Amounts;
use horai_proto::worker::from_worker::Body as Said;
use horai_proto::worker::result::How;
use horai_proto::worker::to_worker::Body as Order;
use horai_proto::worker::worker_link_server::{WorkerLink, WorkerLinkServer};
use horai_proto::worker::{self as pb};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(30);

type Answers = mpsc::Sender<Result<pb::ToWorker, Status>>;

struct Node(mpsc::Sender<(Answers, Streaming<pb::FromWorker>)>);

#[tonic::async_trait]
impl WorkerLink for Node {
    type AttachStream = ReceiverStream<Result<pb::ToWorker, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<pb::FromWorker>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer secret");
        let (answers, stream) = mpsc::channel(64);
        self.0.send((answers, request.into_inner())).await.unwrap();
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// A node's port, where streams arrive.
struct Port {
    address: String,
    streams: mpsc::Receiver<(Answers, Streaming<pb::FromWorker>)>,
}

async fn port() -> Port {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (to, streams) = mpsc::channel(4);
    let server = tonic::transport::Server::builder().add_service(WorkerLinkServer::new(Node(to)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    Port { address, streams }
}

/// One stream as the master sees it; acknowledges heartbeats while `acks` is set.
struct Master {
    to: Answers,
    from: Streaming<pb::FromWorker>,
    acks: bool,
}

impl Port {
    async fn attached(&mut self) -> Master {
        let (to, from) = timeout(PATIENCE, self.streams.recv()).await.unwrap().unwrap();
        Master { to, from, acks: true }
    }
}

impl Master {
    async fn tell(&self, body: Order) {
        self.to.send(Ok(pb::ToWorker { body: Some(body) })).await.unwrap();
    }

    /// The next thing said, heartbeats apart.
    async fn hear(&mut self) -> Said {
        loop {
            match self.next().await {
                Said::Heartbeat(beat) if self.acks => self.ack(beat.seq).await,
                Said::Heartbeat(_) => {}
                other => return other,
            }
        }
    }

    async fn next(&mut self) -> Said {
        timeout(PATIENCE, self.from.message()).await.unwrap().unwrap().unwrap().body.unwrap()
    }

    async fn ack(&self, seq: u64) {
        self.tell(Order::HeartbeatAck(pb::HeartbeatAck { seq, cluster_time_ms: 5_000 })).await;
    }

    async fn lead(&mut self, term: u64, node: u64) -> pb::Hello {
        self.tell(Order::Lead(pb::Lead { term, node, cluster_time_ms: 5_000 })).await;
        match self.hear().await {
            Said::Hello(hello) => hello,
            other => panic!("{other:?}"),
        }
    }

    async fn start(&self, start: pb::Start) {
        self.tell(Order::Starts(pb::Starts { starts: vec![start] })).await;
    }

    async fn result(&mut self) -> pb::Result {
        match self.hear().await {
            Said::Results(mut results) => results.results.remove(0),
            other => panic!("{other:?}"),
        }
    }
}

fn id(run: u64) -> pb::AttemptId {
    pb::AttemptId { run, shard: 0, number: 1, token: run * 10 }
}

fn shell(run: u64, term: u64, script: &str) -> pb::Start {
    pb::Start {
        attempt: Some(id(run)),
        fence: Some(pb::Fence { term, node: 1 }),
        executor: Some(pb::start::Executor::Shell(pb::Shell {
            interpreter: vec![],
            script: script.into(),
        })),
        grace_ms: 500,
        lease_ms: 60_000,
        ..Default::default()
    }
}

fn worker(home: &Path, nodes: &[&Port]) -> CancellationToken {
    start_worker(home, nodes).0
}

fn start_worker(home: &Path, nodes: &[&Port]) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let config = Config {
        name: Name::new("w1").unwrap(),
        data_dir: home.to_owned(),
        nodes: nodes.iter().map(|n| n.address.clone()).collect(),
        groups: vec![Name::new("default").unwrap()],
        labels: BTreeMap::new(),
        slots: 4,
        amounts: Amounts::default(),
        token: "secret".into(),
        shim_program: Some(env!("CARGO_BIN_EXE_horai").into()),
        heartbeat: Duration::from_millis(50),
        stop_after: Duration::ZERO,
        disk_reserve: Config::DISK_RESERVE,
        interpreters: horai::worker::interpreters::Interpreters::ready(),
    };
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = tokio::spawn(async move { agent::run(config, stopped).await.unwrap() });
    (stop, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_once_and_its_result_is_kept_until_it_is_forgotten() {
    let home = tempfile::tempdir().unwrap();
    let mut port = port().await;
    let _stop = worker(home.path(), &[&port]).drop_guard();
    let mut master = port.attached().await;
    let hello = master.lead(3, 1).await;
    assert_eq!((hello.name.as_str(), hello.slots, hello.live.len()), ("w1", 4, 0));
    let witness = home.path().join("witness");
    let script =
        format!("echo run >> {}; echo $HORAI_ATTEMPT $HORAI_FENCING_TOKEN", witness.display());
    master.start(shell(7, 3, &script)).await;
    let result = master.result().await;
    assert_eq!((result.attempt.unwrap(), result.how.clone()), (id(7), Some(How::Exited(0))));

    // The same order again is answered by the same result, and not run again.
    master.start(shell(7, 3, &script)).await;
    assert_eq!(master.result().await, result);
    assert_eq!(std::fs::read_to_string(&witness).unwrap(), "run\n");

    // A new stream of the leader learns what is not committed.
    drop(master);
    let mut master = port.attached().await;
    assert_eq!(master.lead(3, 1).await.results, vec![result.clone()]);
    master.tell(Order::Forgets(pb::Forgets { attempts: vec![id(7)] })).await;

    // No node takes the output: it stays.
    let key = AttemptKey { run: RunId(7), shard: 0, number: 1 };
    let mut reader = Reader::new(key, home.path().join("attempts/7-0-1"), 0);
    let piece = reader.next(1 << 20).unwrap().unwrap();
    let Content::Data { bytes, .. } = piece.content else { panic!("a gap") };
    assert_eq!((&bytes[..], piece.to), (&b"r-7.1 70\n"[..], result.output_bytes));
    drop(master);
    let mut master = port.attached().await;
    assert!(master.lead(4, 1).await.results.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_disk_keeps_from_beginning_is_given_back() {
    let home = tempfile::tempdir().unwrap();
    let mut port = port().await;
    let _stop = worker(home.path(), &[&port]).drop_guard();
    let mut master = port.attached().await;
    master.lead(3, 1).await;
    master.start(shell(7, 3, "true")).await;
    assert_eq!(master.result().await.how, Some(How::Exited(0)));
    // The disk is full for this one.
    let folder = home.path().join("attempts/8-0-1");
    std::fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.join("script")).unwrap();
    master.start(shell(8, 3, "true")).await;
    let mut closed = String::new();
    let result = loop {
        match master.next().await {
            Said::Heartbeat(beat) => {
                master.ack(beat.seq).await;
                assert_eq!(beat.slots_free > 0, beat.closed.is_empty(), "{beat:?}");
                closed = beat.closed;
            }
            Said::Results(mut results) => break results.results.remove(0),
            other => panic!("{other:?}"),
        }
    };
    assert!(closed.contains("No space left"), "it is told that nothing is taken before: {closed}");
    assert_eq!(result.how, Some(How::Declined(closed)));
    assert_eq!(result.started_ms, None);
    // What was on its way runs all the same, if it can.
    master.start(shell(9, 3, "true")).await;
    assert_eq!(master.result().await.how, Some(How::Exited(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_of_noops_costs_one_write_and_no_folder() {
    let home = tempfile::tempdir().unwrap();
    let mut port = port().await;
    let _stop = worker(home.path(), &[&port]).drop_guard();
    let mut master = port.attached().await;
    master.lead(3, 1).await;
    // The first acknowledged heartbeat is the lease: before it orders are held.
    let Said::Heartbeat(beat) = master.next().await else { panic!("no heartbeat") };
    master.ack(beat.seq).await;
    let frames = || {
        let bytes = std::fs::read(home.path().join("journal")).unwrap();
        bytes.windows(4).filter(|window| window == b"HJF1").count()
    };
    for round in 1..=2 {
        let starts: Vec<pb::Start> = (0..256)
            .map(|n| {
                let executor = Some(pb::start::Executor::Noop(pb::Unit {}));
                pb::Start { executor, ..shell(round * 1000 + n, 3, "") }
            })
            .collect();
        master.tell(Order::Starts(pb::Starts { starts })).await;
        let Said::Results(results) = master.hear().await else { panic!("no results") };
        let attempts: Vec<_> = results.results.iter().map(|r| r.attempt.unwrap()).collect();
        assert_eq!(attempts.len(), 256);
        master.tell(Order::Forgets(pb::Forgets { attempts })).await;
        // What is forgotten is written with what comes next.
        assert_eq!(frames(), usize::try_from(round).unwrap());
    }
    assert_eq!(std::fs::read_dir(home.path().join("attempts")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_starts_before_a_heartbeat_is_acknowledged_or_for_an_old_leader() {
    let home = tempfile::tempdir().unwrap();
    let (mut one, mut two) = (port().await, port().await);
    let _stop = worker(home.path(), &[&one, &two]).drop_guard();
    let (mut old, mut new) = (one.attached().await, two.attached().await);
    new.acks = false;
    new.lead(9, 1).await;
    let mut noop = shell(1, 9, "");
    noop.executor = Some(pb::start::Executor::Noop(pb::Unit {}));
    new.start(noop.clone()).await;
    let mut last = 0;
    for _ in 0..5 {
        match new.next().await {
            Said::Heartbeat(beat) => last = beat.seq,
            other => panic!("without a lease: {other:?}"),
        }
    }
    new.acks = true;
    new.ack(last).await;
    assert_eq!(new.result().await.attempt, Some(id(1)));

    // A deposed leader gets no Hello, and its orders are ignored; so is an old fence.
    old.tell(Order::Lead(pb::Lead { term: 8, node: 1, cluster_time_ms: 1 })).await;
    old.start(shell(2, 9, "exit 0")).await;
    new.start(shell(3, 8, "exit 0")).await;
    noop.attempt = Some(id(4));
    new.start(noop).await;
    assert_eq!(new.result().await.attempt, Some(id(4)));
    for _ in 0..5 {
        assert!(matches!(old.next().await, Said::Heartbeat(_)));
    }
    assert!(!home.path().join("attempts/2-0-1").exists());
    assert!(!home.path().join("attempts/3-0-1").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_was_too_long_on_its_way_is_not_begun() {
    let home = tempfile::tempdir().unwrap();
    let mut port = port().await;
    let _stop = worker(home.path(), &[&port]).drop_guard();
    let mut master = port.attached().await;
    master.lead(3, 1).await;
    let witness = home.path().join("witness");
    let script = format!("echo run >> {}", witness.display());
    // Cluster time is 5 s after 1970 here.
    master.start(pb::Start { begin_by_ms: 4_000, ..shell(1, 3, &script) }).await;
    let result = master.result().await;
    assert_eq!((result.attempt, result.started_ms), (Some(id(1)), None));
    assert!(matches!(result.how, Some(How::LeaseExpired(_))), "{:?}", result.how);
    assert!(!witness.exists());
    master.start(pb::Start { begin_by_ms: 3_600_000, ..shell(2, 3, &script) }).await;
    assert_eq!(master.result().await.how, Some(How::Exited(0)));
    assert!(witness.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_worker_adopts_its_attempts_and_can_cancel_them() {
    let home = tempfile::tempdir().unwrap();
    let mut port = port().await;
    let (stop, ended) = start_worker(home.path(), &[&port]);
    let mut master = port.attached().await;
    let incarnation = master.lead(3, 1).await.incarnation;
    let job = "echo on > on; while [ ! -e go ]; do sleep 0.02; done; exit 3";
    for run in [1, 2] {
        master.start(shell(run, 3, job)).await;
        let on = home.path().join(format!("attempts/{run}-0-1/work/on"));
        while !on.exists() {
            let Said::Heartbeat(beat) = master.next().await else { panic!("no heartbeat") };
            master.ack(beat.seq).await;
        }
    }
    stop.cancel();
    ended.await.unwrap();
    drop(master);
    let _stop = worker(home.path(), &[&port]).drop_guard();
    let mut master = port.attached().await;
    let hello = master.lead(4, 1).await;
    assert_eq!((hello.incarnation, hello.live), (incarnation, vec![id(1), id(2)]));
    std::fs::write(home.path().join("attempts/1-0-1/work/go"), "").unwrap();
    let result = master.result().await;
    assert_eq!((result.attempt.unwrap(), result.how), (id(1), Some(How::Exited(3))));
    let cancel = pb::Cancel { attempt: Some(id(2)), grace_ms: 100 };
    master.tell(Order::Cancels(pb::Cancels { cancels: vec![cancel] })).await;
    let result = master.result().await;
    assert_eq!((result.attempt.unwrap(), result.how), (id(2), Some(How::Cancelled(pb::Unit {}))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_whose_shim_was_killed_is_gone_with_all_its_processes() {
    let home = tempfile::tempdir().unwrap();
    let mut port = port().await;
    let _stop = worker(home.path(), &[&port]).drop_guard();
    let mut master = port.attached().await;
    master.lead(3, 1).await;
    master.start(shell(1, 3, "echo on > on; sleep 600")).await;
    let folder = home.path().join("attempts/1-0-1");
    while !folder.join("work/on").exists() {
        let Said::Heartbeat(beat) = master.next().await else { panic!("no heartbeat") };
        master.ack(beat.seq).await;
    }
    let process = |name: &str| -> horai::worker::shim::kill::Process {
        std::fs::read_to_string(folder.join(name)).unwrap().parse().unwrap()
    };
    let (shim, job) = (process("pid"), process("job"));
    let killed = std::process::Command::new("kill").arg("-9").arg(shim.pid.to_string()).status();
    assert!(killed.unwrap().success());
    let result = master.result().await;
    assert_eq!((result.attempt.unwrap(), result.how), (id(1), Some(How::Gone(pb::Unit {}))));
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", job.pid)).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "the job lives on: {stat}");
}
