//! Calendars, fixed delays, groups and late resumes, added to a script that is
//! drawn already: so that worlds which once found a fault stay as they are.

use super::rng::Rng;
use super::script::{Event, LeftOut, Misfire, SLOTS, Scale, Setup, Step, job};

/// Calendars, and groups, of a world.
const EACH: u64 = 2;

/// Adds them to a list that is not in order yet.
pub(super) fn add(setup: &Setup, length: i64, steps: &mut Vec<Step>) {
    let rng = &mut Rng::new(setup.seed, 2);
    let number = |rng: &mut Rng| u8::try_from(rng.below(EACH)).unwrap();
    let unit = setup.scale.unit();
    for step in &mut *steps {
        match &mut step.event {
            Event::Put(_, shape) => {
                shape.group = rng.chance(500).then(|| number(rng));
                let is_alone = shape.ups.is_empty();
                for trigger in &mut shape.triggers {
                    trigger.bound = rng.chance(400).then(|| number(rng));
                    let spans = [5, 12, 40, 90].map(|n: u64| n * unit.unsigned_abs());
                    let is_delay = is_alone && trigger.bound.is_none() && rng.chance(300);
                    trigger.delay = is_delay.then(|| *rng.pick(&spans));
                }
            }
            Event::Resume(slot) if rng.chance(500) => step.event = Event::ResumeLate(*slot),
            _ => {}
        }
    }
    let calendar = |rng: &mut Rng| {
        let begin = (setup.start + rng.up_to(length)).div_euclid(1000).rem_euclid(86_400);
        let long = 1 + rng.up_to(20 * unit).min(43_200_000) / 1000;
        match setup.scale {
            Scale::Years => LeftOut::Days(u8::try_from(1 + rng.below(126)).unwrap()),
            Scale::Days if rng.chance(300) => LeftOut::Days(1 << rng.below(7)),
            Scale::Days | Scale::Minutes => LeftOut::Times(begin, (begin + long) % 86_400),
        }
    };
    for n in 0..u8::try_from(EACH).unwrap() {
        steps.push(Step { at: 60, event: Event::Calendar(n, calendar(rng)) });
    }
    for _ in 0..rng.below(5) {
        let event = Event::Calendar(number(rng), calendar(rng));
        steps.push(Step { at: rng.up_to(length), event });
    }
    for _ in 0..rng.below(4) {
        let what = rng.chance(600).then(|| number(rng));
        let at = rng.up_to(length);
        steps.push(Step { at, event: Event::Hold(what) });
        let long = *rng.pick(&[unit, 20 * unit, 100 * unit]);
        let end = at + rng.up_to(long);
        steps.push(Step { at: end, event: Event::GoOn(what, rng.chance(500)) });
    }
    for _ in 0..rng.below(4) {
        let (slot, place, at) = (rng.below(SLOTS), number(rng), rng.up_to(length));
        let long = *rng.pick(&[unit, 20 * unit, 100 * unit]);
        let end = at + rng.up_to(long);
        steps.push(Step { at, event: Event::OneTrigger(slot, place, false) });
        steps.push(Step { at: end, event: Event::OneTrigger(slot, place, true) });
    }
}

/// Adds what was thought of later still: rates, single triggers that go on late, and
/// calendars that change just before a plan that rests on them.
pub(super) fn add_more(setup: &Setup, length: i64, steps: &mut Vec<Step>) {
    let rng = &mut Rng::new(setup.seed, 3);
    let unit = setup.scale.unit();
    for step in &mut *steps {
        match &mut step.event {
            Event::Put(_, shape) => {
                for trigger in shape.triggers.iter_mut().filter(|t| t.delay.is_none()) {
                    let every = unit * *rng.pick(&[2, 5, 11, 60]);
                    let start = setup.start - rng.up_to(200 * unit).div_euclid(1000) * 1000;
                    let start = start.div_euclid(1000) * 1000;
                    trigger.rate = rng.chance(350).then_some((start, every));
                    trigger.misfire = *rng.pick(&[Misfire::All, Misfire::Now, Misfire::Skip]);
                }
            }
            Event::OneTrigger(slot, place, true) if rng.chance(600) => {
                step.event = Event::OneTriggerLate(*slot, *place);
            }
            _ => {}
        }
    }
    // Longer than any instant may be late without being a misfire.
    let at = rng.up_to(length / 2);
    steps.push(Step { at, event: Event::Hold(None) });
    let long = (70 * unit).max(70_000) + rng.up_to(70 * unit);
    steps.push(Step { at: at + long, event: Event::GoOn(None, true) });
    for _ in 0..3 {
        let (number, slot) = (u8::try_from(rng.below(EACH)).unwrap(), rng.below(SLOTS));
        let mut shape = job(setup.scale, slot, rng);
        shape.ups.clear();
        if setup.slots < 10 {
            // More work than slots would never end.
            (shape.takes, shape.timeout) = (shape.takes.min(unit / 2), None);
        }
        for trigger in &mut shape.triggers {
            trigger.bound = Some(number);
        }
        let at = rng.up_to(length);
        steps.push(Step { at, event: Event::RaceCalendar(number) });
        steps.push(Step { at: at + 30, event: Event::Put(slot, shape) });
    }
}

/// Has some jobs run on all workers. Where heartbeats are hours apart, nobody counts as
/// there.
pub(super) fn add_broadcasts(setup: &Setup, steps: &mut [Step]) {
    let rng = &mut Rng::new(setup.seed, 4);
    if setup.scale != Scale::Minutes || !rng.chance(400) {
        return;
    }
    for step in steps {
        if let Event::Put(_, shape) = &mut step.event {
            shape.everywhere = rng.chance(300);
        }
    }
}
