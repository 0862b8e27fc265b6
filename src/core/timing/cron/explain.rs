//! An expression in words: "at 03:00 on the last weekday of each month".

use super::days::{ALL_DAYS, MonthDays, WeekDays, bits};
use super::field::Field;
use super::years::Years;
use super::{CronExpr, LAST_YEAR};

/// Up to so many times of day are told one by one.
const MOST_TIMES: u32 = 6;

impl CronExpr {
    /// What it means, in English, such as `at 03:00 on the last weekday of each
    /// month`. The zone is the caller's to add.
    #[must_use]
    pub fn describe(&self) -> String {
        let empty = [self.seconds, self.minutes, self.hours, self.months];
        if empty.contains(&0) || self.years == Years::NONE {
            return "never".to_owned();
        }
        let mut parts = vec![self.times()];
        parts.extend(self.which_days());
        parts.extend(self.which_years());
        parts.join(" ")
    }

    fn times(&self) -> String {
        if self.is_told_by_times() {
            let mut times = Vec::new();
            for hour in bits(self.hours) {
                for minute in bits(self.minutes) {
                    for second in bits(self.seconds) {
                        times.push(if self.seconds == 1 {
                            format!("{hour:02}:{minute:02}")
                        } else {
                            format!("{hour:02}:{minute:02}:{second:02}")
                        });
                    }
                }
            }
            return format!("at {}", list(&times));
        }
        let hours = self.which_hours();
        let has_all_minutes = self.minutes.count_ones() == 60;
        let mut parts = Vec::new();
        match (self.seconds, every(self.seconds, 60)) {
            (1, _) => {}
            (_, Some(1)) => parts.push("every second".to_owned()),
            (_, Some(step)) => parts.push(format!("every {step} seconds")),
            (set, None) => parts.push(format!("at {}", numbered("second", set))),
        }
        match (self.minutes, every(self.minutes, 60)) {
            (1, _) if self.seconds == 1 => {
                return match every(self.hours, 24) {
                    Some(1) => "every hour".to_owned(),
                    Some(step) => format!("every {step} hours from 00:00"),
                    None => format!("on the hour{hours}"),
                };
            }
            (_, Some(1)) if parts.is_empty() => parts.push("every minute".to_owned()),
            // Seconds that go on and on need no word about minutes.
            (_, Some(1)) if every(self.seconds, 60).is_some() => {}
            (_, Some(1)) => parts.push("of every minute".to_owned()),
            (_, Some(step)) if parts.is_empty() => parts.push(format!("every {step} minutes")),
            (_, Some(step)) => parts.push(format!("of every {step}th minute")),
            (set, None) if parts.is_empty() => {
                parts.push(format!("at {}", numbered("minute", set)))
            }
            (set, None) => parts.push(format!("of {}", numbered("minute", set))),
        }
        let of_hours = match (hours.as_str(), has_all_minutes || every(self.minutes, 60).is_some())
        {
            ("", false) => " of every hour".to_owned(),
            _ => hours,
        };
        format!("{}{of_hours}", parts.join(" "))
    }

    /// True if there are few times of day.
    fn is_told_by_times(&self) -> bool {
        let counts = [self.seconds, self.minutes, self.hours].map(u64::count_ones);
        counts.iter().product::<u32>() <= MOST_TIMES
    }

    /// With a space before it, or nothing for all hours.
    fn which_hours(&self) -> String {
        match every(self.hours, 24) {
            Some(1) => return String::new(),
            Some(step) => return format!(" of every {step}th hour"),
            None => {}
        }
        let hours: Vec<u32> = bits(self.hours).collect();
        match run_of(&hours) {
            Some((first, last)) if first == last => {
                format!(" from {first:02}:00 through {last:02}:59")
            }
            Some((first, last)) => format!(" from {first:02}:00 through {last:02}:59"),
            None => {
                let told: Vec<String> = hours.iter().map(|h| format!("{h:02}")).collect();
                format!(" of the hours {}", list(&told))
            }
        }
    }

    fn which_days(&self) -> Option<String> {
        let months = self.which_months();
        let of_months = months.as_deref().unwrap_or("each month");
        let days = self.days.by_month.filter(|d| d.days & ALL_DAYS != ALL_DAYS);
        let week = self.days.by_week.filter(|w| *w != WeekDays::Each(0x7f));
        let told = match (days, week) {
            (None, None) => {
                return match months {
                    Some(months) => Some(format!("every day in {months}")),
                    None => self.is_told_by_times().then(|| "every day".to_owned()),
                };
            }
            (Some(days), None) => format!("on {} of {of_months}", of_month(days)),
            (None, Some(week)) => on_week(week, months.as_deref(), of_months),
            (Some(days), Some(week)) => {
                let join = if self.days.either { "or" } else { "if it is" };
                let week = match week {
                    WeekDays::Each(set) => weekdays(set, true),
                    other => on_week(other, None, of_months),
                };
                format!("on {} of {of_months} {join} {week}", of_month(days))
            }
        };
        Some(told)
    }

