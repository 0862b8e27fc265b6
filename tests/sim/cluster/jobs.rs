//! What a worker of the simulation stands on: its small files, and jobs without
//! processes that outlive it.
//!
//! A job here keeps its own deadline, as a shim does, by its machine's boot clock;
//! it goes on when the worker's process ends or freezes, and ends with the power.
//! Every start and end is written down by the test itself, with true times: that is
//! what the witness of a real job would say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use horai::worker::clock::millis;
use horai::worker::ending::Ending;
use horai::worker::folder::{Folder, Tail};
use horai::worker::jobs::{Control, Furniture, JobRunner, Started};
use horai::worker::load::Load;
use horai_core::ids::{AttemptKey, RunId, Token};
use horai_core::machine::command::EndReport;
use horai_core::model::run::EndKind;
use horai_core::time::UtcMillis;
use horai_proto::worker as pb;
use horai_raft::host::Host;

use crate::world::SimHost;

/// How often a worker looks whether a job has ended.
const LOOK: Duration = Duration::from_millis(5);

/// One start of a job, with true times in milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) key: AttemptKey,
    pub(crate) token: Token,
    pub(crate) worker: String,
    pub(crate) began: u64,
    pub(crate) ended: Option<u64>,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, token, worker, began, ended } = self;
        write!(f, "{key} (token {token}) on {worker} from {began} to {ended:?}")
    }
}

/// Everything that jobs did; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Witness(Arc<Mutex<Vec<Start>>>);

impl Witness {
    fn lock(&self) -> MutexGuard<'_, Vec<Start>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many starts there were.
    pub(crate) fn starts(&self) -> usize {
        self.lock().len()
    }

    /// Runs that something was started for.
    pub(crate) fn runs(&self) -> BTreeSet<RunId> {
        self.lock().iter().map(|start| start.key.run).collect()
    }

    /// Starts that are not to be: one token twice, or two attempts of one run at the
    /// same time.
    ///
    /// # Errors
    /// The first such pair.
    pub(crate) fn check(&self, from: usize) -> Result<(), String> {
        let all = self.lock();
        for (at, start) in all.iter().enumerate().skip(from) {
            for other in &all[..at] {
                if other.key.run != start.key.run || other.key.shard != start.key.shard {
                    continue;
                }
                if other.token == start.token || other.key == start.key {
                    return Err(format!("started twice: {other} and {start}"));
                }
                if other.ended.is_none_or(|ended| ended > start.began) {
                    return Err(format!("overlap: {other} and {start}"));
                }
            }
        }
        Ok(())
    }
}

struct Job {
    began: u64,
    /// Index in the witness.
    start: usize,
    ends_at: u64,
    code: i32,
    deadline: u64,
    lease_ms: u64,
    kill_at: Option<(u64, EndKind)>,
    result: Option<EndReport>,
    offset: i64,
}

#[derive(Default)]
struct Inner {
    jobs: BTreeMap<AttemptKey, Job>,
    /// Attempts without result that were found dead, and may not start any more.
    over: BTreeMap<AttemptKey, EndReport>,
    now: u64,
}

/// The jobs of one machine; clones are the same.
#[derive(Clone)]
pub(crate) struct Jobs {
    name: String,
    host: SimHost,
    witness: Witness,
    inner: Arc<Mutex<Inner>>,
}

