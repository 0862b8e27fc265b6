//! What a worker says of itself when a node asks it to attach.
//!
//! Long lists go over several frames, and only the last is to be answered: a
//! worker with a full journal must be able to attach too.

use horai_core::model::confinement::Isolation;
use horai_proto::worker as pb;
use prost::Message;

use super::{Config, wire};

/// Version of the protocol that is spoken.
const PROTOCOL: u32 = 1;
/// Attempts and results in one frame.
const FRAME: usize = 256;
/// Results go into one frame up to so many bytes.
const RESULT_BYTES: usize = 256 << 10;

/// What the configuration says and the machine can do, without attempts.
pub(super) fn of(config: &Config, isolation: &Isolation) -> pb::Hello {
    pb::Hello {
        name: config.name.to_string(),
        groups: config.groups.iter().map(ToString::to_string).collect(),
        labels: config.labels.clone(),
        slots: config.slots,
        protocol: PROTOCOL,
        host: sysinfo::System::host_name().unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        token: config.token.clone(),
        memory: config.amounts.memory,
        cpu_millicores: config.amounts.cpu,
        counts: config.amounts.counts.iter().map(|(name, n)| (name.to_string(), *n)).collect(),
        isolation: Some(wire::isolation(isolation)),
        ..Default::default()
    }
}

/// What is told of attempts in a Hello, and after it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Told {
    /// They may be running; or how they ended is told later.
    pub(super) live: Vec<pb::AttemptId>,
    /// They are over.
    pub(super) results: Vec<pb::Result>,
    /// Results that follow the Hello.
    pub(super) later: Vec<pb::Result>,
}

/// Outputs may be longer than all the rest of a Hello, which a node gathers whole: an
/// attempt that has some is named as live, and what became of it follows at once.
pub(super) fn told(
    mut live: Vec<pb::AttemptId>,
    ended: Vec<pb::Result>,
    is_early: impl Fn(&pb::Result) -> bool,
) -> Told {
    let (results, later): (Vec<_>, Vec<_>) = ended.into_iter().partition(is_early);
    live.extend(later.iter().filter_map(|result| result.attempt));
    Told { live, results, later }
}

/// The same in frames; `more` is set in all but the last.
pub(super) fn frames(whole: pb::Hello) -> impl Iterator<Item = pb::Hello> {
    let head = pb::Hello { live: Vec::new(), results: Vec::new(), ..whole.clone() };
    let (mut live, mut results) = (whole.live.into_iter(), whole.results.into_iter());
    let mut is_over = false;
    std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let live_now: Vec<_> = live.by_ref().take(FRAME).collect();
        let results_now: Vec<_> = results.by_ref().take(FRAME - live_now.len()).collect();
        is_over = live.len() + results.len() == 0;
        Some(pb::Hello { live: live_now, results: results_now, more: !is_over, ..head.clone() })
    })
}

/// Results in frames, bounded in number and size.
pub(super) fn result_frames(results: Vec<pb::Result>) -> Vec<Vec<pb::Result>> {
    let mut frames: Vec<Vec<pb::Result>> = Vec::new();
    let mut bytes = 0;
    for result in results {
        let len = result.encoded_len();
        match frames.last_mut() {
            Some(last) if last.len() < FRAME && bytes + len <= RESULT_BYTES => {
                bytes += len;
                last.push(result);
            }
            Some(_) | None => {
                bytes = len;
                frames.push(vec![result]);
            }
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(live: usize, results: usize) -> Vec<(usize, usize, bool)> {
        let whole = pb::Hello {
            live: vec![pb::AttemptId::default(); live],
            results: vec![pb::Result::default(); results],
            ..Default::default()
        };
        frames(whole).map(|f| (f.live.len(), f.results.len(), f.more)).collect()
    }

    #[test]
    fn who_put_something_out_is_told_after_the_hello() {
        let id = |run| pb::AttemptId { run, ..Default::default() };
        let ended = |run, outputs: &[(&str, &str)]| pb::Result {
            attempt: Some(id(run)),
            outputs: outputs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Default::default()
        };
        let (short, long) = (ended(2, &[]), ended(3, &[("A", "1")]));
        let is_early = |result: &pb::Result| result.outputs.is_empty();
        let told = told(vec![id(1)], vec![short.clone(), long.clone()], is_early);
        let wanted = Told { live: vec![id(1), id(3)], results: vec![short], later: vec![long] };
        assert_eq!(told, wanted);
    }

    #[test]
    fn results_go_into_frames_that_a_node_takes() {
        let sized = |bytes: usize| pb::Result {
            outputs: [("A".to_owned(), "x".repeat(bytes))].into(),
            ..Default::default()
        };
        let sizes = |results| result_frames(results).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(Vec::new()), [0; 0]);
        assert_eq!(sizes(vec![pb::Result::default(); 600]), [256, 256, 88]);
        assert_eq!(sizes(vec![sized(16_000); 40]), [16, 16, 8]);
        assert_eq!(sizes(vec![sized(300 << 10), sized(1)]), [1, 1]);
    }

    #[test]
    fn long_lists_go_over_several_frames_and_nothing_is_left_out() {
        assert_eq!(sizes(0, 0), [(0, 0, false)]);
        assert_eq!(sizes(256, 0), [(256, 0, false)]);
        assert_eq!(sizes(257, 1), [(256, 0, true), (1, 1, false)]);
        assert_eq!(
            sizes(300, 600),
            [(256, 0, true), (44, 212, true), (0, 256, true), (0, 132, false)]
        );
    }
}
