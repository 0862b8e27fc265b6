//! Patterns of dates in the letters that Java's `SimpleDateFormat` has, in English.

use horai_core::timing::local::LocalTime;

/// The longest pattern, in bytes.
pub(super) const MAX_PATTERN: usize = 200;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// What is wrong with a pattern, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PatternError {
    pub(super) message: String,
    pub(super) remedy: String,
}

impl PatternError {
    fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }
}

/// By `strftime` if there is a `%`, else by Java's letters.
pub(super) fn format(time: &LocalTime, pattern: &str) -> Result<String, PatternError> {
    if pattern.len() > MAX_PATTERN {
        let remedy = format!("write at most {MAX_PATTERN} bytes");
        return Err(PatternError::new("the pattern is too long", remedy));
    }
    if pattern.contains('%') {
        return time.strftime(pattern).map_err(|why| {
            let message = format!("`{pattern}` is not a pattern of strftime: {why}");
            PatternError::new(message, "write one such as %Y-%m-%d %H:%M:%S")
        });
    }
    java(time, pattern)
}

/// By Java's letters alone.
pub(super) fn java(time: &LocalTime, pattern: &str) -> Result<String, PatternError> {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            let (text, after) = quoted(&rest[1..])?;
            out.push_str(&text);
            rest = after;
            continue;
        }
        let count = rest.chars().take_while(|c| *c == first).count();
        if first.is_ascii_alphabetic() {
            letters(time, first, count, &mut out)?;
        } else {
            out.extend(std::iter::repeat_n(first, count));
        }
        rest = &rest[count * first.len_utf8()..];
    }
    Ok(out)
}

/// A text up to the next quote, and what follows it; two quotes are one.
fn quoted(rest: &str) -> Result<(String, &str), PatternError> {
    if let Some(after) = rest.strip_prefix('\'') {
        return Ok(("'".to_owned(), after));
    }
    let mut text = String::new();
    let mut rest = rest;
    loop {
        let Some((before, after)) = rest.split_once('\'') else {
            return Err(PatternError::new(
                "a quote of the pattern is not closed",
                "write '' for '",
            ));
        };
        text.push_str(before);
        match after.strip_prefix('\'') {
            Some(more) => {
                text.push('\'');
                rest = more;
            }
            None => return Ok((text, after)),
        }
    }
}

/// One letter, written `count` times.
fn letters(
    time: &LocalTime,
    letter: char,
    count: usize,
    out: &mut String,
) -> Result<(), PatternError> {
    let named = |names: &[&str], number: i64, whole: bool| {
        let name = usize::try_from(number - 1).ok().and_then(|at| names.get(at).copied());
        let name = name.unwrap_or_default();
        if whole { name.to_owned() } else { name.chars().take(3).collect() }
    };
    let number = |value: i64| format!("{value:0count$}");
    let half = |hour: i64| hour % 12;
    out.push_str(&match letter {
        'y' if count == 2 => format!("{:02}", time.year().rem_euclid(100)),
        'y' => number(time.year()),
        'M' | 'L' if count > 2 => named(&MONTHS, time.month(), count > 3),
        'M' | 'L' => number(time.month()),
        'd' => number(time.day()),
        'D' => number(time.day_of_year()),
        'E' => named(&WEEKDAYS, time.weekday(), count > 3),
        'u' => number(time.weekday()),
        'a' => (if time.hour() < 12 { "AM" } else { "PM" }).to_owned(),
        'H' => number(time.hour()),
        'k' => number(if time.hour() == 0 { 24 } else { time.hour() }),
        'K' => number(half(time.hour())),
        'h' => number(if half(time.hour()) == 0 { 12 } else { half(time.hour()) }),
        'm' => number(time.minute()),
        's' => number(time.second()),
        'S' => number(time.millisecond()),
        'z' => time.strftime("%Z").unwrap_or_default(),
        'Z' => offset(time, 2),
        'X' if time.offset_seconds() == 0 => "Z".to_owned(),
        'X' => offset(time, count),
        'Y' => {
            let message = format!("{} is the year of the week", "Y".repeat(count.min(4)));
            return Err(PatternError::new(message, "write yyyy for the year of the date"));
        }
        _ => {
            let message = format!("a pattern has no letter {letter}");
            let remedy = "write of y M d H h m s S E a D u k K z Z X, or in quotes as 'T'";
            return Err(PatternError::new(message, remedy));
        }
    });
    Ok(())
}

/// How far the clock is ahead of UTC: hours, and minutes with or without a colon.
fn offset(time: &LocalTime, form: usize) -> String {
    let seconds = time.offset_seconds();
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
    match form {
        1 => format!("{sign}{hours:02}"),
        2 => format!("{sign}{hours:02}{minutes:02}"),
        _ => format!("{sign}{hours:02}:{minutes:02}"),
    }
}

#[cfg(test)]
mod tests {
    use horai_core::time::UtcMillis;
    use horai_core::timing::zone::Zone;

    use super::*;

    fn time(zone: &str, at: i64) -> LocalTime {
        LocalTime::new(&Zone::parse(zone).unwrap(), UtcMillis(at)).unwrap()
    }

    #[test]
    fn patterns_of_both_kinds() {
        // 2024-03-15T03:07:09.045 in Shanghai.
        let time = time("Asia/Shanghai", 1_710_443_229_045);
        for (pattern, wanted) in [
            ("yyyy-MM-dd HH:mm:ss.SSS", "2024-03-15 03:07:09.045"),
            ("yyyyMMdd", "20240315"),
            ("yy/M/d H:m:s S", "24/3/15 3:7:9 45"),
            ("EEE EEEE MMM MMMM a h hh k K u D DDD", "Fri Friday Mar March AM 3 03 3 3 5 75 075"),
            ("yyyy-MM-dd'T'HH:mmXXX", "2024-03-15T03:07+08:00"),
            ("X XX Z z", "+08 +0800 +0800 CST"),
            ("'it''s' ''yy''", "it's '24'"),
            ("yyyy年MM月", "2024年03月"),
            ("", ""),
            ("%Y-%m-%d %H:%M", "2024-03-15 03:07"),
            ("%j %%", "075 %"),
        ] {
            assert_eq!(format(&time, pattern).unwrap(), wanted, "{pattern}");
        }
        let utc = super::tests::time("UTC", 0);
        assert_eq!(format(&utc, "kk hh KK aXXX").unwrap(), "24 12 00 AMZ");
        assert_eq!(format(&super::tests::time("America/St_Johns", 0), "XXX").unwrap(), "-03:30");
    }

    #[test]
    fn wrong_patterns_say_what_to_write() {
        let time = time("UTC", 0);
        for (pattern, message) in [
            ("YYYY-MM-dd", "YYYY is the year of the week"),
            ("yyyy-MM-ddTHH", "a pattern has no letter T"),
            ("'abc", "a quote of the pattern is not closed"),
            ("%Y-%!", "`%Y-%!` is not a pattern of strftime"),
            (&"y".repeat(201), "the pattern is too long"),
        ] {
            let error = format(&time, pattern).unwrap_err();
            assert!(error.message.starts_with(message), "{error:?}");
        }
    }
}
