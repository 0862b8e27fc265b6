//! The batch key of an action: its nominal time, moved by so many units and cut to one.
//!
//! Years, months and days are counted in the calendar, whatever hours a day of the zone
//! has or lacks: a day before the 31st is the 30th, even where clocks skipped that.
//! Hours and shorter units are exact, and then written as the zone's clock shows them: the
//! two hours that a clock shows twice share their key.
//!
//! A pure function for whoever shows or hands over a key. No node decides anything by
//! one, so the machine needs none.

use jiff::Span;
use jiff::civil::DateTime;

use super::wall;
use super::zone::Zone;
use crate::model::batch::{BatchSpec, BatchUnit};
use crate::model::job::JobSpec;
use crate::time::UtcMillis;

/// The batch key of a job's action for that instant. Where the definition asks for none,
/// or no calendar reaches so far, it is the action's own name, `JOB@20240131T030000Z`.
#[must_use]
pub fn key_of(spec: &JobSpec, zone: &Zone, nominal: UtcMillis) -> String {
    let key = spec.batch.and_then(|batch| key(batch, zone, nominal));
    key.unwrap_or_else(|| format!("{}@{}", spec.name, nominal.compact()))
}

/// The key by a rule; none for a unit that is none, and where no calendar reaches.
fn key(batch: BatchSpec, zone: &Zone, nominal: UtcMillis) -> Option<String> {
    let offset = i64::from(batch.offset);
    let exact = |unit: i64| {
        let at = nominal.0.checked_add(offset.checked_mul(unit)?)?;
        wall::local(zone, UtcMillis(at))
    };
    let calendar = |span: Span| wall::local(zone, nominal)?.checked_add(span).ok();
    let (at, pattern): (DateTime, &str) = match batch.unit {
        BatchUnit::Year => (calendar(Span::new().try_years(offset).ok()?)?, "%Y"),
        BatchUnit::Month => (calendar(Span::new().try_months(offset).ok()?)?, "%Y-%m"),
        BatchUnit::Day => (calendar(Span::new().try_days(offset).ok()?)?, "%Y-%m-%d"),
        BatchUnit::Hour => (exact(3_600_000)?, "%Y-%m-%d %H"),
        BatchUnit::Minute => (exact(60_000)?, "%Y-%m-%d %H:%M"),
        BatchUnit::Second => (exact(1_000)?, "%Y-%m-%d %H:%M:%S"),
        BatchUnit::Other => return None,
    };
    (at.year() >= 1).then(|| at.strftime(pattern).to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::Name;

    fn at(text: &str) -> UtcMillis {
        UtcMillis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn key_at(zone: &str, unit: BatchUnit, offset: i32, nominal: UtcMillis) -> String {
        let mut spec = JobSpec::noop(Name::new("load").unwrap());
        spec.batch = Some(BatchSpec { unit, offset });
        key_of(&spec, &Zone::parse(zone).unwrap(), nominal)
    }

    /// hera's G12, and the key of G1. Its seconds made of numbers of jobs are not kept:
    /// here they are those of the time.
    #[test]
    fn keys_of_the_golden_cases() {
        let nominal = at("2024-01-30T19:00:00Z"); // 03:00 of the 31st
        for (unit, offset, wanted) in [
            (BatchUnit::Day, -1, "2024-01-30"),
            (BatchUnit::Month, 1, "2024-02"),
            (BatchUnit::Year, -1, "2023"),
            (BatchUnit::Hour, -4, "2024-01-30 23"),
            (BatchUnit::Minute, -1, "2024-01-31 02:59"),
            (BatchUnit::Second, 0, "2024-01-31 03:00:00"),
            (BatchUnit::Other, 0, "load@20240130T190000Z"),
        ] {
            assert_eq!(key_at("Asia/Shanghai", unit, offset, nominal), wanted, "{unit:?} {offset}");
        }
        let first = at("2024-03-14T19:00:00Z");
        assert_eq!(key_at("Asia/Shanghai", BatchUnit::Day, -1, first), "2024-03-14");
        let none = JobSpec::noop(Name::new("load").unwrap());
        assert_eq!(key_of(&none, &Zone::UTC, nominal), "load@20240130T190000Z");
    }

    #[test]
    fn changes_of_the_clocks_move_no_day_and_no_hour_too_far() {
        let berlin = "Europe/Berlin";
        for (nominal, unit, offset, wanted) in [
            // 02:30 there is not on 31 March; the day before and after are what they are.
            ("2024-04-01T00:30:00Z", BatchUnit::Day, -1, "2024-03-31"),
            ("2024-03-30T01:30:00Z", BatchUnit::Day, 1, "2024-03-31"),
            ("2024-03-31T01:10:00Z", BatchUnit::Hour, -1, "2024-03-31 01"),
            ("2024-03-31T01:10:00Z", BatchUnit::Hour, 0, "2024-03-31 03"),
            // Shown twice: both have one key, and the hour before either is its own.
            ("2024-10-27T00:10:00Z", BatchUnit::Hour, 0, "2024-10-27 02"),
            ("2024-10-27T01:10:00Z", BatchUnit::Hour, 0, "2024-10-27 02"),
            ("2024-10-27T01:10:00Z", BatchUnit::Hour, -2, "2024-10-27 01"),
            // The last day of a shorter month.
            ("2024-03-31T10:00:00Z", BatchUnit::Month, -1, "2024-02"),
            ("2024-02-29T10:00:00Z", BatchUnit::Year, -1, "2023"),
        ] {
            assert_eq!(key_at(berlin, unit, offset, at(nominal)), wanted, "{nominal} {unit:?}");
        }
        // A day that Samoa never had is still the day before the next.
        let after = at("2011-12-30T12:00:00Z");
        assert_eq!(key_at("Pacific/Apia", BatchUnit::Day, 0, after), "2011-12-31");
        assert_eq!(key_at("Pacific/Apia", BatchUnit::Day, -1, after), "2011-12-30");
    }

    #[test]
    fn what_no_calendar_reaches_is_the_action_itself() {
        for (nominal, offset) in [(UtcMillis::MAX, 0), (at("1970-01-01T00:00:00Z"), -1_970)] {
            let key = key_at("UTC", BatchUnit::Year, offset, nominal);
            assert!(key.starts_with("load@"), "{key}");
        }
    }

    proptest! {
        /// Whatever clocks do: days follow the calendar, hours follow the time, a key lies
        /// in those of the longer units, and no day comes twice.
        #[test]
        fn keys_follow_the_calendar(
            zone in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe",
                "Pacific/Apia", "Africa/Casablanca", "Asia/Shanghai",
            ]),
            minute in 0..1_576_800_i64, // thirty years in steps of ten minutes
            days in -400..400_i32,
            hours in -9_000..9_000_i32,
        ) {
            let nominal = UtcMillis(946_684_800_000 + minute * 600_000);
            let local = wall::local(&Zone::parse(zone).unwrap(), nominal).unwrap();
            let day = key_at(zone, BatchUnit::Day, days, nominal);
            let wanted = local.date().checked_add(Span::new().days(days)).unwrap();
            prop_assert_eq!(&day, &wanted.to_string());
            let hour = key_at(zone, BatchUnit::Hour, hours, nominal);
            let moved = UtcMillis(nominal.0 + i64::from(hours) * 3_600_000);
            prop_assert_eq!(&hour, &key_at(zone, BatchUnit::Hour, 0, moved));
            let month = key_at(zone, BatchUnit::Month, 0, nominal);
            let year = key_at(zone, BatchUnit::Year, 0, nominal);
            let today = key_at(zone, BatchUnit::Day, 0, nominal);
            prop_assert!(today.starts_with(&month) && month.starts_with(&year));
            // No day is longer than 25 hours.
            let tomorrow = key_at(zone, BatchUnit::Day, 0, UtcMillis(nominal.0 + 90_000_000));
            prop_assert!(today < tomorrow, "{} {}", today, tomorrow);
        }
    }
}
