//! Texts of the grammar's own letters, mixed at random: none may panic, and
//! what is read prints as what it was read from.

use proptest::prelude::*;

use super::*;
use crate::model::trigger::DstPolicy;
use crate::time::UtcMillis;
use crate::timing::next_fire::next_after;
use crate::timing::zone::Zone;

/// Parts from which expressions are put together, right ones and wrong ones.
fn item() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0..70u32).prop_map(|n| n.to_string()),
        2 => (0..70u32, 0..70u32).prop_map(|(a, b)| format!("{a}-{b}")),
        2 => (0..70u32, 0..70u32).prop_map(|(a, b)| format!("{a}/{b}")),
        1 => (0..70u32, 0..70u32, 0..9u32).prop_map(|(a, b, c)| format!("{a}-{b}/{c}")),
        3 => prop::sample::select(vec![
            "*", "?", "L", "LW", "L-3", "L-3W", "15W", "MON", "FRI-MON", "6#3", "2L", "FRIL",
            "MON#1", "JAN", "NOV-FEB", "H", "H/5", "H(1-9)", "*/5", "/5", "2024", "2020-2030",
            "2024/2", "", "MONDAY", "*/0", "-", "#", "W",
        ]).prop_map(str::to_owned),
        1 => "[0-9*/,?LWH#@A-Z()-]{0,8}",
        1 => "\\PC{0,4}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    let field = prop::collection::vec(item(), 1..3).prop_map(|items| items.join(","));
    let fields = prop::collection::vec(field, 4..9).prop_map(|fields| fields.join(" "));
    prop_oneof![9 => fields, 1 => "\\PC{0,40}", 1 => "@[a-z]{0,8}( [0-9a-z]{0,8})?"]
}

fn read(text: &str, dialect: Dialect) -> Result<CronRule, CronError> {
    CronRule::parse(text, dialect, Spread(11))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_text_panics_and_what_is_read_prints_as_itself(text in text(), after in 0..4_000_000_000_000i64) {
        for dialect in [Dialect::Quartz, Dialect::Unix] {
            match read(&text, dialect) {
                Ok(CronRule::Clock(cron)) => {
                    let again = read(&cron.to_string(), dialect);
                    prop_assert_eq!(again, Ok(CronRule::Clock(cron.clone())));
                    prop_assert!(!cron.describe().is_empty());
                    let told = cron.notices().iter().map(ToString::to_string).collect::<String>();
                    prop_assert!(told.len() < 4000);
                    for dst in [DstPolicy::Smart, DstPolicy::Quartz, DstPolicy::Skip, DstPolicy::Twice] {
                        let next = next_after(&cron, &Zone::UTC, dst, UtcMillis(after));
                        prop_assert!(next.is_none_or(|next| next.0 > after));
                    }
                }
                Ok(CronRule::Every(every)) => prop_assert!(every.0 >= 1000),
                Err(error) => {
                    prop_assert!(!error.to_string().is_empty());
                    if let Some(caret) = error.caret() {
                        let (line, mark) = caret.split_once('\n').unwrap();
                        prop_assert!(mark.chars().count() <= line.chars().count().max(1), "{}", caret);
                    }
                }
            }
        }
    }
}