impl Jobs {
    /// None yet.
    pub(crate) fn new(name: &str, host: SimHost, witness: Witness) -> Self {
        Self { name: name.to_owned(), host, witness, inner: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn boot_ms(&self) -> u64 {
        millis(self.host.boot_time())
    }

    /// A millisecond has passed.
    pub(crate) fn step(&self, now: u64) {
        let inner = &mut *self.lock();
        inner.now = now;
        let boot = self.boot_ms();
        for job in inner.jobs.values_mut().filter(|job| job.result.is_none()) {
            let how = match &job.kill_at {
                Some((at, how)) if boot >= *at => how.clone(),
                _ if boot >= job.deadline => EndKind::LeaseExpired,
                _ if boot >= job.ends_at => EndKind::Exited { code: job.code },
                _ => continue,
            };
            let cluster = |ms: u64| Some(UtcMillis(job.offset.saturating_add_unsigned(ms)));
            let (started, ended) = (cluster(job.began), cluster(boot));
            job.result = Some(EndReport { how, started, ended, output_bytes: 0, output_crc: 0 });
            self.witness.lock()[job.start].ended = Some(now);
        }
    }

    /// The machine lost its power: what ran has ended, what had ended is on disk.
    pub(crate) fn power_cut(&self, now: u64) {
        let inner = &mut *self.lock();
        for (key, job) in std::mem::take(&mut inner.jobs) {
            match job.result {
                Some(report) => drop(inner.over.insert(key, report)),
                None => self.witness.lock()[job.start].ended = Some(now),
            }
        }
    }
}

struct Order {
    jobs: Jobs,
    key: AttemptKey,
}

impl Order {
    fn with(&self, work: impl FnOnce(&mut Job, u64)) -> io::Result<()> {
        let boot = self.jobs.boot_ms();
        let inner = &mut *self.jobs.lock();
        let job = inner.jobs.get_mut(&self.key).filter(|job| job.result.is_none());
        job.map(|job| work(job, boot)).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl Control for Order {
    fn extend(&self, deadline_ms: u64) -> io::Result<()> {
        self.with(|job, _| job.deadline = job.deadline.max(deadline_ms))
    }

    fn cancel(&self, grace_ms: u64) -> io::Result<()> {
        // These jobs do as they are told within half the grace.
        self.with(|job, boot| {
            job.kill_at.get_or_insert((boot + grace_ms / 2, EndKind::Cancelled));
        })
    }
}

impl JobRunner for Jobs {
    fn start(
        &self,
        order: pb::Start,
        key: AttemptKey,
        token: Token,
        _files: Vec<Furniture>,
        deadline_ms: u64,
        offset_ms: i64,
    ) -> BoxFuture<'_, io::Result<Started>> {
        async move {
            // Writing the folder, and the shim's start.
            tokio::time::sleep(Duration::from_millis(self.host.random() % 20)).await;
            let argv = match &order.executor {
                Some(pb::start::Executor::Exec(exec)) => exec.argv.clone(),
                _ => Vec::new(),
            };
            let number = |at: usize| argv.get(at).and_then(|text| text.parse::<u64>().ok());
            let (run_for, fails) = (number(1).unwrap_or(0), number(2).unwrap_or(0));
            let boot = self.boot_ms();
            {
                let inner = &mut *self.lock();
                // A shim that finds a result, or its lease over, starts nothing.
                if boot < deadline_ms && !inner.over.contains_key(&key) {
                    let began = inner.now;
                    let mut starts = self.witness.lock();
                    let worker = self.name.clone();
                    starts.push(Start { key, token, worker, began, ended: None });
                    let job = Job {
                        began: boot,
                        start: starts.len() - 1,
                        ends_at: boot + run_for,
                        code: i32::from(self.host.random() % 1_000 < fails),
                        deadline: deadline_ms,
                        lease_ms: order.lease_ms,
                        kill_at: None,
                        result: None,
                        offset: offset_ms,
                    };
                    inner.jobs.insert(key, job);
                }
            }
            let (jobs, me) = (self.clone(), key);
            let ended = async move {
                while jobs.lock().jobs.get(&me).is_some_and(|job| job.result.is_none()) {
                    tokio::time::sleep(LOOK).await;
                }
            };
            let control = Box::new(Order { jobs: self.clone(), key });
            Ok(Started { control, has_handles: false, ended: ended.boxed() })
        }
        .boxed()
    }

    fn adopt_all(&self, _known: &BTreeSet<AttemptKey>) -> Vec<AttemptKey> {
        Vec::new()
    }

    fn adopt(&self, key: AttemptKey) -> Option<Box<dyn Control>> {
        let is_there = self.lock().jobs.contains_key(&key);
        is_there.then(|| Box::new(Order { jobs: self.clone(), key }) as Box<dyn Control>)
    }

    fn lease_ms(&self, key: AttemptKey) -> u64 {
        self.lock().jobs.get(&key).map_or(0, |job| job.lease_ms)
    }

    fn collect(&self, key: AttemptKey, _token: Token) -> BoxFuture<'_, Ending> {
        async move {
            loop {
                {
                    let inner = &mut *self.lock();
                    match inner.jobs.get(&key) {
                        Some(Job { result: Some(report), .. }) => return report.clone().into(),
                        Some(_) => {}
                        // What ended before a power cut, or never was: it may not start now.
                        None => {
                            let gone = EndReport {
                                how: EndKind::Gone,
                                started: None,
                                ended: None,
                                output_bytes: 0,
                                output_crc: 0,
                            };
                            return inner.over.entry(key).or_insert(gone).clone().into();
                        }
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        .boxed()
    }

    fn release(&self, key: AttemptKey) {
        // The folder with output and result stays: a late order finds it.
        let inner = &mut *self.lock();
        if let Some(Job { result: Some(report), .. }) = inner.jobs.remove(&key) {
            inner.over.insert(key, report);
        }
    }

    fn discard(&self, _: AttemptKey) {}

    fn output(&self, _: AttemptKey) -> Option<PathBuf> {
        None
    }
}

/// A machine that is never busy.
pub(crate) struct Idle;

impl Load for Idle {
    fn read(&mut self) -> pb::Heartbeat {
        pb::Heartbeat::default()
    }
}

#[derive(Debug, Default)]
struct Content {
    durable: Vec<u8>,
    view: Vec<u8>,
}

/// A folder that forgets in a power cut what was not synced; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimFolder(Arc<Mutex<BTreeMap<String, Content>>>);

impl SimFolder {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Content>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power fails: of what was written and not synced, so many thousandths stay.
    pub(crate) fn power_cut(&self, keep: usize) {
        for content in self.lock().values_mut() {
            let loose = content.view.len().saturating_sub(content.durable.len());
            content.view.truncate(content.durable.len() + loose * keep / 1_000);
            content.durable = content.view.clone();
        }
    }
}

impl Folder for SimFolder {
    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.lock().get(name).map(|content| content.view.clone()))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let content = Content { durable: bytes.to_vec(), view: bytes.to_vec() };
        self.lock().insert(name.to_owned(), content);
        Ok(())
    }

    fn tail(&self, name: &str) -> io::Result<Box<dyn Tail>> {
        Ok(Box::new(End { folder: self.clone(), name: name.to_owned() }))
    }
}

struct End {
    folder: SimFolder,
    name: String,
}

impl End {
    fn with(&self, work: impl FnOnce(&mut Content)) -> io::Result<()> {
        let mut files = self.folder.lock();
        files.get_mut(&self.name).map(work).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Tail for End {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.with(|content| content.view.extend(bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with(|content| content.durable = content.view.clone())
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.with(|content| {
            content.view.truncate(len);
            content.durable = content.view.clone();
        })
    }
}