    /// None for all of them.
    fn which_months(&self) -> Option<String> {
        let months: Vec<u32> = bits(self.months & 0x1ffe).collect();
        if months.len() == 12 {
            return None;
        }
        let name = |month: &u32| capitalised(Field::Month.long_name(month - 1));
        match run_of(&months) {
            Some((first, last)) if months.len() > 2 => {
                Some(format!("{} through {}", name(&first), name(&last)))
            }
            _ => Some(list(&months.iter().map(name).collect::<Vec<_>>())),
        }
    }

    fn which_years(&self) -> Option<String> {
        let years: Vec<u32> = self.years.iter().map(|y| u32::from(y.unsigned_abs())).collect();
        let last = u32::from(LAST_YEAR.unsigned_abs());
        if years.len() == Years::ALL.iter().count() {
            return None;
        }
        Some(match (run_of(&years), years.as_slice()) {
            (Some((first, end)), _) if end == last => format!("from {first} on"),
            (Some((first, end)), _) if years.len() > 2 => format!("in {first} through {end}"),
            (None, [first, second, ..])
                if years.len() > 3 && years.windows(2).all(|w| w[1] - w[0] == second - first) =>
            {
                let step = second - first;
                let until = if last - years[years.len() - 1] < step {
                    String::new()
                } else {
                    format!(" through {}", years[years.len() - 1])
                };
                format!("every {step} years from {first}{until}")
            }
            _ => format!("in {}", list(&years.iter().map(u32::to_string).collect::<Vec<_>>())),
        })
    }
}

fn of_month(days: MonthDays) -> String {
    let mut told: Vec<String> = Vec::new();
    let numbers: Vec<u32> = bits(days.days & ALL_DAYS).collect();
    match run_of(&numbers) {
        Some((first, last)) if numbers.len() > 2 => {
            told.push(format!("the {} through the {}", ordinal(first), ordinal(last)));
        }
        _ => told.extend(numbers.iter().map(|day| format!("the {}", ordinal(*day)))),
    }
    for back in bits(days.before_last).collect::<Vec<_>>().into_iter().rev() {
        told.push(match back {
            0 => "the last day".to_owned(),
            1 => "the day before the last".to_owned(),
            _ => format!("the day {back} days before the last"),
        });
    }
    told.extend(bits(days.near).map(|day| format!("the weekday nearest to the {}", ordinal(day))));
    for back in bits(days.near_before_last).collect::<Vec<_>>().into_iter().rev() {
        told.push(match back {
            0 => "the last weekday".to_owned(),
            1 => "the weekday nearest to the day before the last".to_owned(),
            _ => format!("the weekday nearest to the day {back} days before the last"),
        });
    }
    if told.is_empty() { "no day".to_owned() } else { list(&told) }
}

fn on_week(week: WeekDays, months: Option<&str>, of_months: &str) -> String {
    match week {
        WeekDays::Each(set) => {
            let days = weekdays(set, true);
            months.map_or_else(|| format!("on {days}"), |months| format!("on {days} in {months}"))
        }
        WeekDays::Last(set) => format!("on the last {} of {of_months}", weekdays(set, false)),
        WeekDays::Nth(set, nth) => {
            let nth = ["first", "second", "third", "fourth", "fifth"][nth as usize - 1];
            format!("on the {nth} {} of {of_months}", weekdays(set, false))
        }
    }
}

/// Names of weekdays, from Sunday as bit 0; a run of them as such if `many`.
fn weekdays(set: u8, many: bool) -> String {
    let name = |day: u32| capitalised(Field::DayOfWeek.long_name(day % 7));
    if set == 0 {
        return "no day".to_owned();
    }
    // Weeks are told from Monday.
    let days: Vec<u32> = (1..=7).filter(|day| set & (1 << (day % 7)) != 0).collect();
    match run_of(&days) {
        Some((first, last)) if many && days.len() > 2 => {
            format!("{} through {}", name(first), name(last))
        }
        _ => list(&days.into_iter().map(name).collect::<Vec<_>>()),
    }
}

