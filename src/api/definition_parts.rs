//! Parts that jobs, triggers and calendars share in their definitions.

use std::collections::BTreeMap;

use horai_core::ids::{GroupPath, Name};
use horai_core::model::job::{JobSpec, MisfirePolicy};
use horai_core::model::limits::RunLimits;
use horai_core::model::params::is_name;
use horai_core::model::selector::Selector;
use horai_core::time::Span;

use crate::error::{ErrorCode, FieldError};

/// A name, or what is wrong with it.
pub(super) fn name(field: &str, text: &str) -> Result<Name, FieldError> {
    Name::new(text).map_err(|_| {
        FieldError::invalid(
            field,
            text,
            "this is not a name",
            "use 1 to 128 of a-z 0-9 . _ - and begin with a letter or digit",
        )
    })
}

/// A folder of jobs.
pub(super) fn group(text: &str) -> Result<GroupPath, FieldError> {
    GroupPath::new(text).map_err(|_| {
        let remedy = "write names with slashes between, such as etl/nightly, 128 bytes in all";
        FieldError::invalid("group", text, "this is not a group", remedy)
    })
}

/// 0 to 9.
pub(super) fn priority(field: &str, given: u8) -> Result<u8, FieldError> {
    if given <= JobSpec::MAX_PRIORITY {
        return Ok(given);
    }
    let problem = "there is no such priority";
    Err(FieldError::invalid(field, given, problem, "write 0 to 9; 9 goes first"))
}

/// A length of time.
pub(super) fn span(field: &str, text: &str) -> Result<Span, FieldError> {
    text.parse().map_err(|_| {
        FieldError::invalid(
            field,
            text,
            "this is not a length of time",
            "write a whole number with ms, s, m, h or d, such as 90s",
        )
    })
}

/// A length of time, or what it is where nothing is said.
pub(super) fn span_or(field: &str, text: Option<&str>, default: Span) -> Result<Span, FieldError> {
    text.map_or(Ok(default), |text| span(field, text))
}

/// A limit of a run, or none where nothing is said.
pub(super) fn run_limit(field: &str, text: Option<&str>) -> Result<Option<Span>, FieldError> {
    let Some(text) = text else { return Ok(None) };
    let limit = span(field, text)?;
    if (RunLimits::MIN..=RunLimits::MAX).contains(&limit) {
        return Ok(Some(limit));
    }
    let remedy = format!("write {} to {}", RunLimits::MIN, RunLimits::MAX);
    Err(FieldError::invalid(field, text, "no run is limited to that", remedy))
}

/// Which workers a job wants, by their labels.
pub(super) fn selector(text: &str) -> Result<Selector, FieldError> {
    Selector::read(text).map_err(|error| {
        let problem = format!("{} (column {})", error.problem, error.column);
        let remedy = "write labels of workers, joined by &&, || and !: zone == \"a\" && ssd";
        FieldError::invalid("workers", text, problem, remedy)
    })
}

/// A list that is not too long.
pub(super) fn at_most(field: &str, count: usize, limit: usize) -> Result<(), FieldError> {
    if count <= limit {
        return Ok(());
    }
    Err(FieldError::invalid(
        field,
        format!("{count} entries"),
        "the list is too long",
        format!("write at most {limit}"),
    )
    .with_code(ErrorCode::TooLarge))
}

