//! Recoveries: what runs again when somebody asks, what is told, and what is left alone.
//!
//! Where a tree was at rest at each step, [`model`] says which runs there must be, of
//! which kinds and in which order; where it was not, only that nothing ran more often
//! than somebody asked for, and never two of one action at once.

mod model;

use std::collections::BTreeMap;

use self::model::{Expected, Tree};
use super::Checked;
use super::claims::edge;
use super::ran::{Ran, ran};
use super::records::{Records, RunRecord, nominal_of};
use super::timeline::lives;
use crate::history::{Kind, Op};
use crate::store::Evidence;
use crate::time::shown;
use crate::workload::{RECOVER_NODES as NODES, RECOVER_RESTLESS as RESTLESS, RECOVER_TREES};

/// What is asked of actions.
const STEPS: [&str; 4] = ["recover", "super-recover", "force-success", "skip-action"];

/// A request with all its tries.
struct Step<'a> {
    op: &'a str,
    tree: &'a str,
    node: &'a str,
    nominal: i64,
    t: u64,
    /// Known to be done.
    done: bool,
    /// Nobody knows.
    open: bool,
    /// The run that it made, if it says one.
    runs: Vec<&'a str>,
}

/// The verdict.
pub(crate) fn check(evidence: &Evidence, records: &Records) -> Checked {
    let promise = "a recovery runs what it is asked for again, and tells what waits, once";
    let mut checked = Checked::new("recover", promise);
    for what in ["not told", "ran too often", "before what it follows", "two at once"] {
        checked.count(what, 0);
    }
    let Some(lives) = checked.taken(lives(evidence)) else { return checked };
    let steps = steps(evidence);
    let all = ran(evidence, "rec-");
    judge_runs(&mut checked, records, &steps);
    judge_beside(&mut checked, evidence, records);
    judge_pairs(&mut checked, evidence, records, &all);
    let of = Trees { evidence, records, steps: &steps, runs: &all };
    let horizon = evidence.horizon().unwrap_or(i64::MIN);
    for (tree, fails) in RECOVER_TREES {
        let life = lives.get(&format!("{tree}-root"));
        let Some(made) = life.and_then(|life| life.changes.first()) else { continue };
        let from = made.at.to.saturating_add(edge(evidence));
        for nominal in of.instants(tree).filter(|at| *at > from && *at <= horizon) {
            of.judge(&mut checked, tree, fails, nominal);
        }
    }
    for nominal in of.instants(RESTLESS) {
        of.judge_restless(&mut checked, nominal);
    }
    for what in ["steps", "trees judged"] {
        if checked.counted(what) == 0 {
            checked.unknown(format!("no {what}"));
        }
    }
    checked
}

/// All requests, in the order in which they were first sent.
fn steps(evidence: &Evidence) -> Vec<Step<'_>> {
    let mut all: Vec<Step<'_>> = Vec::new();
    let mut known: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for op in evidence.ops.iter().filter(|op| STEPS.contains(&op.ask.f.as_str())) {
        let Some(step) = read(op) else { continue };
        let key = op.ask.v["key"].as_str().unwrap_or_default();
        let at = *known.entry((&op.ask.f, key)).or_insert_with(|| {
            all.push(step);
            all.len() - 1
        });
        let step = &mut all[at];
        match op.kind() {
            Kind::Ok => {
                step.done = true;
                let run = op.result()["run"].as_str();
                step.runs.extend(run.filter(|run| !step.runs.contains(run)));
            }
            Kind::Fail => {}
            Kind::Info | Kind::Invoke => step.open = true,
        }
    }
    all
}

fn read(op: &Op) -> Option<Step<'_>> {
    let (job, _) = op.ask.k.split_once('@')?;
    let (tree, node) = job.rsplit_once('-')?;
    let (op, nominal, t) = (op.ask.f.as_str(), nominal_of(&op.ask.k)?, op.ask.t);
    Some(Step { op, tree, node, nominal, t, done: false, open: false, runs: Vec::new() })
}

