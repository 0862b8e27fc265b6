//! What the death of the leader costs: `kill -9`, again and again, under load.
//!
//! Every second kill comes shortly before a second begins, so that the next
//! fire is due at once and its start tells how long nobody led. The others come
//! while a second's fires are under way, which is where a fire could be lost or
//! doubled. The killed node is started again after each.

use std::io::Write;
use std::time::{Duration, Instant};

use horai_core::time::UtcMillis;
use serde::Serialize;

use super::balance::Balance;
use super::bed::{Bed, Fire, seconds_of};
use super::stats::Times;
use super::{Error, Options, SETTLE, progress};
use crate::cli::client::Client;
use crate::launch::Role;

/// Fires due in a second.
const RATE: u32 = 200;
/// Milliseconds before a second begins, spread over the kills.
const BEFORE: std::ops::RangeInclusive<i64> = 10..=100;
/// Milliseconds after a second began.
const AFTER: std::ops::RangeInclusive<i64> = 5..=60;
/// How long the killed node stays away.
const AWAY: Duration = Duration::from_secs(3);
/// How long a new leader may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the cluster may take to be whole again.
const WHOLE: Duration = Duration::from_secs(60);

/// One kill.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Kill {
    /// Which node led.
    pub(super) node: u32,
    /// When, after the begin of a second.
    pub(super) phase_ms: i64,
    /// Until another node said that it leads.
    pub(super) leader_after_ms: f64,
    /// Until the first fire that was due after the kill started; none for a kill
    /// that came while fires were under way.
    pub(super) first_fire_after_ms: Option<f64>,
    /// The largest lateness of the fires due within three seconds around it.
    pub(super) worst_lateness_ms: Option<f64>,
}

/// The figures.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Failover {
    /// Fires due in a second.
    pub(super) rate: u32,
    /// Each kill.
    pub(super) kills: Vec<Kill>,
    /// From the kill to the first start of a fire due after it.
    pub(super) first_fire: Option<Times>,
    /// From the kill to another node's word that it leads.
    pub(super) leader: Option<Times>,
    /// Of all seconds from before the first kill to after the last.
    pub(super) balance: Balance,
    /// False if runs were still waiting a minute after the last was due.
    pub(super) drained: bool,
}

/// Measures on a fresh cluster.
pub(super) async fn measure(
    options: &Options,
    bed: &mut Bed,
    log: &mut impl Write,
) -> Result<Failover, Error> {
    bed.jobs(RATE).await?;
    tokio::time::sleep(SETTLE).await;
    let (first, from) = (bed.last_run().await?, bed.time().await?);
    let mut kills = Vec::new();
    for n in 0..options.kills {
        let kill = one_kill(bed, phase(n, options.kills)).await?;
        progress(
            log,
            &format!(
                "kill {} of {}: node-{} leads no more, another after {:.0} ms",
                n + 1,
                options.kills,
                kill.1.node,
                kill.1.leader_after_ms
            ),
        )?;
        kills.push(kill);
    }
    let to = bed.time().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    bed.pause(0).await?;
    let drained = bed.drain().await?;
    // Everything from the second in which the counting began.
    let fires = bed.fires(first).await?;
    let from = from.plus(horai_core::time::Span::secs(1));
    let balance = Balance::draw(&fires, RATE, from, to);
    let kills: Vec<Kill> = kills.into_iter().map(|(at, kill)| kill.with(&fires, at)).collect();
    let times = |of: &dyn Fn(&Kill) -> Option<f64>| {
        Times::of(&kills.iter().filter_map(of).collect::<Vec<_>>())
    };
    Ok(Failover {
        rate: RATE,
        first_fire: times(&|kill| kill.first_fire_after_ms),
        leader: times(&|kill| Some(kill.leader_after_ms)),
        kills,
        balance,
        drained,
    })
}

/// Where in a second kill `n` of `count` falls: negative is before its begin.
fn phase(n: u32, count: u32) -> i64 {
    let (range, sign) = if n.is_multiple_of(2) { (BEFORE, -1) } else { (AFTER, 1) };
    let step = i64::from(n / 2);
    let steps = i64::from(count.div_ceil(2) - 1).max(1);
    sign * (range.start() + (range.end() - range.start()) * step.min(steps) / steps)
}