/// One of some words, or which there are.
pub(super) fn word<T: Copy>(
    field: &str,
    text: &str,
    words: &[(&'static str, T)],
) -> Result<T, FieldError> {
    let found = words.iter().find(|(known, _)| *known == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
        let remedy = format!("write {}", known.join(" or "));
        FieldError::invalid(field, text, "there is no such word", remedy)
    })
}

/// The word of a value.
pub(super) fn word_of<T: PartialEq>(value: T, words: &[(&'static str, T)]) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| *word)
}

/// What becomes `HORAI_PARAM_*`.
pub(super) fn params(
    field: &str,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, FieldError> {
    if given.len() > JobSpec::MAX_PARAMS {
        let remedy = format!("write at most {}", JobSpec::MAX_PARAMS);
        let count = format!("{} entries", given.len());
        return Err(FieldError::invalid(field, count, "there are too many", remedy)
            .with_code(ErrorCode::TooLarge));
    }
    for (name, value) in given {
        let at = format!("{field}.{name}");
        if !is_name(name) {
            let problem = "this cannot be the name of a parameter";
            let remedy = "use up to 64 letters, digits and _, and begin with none of the digits; \
                          an area may stand before it, as in EU.bucket";
            return Err(FieldError::invalid(at, value, problem, remedy));
        }
        if value.len() > JobSpec::MAX_PARAM {
            let remedy = format!("write at most {} bytes", JobSpec::MAX_PARAM);
            let problem = "the value is too long";
            return Err(FieldError::invalid(at, format!("{} bytes", value.len()), problem, remedy)
                .with_code(ErrorCode::TooLarge));
        }
        if value.contains('\0') {
            let problem = "an environment cannot hold this";
            return Err(FieldError::invalid(at, value, problem, "leave the zero byte out"));
        }
    }
    Ok(given.clone())
}

/// The words of misfire policies; the first is the default.
const POLICIES: [(&str, MisfirePolicy); 3] = [
    ("fire_all", MisfirePolicy::FireAll),
    ("fire_now", MisfirePolicy::FireNow),
    ("skip", MisfirePolicy::Skip),
];

/// What Quartz calls what happens after a misfire, the nearest policy, and what
/// is different about it.
const INSTRUCTIONS: [(&str, MisfirePolicy, &str); 8] = [
    ("IGNORE_MISFIRE_POLICY", MisfirePolicy::FireAll, "within 24 hours and 1,000 instants"),
    ("FIRE_ONCE_NOW", MisfirePolicy::FireNow, "under the nominal time of the latest missed one"),
    ("DO_NOTHING", MisfirePolicy::Skip, "and what is left out is recorded"),
    ("FIRE_NOW", MisfirePolicy::FireNow, "under the nominal time of the latest missed one"),
    ("RESCHEDULE_NOW_WITH_EXISTING_REPEAT_COUNT", MisfirePolicy::FireNow, KEEPS),
    ("RESCHEDULE_NOW_WITH_REMAINING_REPEAT_COUNT", MisfirePolicy::FireNow, KEEPS),
    ("RESCHEDULE_NEXT_WITH_REMAINING_COUNT", MisfirePolicy::Skip, KEEPS),
    ("RESCHEDULE_NEXT_WITH_EXISTING_COUNT", MisfirePolicy::Skip, KEEPS),
];
const KEEPS: &str = "and start and count of the trigger stay as they are";
const PREFIX: &str = "MISFIRE_INSTRUCTION_";

/// A misfire policy, by its own word or by Quartz's. `goes_on` is true of a rate
/// that never ends: Quartz's smart policy leaves out what such a one missed.
pub(super) fn misfire(
    field: &str,
    text: Option<&str>,
    goes_on: bool,
) -> Result<(MisfirePolicy, Option<String>), FieldError> {
    let Some(text) = text else { return Ok((POLICIES[0].1, None)) };
    if let Some((_, policy)) = POLICIES.iter().find(|(word, _)| *word == text) {
        return Ok((*policy, None));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix(PREFIX).unwrap_or(&upper);
    let name = match (name, goes_on) {
        ("SMART_POLICY", true) => "RESCHEDULE_NEXT_WITH_REMAINING_COUNT",
        ("SMART_POLICY", false) => "FIRE_ONCE_NOW",
        (name, _) => name,
    };
    let Some((_, policy, difference)) = INSTRUCTIONS.iter().find(|(known, ..)| *known == name)
    else {
        return Err(FieldError::invalid(
            field,
            text,
            "there is no such word",
            "write fire_all or fire_now or skip, or the name of one of Quartz's misfire \
             instructions, such as DO_NOTHING",
        ));
    };
    let word = misfire_word(*policy);
    let notice = format!(
        "{field}: {text} is taken as {word}, {difference}; horai trigger simulate tells Quartz's \
         exact results"
    );
    Ok((*policy, Some(notice)))
}

/// The word of a policy.
pub(super) fn misfire_word(policy: MisfirePolicy) -> &'static str {
    POLICIES.iter().find(|(_, known)| *known == policy).map_or("", |(word, _)| *word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartz_names_mean_the_nearest_policy_and_say_so() {
        let read = |text: &str, goes_on| misfire("t.misfire", Some(text), goes_on).unwrap();
        assert_eq!(misfire("t", None, true).unwrap(), (MisfirePolicy::FireAll, None));
        assert_eq!(read("skip", false), (MisfirePolicy::Skip, None));
        for (text, goes_on, policy) in [
            ("DO_NOTHING", false, MisfirePolicy::Skip),
            ("misfire_instruction_fire_once_now", false, MisfirePolicy::FireNow),
            ("MISFIRE_INSTRUCTION_IGNORE_MISFIRE_POLICY", true, MisfirePolicy::FireAll),
            ("RESCHEDULE_NEXT_WITH_EXISTING_COUNT", true, MisfirePolicy::Skip),
            ("RESCHEDULE_NOW_WITH_REMAINING_REPEAT_COUNT", true, MisfirePolicy::FireNow),
            ("SMART_POLICY", true, MisfirePolicy::Skip),
            ("SMART_POLICY", false, MisfirePolicy::FireNow),
        ] {
            let (found, notice) = read(text, goes_on);
            let notice = notice.unwrap();
            let told = format!("t.misfire: {text} is taken as {},", misfire_word(policy));
            assert_eq!(found, policy, "{text}");
            assert!(notice.starts_with(&told), "{notice}");
        }
        for bad in ["", "never", "MISFIRE_INSTRUCTION_", "MISFIRE_INSTRUCTION_skip"] {
            let error = misfire("t.misfire", Some(bad), false).unwrap_err();
            assert!(error.remedy.contains("fire_now"), "{bad}: {error:?}");
        }
    }

    #[test]
    fn parameters_are_what_a_shell_can_name() {
        let map = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        for name in ["DAY", "_x1", "camelCase", "EU.DAY", "us-1.x"] {
            assert_eq!(params("params", &map(name, "v")).unwrap(), map(name, "v"));
        }
        let bad = [("", "v"), ("1a", "v"), ("a-b", "v"), ("EU.", "v"), ("a", "\0"), ("ä", "v")];
        for (name, value) in bad {
            let error = params("params", &map(name, value)).unwrap_err();
            assert_eq!(error.field, format!("params.{name}"));
        }
        let long = map("a", &"x".repeat(JobSpec::MAX_PARAM + 1));
        assert_eq!(params("params", &long).unwrap_err().code, ErrorCode::TooLarge);
    }
}
