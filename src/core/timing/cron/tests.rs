//! What is read, what is refused, and that a refusal says what would be right.

use super::*;

fn unix(text: &str) -> Result<CronRule, CronError> {
    CronRule::parse(text, Dialect::Unix, Spread(7))
}

fn clock(text: &str) -> CronExpr {
    match unix(text) {
        Ok(CronRule::Clock(cron)) => cron,
        other => panic!("{text}: {other:?}"),
    }
}

fn bits_of(numbers: &[u32]) -> u64 {
    numbers.iter().fold(0, |set, n| set | 1 << n)
}

#[test]
fn plain_fields_are_read() {
    let c = CronExpr::parse(" 0/15  5,7 * ? JAN-MAR MON-FRI 2024-2026 ").unwrap();
    assert_eq!(c.to_string(), "0/15 5,7 * ? JAN-MAR MON-FRI 2024-2026");
    assert_eq!(c.seconds(), bits_of(&[0, 15, 30, 45]));
    assert_eq!(c.minutes(), bits_of(&[5, 7]));
    assert!(c.is_running());
    assert_eq!(c.months(), 0b1110);
    assert_eq!((c.year_from(1970), c.year_from(2026)), (Some(2024), Some(2026)));
    assert_eq!(c.year_from(2027), None);
    assert!(c.notices().is_empty());
    assert!(!CronExpr::parse("0 0 0-22 * * ?").unwrap().is_running());
    assert!(CronExpr::parse("0 0 0/1 * * ?").unwrap().is_running());
}

#[test]
fn ranges_wrap_around() {
    let c = CronExpr::parse("58-2 0 22-2/2 29-3 NOV-FEB ?").unwrap();
    assert_eq!(c.seconds(), bits_of(&[58, 59, 0, 1, 2]));
    assert_eq!(c.hours(), bits_of(&[22, 0, 2]));
    assert_eq!(c.days(0, 31), bits_of(&[29, 30, 31, 1, 2, 3]));
    assert_eq!(c.months(), bits_of(&[11, 12, 1, 2]));
    let c = CronExpr::parse("0 0 0 ? * FRI-MON").unwrap();
    // June 2024 begins on a Saturday.
    assert_eq!(c.days(6, 30) & 0xff, bits_of(&[1, 2, 3, 7]));
    assert_eq!(c, CronExpr::parse("0 0 0 ? * fri-mon").map(|_| c.clone()).unwrap());
}

#[test]
fn weekdays_count_from_sunday() {
    // June 2024 begins on a Saturday: its Sundays are 2, 9, 16, 23, 30.
    let sundays = bits_of(&[2, 9, 16, 23, 30]);
    for text in ["0 0 0 ? * 1", "0 0 0 ? * sun", "0 0 0 ? * SUNDAY"] {
        let c = CronExpr::parse(text).unwrap();
        assert_eq!(c.days(6, 30), sundays, "{text}");
        assert!(c.notices().is_empty(), "{text}");
    }
    assert_eq!(CronExpr::parse("0 0 0 ? * *").unwrap().days(6, 30), (1 << 31) - 2);
    assert_eq!(CronExpr::parse("0 0 0 31 * ?").unwrap().days(6, 30), 0);
    assert_eq!(CronExpr::parse("0 0 0 ? * L").unwrap().days(6, 30), bits_of(&[1, 8, 15, 22, 29]));
    assert_eq!(CronExpr::parse("0 0 0 ? * 2L").unwrap().days(6, 30), bits_of(&[24]));
    assert_eq!(CronExpr::parse("0 0 0 ? * mon#4").unwrap().days(6, 30), bits_of(&[24]));
    assert_eq!(CronExpr::parse("0 0 0 ? * MONL").unwrap().days(6, 30), bits_of(&[24]));
}

#[test]
fn last_days_and_working_days_may_stand_in_lists() {
    for (text, days) in [
        ("1,L", vec![1, 30]),
        ("2W,16", vec![3, 16]),
        ("L-2,LW", vec![28]),
        ("L-29,L-30,30W", vec![1, 28]),
        ("l-1w", vec![28]),
        ("10-12,20/5,L", vec![10, 11, 12, 20, 25, 30]),
    ] {
        let c = CronExpr::parse(&format!("0 0 0 {text} * ?")).unwrap();
        assert_eq!(c.days(6, 30), bits_of(&days), "{text}");
    }
}