/// Kills the leader at a phase of a second; the instant is in cluster time.
async fn one_kill(bed: &mut Bed, phase_ms: i64) -> Result<(UtcMillis, Kill), Error> {
    bed.cluster.ready(Instant::now() + WHOLE).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let node = bed.cluster.leader().await.ok_or(Error::NoLeader)?;
    let survivors = survivors(bed, node)?;
    let term = bed.client.cluster().await?.leader.ok_or(Error::NoLeader)?.term;
    // Cluster time as seen here: the answer is on average half a question old.
    let asked = Instant::now();
    let now = bed.time().await?.0 + i64::try_from(asked.elapsed().as_millis() / 2).unwrap_or(0);
    let read = Instant::now();
    let wait = (1_000 + phase_ms - now.rem_euclid(1000)).rem_euclid(1000);
    tokio::time::sleep(Duration::from_millis(u64::try_from(wait).unwrap_or(0))).await;
    bed.cluster.kill(Role::Node(node))?;
    let killed = Instant::now();
    let at = UtcMillis(
        now + i64::try_from(killed.duration_since(read).as_millis()).unwrap_or(i64::MAX / 2),
    );
    let leader_after_ms = loop {
        if leads(&survivors, term).await {
            break killed.elapsed().as_secs_f64() * 1000.0;
        }
        if killed.elapsed() > PATIENCE {
            return Err(Error::NoLeader);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    tokio::time::sleep(AWAY).await;
    bed.cluster.restart(Role::Node(node))?;
    let kill = Kill {
        node,
        phase_ms,
        leader_after_ms,
        first_fire_after_ms: None,
        worst_lateness_ms: None,
    };
    Ok((at, kill))
}

fn survivors(bed: &Bed, killed: u32) -> Result<Vec<Client>, Error> {
    let others = (1..=super::bed::NODES).filter(|n| *n != killed);
    let client = |n| Ok(bed.cluster.node_client(n)?.with_timeout(Duration::from_millis(200)));
    others.map(client).collect()
}

/// True if one of them knows a leader of a later term.
async fn leads(survivors: &[Client], term: u64) -> bool {
    for client in survivors {
        let leader = client.cluster().await.ok().and_then(|cluster| cluster.leader);
        if leader.is_some_and(|leader| leader.term > term) {
            return true;
        }
    }
    false
}

impl Kill {
    /// Adds what the fires around it tell.
    fn with(self, fires: &[Fire], at: UtcMillis) -> Self {
        let ms = |from: UtcMillis, to: UtcMillis| seconds_of(to.since(from).0) * 1000.0;
        let after = fires.iter().filter(|fire| fire.nominal > at);
        let first = after.filter_map(|fire| fire.started).min().map(|started| ms(at, started));
        let near = |fire: &&Fire| (fire.nominal.0 - at.0).abs() <= 3_000;
        let late = |fire: &Fire| Some(fire.started?.since(fire.nominal));
        let worst = fires.iter().filter(near).filter_map(late).max();
        Self {
            first_fire_after_ms: first.filter(|_| self.phase_ms < 0),
            worst_lateness_ms: worst.map(|late| seconds_of(late.0) * 1000.0),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_fall_before_and_after_a_second_by_turns() {
        let phases: Vec<i64> = (0..6).map(|n| phase(n, 6)).collect();
        assert_eq!(phases, [-10, 5, -55, 32, -100, 60]);
        assert_eq!(phase(0, 1), -10);
    }

    #[test]
    fn the_first_start_of_a_fire_due_after_the_kill_counts() {
        let fire = |due: i64, started: Option<i64>| Fire {
            job: 0,
            nominal: UtcMillis(due),
            dispatched: None,
            started: started.map(UtcMillis),
            finished: None,
            successes: 1,
            attempts: 1,
        };
        let fires = [
            fire(9_000, Some(9_980)), // due before, started after: not this
            fire(10_000, Some(10_700)),
            fire(10_000, Some(10_600)),
            fire(10_000, None),
            fire(20_000, Some(29_000)), // far away
        ];
        let kill = Kill {
            node: 1,
            phase_ms: -50,
            leader_after_ms: 400.0,
            first_fire_after_ms: None,
            worst_lateness_ms: None,
        };
        let told = kill.with(&fires, UtcMillis(9_950));
        assert_eq!(told.first_fire_after_ms, Some(650.0));
        assert_eq!(told.worst_lateness_ms, Some(980.0));
        let under_way = Kill { phase_ms: 5, ..kill }.with(&fires, UtcMillis(9_950));
        assert_eq!(under_way.first_fire_after_ms, None);
    }
}
