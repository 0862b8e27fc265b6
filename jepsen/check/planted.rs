//! Evidence made by hand, for tests of checkers.

use serde_json::Value;

use crate::history::{Kind, Op, Row};
use crate::store::{Evidence, Fault, Line, Poll, Said, Stage, bands};
use crate::time::{MS, shown};

/// All times are in milliseconds from here.
pub(crate) const BASE_UTC: i64 = 1_795_255_200_000;
const BASE_T: u64 = 1_000_000 * MS;

/// Builds evidence.
#[derive(Default)]
pub(crate) struct Planted {
    ops: Vec<Op>,
    witness: Vec<Line>,
    pub(crate) polls: Vec<Poll>,
    faults: Vec<Fault>,
}

/// Monotonic time.
pub(crate) fn t(at: i64) -> u64 {
    BASE_T + u64::try_from(at).unwrap() * MS
}

impl Planted {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn base(&self) -> i64 {
        BASE_UTC
    }

    #[expect(clippy::too_many_arguments, reason = "a row has so many fields")]
    pub(crate) fn op(
        &mut self,
        from: i64,
        to: Option<i64>,
        f: &str,
        k: &str,
        v: Value,
        kind: Kind,
        result: Value,
    ) -> &mut Self {
        let i = self.ops.len() as u64;
        let row = |at: i64, kind, v| Row {
            i,
            t: t(at),
            utc: BASE_UTC + at,
            p: u32::try_from(i).unwrap(),
            kind,
            f: f.to_owned(),
            k: k.to_owned(),
            v,
            node: "n1".to_owned(),
            err: None,
            ver: None,
            phase: "main".to_owned(),
        };
        let end = to.map(|at| row(at, kind, result));
        self.ops.push(Op { ask: row(from, Kind::Invoke, v), end });
        self
    }

    /// Why the last operation failed.
    pub(crate) fn because(&mut self, why: &str) {
        let end = self.ops.last_mut().and_then(|op| op.end.as_mut()).unwrap();
        end.err = Some(why.to_owned());
    }

    /// A line of run `r-RUN`, for the job's instant `nominal` (none: by hand).
    pub(crate) fn line(
        &mut self,
        at: i64,
        e: Said,
        job: &str,
        nominal: Option<i64>,
        run: u64,
        attempt: u32,
    ) -> &mut Line {
        let nominal = nominal.map(|at| shown(BASE_UTC + at));
        self.witness.push(Line {
            e,
            utc_ns: (BASE_UTC + at) * 1_000_000,
            t: t(at),
            job: job.to_owned(),
            action: nominal.as_ref().map(|_| format!("{job}@x")).unwrap_or_default(),
            nominal: nominal.unwrap_or_default(),
            run: format!("r-{run}"),
            attempt,
            token: run * 100 + u64::from(attempt),
            cause: if attempt == 1 { "first" } else { "retry" }.to_owned(),
            exit: (e == Said::End).then_some(0),
            ..Line::default()
        });
        self.witness.last_mut().unwrap()
    }

    /// Changes lines that were written already.
    pub(crate) fn edit_lines(&mut self, edit: impl Fn(&mut Line)) {
        self.witness.iter_mut().for_each(edit);
    }

    /// Keeps only these lines.
    pub(crate) fn retain_lines(&mut self, keep: impl Fn(&Line) -> bool) {
        self.witness.retain(keep);
    }

    pub(crate) fn poll(&mut self, at: i64, node: &str, term: u64, applied: u64, hash: &str) {
        self.polls.push(Poll {
            t: t(at),
            utc: BASE_UTC + at,
            node: node.to_owned(),
            ok: term > 0,
            leader: (term > 0).then_some(1),
            term,
            applied,
            state_hash: hash.to_owned(),
            ..Poll::default()
        });
    }

    pub(crate) fn fault(&mut self, from: i64, to: i64, op: &str) {
        self.fault_until(from, Some(to), op);
    }

    /// One that healed then, or never.
    pub(crate) fn fault_until(&mut self, from: i64, to: Option<i64>, op: &str) {
        self.fault_on(from, to, op, Value::Null);
    }

    /// One that was done to somebody.
    pub(crate) fn fault_on(&mut self, from: i64, to: Option<i64>, op: &str, args: Value) {
        let begun = [(from, Stage::Start), (from, Stage::Installed)];
        for (at, stage) in begun.into_iter().chain(to.map(|to| (to, Stage::Healed))) {
            let (op, args) = (op.to_owned(), args.clone());
            let (t, utc) = (t(at), BASE_UTC + at);
            self.faults.push(Fault { t, utc, op, args, stage, ..Fault::default() });
        }
    }

    pub(crate) fn evidence(&self) -> Evidence {
        let mut witness = self.witness.clone();
        witness.sort_by_key(|line| line.t);
        Evidence {
            ops: self.ops.clone(),
            witness,
            polls: self.polls.clone(),
            bands: bands(&self.faults),
            faults: self.faults.clone(),
            ..Evidence::default()
        }
    }
}
