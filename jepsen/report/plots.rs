//! The charts of a report, one function each. All have the same axis of time, so
//! that what stands above each other happened together.

use std::collections::BTreeMap;

use super::svg::{Chart, log_share};
use crate::check::fires::Fires;
use crate::check::locks::leases;
use crate::history::Kind;
use crate::store::Evidence;
use crate::time::{MS, shown};

/// More marks of one chart help nobody, and make browsers slow.
const MOST_MARKS: usize = 10_000;
/// Rows of the chart of fires.
const MOST_JOBS: usize = 48;
/// Rows of the chart of clients.
const MOST_CLIENTS: usize = 60;

/// The stretch of time that all charts show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// Monotonic nanoseconds.
    pub(super) from: u64,
    /// Monotonic nanoseconds.
    pub(super) to: u64,
}

impl Span {
    /// All of the history.
    pub(super) fn of(evidence: &Evidence) -> Self {
        let from = evidence.ops.first().map_or(0, |op| op.ask.t);
        let ends = evidence.ops.iter().map(|op| op.end.as_ref().map_or(op.ask.t, |end| end.t));
        Self { from, to: ends.max().unwrap_or(from) }
    }

    fn chart(self, height: f64) -> Chart {
        Chart::new(self.from, self.to, height)
    }

    /// Seconds since the beginning.
    pub(super) fn seconds(self, t: u64) -> f64 {
        (t as f64 - self.from as f64) / 1e9
    }
}

/// The package of a fault: `kill` of `kill-leader`.
fn package(op: &str) -> &str {
    op.split('-').next().unwrap_or(op)
}

/// Bands behind a chart, faint.
fn shade(chart: &mut Chart, evidence: &Evidence) {
    let (top, height) = (chart.y(1.0), chart.y(0.0) - chart.y(1.0));
    for band in evidence.bands.iter().filter(|band| band.installed) {
        let class = format!("band p-{}", package(&band.op));
        chart.bar((band.from, band.to), (top, height), &class, &band.op);
    }
}

/// Which fault was there when: one row for each package.
pub(super) fn faults(evidence: &Evidence, span: Span) -> String {
    const ROW: f64 = 22.0;
    let mut rows: Vec<&str> = Vec::new();
    for band in &evidence.bands {
        if !rows.contains(&package(&band.op)) {
            rows.push(package(&band.op));
        }
    }
    let mut chart = span.chart(ROW * rows.len().max(1) as f64);
    if rows.is_empty() {
        chart.note(span.from, 20.0, "none", "nothing was broken in this test");
    }
    for band in &evidence.bands {
        let row = rows.iter().position(|row| *row == package(&band.op)).unwrap_or(0);
        let y = chart.y(1.0) + row as f64 * ROW;
        let state = if band.installed { "" } else { " unsure" };
        let class = format!("fault p-{}{state}", package(&band.op));
        let to = band.to.min(span.to);
        let length = (to.saturating_sub(band.from)) as f64 / 1e9;
        let title = format!("{} {} for {length:.1} s", band.op, band.args);
        chart.bar((band.from, band.to), (y + 2.0, ROW - 4.0), &class, &title);
        // Beside a short bar there is room only if nothing follows soon.
        let beside = |other: &&crate::store::Band| {
            package(&other.op) == package(&band.op) && other.from > band.from
        };
        let next = evidence.bands.iter().filter(beside).map(|other| other.from).min();
        let room = chart.x(next.unwrap_or(span.to)) - chart.x(band.from);
        let word = band.op.strip_prefix(package(&band.op)).unwrap_or("").trim_start_matches('-');
        if room > 7.0 * word.len() as f64 {
            chart.note(band.from, y + 15.0, "word", &format!(" {word}"));
        }
    }
    for (row, name) in rows.iter().enumerate() {
        let y = chart.y(1.0) + row as f64 * ROW + 15.0;
        chart.label(y, name);
    }
    chart.finish("faults over time")
}

