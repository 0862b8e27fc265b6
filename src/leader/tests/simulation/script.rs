//! What happens to a simulated cluster: an explicit list of events, drawn from
//! a seed up front, so that a failing list can be cut down and read.

use super::beside::Asked;
use super::calendar::{Cron, Field, Zone, days};
use super::rng::Rng;

/// Jobs are named by one of so many places.
pub(super) const SLOTS: u64 = 7;
/// The longest outage, in units of the scale.
pub(super) const LONGEST: i64 = 240;
/// Nodes of the cluster.
pub(super) const NODES: usize = 3;

/// What the clock of a world is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Crons of seconds, leases of seconds: minutes pass.
    Minutes,
    /// Crons of minutes and hours around a change of the clocks: days pass.
    Days,
    /// Crons of weeks to leap years: years pass.
    Years,
}

impl Scale {
    /// A unit of time that fits: heartbeats, outages and holds are multiples.
    pub(super) fn unit(self) -> i64 {
        match self {
            Self::Minutes => 1_000,
            Self::Days => 60_000,
            Self::Years => 6 * 3_600_000,
        }
    }
}

/// What holds for a whole world.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) seed: u64,
    pub(super) scale: Scale,
    /// True time at the beginning, milliseconds since 1970.
    pub(super) start: i64,
    pub(super) workers: usize,
    /// Attempts that a worker runs at once; few make runs wait for each other.
    pub(super) slots: u32,
    /// Parts per million by which boot clocks run fast; nodes, then workers.
    pub(super) rates: Vec<i64>,
}

/// One event and when it happens, after the start.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) at: i64,
    pub(super) event: Event,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TriggerShape {
    pub(super) cron: Cron,
    pub(super) zone: Option<Zone>,
    pub(super) misfire: Misfire,
    /// The calendar that bounds it.
    pub(super) bound: Option<u8>,
    /// Instead of the cron: so long after the end of its last action.
    pub(super) delay: Option<u64>,
    /// Instead of the cron: from that time on, each so many milliseconds.
    pub(super) rate: Option<(i64, i64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfire {
    All,
    Now,
    Skip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    Rerun,
    Fail,
    Keep(i64),
}

/// A definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobShape {
    pub(super) triggers: Vec<TriggerShape>,
    pub(super) zone: Option<Zone>,
    /// Places of upstream jobs, all below its own.
    pub(super) ups: Vec<u64>,
    pub(super) noop: bool,
    pub(super) retries: u32,
    pub(super) backoff: i64,
    pub(super) timeout: Option<i64>,
    /// Of a run with all its tries. Never drawn: worlds stay as they are.
    pub(super) run_limit: Option<i64>,
    pub(super) lease: i64,
    pub(super) lost: Lost,
    pub(super) priority: u8,
    /// Of thousand attempts so many fail.
    pub(super) fails: u64,
    /// An attempt takes up to this long.
    pub(super) takes: i64,
    /// Of the groups, or none.
    pub(super) group: Option<u8>,
    /// On all workers.
    pub(super) everywhere: bool,
}

/// Times that a calendar leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LeftOut {
    /// Days of the week; bit 0 is Sunday.
    Days(u8),
    /// From and to, in seconds of a day in UTC.
    Times(i64, i64),
}

/// What becomes of a leader that is followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Hands over.
    Yields,
    /// Its process is gone for so long.
    Crashes(i64),
    /// It is cut off from the other nodes, not from workers, and does not know.
    CutOff(i64),
    /// It stands still, and then goes on as if nothing had been.
    Freezes(i64),
}