#[test]
fn years_reach_their_bound() {
    let c = CronExpr::parse("0 0 0 1 1 ? */10").unwrap();
    assert_eq!((c.year_from(1971), c.year_from(2121)), (Some(1980), None));
    let c = CronExpr::parse("0 0 0 1 1 ? 02025,2125,2126,2300,1969").unwrap();
    assert_eq!((c.year_from(0), c.year_from(2026)), (Some(2025), Some(2125)));
    assert_eq!(c.year_from(2126), None);
    assert_eq!(clock("0 0 1 1 *").year_from(2299), Some(2299));
}

#[test]
fn what_quartz_accepts_is_accepted_with_a_notice() {
    for (text, notice) in [
        ("L 30 * * * ?", "seconds \"L\" (at column 1): matches nothing"),
        ("0 5* * * * ?", "minutes \"5*\" (at column 3): only \"5\" is read, \"*\" has no effect"),
        ("1-2-3 * * * * ?", "only \"1-2\" is read, \"-3\" has no effect"),
        ("0 0 0 15WL * ?", "only \"15W\" is read"),
        ("0 0 0 ? * LW", "only \"L\" is read"),
        ("0 0 0 ? * MON-FRI/2", "only \"MON-FRI\" is read, \"/2\" has no effect"),
        ("0 0 0 ? * MONDAY-FRIDAY", "only \"MON\" is read"),
        ("0 0 0 ? * mon#1,fri", "only 2#1 is read"),
        ("0 0 0 1,? * MON", "with ? in it the rest of the list has no effect"),
        ("*/0 0 0 * * ?", "a step must be at least 1; this is read as *"),
        ("5/0 0 0 * * ?", "only \"5\" is read"),
        ("0 0 0 *? * ?", "only \"*\" is read"),
        (", 0 0 * * ?", "matches nothing"),
    ] {
        let cron = CronExpr::parse(text).unwrap();
        let told: Vec<String> = cron.notices().iter().map(Notice::to_string).collect();
        assert!(told.len() == 1 && told[0].contains(notice), "{text}: {told:?}");
        let refused = cron.strict().unwrap_err().to_string();
        assert!(refused.contains("(at column"), "{text}: {refused}");
    }
    // Names may be written out, and empty items of lists are nothing.
    for text in ["0 0 0 1 JANUARY ?", "0 0 0 ? JAN-march SATURDAY", ",1 * * * * ?"] {
        assert!(CronExpr::parse(text).unwrap().strict().is_ok(), "{text}");
    }
}

#[test]
fn an_expression_that_no_day_matches_is_read_and_refused() {
    for text in ["0 0 0 30 2 ?", "0 0 0 31 4,6,9,11 ?", "0 0 0 29 2 ? 2025-2027"] {
        let refused = CronExpr::parse(text).unwrap().strict().unwrap_err();
        assert_eq!(refused.fault, Fault::NoDay, "{text}");
        assert!(refused.to_string().contains("no year has such a day"), "{refused}");
        assert_eq!(refused.caret().unwrap(), format!("{text}\n{}", "^".repeat(text.len())));
    }
    for text in ["0 0 0 29 2 ?", "0 0 0 1 1 ? 1999", "0 0 0 ? 2 2#5"] {
        assert!(CronExpr::parse(text).unwrap().strict().is_ok(), "{text}");
    }
}