/// The step, if the set is each n-th number below `size` from 0 on and n
/// divides it: then nothing is irregular where it begins anew.
fn every(set: u64, size: u32) -> Option<u32> {
    let count = set.count_ones();
    if count == 0 || !size.is_multiple_of(count) || count == 1 {
        return None;
    }
    let step = size / count;
    (0..size).step_by(step as usize).all(|n| set & (1 << n) != 0).then_some(step)
}

/// The ends, if the numbers leave none out between them.
fn run_of(numbers: &[u32]) -> Option<(u32, u32)> {
    let (first, last) = (*numbers.first()?, *numbers.last()?);
    (last - first + 1 == u32::try_from(numbers.len()).unwrap_or(0)).then_some((first, last))
}

/// `minute 5`, `minutes 5 and 10`, `minutes 10 through 20`.
fn numbered(unit: &str, set: u64) -> String {
    let numbers: Vec<u32> = bits(set).collect();
    match (run_of(&numbers), numbers.as_slice()) {
        (_, [one]) => format!("{unit} {one}"),
        (Some((first, last)), _) if numbers.len() > 2 => format!("{unit}s {first} through {last}"),
        _ => format!("{unit}s {}", list(&numbers.iter().map(u32::to_string).collect::<Vec<_>>())),
    }
}

fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

fn capitalised(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let mut letters = lower.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

/// `a, b and c`.
fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CronRule, Spread};
    use super::*;
    use crate::model::trigger::Dialect;

    fn told(text: &str) -> String {
        CronExpr::parse(text).unwrap().describe()
    }

    #[test]
    fn expressions_are_told_in_words() {
        for (text, words) in [
            ("0 0 3 LW * ?", "at 03:00 on the last weekday of each month"),
            ("0 0 3 * * ?", "at 03:00 every day"),
            ("15 30 5 * * ?", "at 05:30:15 every day"),
            (
                "0 0,30 3,15 ? * MON-FRI",
                "at 03:00, 03:30, 15:00 and 15:30 on Monday through Friday",
            ),
            ("* * * * * ?", "every second"),
            ("0/15 * * * * ?", "every 15 seconds"),
            ("0 * * * * ?", "every minute"),
            (
                "0 0/5 9-17 ? * MON-FRI",
                "every 5 minutes from 09:00 through 17:59 on Monday through Friday",
            ),
            ("0 0 * * * ?", "every hour"),
            ("0 15 * * * ?", "at minute 15 of every hour"),
            ("0 0 0/2 1 * ?", "every 2 hours from 00:00 on the 1st of each month"),
            ("0 0 8-18 * * ?", "on the hour from 08:00 through 18:59"),
            ("0 7/20 * * * ?", "at minutes 7, 27 and 47 of every hour"),
            ("0 0 12 1,15 JAN,JUL ?", "at 12:00 on the 1st and the 15th of January and July"),
            ("0 0 12 L-3 * ?", "at 12:00 on the day 3 days before the last of each month"),
            (
                "0 0 12 15W,L JAN-MAR ?",
                "at 12:00 on the last day and the weekday nearest to the 15th of January through March",
            ),
            ("0 0 12 ? * FRI#2", "at 12:00 on the second Friday of each month"),
            ("0 0 12 ? 3 6L", "at 12:00 on the last Friday of March"),
            ("0 0 12 ? * 1,7 2024-2030", "at 12:00 on Saturday and Sunday in 2024 through 2030"),
            ("0 0 12 1 1 ? 2024/4", "at 12:00 on the 1st of January every 4 years from 2024"),
            ("0 0 12 * MAY ? 2030/1", "at 12:00 every day in May from 2030 on"),
            ("L 0 0 * * ?", "never"),
        ] {
            assert_eq!(told(text), words, "{text}");
        }
    }

    #[test]
    fn either_field_for_days_is_told() {
        for (text, words) in [
            ("0 3 1 * MON", "at 03:00 on the 1st of each month or Monday"),
            (
                "0 3 */2 * 1-5",
                "at 03:00 on the 1st, the 3rd, the 5th, the 7th, the 9th, the 11th, the 13th, the 15th, the 17th, the 19th, the 21st, the 23rd, the 25th, the 27th, the 29th and the 31st of each month if it is Monday through Friday",
            ),
            ("@weekly", "at 00:00 on Sunday"),
        ] {
            let CronRule::Clock(cron) =
                CronRule::parse(text, Dialect::Unix, Spread::default()).unwrap()
            else {
                panic!("{text} is no clock");
            };
            assert_eq!(cron.describe(), words, "{text}");
        }
    }
}
