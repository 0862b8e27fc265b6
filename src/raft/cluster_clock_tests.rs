//! Cluster time with any clocks: what is taken, what is refused, and that it never goes
//! back.

use std::time::Duration;

use horai_core::ids::{LeaderId, NodeId};
use horai_core::time::UtcMillis;
use proptest::prelude::*;

use crate::cluster_clock::*;

const T0: i64 = 1_790_000_000_000;
const AT_ONCE: Option<Duration> = Some(Duration::ZERO);
const FRESHEST: Duration = Duration::from_millis(3);
const ME: LeaderId = LeaderId { term: 1, node: NodeId(1) };

fn boot(ms: u64) -> BootTime {
    BootTime(Duration::from_millis(ms))
}

fn reading(node: u64, wall: i64) -> Reading {
    let (asked, answered) = (boot(0), boot(0));
    Reading { node: NodeId(node), asked, answered, wall: UtcMillis(wall), cluster: None }
}

fn leader(term: u64, node: u64) -> LeaderId {
    LeaderId { term, node: NodeId(node) }
}

fn running(at: i64) -> ClusterClock {
    let mut clock = ClusterClock::new();
    clock.confirm(UtcMillis(at), UtcMillis(0), boot(0)).unwrap();
    clock
}

#[test]
fn base_needs_a_quorum_that_agrees() {
    let mut clock = ClusterClock::new();
    let floor = UtcMillis(T0 - 50_000);
    let none = clock.establish(ME, &[reading(1, T0), reading(1, T0)], 3, floor, boot(0));
    assert_eq!(none, Err(Error::TooFew { have: 1, need: 2 }));
    let apart = [reading(1, T0), reading(2, T0 + 2_001)];
    let refused = clock.establish(ME, &apart, 3, floor, boot(0));
    assert_eq!(refused, Err(Error::Disagree { need: 2, closest_ms: 2_001 }));
    assert_eq!(clock.stamp(boot(5)), None);
    let two_agree = [reading(1, T0), reading(2, T0 + 900_000), reading(3, T0 + 1_500)];
    assert_eq!(clock.establish(ME, &two_agree, 3, floor, boot(0)), Ok(None));
    assert_eq!(clock.stamp(boot(5)), Some(UtcMillis(T0 + 5)));
}

#[test]
fn a_voter_that_kept_the_time_wins_over_wall_clocks() {
    let mut clock = ClusterClock::new();
    let kept = Reading { cluster: Some(UtcMillis(T0 + 7).into()), ..reading(2, T0 + 99_000) };
    clock.establish(ME, &[reading(1, T0 + 99_000), kept], 3, UtcMillis(T0), boot(0)).unwrap();
    assert_eq!(clock.stamp(boot(0)), Some(UtcMillis(T0 + 7)));
}

#[test]
fn committed_time_is_a_floor() {
    let mut clock = ClusterClock::new();
    let alarm = clock
        .establish(ME, &[reading(1, T0), reading(2, T0)], 3, UtcMillis(T0 + 60_000), boot(0))
        .unwrap();
    assert_eq!(alarm, Some(Alarm::BehindCommitted { by_ms: 60_000 }));
    assert_eq!(clock.stamp(boot(0)), Some(UtcMillis(T0 + 60_000)));
    let mut other = running(T0);
    other.lead(leader(2, 1), UtcMillis(T0 + 5_000), boot(10));
    assert_eq!(other.stamp(boot(10)), Some(UtcMillis(T0 + 5_000)));
}

#[test]
fn an_operator_sets_time_only_where_there_is_none() {
    let mut clock = ClusterClock::new();
    let early = clock.confirm(UtcMillis(T0), UtcMillis(T0 + 1), boot(0));
    assert!(matches!(early, Err(Error::BeforeCommitted { .. })), "{early:?}");
    clock.confirm(UtcMillis(T0), UtcMillis(T0), boot(0)).unwrap();
    let again = clock.confirm(UtcMillis(T0 + 9), UtcMillis(T0), boot(3));
    assert_eq!(again, Err(Error::HasTime(UtcMillis(T0 + 3))));
}

#[test]
fn a_clock_that_is_off_raises_an_alarm_and_moves_nobody() {
    let mut clock = running(T0);
    let readings = [reading(1, T0), reading(2, T0 + 1), reading(3, T0 + 3_600_000)];
    let alarms = clock.observe(&readings, 3, boot(0));
    assert_eq!(alarms, [Alarm::NodeOff { node: NodeId(3), by_ms: 3_599_999 }]);
    assert_eq!(clock.stamp(boot(1_000)), Some(UtcMillis(T0 + 1_001)));
}

#[test]
fn a_deposed_leader_is_not_believed() {
    let mut clock = running(T0);
    clock.learn(leader(5, 2), UtcMillis(T0 + 10).into(), AT_ONCE, boot(1));
    clock.learn(leader(4, 1), UtcMillis(T0 + 90_000).into(), AT_ONCE, boot(2));
    assert_eq!(clock.stamp(boot(2)), Some(UtcMillis(T0 + 11)));
}

