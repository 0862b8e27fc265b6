//! Workloads: what clients ask of a cluster while it is being broken.
//!
//! Each has a setup, a main phase that lasts as long as it is told, and a finish
//! that writes down what must be known at the end. They write the history and judge
//! nothing. All choices come from named streams of one seed; what the cluster
//! answers decides only how far a stream is read.

mod api_fuzz;
mod backfill;
mod cancel;
mod cron_fires;
mod dag;
pub(crate) mod finals;
mod limits;
mod load;
mod lock;
mod logs;
mod overlap;
mod pools;
mod recover;
mod register;
mod retries;
mod set;

pub(crate) use backfill::{BELOW as BACKFILL_BELOW, LIVE as BACKFILL_LIVE};
pub(crate) use cancel::GRACE_MS as CANCEL_GRACE_MS;
pub(crate) use limits::{
    MEMORY as LIMITS_MEMORY, PIDS as LIMITS_PIDS, REFUSED as LIMITS_REFUSED,
    WITHIN as LIMITS_WITHIN,
};
pub(crate) use load::Load;
pub(crate) use recover::{
    NODES as RECOVER_NODES, RESTLESS as RECOVER_RESTLESS, TREES as RECOVER_TREES,
};

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use serde_json::{Value, json};
use tokio::sync::RwLock;

use crate::client::{Client, Outcome, Request};
use crate::history::{Ask, Came, Kind, Writer};

/// Why a workload cannot go on: the harness failed, not the cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The history cannot be written.
    #[error("the history cannot be written")]
    History(#[from] io::Error),
    /// What was to be set up was not, in the time for it.
    #[error("{0} could not be set up: {1}")]
    Setup(String, String),
}

/// What workloads share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ctx {
    /// One client for each node.
    pub(crate) clients: Arc<Vec<Client>>,
    /// The history.
    pub(crate) writer: Arc<Writer>,
    /// The seed of the test.
    pub(crate) seed: u64,
    /// The witness program, as workers see it.
    pub(crate) witness: PathBuf,
    /// The folder that the witness appends to, as workers see it.
    pub(crate) witness_to: PathBuf,
    /// Scales how much is asked, in percent.
    pub(crate) rate: u32,
    /// Whether the whole cluster may be paused: not where others judge when runs begin.
    pub(crate) may_freeze: bool,
    /// Held by who changes one job, and alone by who changes many.
    changes: Arc<RwLock<()>>,
    /// Changes of many jobs of which nobody knows whether they were made.
    unsettled: Arc<Mutex<Vec<cron_fires::SharedChange>>>,
    /// Jobs of which nobody knows whether a change was made: they are left alone.
    abandoned: Arc<Mutex<BTreeSet<String>>>,
    next: Arc<AtomicUsize>,
}

impl Ctx {
    /// With 100 percent of the rate.
    pub(crate) fn new(
        clients: Vec<Client>,
        writer: Arc<Writer>,
        seed: u64,
        witness: PathBuf,
        witness_to: PathBuf,
    ) -> Self {
        let (clients, next) = (Arc::new(clients), Arc::new(AtomicUsize::new(0)));
        Self {
            clients,
            writer,
            seed,
            witness,
            witness_to,
            rate: 100,
            may_freeze: false,
            changes: Arc::default(),
            unsettled: Arc::default(),
            abandoned: Arc::default(),
            next,
        }
    }

    fn leave_unsettled(&self, change: cron_fires::SharedChange) {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }

    fn unsettled(&self) -> Vec<cron_fires::SharedChange> {
        std::mem::take(&mut self.unsettled.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Nobody knows how this job stands.
    fn abandon(&self, job: &str) {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).insert(job.to_owned());
    }

    fn is_abandoned(&self, job: &str) -> bool {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).contains(job)
    }

    /// The stream of that name: the same for the same seed, whatever else runs.
    pub(crate) fn stream(&self, name: &str) -> ChaCha12Rng {
        // FNV-1a: any fixed hash will do, if it is the same everywhere.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        ChaCha12Rng::seed_from_u64(self.seed ^ hash)
    }

    /// Any node's client, one after the other.
    pub(crate) fn any(&self) -> &Client {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len().max(1);
        &self.clients[at]
    }

