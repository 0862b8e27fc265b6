//! What is read, what is refused, and that a refusal says what would be right.

use super::*;

#[test]
fn plain_fields_are_read() {
    let c = CronExpr::parse(" 0/15  5,7 * ? JAN-MAR MON-FRI 2024-2026 ").unwrap();
    assert_eq!(c.to_string(), "0/15 5,7 * ? JAN-MAR MON-FRI 2024-2026");
    assert_eq!(c.seconds(), 1 | 1 << 15 | 1 << 30 | 1 << 45);
    assert_eq!(c.minutes(), 1 << 5 | 1 << 7);
    assert!(c.is_running());
    assert_eq!(c.months(), 0b1110);
    assert_eq!((c.year_from(1970), c.year_from(2026)), (Some(2024), Some(2026)));
    assert_eq!(c.year_from(2027), None);
    assert!(!CronExpr::parse("0 0 0-22 * * ?").unwrap().is_running());
    assert!(CronExpr::parse("0 0 0/1 * * ?").unwrap().is_running());
}

#[test]
fn weekdays_count_from_sunday() {
    // June 2024 begins on a Saturday: its Sundays are 2, 9, 16, 23, 30.
    let sundays = 1 << 2 | 1 << 9 | 1 << 16 | 1 << 23 | 1 << 30;
    for text in ["0 0 0 ? * 1", "0 0 0 ? * sun", "0 0 0 ? * SUNDAY"] {
        assert_eq!(CronExpr::parse(text).unwrap().days(6, 30), sundays, "{text}");
    }
    assert_eq!(CronExpr::parse("0 0 0 ? * *").unwrap().days(6, 30), (1 << 31) - 2);
    assert_eq!(CronExpr::parse("0 0 0 31 * ?").unwrap().days(6, 30), 0);
}

#[test]
fn years_reach_their_bound() {
    let c = CronExpr::parse("0 0 0 1 1 ? */10").unwrap();
    assert_eq!((c.year_from(1971), c.year_from(2291)), (Some(1980), None));
    let c = CronExpr::parse("0 0 0 1 1 ? 02025,2299,2300").unwrap();
    assert_eq!((c.year_from(2000), c.year_from(2026)), (Some(2025), Some(2299)));
}

#[test]
fn errors_name_field_value_and_remedy() {
    for (text, part) in [
        ("", "has 0 fields: write 6 or 7"),
        ("* * * * *", "has 5 fields"),
        ("0 0 24 * * ?", "hours \"24\" (at column 5) is not understood: expected 0 to 23"),
        ("0 5* * * * ?", "minutes \"5*\" (at column 3)"),
        ("0/60 * * * * ?", "seconds \"0/60\""),
        ("0/0 * * * * ?", "seconds \"0/0\""),
        ("? 0 0 * * ?", "seconds \"?\""),
        ("0 0 22-2 * * ?", "hours \"22-2\" (at column 5) runs backwards"),
        ("0 0 0 LW * ?", "day of month \"LW\" (at column 7): L is not supported"),
        ("0 0 0 15w * ?", "W is not supported"),
        ("0 0 0 ? * 6L", "day of week \"6L\" (at column 11): L is not supported"),
        ("0 0 0 ? * FRI#2", "# is not supported"),
        ("0 0 0 ? * 8", "1 (Sunday) to 7 (Saturday)"),
        ("0 0 0 ? * 0", "day of week \"0\""),
        ("0 0 0 1,? * *", "day of month \"1,?\""),
        ("0 0 0 1 FOO ?", "month \"FOO\""),
        ("0 0 0 * * *", "exactly one of the two must be ?"),
        ("0 0 0 ? * ?", "exactly one of the two must be ?"),
        ("0 0 0 1 1 ? 1969", "year \"1969\" (at column 13)"),
        ("0 0 0 1 1 ? 2024-", "year \"2024-\""),
        ("0 0 0 1 1 ? 2030-2025", "runs backwards"),
        ("0 0 0 1 1 ? 99999999999", "year"),
        ("0 0 0 1 1 ? 2024/0", "year"),
        ("ä 0 ö * * ?", "seconds \"ä\" (at column 1)"),
    ] {
        let error = CronExpr::parse(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text:?}: {error}");
    }
    let long = "0,".repeat(300) + "0 0 0 * * ?";
    assert!(matches!(CronExpr::parse(&long), Err(CronError::TooLong { length: 611 })));
}

#[test]
fn names_with_the_letters_of_signs_are_names() {
    for text in ["0 0 0 ? JUL WED", "0 0 0 ? jul-aug wednesday", "0 0 0 ? * TUE-WED,FRI"] {
        assert!(CronExpr::parse(text).is_ok(), "{text}");
    }
}
