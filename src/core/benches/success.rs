//! How long one command takes that many wait for: the success of an action with 5,000
//! dependants.
//! `cargo bench -p horai-core --bench success`.

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "it measures time")]

use std::io::{self, Write};
use std::time::{Duration, Instant};

use horai_core::ids::{
    ActionKey, AttemptKey, Incarnation, JobId, LeaderId, Name, NodeId, RunId, Token, TriggerName,
};
use horai_core::machine::command::{
    Actor, Command, EndReport, Entry, Envelope, PlanBatch, PlanSource, PlannedAction,
};
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::{Limits, State};
use horai_core::model::cluster::ClusterSettings;
use horai_core::model::edge::EdgeSpec;
use horai_core::model::job::{JobSpec, MisfirePolicy, TriggerKind, TriggerSpec, default_group};
use horai_core::model::run::EndKind;
use horai_core::model::worker::WorkerProfile;
use horai_core::time::UtcMillis;

const DEPENDANTS: usize = 5_000;
const ROUNDS: usize = 5;
const AT: UtcMillis = UtcMillis(2_000_000);
const LEADER: LeaderId = LeaderId { term: 1, node: NodeId(1) };

struct Bench {
    state: State,
    index: u64,
    now: UtcMillis,
}

impl Bench {
    fn new() -> io::Result<Self> {
        let (state, now) = (State::new(Limits::default()), UtcMillis(1_000_000));
        let mut bench = Self { state, index: 0, now };
        bench.send(Command::InitCluster(ClusterSettings::new(7)))?;
        bench.send(Command::LeaderStarted(LEADER))?;
        bench.send(Command::AttachWorker(Box::new(WorkerProfile {
            name: name("w")?,
            incarnation: Incarnation(1),
            boot_id: 1,
            groups: vec![default_group()],
            labels: std::collections::BTreeMap::new(),
            slots: 10,
            host: String::new(),
            version: String::new(),
            amounts: Default::default(),
            stops_within: None,
            isolation: Box::default(),
            interpreters: std::collections::BTreeSet::new(),
        })))?;
        Ok(bench)
    }

    fn send(&mut self, command: Command) -> io::Result<Outcome> {
        self.index += 1;
        let actor = match command {
            Command::InitCluster(_) => Actor::User("bench".to_owned()),
            _ => Actor::Leader(LEADER),
        };
        let envelope = Envelope { actor, request: None, command };
        let entry = Entry { index: self.index, now: self.now, command: &envelope };
        match self.state.apply(entry).outcome {
            Outcome::Rejected(reject) => Err(io::Error::other(reject.to_string())),
            done => Ok(done),
        }
    }

    fn job(&mut self, spec: JobSpec) -> io::Result<JobId> {
        match self.send(Command::ApplyJob { spec: Box::new(spec), expected: None })? {
            Outcome::Job { job, .. } => Ok(job),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    /// Plans one action at [`AT`] of each of the jobs.
    fn plan(
        &mut self,
        jobs: &[JobId],
        source: &PlanSource,
        upstream: &[ActionKey],
    ) -> io::Result<()> {
        for jobs in jobs.chunks(PlanBatch::MAX_ACTIONS / 2) {
            let batch = |job: &JobId| PlanBatch {
                job: *job,
                revision: horai_core::ids::Revision(1),
                source: source.clone(),
                from: self.now,
                through: AT,
                actions: vec![PlannedAction {
                    nominal: AT,
                    due: AT,
                    upstream: upstream.to_vec(),
                    catch_up: false,
                    unmatched: Vec::new(),
                }],
                missed: None,
            };
            let batches = jobs.iter().map(batch).collect();
            self.send(Command::PlanActions(batches))?;
        }
        Ok(())
    }

    /// The only run that waits is given to the worker.
    fn dispatch(&mut self) -> io::Result<(AttemptKey, Token)> {
        let run: RunId = self
            .state
            .queue(&default_group())
            .next()
            .ok_or_else(|| io::Error::other("nothing waits"))?;
        let worker = horai_core::ids::WorkerId(1);
        let incarnation = Incarnation(1);
        match self.send(Command::Dispatch { run, number: 1, worker, incarnation })? {
            Outcome::Dispatched { token } => Ok((AttemptKey { run, shard: 0, number: 1 }, token)),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }
}

fn name(text: &str) -> io::Result<Name> {
    Name::new(text).map_err(io::Error::other)
}

fn triggered(text: &str) -> io::Result<JobSpec> {
    let trigger = TriggerSpec {
        name: TriggerName("t".into()),
        kind: TriggerKind::Cron { expression: "0 0 3 * * ?".to_owned() },
        zone: None,
        misfire: MisfirePolicy::FireAll,
        enabled: true,
    };
    Ok(JobSpec { triggers: vec![trigger], ..JobSpec::noop(name(text)?) })
}

/// The time that the success of one takes which so many wait for.
fn measure() -> io::Result<Duration> {
    let mut bench = Bench::new()?;
    let up = bench.job(triggered("up")?)?;
    let mut downs = Vec::with_capacity(DEPENDANTS);
    for number in 0..DEPENDANTS {
        let spec = JobSpec::noop(name(&format!("down-{number}"))?);
        downs.push(bench.job(JobSpec { depends_on: vec![EdgeSpec::new(up)], ..spec })?);
    }
    bench.plan(&[up], &PlanSource::Trigger(TriggerName("t".into())), &[])?;
    let above = [ActionKey { job: up, nominal: AT }];
    bench.plan(&downs, &PlanSource::Dependencies, &above)?;
    bench.now = AT;
    // A command releases a bounded number of what is due.
    for _ in 0..DEPENDANTS / 1_000 {
        bench.send(Command::Tick)?;
    }
    let (attempt, token) = bench.dispatch()?;
    let report = EndReport {
        how: EndKind::Exited { code: 0 },
        started: None,
        ended: None,
        output_bytes: 0,
        output_crc: 0,
    };
    let begun = Instant::now();
    bench.send(Command::Complete { attempt, token, report })?;
    let took = begun.elapsed();
    let ready = bench.state.queue_len();
    if ready != DEPENDANTS {
        return Err(io::Error::other(format!("{ready} of {DEPENDANTS} are ready")));
    }
    Ok(took)
}

fn main() -> io::Result<()> {
    let mut times = (0..ROUNDS).map(|_| measure()).collect::<io::Result<Vec<_>>>()?;
    times.sort_unstable();
    let (median, worst) = (times[ROUNDS / 2], times[ROUNDS - 1]);
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "a success that {DEPENDANTS} actions wait for: {:.1} ms (median of {ROUNDS}), {:.1} at worst",
        median.as_secs_f64() * 1e3,
        worst.as_secs_f64() * 1e3
    )
}