    /// So many per second at 100 percent.
    pub(crate) fn pause(&self, per_second: f64, rng: &mut impl Rng) -> Duration {
        Self::seldom(per_second * f64::from(self.rate.max(1)) / 100.0, rng)
    }

    /// So many per second at any rate: for what concerns all jobs at once.
    pub(crate) fn seldom(per_second: f64, rng: &mut impl Rng) -> Duration {
        // Between none and twice the mean, so that clients do not march in step.
        Duration::from_secs_f64(rng.random_range(0.0..2.0) / per_second)
    }

    /// How to run the witness.
    pub(crate) fn exec(&self, options: &[(&str, String)]) -> Value {
        let mut argv = vec![self.witness.display().to_string()];
        argv.extend(["--to".to_owned(), self.witness_to.display().to_string()]);
        for (name, value) in options {
            argv.extend([format!("--{name}"), value.clone()]);
        }
        json!(argv)
    }
}

/// One client of a workload: a logical process with at most one open request.
pub(crate) struct Process<'a> {
    ctx: &'a Ctx,
    p: u32,
}

impl<'a> Process<'a> {
    /// A new one.
    pub(crate) fn new(ctx: &'a Ctx) -> Self {
        Self { ctx, p: ctx.writer.process() }
    }

    /// Asks once, and writes both rows. The process is another one after an answer
    /// that nobody knows, as a history demands.
    pub(crate) async fn ask(
        &mut self,
        client: &Client,
        (f, k, v): (&'static str, &str, Value),
        request: Request<'_>,
        result: impl FnOnce(&crate::client::Answer) -> Value,
    ) -> Result<Outcome, Error> {
        let ask = Ask { p: self.p, f, k: k.to_owned(), v, node: client.node.clone() };
        self.ctx.writer.invoke(&ask)?;
        let outcome = client.send(request).await;
        let came = outcome.came(result);
        self.complete(&ask, came)?;
        Ok(outcome)
    }

    /// Does several requests as one operation.
    pub(crate) async fn whole<T>(
        &mut self,
        node: &str,
        (f, k, v): (&'static str, &str, Value),
        work: impl AsyncFnOnce() -> (Came, T),
    ) -> Result<T, Error> {
        let ask = Ask { p: self.p, f, k: k.to_owned(), v, node: node.to_owned() };
        self.ctx.writer.invoke(&ask)?;
        let (came, value) = work().await;
        self.complete(&ask, came)?;
        Ok(value)
    }

    fn complete(&mut self, ask: &Ask, came: Came) -> Result<(), Error> {
        let is_lost = came.kind == Kind::Info;
        self.ctx.writer.complete(ask, came)?;
        if is_lost {
            self.p = self.ctx.writer.process();
        }
        Ok(())
    }

    /// Sends one write, under one idempotency key, until its outcome is known or the
    /// time is over. Each try is an operation of its own that names the key.
    pub(crate) async fn insist(
        &mut self,
        (f, k, v): (&'static str, &str, Value),
        request: Request<'_>,
        until: Instant,
    ) -> Result<Outcome, Error> {
        let key = format!("{f}-{k}-{}", self.ctx.writer.process());
        self.insist_as((f, k, v), &key, request, until).await
    }

    /// The same under a key that may have been used for it before.
    async fn insist_as(
        &mut self,
        (f, k, v): (&'static str, &str, Value),
        key: &str,
        request: Request<'_>,
        until: Instant,
    ) -> Result<Outcome, Error> {
        let mut argument = v;
        argument["key"] = json!(key);
        loop {
            let client = self.ctx.any();
            let sent = request.clone().header("Idempotency-Key", key);
            let what = (f, k, argument.clone());
            let outcome = self.ask(client, what, sent, |answer| answer.body.clone()).await?;
            // Refused by the machine is known; not reached, or not now, is not.
            let is_known = match &outcome {
                Outcome::Done(_) => true,
                Outcome::Refused(Some(answer), _) => answer.status != 429,
                Outcome::Refused(None, _) | Outcome::Unknown(..) => false,
            };
            if is_known || Instant::now() >= until {
                return Ok(outcome);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Pages of one list: a list that goes on for longer leads in a circle.
const MOST_PAGES: usize = 1_000;

/// How long a setup may take.
const SETUP: Duration = Duration::from_secs(60);

/// Sends a write of a setup until it is done.
pub(crate) async fn set_up(
    ctx: &Ctx,
    what: (&'static str, &str, Value),
    request: Request<'_>,
) -> Result<(), Error> {
    let name = format!("{} {}", what.0, what.1);
    match Process::new(ctx).insist(what, request, Instant::now() + SETUP).await? {
        Outcome::Done(_) => Ok(()),
        Outcome::Refused(_, why) | Outcome::Unknown(_, why) => Err(Error::Setup(name, why)),
    }
}

/// The items of one page, read on any node that answers in time; none if no one does.
async fn page(ctx: &Ctx, request: Request<'_>, until: Instant) -> Vec<Value> {
    loop {
        let answer = ctx.any().send(request.clone()).await;
        if let Some(items) = answer.body().and_then(|body| body["items"].as_array()) {
            return items.clone();
        }
        if Instant::now() >= until {
            return Vec::new();
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Creates the jobs of a workload in one request.
async fn apply_set(ctx: &Ctx, workload: &str, jobs: Vec<Value>) -> Result<(), Error> {
    let body = json!({ "jobs": jobs });
    set_up(ctx, ("apply-set", workload, body.clone()), Request::post("jobs", body)).await
}

/// A workload. The mix is all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Jobs with every kind of trigger that are edited, paused and deleted.
    CronFires,
    /// Unique jobs, listed on every node.
    Set,
    /// Leases, and a resource that checks tokens.
    Lock,
    /// Compare-and-set on definitions.
    Register,
    /// Graphs of jobs, with every rule of matching and every condition.
    Dag,
    /// Attempts that fail.
    Retries,
    /// Instants that come while runs of their job are live.
    Overlap,
    /// Runs that take slots.
    Pools,
    /// Actions that are run again, with what follows from them.
    Recover,
    /// Ranges of the past.
    Backfill,
    /// Runs that are cancelled.
    Cancel,
    /// Jobs that overstep what they may have.
    Limits,
    /// Output that is followed.
    Logs,
    /// Requests that make no sense.
    ApiFuzz,
}

impl Workload {
    /// All of them: the mix.
    pub(crate) const ALL: [Self; 14] = [
        Self::CronFires,
        Self::Set,
        Self::Lock,
        Self::Register,
        Self::Dag,
        Self::Retries,
        Self::Overlap,
        Self::Pools,
        Self::Recover,
        Self::Backfill,
        Self::Cancel,
        Self::Limits,
        Self::Logs,
        Self::ApiFuzz,
    ];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CronFires => "cron-fires",
            Self::Set => "set",
            Self::Lock => "lock",
            Self::Register => "register",
            Self::Dag => "dag",
            Self::Retries => "retries",
            Self::Overlap => "overlap",
            Self::Pools => "pools",
            Self::Recover => "recover",
            Self::Backfill => "backfill",
            Self::Cancel => "cancel",
            Self::Limits => "limits",
            Self::Logs => "logs",
            Self::ApiFuzz => "api-fuzz",
        }
    }

    /// True if it judges when runs begin or end, so that a pause of all would be in its way.
    fn counts_time(self) -> bool {
        !matches!(self, Self::CronFires | Self::Set | Self::Lock | Self::Register | Self::ApiFuzz)
    }

    /// Whether these leave room for pauses of the whole cluster.
    pub(crate) fn may_freeze(all: &[Self]) -> bool {
        !all.iter().any(|workload| workload.counts_time())
    }

    /// Reads a list of names; `mixed` is all.
    ///
    /// # Errors
    /// A text for people that names what there is.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        if text == "mixed" {
            return Ok(Self::ALL.to_vec());
        }
        let find = |name: &str| {
            Self::ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| {
                let known: Vec<&str> = Self::ALL.iter().map(|w| w.name()).collect();
                format!(
                    "there is no workload {name:?}: write mixed, or some of {}",
                    known.join(",")
                )
            })
        };
        text.split(',').map(str::trim).map(find).collect()
    }

    /// Makes what the main phase needs.
    ///
    /// # Errors
    /// [`Error`]: the test cannot begin.
    pub(crate) fn setup<'a>(self, ctx: &'a Ctx) -> BoxFuture<'a, Result<(), Error>> {
        match self {
            Self::CronFires => Box::pin(cron_fires::setup(ctx)),
            Self::Dag => Box::pin(dag::setup(ctx)),
            Self::Retries => Box::pin(retries::setup(ctx)),
            Self::Overlap => Box::pin(overlap::setup(ctx)),
            Self::Pools => Box::pin(pools::setup(ctx)),
            Self::Recover => Box::pin(recover::setup(ctx)),
            Self::Backfill => Box::pin(backfill::setup(ctx)),
            Self::Cancel => Box::pin(cancel::setup(ctx)),
            Self::Limits => Box::pin(limits::setup(ctx)),
            Self::Logs => Box::pin(logs::setup(ctx)),
            Self::Set | Self::Lock | Self::Register | Self::ApiFuzz => {
                Box::pin(std::future::ready(Ok(())))
            }
        }
    }

    /// Asks until the time is over.
    ///
    /// # Errors
    /// [`Error`]: the harness failed.
    pub(crate) fn main<'a>(self, ctx: &'a Ctx, until: Instant) -> BoxFuture<'a, Result<(), Error>> {
        match self {
            Self::CronFires => Box::pin(cron_fires::main(ctx, until)),
            Self::Set => Box::pin(set::main(ctx, until)),
            Self::Lock => Box::pin(lock::main(ctx, until)),
            Self::Register => Box::pin(register::main(ctx, until)),
            Self::Dag | Self::Retries => Box::pin(std::future::ready(Ok(()))),
            Self::Overlap => Box::pin(overlap::main(ctx, until)),
            Self::Pools => Box::pin(pools::main(ctx, until)),
            Self::Recover => Box::pin(recover::main(ctx, until)),
            Self::Backfill => Box::pin(backfill::main(ctx, until)),
            Self::Cancel => Box::pin(cancel::main(ctx, until)),
            Self::Limits => Box::pin(limits::main(ctx, until)),
            Self::Logs => Box::pin(logs::main(ctx, until)),
            Self::ApiFuzz => Box::pin(api_fuzz::main(ctx, until)),
        }
    }

    /// After everything has healed: what is missing is done, then nothing more is
    /// asked of it.
    ///
    /// # Errors
    /// [`Error`]: the harness failed.
    pub(crate) fn settle<'a>(self, ctx: &'a Ctx) -> BoxFuture<'a, Result<(), Error>> {
        match self {
            Self::CronFires => Box::pin(cron_fires::settle(ctx)),
            Self::Set => Box::pin(set::settle(ctx)),
            Self::Backfill => Box::pin(backfill::settle(ctx)),
            _ => Box::pin(std::future::ready(Ok(()))),
        }
    }