/// What a leader has proposed, and nobody has committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Plan,
    Dispatch,
    Result,
    Attach,
    Ask,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Creates or changes a job.
    Put(u64, JobShape),
    Pause(u64),
    Resume(u64),
    /// The same, and misfire policies say what becomes of the time between.
    ResumeLate(u64),
    /// A group, or the whole cluster.
    Hold(Option<u8>),
    /// True: misfire policies say what becomes of the time between.
    GoOn(Option<u8>, bool),
    /// One trigger of a job, by its place; true: it goes on.
    OneTrigger(u64, u8, bool),
    /// A trigger goes on, and its misfire policy says what becomes of the time between.
    OneTriggerLate(u64, u8),
    Calendar(u8, LeftOut),
    /// Somebody changes a calendar just before something that it bounds is planned.
    RaceCalendar(u8),
    Delete(u64),
    /// Deletes a job while others wait for what it has not begun, as soon as there is one.
    Drop,
    Trigger(u64),
    /// What a person asks for beside the plan.
    Beside(Asked),
    /// Of the live runs the so many-th.
    Cancel(u64),
    /// Somebody pauses a job just before one of its runs is dispatched, for so long; or,
    /// just before it is planned, what it depends on.
    Race(Moment, i64),
    /// Takes a lock of so many slots, with ttl and hold.
    Lock {
        name: u64,
        slots: u32,
        ttl: i64,
        hold: i64,
        wait: i64,
    },
    /// Another leader. Of what the old one had under way, so many thousandths are
    /// committed under it; the rest is lost, or comes late, or twice.
    Elect {
        to: usize,
        fate: Fate,
        kept: u64,
        late: bool,
        gap: i64,
        /// Not before the leader has such a thing under way.
        when: Option<Moment>,
    },
    /// Nothing is committed for so long.
    Stall(i64),
    /// The same from when the leader has that under way: it never hears what became of it.
    StallAt(Moment, i64),
    /// All nodes are down for so long.
    FullStop(i64),
    /// The leader's services begin anew, as after a panic.
    Services,
    /// The other replica goes on from a snapshot.
    Snapshot,
    /// A node's wall clock jumps.
    Clock {
        node: usize,
        by: i64,
    },
    /// The worker's process dies; its shims live on.
    KillAgent(usize, i64),
    /// The worker's machine starts anew.
    Reboot(usize, i64),
    /// The worker loses its disk, not its machine.
    Wipe(usize, i64),
    FreezeAgent(usize, i64),
    FreezeMachine(usize, i64),
    /// A worker loses contact to a node, or to all.
    Cut(usize, Option<usize>, i64),
    /// Messages of a worker take so much longer, for so long.
    Slow(usize, i64, i64),
}

fn cron(scale: Scale, rng: &mut Rng) -> Cron {
    let base = Cron {
        second: Field::List(&[0]),
        minute: Field::List(&[0]),
        hour: Field::Any,
        day: None,
        month: Field::Any,
        weekday: None,
        years: None,
    };
    let second = |second| Cron { second, minute: Field::Any, ..base.clone() };
    let minute = |minute| Cron { minute, ..base.clone() };
    let hour = |minute, hour| Cron { minute, hour, ..base.clone() };
    match scale {
        Scale::Minutes => match rng.below(8) {
            0 => second(Field::Any),
            1 => second(Field::Step(0, 2)),
            2 => second(Field::Step(3, 7)),
            3 => second(Field::List(&[5, 20, 50])),
            4 => second(Field::Range(10, 14)),
            5 => Cron { second: Field::List(&[30]), ..minute(Field::Step(0, 2)) },
            6 => second(Field::Step(0, 10)),
            _ => second(Field::List(&[0])),
        },
        Scale::Days => match rng.below(9) {
            0 => minute(Field::Step(0, 10)),
            1 => minute(Field::List(&[45])),
            2 => hour(Field::List(&[30]), Field::List(&[2])),
            3 => hour(Field::List(&[15]), Field::List(&[1, 2, 3])),
            4 => hour(Field::Step(0, 30), Field::Range(1, 3)),
            5 => hour(Field::List(&[0]), Field::Step(0, 4)),
            6 => hour(Field::List(&[59]), Field::List(&[0, 1, 2, 23])),
            7 => {
                Cron { weekday: Some(Field::List(&[1, 7])), ..hour(Field::List(&[0]), Field::Any) }
            }
            _ => minute(Field::Step(5, 30)),
        },
        Scale::Years => {
            let at = |minute, hour_| hour(Field::List(minute), Field::List(hour_));
            match rng.below(8) {
                0 => Cron { weekday: Some(Field::List(&[2])), ..at(&[0], &[12]) },
                1 => Cron { day: Some(Field::List(&[31])), ..at(&[0], &[6]) },
                2 => Cron {
                    day: Some(Field::List(&[29])),
                    month: Field::List(&[2]),
                    ..at(&[0], &[0])
                },
                3 => Cron {
                    weekday: Some(Field::List(&[1])),
                    month: Field::List(&[3, 4, 10, 11]),
                    ..at(&[30], &[2])
                },
                4 => Cron { day: Some(Field::List(&[1, 15])), ..at(&[30], &[2]) },
                5 => Cron {
                    day: Some(Field::List(&[1])),
                    month: Field::List(&[1, 7]),
                    years: Some(Field::List(&[2027, 2028, 2030])),
                    ..at(&[0], &[0])
                },
                6 => Cron {
                    weekday: Some(Field::Range(2, 6)),
                    month: Field::Step(1, 6),
                    ..at(&[45], &[23])
                },
                _ => Cron {
                    day: Some(Field::List(&[31])),
                    month: Field::List(&[12]),
                    second: Field::List(&[59]),
                    ..at(&[59], &[23])
                },
            }
        }
    }
}