/// For each node: whether it answered, whom it took for the leader, in which term.
pub(super) fn leaders(evidence: &Evidence, span: Span) -> String {
    const ROW: f64 = 24.0;
    let mut nodes: BTreeMap<&str, Vec<&crate::store::Poll>> = BTreeMap::new();
    for poll in &evidence.polls {
        nodes.entry(&poll.node).or_default().push(poll);
    }
    let mut chart = span.chart(ROW * nodes.len().max(1) as f64);
    for (row, (name, polls)) in nodes.iter().enumerate() {
        let y = chart.y(1.0) + row as f64 * ROW;
        chart.label(y + 15.0, name);
        let state = |at: usize| polls.get(at).map(|p| (p.ok, p.leader, p.term));
        let mut at = 0;
        while at < polls.len() {
            let first = polls[at];
            let mut end = at;
            while state(end + 1) == state(at) {
                end += 1;
            }
            let to = polls.get(end + 1).map_or(polls[end].t, |next| next.t);
            let (class, title) = match (first.ok, first.leader) {
                (false, _) => ("silent".to_owned(), format!("{name} does not answer")),
                (true, None) => ("noleader".to_owned(), format!("{name} knows no leader")),
                (true, Some(leader)) => (
                    format!("leader l{}", leader % 8),
                    format!("{name} follows node {leader} in term {}", first.term),
                ),
            };
            chart.bar((first.t, to), (y + 3.0, ROW - 6.0), &class, &title);
            if let (true, Some(leader)) = (first.ok, first.leader)
                && chart.x(to) - chart.x(first.t) > 60.0
            {
                let word = format!(" node {leader}, term {}", first.term);
                chart.note(first.t, y + 16.0, "word light", &word);
            }
            at = end + 1;
        }
    }
    chart.finish("leader and term as each node sees it")
}

/// Requests: when they were asked and how long they took, on a logarithmic scale.
pub(super) fn latency(evidence: &Evidence, span: Span) -> String {
    const LEAST: f64 = 1.0;
    const MOST: f64 = 20_000.0;
    let mut chart = span.chart(190.0);
    shade(&mut chart, evidence);
    for ms in [1, 10, 100, 1_000, 10_000] {
        chart.grid(log_share(f64::from(ms), LEAST, MOST), &format!("{ms} ms"));
    }
    let asked: Vec<_> = (evidence.ops.iter())
        .filter(|op| !matches!(op.ask.node.as_str(), "resource" | "harness"))
        .collect();
    let every = asked.len().div_ceil(MOST_MARKS).max(1);
    for op in asked.iter().step_by(every) {
        let Some(end) = &op.end else { continue };
        let ms = (end.t - op.ask.t) as f64 / MS as f64;
        let y = chart.y(log_share(ms, LEAST, MOST));
        let title = format!(
            "{} {} at {}: {:?} after {ms:.0} ms",
            op.ask.f,
            op.ask.k,
            op.ask.node,
            op.kind()
        );
        chart.dot(op.ask.t, y, 1.7, class_of(op.kind()), &title);
    }
    chart.finish("latency of requests")
}

fn class_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Ok => "ok",
        Kind::Fail => "fail",
        Kind::Info | Kind::Invoke => "info",
    }
}

/// Outcomes per second.
pub(super) fn rate(evidence: &Evidence, span: Span) -> String {
    let mut chart = span.chart(90.0);
    shade(&mut chart, evidence);
    let seconds = span.seconds(span.to).ceil() as usize + 1;
    let mut counts = vec![[0_u32; 3]; seconds];
    let mut starts = vec![0_u32; seconds];
    let at = |t: u64| (span.seconds(t).max(0.0) as usize).min(seconds - 1);
    for op in &evidence.ops {
        let slot = match op.kind() {
            Kind::Ok => 0,
            Kind::Fail => 1,
            Kind::Info | Kind::Invoke => 2,
        };
        counts[at(op.end.as_ref().map_or(op.ask.t, |end| end.t))][slot] += 1;
    }
    for line in evidence.witness.iter().filter(|line| line.e == crate::store::Said::Start) {
        starts[at(line.t)] += 1;
    }
    let most = counts.iter().flatten().chain(&starts).copied().max().unwrap_or(1).max(1);
    chart.grid(1.0, &format!("{most}/s"));
    chart.grid(0.0, "0");
    let time = |second: usize| span.from + second as u64 * 1_000_000_000;
    for (slot, class) in [(0, "line ok"), (1, "line fail"), (2, "line info")] {
        let points: Vec<(u64, f64)> = (0..seconds)
            .map(|s| (time(s), chart.y(f64::from(counts[s][slot]) / f64::from(most))))
            .collect();
        chart.line(&points, class);
    }
    let points: Vec<(u64, f64)> =
        (0..seconds).map(|s| (time(s), chart.y(f64::from(starts[s]) / f64::from(most)))).collect();
    chart.line(&points, "line starts");
    chart.finish("outcomes and starts per second")
}

