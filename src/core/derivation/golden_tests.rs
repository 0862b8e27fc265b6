//! hera's golden cases G1 to G9, in every order in which the jobs could be made.

use serde_json::Value;

use super::Found;
use super::support::{Jobs, Made};
use crate::ids::JobId;
use crate::model::edge::PeriodUnit;
use crate::model::edge::{EdgeSpec, Matching};
use crate::time::UtcMillis;
use crate::timing::period::Periods;
use crate::timing::zone::Zone;

const CASES: &str = include_str!("../../../tests/golden/derivation.jsonl");

fn matching(word: &str) -> Matching {
    Matching::ALL.iter().find(|(known, _)| *known == word).map(|(_, found)| *found).unwrap()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn made(job: &Value, rule: Matching) -> Made {
    let id = number(&job["id"]);
    let mut made = Made::new(&format!("j{id}"));
    made.spec.legacy_id = Some(id);
    if let Some(cron) = job["cron"].as_str() {
        made = made.cron(cron);
    }
    for up in job["deps"].as_array().into_iter().flatten() {
        let edge = EdgeSpec { matching: rule, ..EdgeSpec::new(JobId(0)) };
        made = made.edge(&format!("j{}", number(up)), edge);
    }
    made
}

/// A version as hera numbers it.
fn version(job: &str, at: UtcMillis) -> String {
    let clock = Periods::new(Zone::UTC, PeriodUnit::Day);
    let id: u32 = job[1..].parse().unwrap();
    format!("{}{id:06}", clock.minute_number(at).unwrap())
}

#[test]
fn every_case_of_hera_comes_out_in_every_order() {
    let mut cases = 0;
    for line in CASES.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let rule = matching(case["match"].as_str().unwrap());
        let of = format!("j{}", number(&case["of"]));
        let wanted: Vec<&str> =
            case["versions"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        let mut jobs: Vec<Made> =
            case["jobs"].as_array().unwrap().iter().map(|job| made(job, rule)).collect();
        for turn in 0..2 * jobs.len() {
            jobs.rotate_left(1);
            if turn == jobs.len() {
                jobs.reverse();
            }
            let jobs = Jobs::new(&jobs);
            let actions = jobs.ask(|plans| jobs.actions(plans, &of, "2024-03-15")).unwrap();
            let shown = actions.iter().map(|action| {
                let mut versions = vec![version(&of, action.nominal)];
                for edge in &action.edges {
                    let Found::These(at) = &edge.found else { panic!("{line}: {action:?}") };
                    assert_eq!(at.len(), 1, "{line}");
                    versions.push(version(jobs.name(edge.job), at[0]));
                }
                versions.join(" ")
            });
            assert_eq!(shown.collect::<Vec<_>>(), wanted, "{line}");
        }
        cases += 1;
    }
    assert_eq!(cases, 34);
}
