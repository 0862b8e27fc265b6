//! Is a worker one of this cluster's, and fit for it? Asked before it is attached, and told
//! on both sides: the node logs it, and sends it to the worker, which logs it, too.

use std::ops::RangeInclusive;

use horai_core::ids::Name;
use horai_core::mutants::{self, Mutant};
use horai_core::time::{Span, UtcMillis};
use horai_proto::worker as pb;

use super::access::Refusal;
use crate::error::ErrorCode;

/// The versions of the protocol that this node speaks.
const PROTOCOLS: RangeInclusive<u32> = 1..=1;

/// Where it wants to attach.
pub(super) struct Here {
    pub(super) cluster: u128,
    /// Cluster time.
    pub(super) now: UtcMillis,
    /// None: clocks are not compared.
    pub(super) clock_limit: Option<Span>,
}

/// `holds` is true of a worker that has attempts or results: it is taken whatever its clock
/// says, because nothing that it does rests on that, and they would be lost.
pub(super) fn check(
    hello: &pb::Hello,
    name: &Name,
    here: &Here,
    holds: bool,
) -> Result<(), Refusal> {
    let (first, last, spoken) = (PROTOCOLS.start(), PROTOCOLS.end(), hello.protocol);
    if !PROTOCOLS.contains(&spoken) {
        let (word, remedy) = match spoken < *first {
            true => ("too old", "upgrade the worker"),
            false => ("too new", "upgrade the nodes first"),
        };
        let range = if first == last { first.to_string() } else { format!("{first} to {last}") };
        let message = format!(
            "worker {name} speaks protocol {spoken}, which is {word}: this node speaks {range}; \
             {remedy}"
        );
        return Err(Refusal::new(ErrorCode::InvalidValue, message));
    }
    let own = format!("{:032x}", here.cluster);
    let is_strange = !hello.cluster.is_empty() && hello.cluster != own;
    if is_strange && !mutants::on(Mutant::StrangeWorkerTaken) {
        let other: String = hello.cluster.chars().take(32).collect();
        let message = format!(
            "worker {name} belongs to cluster {other}, and this is cluster {own}: correct the \
             nodes in its configuration, or give it an empty data_dir to make it a new worker"
        );
        return Err(Refusal::new(ErrorCode::Denied, message));
    }
    let Some(limit) = here.clock_limit.filter(|_| hello.wall_ms != 0 && !holds) else {
        return Ok(());
    };
    let off = Span(hello.wall_ms.abs_diff(here.now.0));
    if off > limit {
        let way = if hello.wall_ms > here.now.0 { "ahead of" } else { "behind" };
        let message = format!(
            "the clock of worker {name} is {off} {way} cluster time, more than {limit}: set it \
             right; `worker_clock_ms` of the nodes sets the limit"
        );
        return Err(Refusal::new(ErrorCode::Denied, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_belong_here_is_told_why_and_what_to_do() {
        let name = Name::new("w1").unwrap();
        let now = UtcMillis(1_000_000);
        let here = Here { cluster: 7, now, clock_limit: Some(Span::secs(30)) };
        let good = pb::Hello { protocol: 1, wall_ms: now.0, ..Default::default() };
        let asked = |hello: &pb::Hello, holds| check(hello, &name, &here, holds);
        for hello in [
            good.clone(),
            pb::Hello { cluster: format!("{:032x}", 7), ..good.clone() },
            pb::Hello { wall_ms: 0, ..good.clone() },
            pb::Hello { wall_ms: now.0 + 30_000, ..good.clone() },
            pb::Hello { wall_ms: now.0 - 30_000, ..good.clone() },
        ] {
            assert_eq!(asked(&hello, false), Ok(()), "{hello:?}");
        }
        let late = pb::Hello { wall_ms: now.0 - 31_000, ..good.clone() };
        for (hello, words) in [
            (pb::Hello { protocol: 0, ..good.clone() }, ["protocol 0", "upgrade the worker"]),
            (pb::Hello { protocol: 2, ..good.clone() }, ["too new", "upgrade the nodes"]),
            (pb::Hello { cluster: "08".into(), ..good.clone() }, ["cluster 08", "data_dir"]),
            (pb::Hello { wall_ms: now.0 + 31_000, ..good }, ["31s ahead", "worker_clock_ms"]),
            (late.clone(), ["31s behind", "more than 30s"]),
        ] {
            let refusal = asked(&hello, false).unwrap_err();
            let has = |word: &&str| refusal.message.contains(*word);
            assert!(words.iter().all(has) && refusal.message.contains("w1"), "{refusal:?}");
        }
        assert_eq!(asked(&late, true), Ok(()), "what it holds is not lost for a clock");
        let any = Here { clock_limit: None, ..here };
        assert_eq!(check(&late, &name, &any, false), Ok(()));
    }
}