/// Each instant of each job: a window, and whether something ran in it.
pub(super) fn fires(evidence: &Evidence, fires: &Fires, span: Span) -> String {
    const ROW: f64 = 13.0;
    // Jobs with something wrong come first, then those with most instants.
    let bad = |job: &crate::check::fires::JobFires| {
        job.targets.iter().filter(|t| t.must && t.start.is_none_or(|at| at > t.deadline)).count()
    };
    let mut jobs: Vec<_> = fires.jobs.iter().collect();
    jobs.sort_by_key(|(_, job)| std::cmp::Reverse((bad(job), job.targets.len())));
    jobs.truncate(MOST_JOBS);
    jobs.sort_by_key(|(name, _)| name.as_str());
    let mut chart = span.chart(ROW * jobs.len().max(1) as f64);
    shade(&mut chart, evidence);
    let marks: usize = jobs.iter().map(|(_, job)| job.targets.len()).sum();
    let every = marks.div_ceil(MOST_MARKS).max(1);
    for (row, (name, job)) in jobs.iter().enumerate() {
        let y = chart.y(1.0) + row as f64 * ROW;
        chart.label(y + ROW - 3.5, name);
        for (at, target) in job.targets.iter().enumerate() {
            let (class, word) = match target.start {
                Some(start) if target.must && start > target.deadline => ("late", "late"),
                Some(_) if target.held => ("held", "ran after a pause"),
                Some(_) => ("ran", "ran"),
                None if target.must && target.nominal <= fires.last => ("missed", "missed"),
                None => ("maybe", "not needed"),
            };
            if class != "missed" && class != "late" && at % every != 0 {
                continue;
            }
            let from = evidence.mono_of_utc(target.nominal);
            let to = target.start.map_or(from + 400 * MS, |start| evidence.mono_of_utc(start));
            let late =
                target.start.map_or(String::new(), |s| format!(", {} ms", s - target.nominal));
            let title = format!("{name} {}: {word}{late}", shown(target.nominal));
            chart.bar((from, to.max(from)), (y + 2.0, ROW - 4.0), &format!("fire {class}"), &title);
        }
        let strangers =
            job.starts.iter().filter(|s| job.targets.iter().all(|t| t.nominal != s.nominal));
        for start in strangers {
            let title = format!("{name}: {} ran for {}", start.run, shown(start.nominal));
            chart.dot(evidence.mono_of_utc(start.at), y + ROW / 2.0, 3.0, "phantom", &title);
        }
    }
    chart.finish("fires of each job against what was promised")
}

/// How late each fire was, over time.
pub(super) fn lateness(evidence: &Evidence, fires: &Fires, span: Span) -> String {
    const LEAST: f64 = 1.0;
    const MOST: f64 = 60_000.0;
    let mut chart = span.chart(150.0);
    shade(&mut chart, evidence);
    for (ms, text) in
        [(1, "1 ms"), (10, "10 ms"), (100, "100 ms"), (1_000, "1 s"), (10_000, "10 s")]
    {
        chart.grid(log_share(f64::from(ms), LEAST, MOST), text);
    }
    let all: Vec<_> = (fires.jobs.iter())
        .flat_map(|(name, job)| job.targets.iter().map(move |target| (name, target)))
        .filter(|(_, target)| !target.held)
        .filter_map(|(name, target)| Some((name, target, target.start?)))
        .collect();
    let every = all.len().div_ceil(MOST_MARKS).max(1);
    for (name, target, start) in all.into_iter().step_by(every) {
        let late = start - target.nominal;
        let class = if target.must && start > target.deadline { "late" } else { "ran" };
        let y = chart.y(log_share(late.max(1) as f64, LEAST, MOST));
        let title = format!("{name} {}: {late} ms", shown(target.nominal));
        chart.dot(evidence.mono_of_utc(target.nominal), y, 1.7, class, &title);
    }
    chart.finish("lateness of fires")
}