    /// What must be read from a cluster at rest.
    ///
    /// # Errors
    /// [`Error`]: the harness failed.
    pub(crate) fn finish<'a>(self, ctx: &'a Ctx) -> BoxFuture<'a, Result<(), Error>> {
        match self {
            Self::Set => Box::pin(set::finish(ctx)),
            Self::Logs => Box::pin(logs::finish(ctx)),
            Self::Overlap => Box::pin(overlap::finish(ctx)),
            Self::Pools => Box::pin(pools::finish(ctx)),
            Self::Recover => Box::pin(recover::finish(ctx)),
            Self::Backfill => Box::pin(backfill::finish(ctx)),
            _ => Box::pin(std::future::ready(Ok(()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let list = Workload::parse_list("cron-fires, set").unwrap();
        assert_eq!(list, [Workload::CronFires, Workload::Set]);
        assert_eq!(Workload::parse_list("mixed").unwrap().len(), Workload::ALL.len());
        assert!(Workload::parse_list("sets").unwrap_err().contains("cron-fires"));
    }

    #[test]
    fn streams_depend_on_seed_and_name_alone() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Arc::new(Writer::create(&folder.path().join("h")).unwrap());
        let ctx = |seed| Ctx::new(Vec::new(), writer.clone(), seed, "w".into(), "t".into());
        let draw = |seed, name| ctx(seed).stream(name).random::<u64>();
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
    }
}
