//! Next fires and verdicts that Quartz itself gave: every case of the file.

use jiff::Timestamp;
use serde_json::Value;

use super::cron::CronExpr;
use super::next_fire::fires_after;
use super::zone::Zone;
use crate::model::trigger::DstPolicy;
use crate::time::UtcMillis;

const CASES: &str = include_str!("../../../tests/golden/cron_next.jsonl");

fn millis(text: &str) -> UtcMillis {
    UtcMillis(text.parse::<Timestamp>().unwrap().as_millisecond())
}

#[test]
fn expressions_fire_as_in_quartz() {
    let (mut fires, mut verdicts, mut faults) = (0, 0, Vec::new());
    for line in CASES.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| case[key].as_str().unwrap();
        let parsed = CronExpr::parse(text("cron"));
        if let Some(valid) = case["valid"].as_bool() {
            verdicts += 1;
            if parsed.is_ok() != valid {
                faults.push(format!("{line}: {parsed:?}"));
            }
            continue;
        }
        fires += 1;
        let cron = parsed.unwrap();
        let zone = Zone::parse(text("tz")).unwrap();
        let wanted: Vec<&str> =
            case["next"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
        let found: Vec<String> =
            fires_after(&cron, &zone, DstPolicy::Quartz, millis(text("after")))
                .take(5)
                .map(|t| zone.rfc3339(t))
                .collect();
        if found != wanted || case["exhausted"] != Value::Bool(found.len() < 5) {
            faults.push(format!("{line}: {found:?}"));
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert_eq!((fires, verdicts), (524, 68));
}

#[test]
fn all_policies_agree_where_the_clocks_do_not_change() {
    let mut cases = 0;
    for line in CASES.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let Some(zone) = case["tz"].as_str().filter(|_| case["source"] != "generated: DST edge")
        else {
            continue;
        };
        let zone = Zone::parse(zone).unwrap();
        if zone != Zone::UTC && zone.name() != "Asia/Tokyo" && zone.name() != "Asia/Kolkata" {
            continue;
        }
        let cron = CronExpr::parse(case["cron"].as_str().unwrap()).unwrap();
        let after = millis(case["after"].as_str().unwrap());
        let of = |dst| fires_after(&cron, &zone, dst, after).take(5).collect::<Vec<_>>();
        let wanted = of(DstPolicy::Quartz);
        for dst in [DstPolicy::Smart, DstPolicy::Skip, DstPolicy::Twice] {
            assert_eq!(of(dst), wanted, "{line} {dst:?}");
        }
        cases += 1;
    }
    assert!(cases > 100, "only {cases} cases were compared");
}