fn zone(rng: &mut Rng) -> Option<Zone> {
    rng.chance(600).then(|| *rng.pick(&Zone::ALL))
}

pub(super) fn job(scale: Scale, slot: u64, rng: &mut Rng) -> JobShape {
    let unit = scale.unit();
    let mut ups = Vec::new();
    if slot > 0 && rng.chance(450) {
        ups.push(rng.below(slot));
        if rng.chance(300) {
            ups.push(rng.below(slot));
        }
        ups.sort_unstable();
        ups.dedup();
    }
    let count = if ups.is_empty() { 1 + rng.below(2) } else { rng.below(2) };
    let triggers = (0..count)
        .map(|_| TriggerShape {
            cron: cron(scale, rng),
            zone: zone(rng),
            misfire: match rng.below(6) {
                0 => Misfire::Now,
                1 => Misfire::Skip,
                _ => Misfire::All,
            },
            bound: None,
            delay: None,
            rate: None,
        })
        .collect();
    let lease = match scale {
        Scale::Minutes => *rng.pick(&[5, 10, 20, 60]) * 1_000,
        Scale::Days => *rng.pick(&[3, 10, 60, 240]) * 60_000,
        Scale::Years => *rng.pick(&[2, 4, 7]) * 86_400_000,
    };
    let takes = *rng.pick(&[unit / 20, unit, 5 * unit, lease * 6 / 5, 3 * lease]);
    JobShape {
        triggers,
        zone: zone(rng),
        ups,
        noop: rng.chance(250),
        retries: if rng.chance(600) { 1 + u32::try_from(rng.below(4)).unwrap() } else { 0 },
        backoff: *rng.pick(&[0, 1_000, unit, 3 * unit]),
        timeout: rng.chance(300).then(|| takes / 2 + 1),
        run_limit: None,
        everywhere: false,
        lease,
        lost: match rng.below(6) {
            0 => Lost::Fail,
            1 => Lost::Keep(lease + *rng.pick(&[1_000, 10 * unit])),
            _ => Lost::Rerun,
        },
        priority: u8::try_from(rng.below(10)).unwrap(),
        fails: *rng.pick(&[0, 0, 100, 400, 700]),
        takes,
        group: None,
    }
}

/// A length of time that is often short and now and then far beyond a lease.
fn outage(scale: Scale, rng: &mut Rng) -> i64 {
    let unit = scale.unit();
    match rng.below(6) {
        0 => rng.up_to(400),
        1 | 2 => rng.up_to(3 * unit),
        3 => rng.up_to(15 * unit),
        4 => rng.up_to(40 * unit),
        _ => rng.up_to(100 * unit),
    }
}

