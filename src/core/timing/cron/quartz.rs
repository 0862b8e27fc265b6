//! A whole expression of Quartz's dialect.
//!
//! The `cron` crate reads the fields it knows: numbers, ranges, steps and lists
//! of them. What it lacks (`L`, `W`, `#`, ranges that wrap around, names with
//! Quartz's meaning, years beyond 2100) is read by [`super::item`].

use std::str::FromStr;

use ::cron::{Schedule, TimeUnitSpec};

use super::days::{Days, MonthDays, WeekDays};
use super::error::{CronError, Fault, Idle, Notice, Place};
use super::field::Field;
use super::item::Collected;
use super::years::Years;
use super::{CronExpr, Word, words};
use crate::model::trigger::Dialect;

pub(super) fn parse(text: &str) -> Result<CronExpr, CronError> {
    let upper = text.to_ascii_uppercase();
    let fields = words(&upper);
    // As it was written, but for its spaces.
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let fault = |place: Option<Place>, fault| CronError {
        place: place.map(|place| Box::new(place.written_in(&one_line))),
        text: one_line.clone(),
        dialect: Dialect::Quartz,
        fault,
    };
    if !matches!(fields.len(), 6 | 7) {
        return Err(fault(None, Fault::FieldCount(fields.len())));
    }
    let plain = read_plain(&fields);
    let mut notices = Vec::new();
    let mut read: Vec<Collected> = Vec::with_capacity(7);
    for (field, word) in Field::ALL.into_iter().zip(&fields) {
        let collected =
            match plain.as_ref().filter(|_| field != Field::Year && is_plain(field, word.value)) {
                Some(plain) => ordinals(plain, field),
                None => read_field(field, *word, &mut notices)
                    .map_err(|(word, kind)| fault(Some(word.place(field)), kind))?,
            };
        read.push(collected);
    }
    if read.len() == 6 {
        read.push(Collected { years: Years::ALL, ..Collected::new() });
    }
    let (of_month, of_week) = (&read[3], &read[5]);
    if of_month.any == of_week.any {
        let days = Fault::Days {
            day_of_month: fields[3].value.to_owned(),
            day_of_week: fields[5].value.to_owned(),
        };
        return Err(fault(None, days));
    }
    let days = Days {
        by_month: (!of_month.any).then_some(MonthDays {
            days: of_month.set,
            before_last: of_month.before_last,
            near: of_month.near,
            near_before_last: of_month.near_before_last,
        }),
        by_week: (!of_week.any).then(|| weekdays(of_week)),
        either: false,
    };
    if let Some(idle) = of_list(of_week).filter(|_| !of_week.any) {
        notices.push(Notice { place: fields[5].place(Field::DayOfWeek), idle });
    }
    for notice in &mut notices {
        notice.place = notice.place.clone().written_in(&one_line);
    }
    Ok(CronExpr {
        text: one_line,
        dialect: Dialect::Quartz,
        seconds: read[0].set,
        minutes: read[1].set,
        hours: read[2].set,
        months: read[4].set,
        days,
        years: read.swap_remove(6).years,
        notices,
    })
}

/// A field that is not the crate's, item by item.
fn read_field<'a>(
    field: Field,
    word: Word<'a>,
    notices: &mut Vec<Notice>,
) -> Result<Collected, (Word<'a>, Fault)> {
    if field == Field::DayOfWeek {
        if word.value.contains('L') && word.value.len() > 1 && word.value.contains(',') {
            return Err((word, Fault::LastInList));
        }
        if word.value.matches('#').count() > 1 {
            return Err((word, Fault::SecondNth));
        }
    }
    let mut collected = Collected::new();
    let mut items = 0;
    for item in word.items() {
        items += 1;
        if let Some(idle) = collected.read(field, item.value).map_err(|fault| (item, fault))? {
            notices.push(Notice { place: item.place(field), idle });
        }
    }
    let idle = match items {
        0 => Some(Idle::Nothing),
        1 => None,
        _ => collected.any.then_some(Idle::Question),
    };
    notices.extend(idle.map(|idle| Notice { place: word.place(field), idle }));
    Ok(collected)
}