#[test]
fn errors_name_field_value_and_remedy() {
    for (text, part) in [
        ("", "has 0 fields: write 6 or 7"),
        ("* * * * *", "has 5 fields"),
        ("* * * * *", "dialect unix"),
        ("* * * * * * * *", "has 8 fields"),
        ("0 0 24 * * ?", "hours \"24\" (at column 5) is out of range: expected 0 to 23"),
        (
            "0/60 * * * * ?",
            "seconds \"0/60\" (at column 1) has a step longer than the field: expected / and 1 to 59",
        ),
        ("0 0 */24 * * ?", "hours \"*/24\""),
        ("0 0 0 1/32 * ?", "1 to 31"),
        ("0 0 0 ? * 1/8", "1 to 7"),
        ("0 0 0 1 1/13 ?", "1 to 12"),
        ("0/ * * * * ?", "ends with /"),
        ("? 0 0 * * ?", "seconds \"?\" (at column 1) has ?, which means nothing here"),
        ("H 0 0 * * ?", "which the dialect unix has"),
        ("0 0 0 32W * ?", "day of month \"32W\" (at column 7) is out of range"),
        ("0 0 0 0W * ?", "is out of range"),
        ("0 0 0 L-31 * ?", "a number from 0 to 30 behind L-"),
        ("0 0 0 L- * ?", "a number from 0 to 30 behind L-"),
        ("0 0 0 ? * MON#6", "needs a number from 1 to 5 behind #"),
        ("0 0 0 ? * 2#", "needs a number from 1 to 5"),
        ("0 0 0 ? * 8#1", "is out of range"),
        ("0 0 0 ? * 6,7,L", "has L in a list"),
        ("0 0 0 ? * MON#1,FRI#2", "has # twice"),
        ("0 0 0 ? * 8", "1 (Sunday) to 7 (Saturday)"),
        ("0 0 0 ? * 0", "day of week \"0\""),
        ("0 0 0 ? * MON-3", "is no name"),
        ("0 0 0 ? * 2-WED", "is not understood"),
        ("0 0 0 ?12 * MON", "write ? alone"),
        ("0 0 0 1 FOO ?", "month \"FOO\" (at column 9) is no name: expected 1 to 12 or JAN to DEC"),
        ("0 0 0 1,2,foo * ?", "day of month \"foo\" (at column 11)"),
        ("0 0 0 * * *", "exactly one of the two must be ?"),
        ("0 0 0 ? * ?", "exactly one of the two must be ?"),
        ("0 0 0 1 1 ? 2024-", "year \"2024-\""),
        ("0 0 0 1 1 ? 2030-2025", "runs backwards"),
        ("0 0 0 1 1 ? 99999999999", "year"),
        ("ä 0 ö * * ?", "seconds \"ä\" (at column 1)"),
        ("6L 0 0 * * ?", "has L, which means nothing here"),
        ("0 0 0 * 3W ?", "has W, which means nothing here"),
        ("0 0 0#1 * * ?", "has #, which means nothing here"),
    ] {
        let error = CronExpr::parse(text).expect_err(text).to_string();
        assert!(error.contains(part), "{text:?}: {error}");
    }
    let long = "0,".repeat(300) + "0 0 0 * * ?";
    let error = CronExpr::parse(&long).unwrap_err();
    assert_eq!(error.fault, Fault::TooLong(611));
    assert!(error.to_string().len() < 200);
}

#[test]
fn a_mark_stands_under_the_mistake() {
    let caret = |text: &str| CronExpr::parse(text).unwrap_err().caret();
    assert_eq!(caret("0 0  1,24 * * ?").unwrap(), "0 0 1,24 * * ?\n      ^^");
    assert_eq!(caret("0 ä 0 * * ?").unwrap(), "0 ä 0 * * ?\n  ^");
    assert_eq!(caret("0 0  3 * * MON 2027").unwrap(), "0 0 3 * * MON 2027\n      ^   ^^^");
    // What is wrong with the whole is marked as a whole.
    assert_eq!(caret("0  0 0").unwrap(), "0 0 0\n^^^^^");
    assert_eq!(caret(&"0,".repeat(300)), None);
}

#[test]
fn five_fields_are_read_in_the_unix_dialect() {
    let c = clock("*/20 22-2 * jan,6 5-7");
    assert_eq!((c.seconds(), c.minutes()), (1, bits_of(&[0, 20, 40])));
    assert_eq!(c.hours(), bits_of(&[22, 23, 0, 1, 2]));
    assert_eq!(c.months(), bits_of(&[1, 6]));
    // June 2024 begins on a Saturday; 0 and 7 are Sunday.
    assert_eq!(c.days(6, 30) & 0xff, bits_of(&[1, 2, 7]));
    assert_eq!(clock("0 0 * * 0").days(6, 30), clock("0 0 * * sunday").days(6, 30));
    assert_eq!(clock("0 0 * * fri-mon").days(6, 30) & 0xff, bits_of(&[1, 2, 3, 7]));
    // Either of the two fields for days, unless one begins with a star.
    assert_eq!(clock("0 0 5 * 1").days(6, 30), bits_of(&[3, 5, 10, 17, 24]));
    assert_eq!(clock("0 0 */2 * 1").days(6, 30), bits_of(&[3, 17]));
    assert_eq!(clock("0 0 5 * *").days(6, 30), bits_of(&[5]));
    assert_eq!(clock("5/15 * * * *").minutes(), bits_of(&[5, 20, 35, 50]));
}