/// One request makes one run, of its kind and its action.
fn judge_runs(checked: &mut Checked, records: &Records, steps: &[Step<'_>]) {
    for step in steps {
        checked.count("steps", i64::from(step.done));
        checked.count("steps of which nobody knows", i64::from(step.open && !step.done));
        let key = format!("{}-{}@{}", step.tree, step.node, shown(step.nominal));
        if step.runs.len() > 1 {
            let told = format!("one {} made {:?}", step.op, step.runs);
            checked.wrong("ran too often", &key, told, step.t);
        }
        for record in step.runs.iter().filter_map(|run| records.runs.get(*run)) {
            let kind = step.op.replace('-', "_");
            let job = format!("{}-{}", step.tree, step.node);
            if (&record.kind, &record.job, record.nominal) != (&kind, &job, step.nominal) {
                let told = format!(
                    "{} made {}, a {} of {} at {}",
                    step.op,
                    record.id,
                    record.kind,
                    record.job,
                    shown(record.nominal)
                );
                checked.wrong("another run", &key, told, step.t);
            }
        }
    }
}

/// Runs beside the plan are what was asked for.
fn judge_beside(checked: &mut Checked, evidence: &Evidence, records: &Records) {
    for op in evidence.ops_of("trigger").filter(|op| op.is_ok() && op.ask.k.starts_with("rec-")) {
        let run = op.result()["run"].as_str().unwrap_or_default();
        let Some(record) = records.runs.get(run) else { continue };
        checked.count("runs beside the plan", 1);
        let kind = if op.ask.v["debug"] == true { "debug" } else { "manual" };
        if record.kind != kind {
            let told = format!("{run} is of kind {}, not {kind}", record.kind);
            checked.wrong("another run", &op.ask.k, told, op.ask.t);
        }
    }
}

/// Never two runs of one action at once.
fn judge_pairs(checked: &mut Checked, evidence: &Evidence, records: &Records, all: &[Ran]) {
    let is_of_plan = |run: &&Ran| records.runs.get(&run.run).is_some_and(RunRecord::is_of_plan);
    let mut of: BTreeMap<(&str, i64), Vec<&Ran>> = BTreeMap::new();
    for run in all.iter().filter(is_of_plan) {
        of.entry((&run.job, run.nominal)).or_default().push(run);
    }
    for ((job, nominal), runs) in of {
        for (at, later) in runs.iter().enumerate() {
            if let Some(other) = runs[..at].iter().find(|r| r.lives_at(evidence, later.start)) {
                let told =
                    format!("{}: {} began while {} lived", shown(nominal), later.run, other.run);
                checked.wrong("two at once", job, told, later.start);
            }
        }
    }
}

struct Trees<'a> {
    evidence: &'a Evidence,
    records: &'a Records,
    steps: &'a [Step<'a>],
    runs: &'a [Ran],
}