#[test]
fn a_node_that_was_cut_off_takes_the_new_leaders_time() {
    let mut clock = running(T0);
    clock.lead(leader(1, 1), UtcMillis(T0), boot(0));
    clock.observe(&[reading(1, T0 + 900), reading(2, T0 + 900)], 3, boot(0));
    assert_eq!(clock.stamp(boot(30_000)), Some(UtcMillis(T0 + 30_300)));
    // Meanwhile the leader of term 2 leant the other way.
    clock.learn(leader(2, 2), UtcMillis(T0 + 29_700).into(), AT_ONCE, boot(30_000));
    assert_eq!(clock.read(boot(30_010)), Some(UtcMillis(T0 + 29_710).into()));
    clock.lead(leader(3, 1), UtcMillis(T0 + 29_700), boot(30_020));
    assert_eq!(clock.stamp(boot(30_020)), Some(UtcMillis(T0 + 29_720)));
}

#[test]
fn a_message_that_waited_turns_no_clock_back() {
    let mut clock = running(T0);
    // It was written before this node was frozen for 10 s, and is read after that.
    let stale = UtcMillis(T0 + 20_000).into();
    let age = Some(Duration::from_millis(10_100));
    clock.learn(leader(2, 2), stale, age, boot(30_000));
    assert_eq!(clock.read(boot(30_000)), Some(UtcMillis(T0 + 30_000).into()));
    // Nobody knows how old it is.
    clock.learn(leader(2, 2), stale, None, boot(30_000));
    assert_eq!(clock.read(boot(30_000)), Some(UtcMillis(T0 + 30_000).into()));
    // It is younger than what this node's clock would be ahead by.
    let age = Some(Duration::from_millis(400));
    clock.learn(leader(2, 2), UtcMillis(T0 + 29_000).into(), age, boot(30_000));
    assert_eq!(clock.read(boot(30_000)), Some(UtcMillis(T0 + 29_400).into()));
}

#[test]
fn a_node_that_was_restarted_takes_the_time_from_fresh_messages_only() {
    let mut clock = ClusterClock::new();
    for age in [None, Some(Duration::from_secs(2)), Some(Duration::from_millis(300))] {
        clock.learn(leader(2, 2), UtcMillis(T0).into(), age, boot(10));
        assert_eq!(clock.read(boot(10)), None, "{age:?}");
    }
    clock.learn(leader(2, 2), UtcMillis(T0 + 5).into(), Some(FRESHEST), boot(20));
    assert_eq!(clock.read(boot(20)), Some(UtcMillis(T0 + 5).into()));
}

#[test]
fn answers_that_waited_set_no_time() {
    let mut clock = ClusterClock::new();
    // It asked, was frozen for 8 s, and reads now what the others answered then.
    let then = [reading(1, T0), reading(2, T0)];
    let refused = clock.establish(ME, &then, 3, UtcMillis(0), boot(8_000));
    assert_eq!(refused, Err(Error::TooFew { have: 0, need: 2 }));
    let kept = [Reading { cluster: Some(UtcMillis(T0).into()), ..reading(2, T0) }];
    let refused = clock.establish(ME, &kept, 3, UtcMillis(0), boot(8_000));
    assert_eq!(refused, Err(Error::TooFew { have: 0, need: 2 }));
    assert_eq!(clock.read(boot(8_000)), None);
    let now = |reading: Reading| Reading { asked: boot(7_900), answered: boot(8_000), ..reading };
    clock.establish(ME, &then.map(now), 3, UtcMillis(0), boot(8_000)).unwrap();
    // The answers may have come at once, after questions that took long.
    assert_eq!(clock.stamp(boot(8_000)), Some(UtcMillis(T0)));
    // Nor does a clock lean towards what was so then.
    assert!(clock.observe(&then, 3, boot(18_000)).is_empty());
    assert_eq!(clock.stamp(boot(18_000)), Some(UtcMillis(T0 + 10_000)));
}

#[test]
fn questions_that_were_slow_put_no_time_ahead() {
    for slow in [0, 40, 150, 999] {
        // This node asked all at once. One answered at once, the other's machine was
        // busy: it read its clock, which is right, only now.
        let now = T0 + i64::try_from(slow).unwrap();
        let quick = reading(2, T0);
        let own = reading(1, T0);
        let late = |wall| Reading { answered: boot(slow), ..reading(3, wall) };
        for late in [late(now), late(now - 1)] {
            let mut clock = ClusterClock::new();
            clock.establish(ME, &[quick, own, late], 3, UtcMillis(0), boot(slow)).unwrap();
            let set = clock.stamp(boot(slow)).unwrap();
            assert!((now - 1..=now).contains(&set.0), "{} ms after {slow} ms", set.0 - now);
            let mut clock = ClusterClock::new();
            clock.establish(ME, &[own, late], 3, UtcMillis(0), boot(slow)).unwrap();
            assert!((now - 1..=now).contains(&clock.stamp(boot(slow)).unwrap().0));
        }
    }
}