/// Kinds of trouble; each world draws its own set, so that some are rare and
/// some come alone.
fn trouble(scale: Scale, workers: usize, kind: u64, rng: &mut Rng) -> Event {
    let worker = rng.index(workers);
    let unit = scale.unit();
    let (long, also_long) = (outage(scale, rng), outage(scale, rng));
    match kind {
        0 | 1 => Event::Elect {
            to: rng.index(NODES),
            fate: match rng.below(4) {
                0 => Fate::Yields,
                1 => Fate::Crashes(long),
                // Without a quorum nobody leads for long.
                2 => Fate::CutOff(long.min(60_000)),
                _ => Fate::Freezes(long),
            },
            kept: *rng.pick(&[0, 300, 700, 1000]),
            late: rng.chance(500),
            gap: *rng.pick(&[5, 300, 2_000, also_long]),
            when: *rng.pick(&[
                None,
                Some(Moment::Plan),
                Some(Moment::Dispatch),
                Some(Moment::Dispatch),
                Some(Moment::Result),
                Some(Moment::Attach),
                Some(Moment::Ask),
            ]),
        },
        2 if rng.chance(600) => {
            let moment = *rng.pick(&[Moment::Plan, Moment::Dispatch, Moment::Dispatch]);
            Event::StallAt(moment, 10_500 + rng.up_to(10_000))
        }
        2 => Event::Stall(long.min(100_000)),
        // Now and then more instants are missed than anything but a limit would drop.
        3 if rng.chance(250) => Event::FullStop((LONGEST - 40) * unit + rng.up_to(40 * unit)),
        3 => Event::FullStop(long),
        4 => Event::Services,
        5 => Event::Snapshot,
        6 => Event::Clock {
            node: rng.index(NODES),
            by: *rng.pick(&[-3_600_000, -45_000, -900, 700, 30_000, 7_200_000]),
        },
        7 => Event::KillAgent(worker, long),
        8 => Event::Reboot(worker, long),
        9 => Event::Wipe(worker, long),
        10 => Event::FreezeAgent(worker, long),
        11 => Event::FreezeMachine(worker, rng.up_to(5_000)),
        12 | 13 => Event::Cut(worker, rng.chance(300).then(|| rng.index(NODES)), long),
        _ => Event::Slow(worker, rng.up_to(unit.min(20_000)), long),
    }
}

/// Names of what can be drawn more often than else, and the kinds they stand for.
const TROUBLES: [(&str, u64); 13] = [
    ("elect", 0),
    ("stall", 2),
    ("stop", 3),
    ("services", 4),
    ("snapshot", 5),
    ("clock", 6),
    ("kill-agent", 7),
    ("reboot", 8),
    ("wipe", 9),
    ("freeze-agent", 10),
    ("freeze-machine", 11),
    ("cut", 12),
    ("slow", 14),
];
const USERS: [(&str, u64); 9] = [
    ("put", 0),
    ("pause", 4),
    ("resume", 6),
    ("delete", 8),
    ("trigger", 9),
    ("cancel", 11),
    ("lock", 13),
    ("race", 16),
    ("drop", 17),
];

/// What a world is about; nothing: whatever is drawn.
#[derive(Debug, Clone, Default)]
pub(super) struct Focus {
    troubles: Vec<u64>,
    users: Vec<u64>,
    /// With all that was thought of later.
    more: bool,
    /// With runs beside the plan, recoveries and back-fills.
    beside: bool,
}

impl Focus {
    /// From names, separated by commas.
    ///
    /// # Panics
    /// If one is unknown.
    pub(super) fn named(names: &str) -> Self {
        let mut focus = Self::default();
        for name in names.split(',').filter(|name| !name.is_empty()) {
            match name {
                "more" => focus.more = true,
                "beside" => focus.beside = true,
                _ => {}
            }
            if ["more", "beside"].contains(&name) {
                continue;
            }
            let of = |all: &[(&str, u64)]| all.iter().find(|(n, _)| *n == name).map(|(_, k)| *k);
            match (of(&TROUBLES), of(&USERS)) {
                (Some(kind), _) => focus.troubles.push(kind),
                (_, Some(kind)) => focus.users.push(kind),
                _ => panic!("{name}: there is no such event"),
            }
        }
        focus
    }
}

fn user(scale: Scale, kind: u64, rng: &mut Rng) -> Event {
    let slot = rng.below(SLOTS);
    let unit = scale.unit();
    match kind {
        0..=3 => Event::Put(slot, job(scale, slot, rng)),
        4 | 5 => Event::Pause(slot),
        6 | 7 => Event::Resume(slot),
        8 => Event::Delete(slot),
        9 | 10 => Event::Trigger(slot),
        11 | 12 => Event::Cancel(rng.below(5)),
        17 => Event::Drop,
        16 => Event::Race(*rng.pick(&[Moment::Plan, Moment::Dispatch]), rng.up_to(5 * unit)),
        _ => Event::Lock {
            name: rng.below(2),
            slots: 1 + u32::try_from(rng.below(2)).unwrap(),
            ttl: (*rng.pick(&[1, 5, 20]) * unit).clamp(1_000, 86_400_000),
            hold: rng.up_to(30 * unit),
            wait: rng.up_to(20 * unit).min(86_400_000) * i64::try_from(rng.below(2)).unwrap(),
        },
    }
}

