//! Job definitions, applied as one set.
//!
//! Everything is checked before the first command is proposed: fields, timing,
//! names, circles, and then the whole set is tried out on a copy of the newest
//! state with the machine's own code. So a mistake in the last definition
//! leaves the first one unapplied. Then the contents of files are stored by a majority. Only what others write between the trial
//! and the commit can still refuse one; the answer then says which are applied.

use std::collections::BTreeMap;

use horai_core::derivation::order::order;
use horai_core::ids::{JobId, Name, Revision};
use horai_core::machine::command::{Command, Entry, Envelope};
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State;
use horai_core::model::job::JobSpec;
use horai_core::timing::check::check_spec;

use super::dto::{AppliedJob, AppliedJobs, JobSet};
use super::files::Contents;
use super::job_definition::JobDefinition;
use super::problem::{Fault, of_timing};
use super::texts;
use super::write::{Write, accepted, at, json, odd};
use super::{Api, MAX_JOB_BODY, READ_LIMIT, WRITE_LIMIT};
use crate::error::{ErrorCode, FieldError};

/// The most jobs of one request.
const MAX_SET: usize = 1_000;

/// The definitions of a request, and how an error names each.
pub(super) struct Definitions {
    jobs: Vec<JobDefinition>,
    /// The request as it came, to show what stands in a field.
    given: serde_json::Value,
    is_set: bool,
}

impl Definitions {
    /// Reads one definition, or a set of them.
    pub(super) fn read(write: &Write) -> Result<Self, Fault> {
        let given: serde_json::Value = json(write.body())?;
        let is_set = given.get("jobs").is_some_and(|jobs| !jobs.is_null());
        let jobs = if is_set {
            json::<JobSet>(write.body())?.jobs
        } else {
            write.at_most(MAX_JOB_BODY)?;
            vec![json(write.body())?]
        };
        if jobs.len() > MAX_SET {
            let (count, remedy) = (jobs.len(), format!("send at most {MAX_SET} at once"));
            return Err(FieldError::invalid(
                "jobs",
                format!("{count} entries"),
                "the list is too long",
                remedy,
            )
            .with_code(ErrorCode::TooLarge)
            .into());
        }
        Ok(Self { jobs, given, is_set })
    }

    /// Reads one definition of the job with that name.
    pub(super) fn of_job(write: &Write, name: &Name) -> Result<Self, Fault> {
        write.at_most(MAX_JOB_BODY)?;
        let given: serde_json::Value = json(write.body())?;
        let job: JobDefinition = json(write.body())?;
        if job.name != name.as_str() {
            let problem = format!("the address names {name}");
            let remedy = "use one name in both; a job cannot be renamed";
            return Err(FieldError::invalid("name", &job.name, problem, remedy).into());
        }
        Ok(Self { jobs: vec![job], given, is_set: false })
    }

    fn place(&self, i: usize) -> String {
        if self.is_set { format!("jobs[{i}].") } else { String::new() }
    }

    /// An error of a definition, told of its place, with the value that stands there.
    fn fault(&self, i: usize, error: FieldError) -> Fault {
        let place = self.place(i);
        let shown = at(&self.given, &format!("{place}{}", error.field));
        let value = if error.value.is_empty() { shown } else { error.value.clone() };
        Fault::from(FieldError { value, ..error }).within(&place)
    }

    /// Checks all that can be checked without the machine, in the order of the
    /// request; the answer is an order in which upstream jobs come first, and the contents
    /// of their files.
    fn check(&self, state: &State) -> Result<(Vec<usize>, Contents), Fault> {
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        for (i, job) in self.jobs.iter().enumerate() {
            if let Some(first) = names.insert(&job.name, i) {
                let problem = format!("jobs[{first}] has the same name");
                let remedy = "give each job a name of its own";
                return Err(self.fault(i, FieldError::invalid("name", &job.name, problem, remedy)));
            }
        }
        let zone = state.settings().map_or("UTC", |settings| settings.default_zone.as_str());
        let mut contents = Contents::default();
        for (i, job) in self.jobs.iter().enumerate() {
            // A number that no job has stands for one that this request makes.
            let made = |name: &Name| {
                let i = names.get(name.as_str())?;
                Some(JobId(u64::MAX - *i as u64))
            };
            let number = |name: &Name| number(state, name).or_else(|| made(name));
            let spec = job.to_spec(number).map_err(|error| self.fault(i, error))?;
            contents.add(&job.files, state).map_err(|error| self.fault(i, error))?;
            job.check_pools(state).map_err(|error| self.fault(i, error))?;
            texts::check_names(&spec, state).map_err(|error| self.fault(i, error))?;
            let calendar = |name: &Name| state.calendar(name).map(|calendar| &calendar.def);
            check_spec(&spec, zone, Some(&calendar)).map_err(|error| {
                let place = self.place(i);
                let value = at(&self.given, &format!("{place}{}", error.path));
                of_timing(&error, &value).within(&place)
            })?;
        }
        Ok((self.order(&names)?, contents))
    }

    /// Upstream jobs first.
    fn order(&self, names: &BTreeMap<&str, usize>) -> Result<Vec<usize>, Fault> {
        let edges: Vec<Vec<usize>> = self
            .jobs
            .iter()
            .map(|job| {
                // A job may wait for its own earlier actions.
                let ups = job.depends_on.iter().filter(|up| up.job != job.name);
                ups.filter_map(|up| names.get(up.job.as_str()).copied()).collect()
            })
            .collect();
        order(&edges).map_err(|circle| {
            let path: Vec<&str> = circle.iter().map(|i| self.jobs[*i].name.as_str()).collect();
            let problem = "these jobs wait for each other";
            let remedy = "take one of these dependencies away";
            let error = FieldError::invalid("depends_on", path.join(" → "), problem, remedy);
            self.fault(circle[0], error.with_code(ErrorCode::DependencyCycle))
        })
    }

