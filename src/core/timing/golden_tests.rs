//! Next fires that Quartz itself computed, for expressions of plain fields far
//! from changes of the clocks.

use jiff::Timestamp;
use serde_json::Value;

use super::cron::CronExpr;
use super::next_fire::fires_after;
use super::zone::Zone;
use crate::time::UtcMillis;

const CASES: &str = include_str!("../../../tests/golden/cron_next_plain.jsonl");

fn millis(text: &str) -> UtcMillis {
    UtcMillis(text.parse::<Timestamp>().unwrap().as_millisecond())
}

#[test]
fn plain_expressions_fire_as_in_quartz() {
    let mut cases = 0;
    for line in CASES.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| case[key].as_str().unwrap();
        let cron = CronExpr::parse(text("cron")).unwrap();
        let zone = Zone::parse(text("tz")).unwrap();
        let wanted: Vec<UtcMillis> =
            case["next"].as_array().unwrap().iter().map(|t| millis(t.as_str().unwrap())).collect();
        // Quartz ends a hundred years after its own day; the cases say where.
        let found: Vec<UtcMillis> =
            fires_after(&cron, &zone, millis(text("after"))).take(wanted.len()).collect();
        assert_eq!(found, wanted, "{line}");
        if case["exhausted"] == Value::Bool(true) {
            let end = wanted.last().copied().unwrap_or_else(|| millis(text("after")));
            let next = fires_after(&cron, &zone, end).next();
            let year_2126 = millis("2126-01-01T00:00:00Z");
            assert!(next.is_none_or(|t| t > year_2126), "{line}: goes on at {next:?}");
        }
        cases += 1;
    }
    assert!(cases >= 50, "only {cases} cases were read");
}