impl Trees<'_> {
    /// Instants of which the root has run.
    fn instants(&self, tree: &str) -> impl Iterator<Item = i64> {
        let root = format!("{tree}-root");
        let of: std::collections::BTreeSet<i64> =
            self.runs.iter().filter(|run| run.job == root).map(|run| run.nominal).collect();
        of.into_iter()
    }

    /// What is recorded of one action, in the order in which it was made.
    fn recorded(&self, job: &str, nominal: i64) -> Vec<&RunRecord> {
        let all = self.records.runs.values();
        let mut found: Vec<&RunRecord> =
            all.filter(|r| r.job == job && r.nominal == nominal && r.is_of_plan()).collect();
        found.sort_by_key(|run| run.number());
        found
    }

    fn steps_of(&self, tree: &str, nominal: i64) -> impl Iterator<Item = &Step<'_>> {
        self.steps.iter().filter(move |step| step.tree == tree && step.nominal == nominal)
    }

    fn judge(&self, checked: &mut Checked, tree: &str, fails: &str, nominal: i64) {
        if self.steps_of(tree, nominal).any(|step| step.open && !step.done) {
            checked.count("trees of unknown steps, not judged", 1);
            return;
        }
        let mut model = Tree::fired(&NODES, fails);
        for step in self.steps_of(tree, nominal).filter(|step| step.done) {
            model.step(step.op, step.node);
        }
        if model.is_unsure() {
            checked.count("trees of two runs at once, of which the first decides, not judged", 1);
            return;
        }
        let disturbed = NODES.iter().any(|(node, _)| {
            let runs = self.recorded(&format!("{tree}-{node}"), nominal);
            runs.iter().zip(model.runs(node)).any(|(run, wanted)| {
                let bad = run.attempts.last().is_some_and(|last| last.how != "exited");
                (run.state == "success") != wanted.good && bad
            })
        });
        if disturbed {
            checked.count("trees that lost a worker for good, not judged", 1);
            return;
        }
        checked.count("trees judged", 1);
        for (node, _) in NODES {
            let job = format!("{tree}-{node}");
            let runs = self.recorded(&job, nominal);
            self.judge_kinds(checked, &job, nominal, &runs, model.runs(node));
            self.judge_order(checked, (tree, &job), nominal, &runs, model.runs(node));
            self.judge_state(checked, &job, nominal, model.stands(node).word());
        }
    }

    fn judge_kinds(
        &self,
        checked: &mut Checked,
        job: &str,
        nominal: i64,
        runs: &[&RunRecord],
        wanted: &[Expected],
    ) {
        let at = self.evidence.mono_of_utc(nominal);
        let is: Vec<(&str, bool)> =
            runs.iter().map(|run| (run.kind.as_str(), run.state == "success")).collect();
        let must: Vec<(&str, bool)> = wanted.iter().map(|run| (run.kind, run.good)).collect();
        checked.count("runs", is.len());
        let told = || format!("{}: runs are {is:?}, not {must:?}", shown(nominal));
        match is.len().cmp(&must.len()) {
            std::cmp::Ordering::Less => checked.wrong("not told", job, told(), at),
            std::cmp::Ordering::Greater => checked.wrong("ran too often", job, told(), at),
            std::cmp::Ordering::Equal if is != must => {
                checked.wrong("another run", job, told(), at);
            }
            std::cmp::Ordering::Equal => {}
        }
        // By their own lines, too.
        let ids: Vec<&str> = runs.iter().map(|run| run.id.as_str()).collect();
        let unknown = |run: &&Ran| {
            run.job == job && run.nominal == nominal && !self.records.runs.contains_key(&run.run)
        };
        for run in self.runs.iter().filter(unknown) {
            let told = format!("{}: {} ran beside {ids:?}", shown(nominal), run.run);
            checked.wrong("ran too often", job, told, run.start);
        }
    }

    fn judge_order(
        &self,
        checked: &mut Checked,
        (tree, job): (&str, &str),
        nominal: i64,
        runs: &[&RunRecord],
        wanted: &[Expected],
    ) {
        let find = |id: &str| self.runs.iter().find(|run| run.run == id);
        for (run, wanted) in runs.iter().zip(wanted) {
            let Some(own) = find(&run.id) else { continue };
            for (up, number) in &wanted.after {
                let ups = self.recorded(&format!("{tree}-{up}"), nominal);
                let Some(above) = ups.get(*number).and_then(|up| find(&up.id)) else { continue };
                checked.count("edges", 1);
                if above.success().is_none_or(|end| end > own.start) {
                    let told = format!(
                        "{}: {} began, and {} of {up} had not succeeded",
                        shown(nominal),
                        own.run,
                        above.run
                    );
                    checked.wrong("before what it follows", job, told, own.start);
                }
            }
        }
    }

    fn judge_state(&self, checked: &mut Checked, job: &str, nominal: i64, wanted: &str) {
        let found = self.records.details.get(job).and_then(|all| all.get(&nominal));
        if let Some(action) = found.filter(|action| action.state != wanted) {
            let told = format!("{}: it is {}, not {wanted}", shown(nominal), action.state);
            checked.wrong("another state", job, told, self.evidence.mono_of_utc(nominal));
        }
    }

    /// Where nobody waits for rest: no more than was asked for.
    fn judge_restless(&self, checked: &mut Checked, nominal: i64) {
        for (node, _) in NODES {
            let job = format!("{RESTLESS}-{node}");
            let runs = self.recorded(&job, nominal);
            let count = |kinds: &[&str]| {
                runs.iter().filter(|run| kinds.contains(&run.kind.as_str())).count()
            };
            let may = |step: &&Step<'_>| step.done || step.open;
            let asked = |op: &str, on: &[&str]| {
                let all = self.steps_of(RESTLESS, nominal).filter(may);
                all.filter(|step| step.op == op && on.contains(&step.node)).count()
            };
            let failed = runs.iter().any(|run| run.state != "success");
            let checks = [
                (count(&["schedule", "dependency"]), 1),
                (count(&["super_recover"]), asked("super-recover", &above(node))),
            ];
            // A success runs again when each that it waits for has ended again.
            let ups = NODES.iter().find(|(name, _)| *name == node).map_or(&[][..], |(_, ups)| *ups);
            let ended_again = |up: &&str| {
                let again = self.recorded(&format!("{RESTLESS}-{up}"), nominal);
                let again = again.iter().filter(|run| run.kind.ends_with("recover")).count();
                again + asked("force-success", &[up])
            };
            let told = ups.iter().map(ended_again).min().unwrap_or(0);
            let recoveries = (count(&["recover"]), asked("recover", &[node]) + told);
            // After a failure what follows is recovered by itself.
            let checks = checks.into_iter().chain((!failed).then_some(recoveries));
            checked.count("actions without rest", 1);
            for (is, most) in checks.filter(|(is, most)| is > most) {
                let kinds: Vec<&str> = runs.iter().map(|run| run.kind.as_str()).collect();
                let told = format!("{}: {is} of {kinds:?}, at most {most}", shown(nominal));
                let at = self.evidence.mono_of_utc(nominal);
                checked.wrong("ran too often", &job, told, at);
            }
        }
    }
}

/// An action and all that it follows from.
fn above(node: &str) -> Vec<&'static str> {
    let (mut found, mut work) = (Vec::new(), vec![node]);
    while let Some(at) = work.pop() {
        let Some((name, ups)) = NODES.iter().find(|(name, _)| *name == at) else { continue };
        if !found.contains(name) {
            found.push(*name);
            work.extend(ups.iter());
        }
    }
    found
}

#[cfg(test)]
mod tests;