#[test]
fn words_stand_for_expressions() {
    for (word, text) in [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@Weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ] {
        let (word, text) = (clock(word), clock(text));
        assert_eq!(
            (word.minutes(), word.hours(), word.months()),
            (text.minutes(), text.hours(), text.months())
        );
        assert_eq!(word.days(3, 31), text.days(3, 31));
    }
    for (text, seconds) in [("@every 90s", 90), ("@every  2m", 120), ("@every 1h30m", 5400)] {
        assert_eq!(unix(text), Ok(CronRule::Every(Span::secs(seconds))), "{text}");
    }
}

#[test]
fn spreads_are_stable_and_differ() {
    // For ever: a change of the hash would move every spread trigger.
    let trigger = |name: &str| TriggerName(std::sync::Arc::from(name));
    let of = |job: u64, name: &str, text: &str| {
        let spread = Spread::of(JobId(job), &trigger(name));
        match CronRule::parse(text, Dialect::Unix, spread).unwrap() {
            CronRule::Clock(c) => (c.minutes(), c.hours()),
            CronRule::Every(_) => panic!("no clock"),
        }
    };
    let one = |set: u64| (set.count_ones(), set.trailing_zeros());
    let (minute, hour) = of(1, "nightly", "H H * * *");
    assert_eq!((one(minute), one(hour)), ((1, 37), (1, 4)));
    assert_eq!(of(1, "nightly", "H H * * *"), (minute, hour));
    let distinct: std::collections::BTreeSet<u64> =
        (0..100).map(|job| of(job, "nightly", "H * * * *").0).collect();
    assert!(distinct.len() > 40, "{}", distinct.len());
    for job in 0..50 {
        let (quarter, office) = of(job, "t", "H/15 H(8-17)/3 * * *");
        assert_eq!(quarter.count_ones(), 4);
        assert!(quarter.trailing_zeros() < 15);
        assert_eq!(office & !bits_of(&(8..=17).collect::<Vec<_>>()), 0);
        assert!((3..=4).contains(&office.count_ones()), "{office:b}");
        let (within, _) = of(job, "t", "h(0-29) * * * *");
        assert!(within.count_ones() == 1 && within.trailing_zeros() < 30);
    }
}

#[test]
fn errors_of_the_unix_dialect_say_what_would_be_right() {
    for (text, part) in [
        ("0 0 3 * * ?", "has 6 fields: write 5"),
        ("0 0 3 * * ?", "dialect quartz"),
        ("60 * * * *", "minutes \"60\" (at column 1) is out of range: expected 0 to 59"),
        ("* 1,24 * * *", "hours \"24\" (at column 5)"),
        ("* * ? * *", "has ?, which is Quartz's"),
        ("* * L * *", "has L, which is Quartz's"),
        ("* * 15W * *", "has W, which is Quartz's"),
        ("* * * * 5#2", "has #, which is Quartz's"),
        ("* * * * 8", "0 (Sunday) to 6 (Saturday)"),
        ("* * * FOO *", "month \"FOO\" (at column 7) is no name"),
        ("*/0 * * * *", "is not understood"),
        ("*/60 * * * *", "step longer than the field"),
        ("*/ * * * *", "ends with /"),
        ("1,,2 * * * *", "is not understood"),
        ("H(5 * * * *", "is not understood"),
        ("H(5-99) * * * *", "is out of range"),
        ("@reboot", "\"@reboot\" is not known: expected @yearly"),
        ("@every", "such as @every 90s"),
        ("@every 90", "such as @every 90s"),
        ("@every 500ms", "at least one"),
        ("@every 1s500ms", "whole seconds"),
    ] {
        let error = unix(text).expect_err(text).to_string();
        assert!(error.contains(part), "{text:?}: {error}");
    }
}