/// The world of a seed: what holds for it, and what happens in it.
pub(super) fn draw(seed: u64, focus: &Focus) -> (Setup, Vec<Step>) {
    let rng = &mut Rng::new(seed, 1);
    let scale = match seed % 8 {
        3 | 6 => Scale::Days,
        7 => Scale::Years,
        _ => Scale::Minutes,
    };
    let day = |y, m, d| days(y, m, d) * 86_400_000;
    // Nights in which clocks change somewhere, and one in which none do.
    let start = match scale {
        Scale::Minutes => day(2026, 11, 21) + rng.up_to(86_400_000),
        Scale::Years => day(2026, 11, 21) + rng.up_to(300 * 86_400_000),
        Scale::Days => {
            let from = *rng.pick(&[
                day(2027, 3, 27),
                day(2027, 10, 30),
                day(2027, 3, 13),
                day(2027, 11, 6),
                day(2027, 4, 3),
                day(2026, 10, 3),
            ]);
            from + rng.up_to(12 * 3_600_000)
        }
    };
    let workers = 1 + rng.index(3);
    let rates = (0..NODES + workers).map(|_| rng.up_to(8_000) - 4_000).collect();
    let is_narrow = rng.chance(250);
    let slots = if is_narrow { 3 } else { 400 };
    let setup = Setup { seed, scale, start, workers, slots, rates };
    let (length, troubles, users) = match scale {
        Scale::Minutes => (240 * 1_000, 10, 14),
        Scale::Days => (40 * 3_600_000, 9, 12),
        Scale::Years => (4 * 365 * 86_400_000_i64, 10, 12),
    };
    let mut steps = Vec::new();
    // Something to begin with.
    for slot in 0..3 {
        steps.push(Step {
            at: 200 + rng.up_to(500),
            event: Event::Put(slot, job(scale, slot, rng)),
        });
    }
    let drawn: Vec<u64> = (0..15).filter(|_| rng.chance(500)).collect();
    let kinds = if focus.troubles.is_empty() { drawn } else { focus.troubles.clone() };
    let troubles = if kinds.is_empty() { 0 } else { rng.below(troubles + 1) };
    for _ in 0..troubles {
        let kind = *rng.pick(&kinds);
        steps.push(Step { at: rng.up_to(length), event: trouble(scale, workers, kind, rng) });
    }
    for _ in 0..rng.below(users + 1) {
        let any = rng.below(18);
        let is_it = !focus.users.is_empty() && rng.chance(700);
        let kind = if is_it { *rng.pick(&focus.users) } else { any };
        steps.push(Step { at: rng.up_to(length), event: user(scale, kind, rng) });
    }
    // Two things at once are where faults hide.
    for place in 0..steps.len() {
        if rng.chance(150) {
            let near = steps[rng.index(steps.len())].at + rng.up_to(60);
            steps[place].at = near;
        }
    }
    if is_narrow {
        // More work than slots would never end.
        for step in &mut steps {
            if let Event::Put(_, shape) = &mut step.event {
                shape.takes = shape.takes.min(scale.unit() / 2);
                shape.timeout = None;
            }
        }
    }
    if seed >= OLD_WORLDS {
        super::extras::add(&setup, length, &mut steps);
    }
    if seed >= MANY_WORLDS || focus.more {
        super::extras::add_more(&setup, length, &mut steps);
        super::extras::add_broadcasts(&setup, &mut steps);
    }
    if focus.beside {
        super::beside::add(&setup, length, &mut steps);
    }
    steps.sort_by_key(|step| step.at);
    (setup, steps)
}

/// Worlds below this are as they were before there were rates and changes of calendars
/// at the worst moment.
const MANY_WORLDS: u64 = 100_000;
/// Worlds of these seeds are as they were before there were calendars, fixed
/// delays and pauses of more than a job.
const OLD_WORLDS: u64 = 24;