#[test]
fn a_voter_that_is_silent_puts_no_time_behind() {
    // Everybody waited half a second for the third.
    let there = [reading(1, T0), Reading { answered: boot(4), ..reading(2, T0 + 3) }];
    let mut clock = ClusterClock::new();
    clock.establish(ME, &there, 3, UtcMillis(0), boot(500)).unwrap();
    assert_eq!(clock.stamp(boot(500)), Some(UtcMillis(T0 + 499)));
    // Nor if one of them has kept the time.
    let kept = there.map(|told| Reading { cluster: Some(UtcMillis(T0).into()), ..told });
    let mut clock = ClusterClock::new();
    clock.establish(ME, &kept, 3, UtcMillis(0), boot(500)).unwrap();
    assert_eq!(clock.stamp(boot(500)), Some(UtcMillis(T0 + 500)));
}

#[test]
fn a_deposed_leader_sets_no_time() {
    let mut clock = ClusterClock::new();
    clock.lead(ME, UtcMillis(0), boot(0));
    // The message waited, so that its time is not taken; but another leads.
    clock.learn(leader(2, 2), UtcMillis(T0).into(), None, boot(10));
    let refused = clock.establish(ME, &[reading(1, T0), reading(3, T0)], 3, UtcMillis(0), boot(10));
    assert_eq!(refused, Err(Error::Deposed(leader(2, 2))));
    assert_eq!(clock.read(boot(10)), None);
}

proptest! {
    /// Whatever wall clocks say and however often, a leader's stamps never
    /// go back and stay within one per cent of the time that passed.
    #[test]
    fn stamps_are_monotone_and_slewed(
        steps in prop::collection::vec((0_u64..5_000, -10_000_000_i64..10_000_000), 1..80)
    ) {
        let mut clock = running(T0);
        let (mut passed, mut last) = (0_u64, UtcMillis(T0));
        for (step, off) in steps {
            passed += step;
            let walls = [reading(1, T0 + off), reading(2, T0 + off + 3), reading(3, T0)];
            let at = boot(passed);
            let walls = walls.map(|reading| Reading { asked: at, answered: at, ..reading });
            let now = clock.stamp(boot(passed)).unwrap();
            prop_assert!(now >= last);
            let real = i64::try_from(passed).unwrap();
            let bend = (now.0 - T0 - real).abs();
            prop_assert!(bend <= real / SLEW + 1, "bent by {bend} in {real}");
            last = now;
            clock.observe(&walls, 3, boot(passed));
            prop_assert!(clock.stamp(boot(passed)).unwrap() == now);
        }
    }

    /// It does get there: an error is worked off at one per cent.
    #[test]
    fn an_error_is_worked_off(off in -20_000_i64..20_000) {
        let mut clock = running(T0);
        clock.observe(&[reading(1, T0 + off), reading(2, T0 + off)], 2, boot(0));
        let needed = off.unsigned_abs() * 100;
        let now = clock.stamp(boot(needed)).unwrap();
        prop_assert_eq!(now.0, T0 + off + i64::try_from(needed).unwrap());
    }

    /// Leaders change at random, messages arrive late, boot clocks start
    /// anywhere and run up to 0.9 % apart: stamps that were told never come again.
    #[test]
    fn the_next_leader_continues(
        rates in prop::array::uniform3(991_u64..1_010),
        starts in prop::array::uniform3(0_u64..1_000_000_000),
        turns in prop::collection::vec((0_usize..3, 1_u64..2_000, 0_u64..100), 1..60)
    ) {
        let mut clocks = [ClusterClock::new(), ClusterClock::new(), ClusterClock::new()];
        let local = |i: usize, real: u64| boot(starts[i] + real * rates[i] / 1_000);
        let mut real = 0_u64;
        clocks[0].confirm(UtcMillis(T0), UtcMillis(0), local(0, 0)).unwrap();
        let mut told = UtcMillis(0);
        let mut heard: Option<(LeaderId, ClusterNanos)> = None;
        for (term, (mut who, lasts, late)) in (1_u64..).zip(turns) {
            if clocks[who].read(local(who, real)).is_none() {
                who = 0;
            }
            let me = leader(term, who as u64);
            clocks[who].lead(me, told, local(who, real));
            real += lasts;
            let now = clocks[who].stamp(local(who, real)).unwrap();
            prop_assert!(now >= told, "{now} after {told}");
            told = now;
            let message = (me, clocks[who].read(local(who, real)).unwrap());
            real += late;
            // As a slow clock measures it; of older ones nobody knows.
            let age = Some(Duration::from_millis(late + late / 50 + 1));
            for i in (0..3).filter(|i| *i != who) {
                if let Some((old, at)) = heard {
                    clocks[i].learn(old, at, None, local(i, real));
                }
                clocks[i].learn(message.0, message.1, age, local(i, real));
                prop_assert!(clocks[i].read(local(i, real)).unwrap() >= message.1);
            }
            heard = Some(message);
        }
    }
}