/// Who held which lock, as the holder saw it.
pub(super) fn locks(evidence: &Evidence, span: Span) -> String {
    const ROW: f64 = 18.0;
    let locks = leases(evidence);
    let mut chart = span.chart(ROW * locks.len().max(1) as f64);
    shade(&mut chart, evidence);
    for (row, (lock, leases)) in locks.iter().enumerate() {
        let y = chart.y(1.0) + row as f64 * ROW;
        chart.label(y + 13.0, lock);
        for lease in leases {
            let user = lease.owner.split('-').nth(1).and_then(|user| user.parse::<u32>().ok());
            let class = format!("lease l{}", user.unwrap_or(0) % 8);
            let title = format!("{} with token {}", lease.owner, lease.token);
            chart.bar(
                (lease.granted, lease.until.max(lease.granted)),
                (y + 3.0, ROW - 6.0),
                &class,
                &title,
            );
        }
    }
    chart.finish("holders of each lock")
}

/// How far each node's applied commands are behind the farthest node's.
pub(super) fn lag(evidence: &Evidence, span: Span) -> String {
    let mut chart = span.chart(80.0);
    shade(&mut chart, evidence);
    let mut farthest = 0;
    let mut nodes: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for poll in evidence.polls.iter().filter(|poll| poll.ok) {
        farthest = poll.applied.max(farthest);
        nodes.entry(&poll.node).or_default().push((poll.t, farthest - poll.applied));
    }
    let most = nodes.values().flatten().map(|(_, lag)| *lag).max().unwrap_or(0).max(1);
    chart.grid(1.0, &format!("{most} behind"));
    chart.grid(0.0, "0");
    for (row, points) in nodes.values().enumerate() {
        let every = points.len().div_ceil(MOST_MARKS / 8).max(1);
        let points: Vec<(u64, f64)> = (points.iter().step_by(every))
            .map(|(t, lag)| (*t, chart.y(*lag as f64 / most as f64)))
            .collect();
        chart.line(&points, &format!("line node{}", (row + 1) % 8));
    }
    chart.finish("commands that each node is behind")
}

/// What each client did, from question to answer.
pub(super) fn clients(evidence: &Evidence, span: Span) -> String {
    const ROW: f64 = 9.0;
    // A client that got an unknown answer goes on under another number: a lane holds
    // those that follow each other.
    let mut lanes: Vec<u64> = Vec::new();
    let mut placed = Vec::new();
    let mut lane_of: BTreeMap<u32, usize> = BTreeMap::new();
    for op in evidence.ops.iter().take(MOST_MARKS) {
        let end = op.end.as_ref().map_or(span.to, |end| end.t);
        let lane = *lane_of.entry(op.ask.p).or_insert_with(|| {
            let free = lanes.iter().position(|busy| *busy + 2_000_000_000 < op.ask.t);
            free.unwrap_or_else(|| {
                lanes.push(0);
                lanes.len() - 1
            })
        });
        lanes[lane] = lanes[lane].max(end);
        placed.push((lane, end, op));
    }
    let rows = lanes.len().min(MOST_CLIENTS);
    let mut chart = span.chart(ROW * rows.max(1) as f64);
    shade(&mut chart, evidence);
    for (lane, end, op) in placed.into_iter().filter(|(lane, ..)| *lane < rows) {
        let y = chart.y(1.0) + lane as f64 * ROW;
        let ms = (end - op.ask.t) / MS;
        let why = op.end.as_ref().and_then(|end| end.err.clone()).unwrap_or_default();
        let title =
            format!("{} {} at {}: {:?}, {ms} ms {why}", op.ask.f, op.ask.k, op.ask.node, op.kind());
        let class = format!("op {}", class_of(op.kind()));
        chart.bar((op.ask.t, end), (y + 1.0, ROW - 2.0), &class, &title);
    }
    chart.label(chart.y(1.0) + ROW, "clients");
    chart.finish("what clients did")
}