    /// Applies the set to a copy of the state with the machine's own code. The
    /// revision asked for is not part of the trial: a request that was served
    /// before must not be refused for what it did itself.
    fn rehearse(
        &self,
        write: &Write,
        (order, contents): (&[usize], &Contents),
        state: &State,
    ) -> Result<(), Fault> {
        let mut state = state.clone();
        for note in contents.notes() {
            let envelope = Envelope { request: None, ..write.envelope(note) };
            let (index, now) = (state.applied_index().saturating_add(1), state.now());
            accepted(state.apply(Entry { index, now, command: &envelope }).outcome)?;
        }
        for &i in order {
            let job = &self.jobs[i];
            let spec =
                job.to_spec(|name| number(&state, name)).map_err(|error| self.fault(i, error))?;
            let command = Command::ApplyJob { spec: Box::new(spec), expected: None };
            let envelope = Envelope { request: None, ..write.envelope(command) };
            let (index, now) = (state.applied_index().saturating_add(1), state.now());
            let applied = state.apply(Entry { index, now, command: &envelope });
            accepted(applied.outcome).map_err(|fault| self.refused(i, fault))?;
        }
        Ok(())
    }

    /// The answer, if this request was served to its end before.
    pub(super) fn served(
        &self,
        write: &Write,
        state: &State,
    ) -> Option<Result<AppliedJobs, Fault>> {
        let mut jobs = Vec::with_capacity(self.jobs.len());
        for i in 0..self.jobs.len() {
            let outcome = write.served_part(i, state)?;
            match outcome.and_then(|outcome| self.done(i, outcome)) {
                Ok(job) => jobs.push(job),
                Err(fault) => return Some(Err(self.refused(i, fault))),
            }
        }
        Some(Ok(AppliedJobs { jobs }))
    }

    fn done(&self, i: usize, outcome: Outcome) -> Result<AppliedJob, Fault> {
        match accepted(outcome)? {
            Outcome::Job { job, revision, changed } => {
                let name = self.jobs[i].name.clone();
                let notices = self.jobs[i].notices();
                Ok(AppliedJob { name, number: job.0, revision: revision.0, changed, notices })
            }
            other => Err(odd(&other)),
        }
    }

    fn refused(&self, i: usize, fault: Fault) -> Fault {
        let place = self.place(i);
        let shown = |field: &str| at(&self.given, &format!("{place}{field}"));
        fault.filled(shown).within(&place)
    }
}

fn number(state: &State, name: &Name) -> Option<JobId> {
    state.job_by_name(name).map(|job| job.id)
}

impl Api {
    /// Checks and applies definitions; `expected` is for a request of one job.
    pub(super) async fn apply(
        &self,
        write: &Write,
        definitions: &Definitions,
        expected: Option<Revision>,
    ) -> Result<AppliedJobs, Fault> {
        self.node.linearize(READ_LIMIT).await?;
        let state = self.read(State::clone);
        // Before any check: others may have changed what it was checked against.
        if let Some(done) = definitions.served(write, &state) {
            return done;
        }
        let (order, contents) = definitions.check(&state)?;
        definitions.rehearse(write, (&order, &contents), &state)?;
        drop(state);
        self.keep(write, contents).await?;
        let mut applied: Vec<Option<AppliedJob>> = vec![None; definitions.jobs.len()];
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            if rest.len() < order.len() {
                // A follower applies what it has just handed to the leader a little later.
                self.node
                    .linearize(READ_LIMIT)
                    .await
                    .map_err(|error| Fault::from(error).and(&applied_before(&applied)))?;
            }
            // As many as need no job that is not there yet go in one trip.
            let specs = self.read(|state| definitions.ready(rest, state))?;
            let envelopes = rest.iter().zip(specs).map(|(i, spec)| {
                write.part(*i, Command::ApplyJob { spec: Box::new(spec), expected })
            });
            let envelopes: Vec<Envelope> = envelopes.collect();
            let (now, later) = rest.split_at(envelopes.len());
            let outcomes = self.node.propose_all(envelopes, WRITE_LIMIT).await;
            for (&i, outcome) in now.iter().zip(outcomes) {
                let done =
                    outcome.map_err(Fault::from).and_then(|outcome| definitions.done(i, outcome));
                applied[i] = Some(done.map_err(|fault| {
                    let fault = definitions.refused(i, fault);
                    if applied.iter().all(Option::is_none) {
                        return fault;
                    }
                    fault.and(&applied_before(&applied))
                })?);
            }
            rest = later;
        }
        Ok(AppliedJobs { jobs: applied.into_iter().flatten().collect() })
    }
}

/// Which jobs of a request are applied already.
fn applied_before(applied: &[Option<AppliedJob>]) -> String {
    let done: Vec<&str> = applied.iter().flatten().map(|done| done.name.as_str()).collect();
    format!("applied before it: {}", done.join(", "))
}

impl Definitions {
    /// Definitions of the first of `rest` that need no job that is not there yet.
    fn ready(&self, rest: &[usize], state: &State) -> Result<Vec<JobSpec>, Fault> {
        let mut specs = Vec::new();
        for &i in rest {
            match self.jobs[i].to_spec(|name| number(state, name)) {
                Ok(spec) => specs.push(spec),
                Err(error) if specs.is_empty() => return Err(self.fault(i, error)),
                Err(_) => break,
            }
        }
        Ok(specs)
    }
}