/// Weekdays as bits from Sunday, which Quartz counts as 1. With `#` or `L` only
/// the first of a list counts.
fn weekdays(read: &Collected) -> WeekDays {
    let each = u8::try_from(read.set >> 1).unwrap_or(0);
    let first = each & each.wrapping_neg();
    match read.nth {
        _ if read.last_weekday => WeekDays::Last(first),
        Some(nth) => WeekDays::Nth(first, nth),
        None => WeekDays::Each(each),
    }
}

/// What a list of weekdays with `#` loses.
fn of_list(read: &Collected) -> Option<Idle> {
    let nth = read.nth?;
    (read.set.count_ones() > 1)
        .then(|| Idle::OneOfList { read: format!("{}#{nth}", read.set.trailing_zeros()) })
}

/// What the crate makes of all fields that are its own, with stars for the others.
fn read_plain(fields: &[Word<'_>]) -> Option<Schedule> {
    let mut text = String::with_capacity(64);
    for (field, word) in Field::ALL.into_iter().zip(fields).take(6) {
        text.push_str(if is_plain(field, word.value) { word.value } else { "*" });
        text.push(' ');
    }
    Schedule::from_str(text.trim_end()).ok()
}

/// True for lists of `*`, `5`, `1-5`, `*/5`, `0/5` and `1-5/2` within the
/// field's bounds: what the crate and Quartz read alike. The crate needs no
/// space between fields and would read `5*` as two of them.
fn is_plain(field: Field, value: &str) -> bool {
    let (least, most) = field.bounds();
    let number = |text: &str| -> Option<u32> {
        let is_short = matches!(text.len(), 1..=4) && text.bytes().all(|b| b.is_ascii_digit());
        is_short.then(|| text.parse().ok()).flatten().filter(|n| (least..=most).contains(n))
    };
    value.split(',').all(|item| {
        let (base, step) = match item.split_once('/') {
            Some((base, step)) => (base, Some(step)),
            None => (item, None),
        };
        let is_step = step.is_none_or(|step| {
            matches!(step.len(), 1..=2)
                && step.parse::<u32>().is_ok_and(|n| (1..=field.longest_step()).contains(&n))
        });
        let is_base = match base.split_once('-') {
            Some((from, to)) => matches!((number(from), number(to)), (Some(a), Some(b)) if a <= b),
            None => base == "*" || number(base).is_some(),
        };
        is_step && is_base
    })
}

fn ordinals(parsed: &Schedule, field: Field) -> Collected {
    fn bits(unit: &impl TimeUnitSpec) -> u64 {
        unit.iter().fold(0, |set, number| set | (1 << number))
    }
    let set = match field {
        Field::Seconds => bits(parsed.seconds()),
        Field::Minutes => bits(parsed.minutes()),
        Field::Hours => bits(parsed.hours()),
        Field::DayOfMonth => bits(parsed.days_of_month()),
        Field::Month => bits(parsed.months()),
        // The crate counts weekdays as Quartz does: 1 is Sunday.
        Field::DayOfWeek => bits(parsed.days_of_week()),
        Field::Year => 0,
    };
    Collected { set, ..Collected::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

        /// The two readers agree wherever both read.
        #[test]
        fn crate_and_item_reader_agree_on_plain_fields(
            place in 0..6_usize,
            items in prop::collection::vec((0..70u32, 0..70u32, 0..40u32, 0..5u8), 1..4),
        ) {
            let field = Field::ALL[place];
            let value = items.iter().map(|(a, b, step, form)| match form {
                0 => a.to_string(),
                1 => format!("{a}-{b}"),
                2 => format!("{a}/{step}"),
                3 => format!("{a}-{b}/{step}"),
                _ => format!("*/{step}"),
            }).collect::<Vec<_>>().join(",");
            let mut notices = Vec::new();
            let own = read_field(field, Word { value: &value, column: 1 }, &mut notices);
            if is_plain(field, &value) {
                let mut fields = ["*"; 6];
                fields[place] = &value;
                let text = fields.join(" ");
                let plain = read_plain(&words(&text)).unwrap();
                let own = own.unwrap();
                prop_assert_eq!(ordinals(&plain, field).set, own.set, "{} {}", field, value);
                prop_assert!(notices.is_empty());
            }
        }
    }
}
