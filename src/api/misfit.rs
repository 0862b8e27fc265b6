//! Values that have not the form of their field, as a reader of JSON, YAML or TOML tells
//! it, in the words of whoever wrote them: what is expected, and what to write.

use horai_core::model::job::JobSpec;
use horai_core::near;

use crate::error::ErrorCode;

/// Fields that an unknown one is told of; of more only those that look like it.
const FEW: usize = 8;

/// What is wrong with a value, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    pub(crate) code: ErrorCode,
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

/// What a reader's error means. `field` is the path of the value, `value` what stands there.
pub(crate) fn misfit(text: &str, field: &str, value: &str) -> Misfit {
    let text = text.rsplit_once(" at line").map_or(text, |(text, _)| text);
    if let Some(rest) = text.strip_prefix("unknown field ") {
        return unknown(rest);
    }
    if let Some(missing) = text.strip_prefix("missing field ") {
        let missing = missing.trim_matches('`');
        return Misfit {
            code: ErrorCode::InvalidValue,
            problem: format!("the field {missing} is missing"),
            remedy: format!("write {missing}, too"),
        };
    }
    let wanted = text.rsplit_once("expected ").map(|(_, wanted)| wanted);
    let wanted = wanted.or_else(|| text.strip_prefix("invalid ")).unwrap_or(text);
    let (problem, remedy) = match wanted.split([' ', ',']).next().unwrap_or_default() {
        "u8" | "u16" | "u32" | "u64" | "usize" => number(value),
        "i8" | "i16" | "i32" | "i64" => ("no such number can stand here", WHOLE),
        "a" if wanted.starts_with("a boolean") => BOOLEAN,
        "boolean" => BOOLEAN,
        "a" if wanted.starts_with("a string") => ("a text is expected", "write a text, in quotes"),
        "string" => ("a text is expected", "write a text, in quotes"),
        "a" if wanted.starts_with("a sequence") => {
            ("a list is expected", "write a list, such as [a, b]")
        }
        "a" if wanted.starts_with("a map") => {
            ("a map is expected", "write a map of names to values")
        }
        "struct" => ("a map is expected", "write a map of fields"),
        _ => (text, "give a value of the form that the field has"),
    };
    Misfit {
        code: ErrorCode::InvalidValue,
        problem: problem.to_owned(),
        remedy: match known_range(field) {
            Some(range) if !remedy.starts_with("write a text") => range,
            _ => remedy.to_owned(),
        },
    }
}

const WHOLE: &str = "write a whole number";
const BOOLEAN: (&str, &str) = ("true or false is expected", "write true or false");

fn number(value: &str) -> (&'static str, &'static str) {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let problem = match value.strip_prefix('-') {
        Some(rest) if is_digits(rest) => "the number is negative",
        _ if is_digits(value) => "the number is too large",
        _ => "a whole number is expected",
    };
    (problem, if problem.ends_with("large") { "write a smaller number" } else { WHOLE })
}

/// What may stand in a field of numbers that is narrower than the form says.
fn known_range(field: &str) -> Option<String> {
    match field.rsplit_once('.').map_or(field, |(_, last)| last) {
        "priority" => Some(format!("write 0 to {}; 9 goes first", JobSpec::MAX_PRIORITY)),
        "count" if field.ends_with("retries.count") => {
            Some(format!("write 0 to {}", JobSpec::MAX_RETRIES))
        }
        "legacy_id" => Some(format!("write 1 to {}, or leave it out", JobSpec::MAX_LEGACY_ID)),
        _ => None,
    }
}

/// `` `corn`, expected one of `cron`, `dialect` ``: the fields that look like it.
fn unknown(rest: &str) -> Misfit {
    let (wrong, known) = rest.split_once(", expected ").unwrap_or((rest, ""));
    let wrong = wrong.split_once(',').map_or(wrong, |(wrong, _)| wrong);
    let known = known.strip_prefix("one of ").unwrap_or(known);
    let known = known.split([',', ' ']).map(|word| word.trim_matches('`'));
    let known: Vec<&str> = known.filter(|word| !word.is_empty() && *word != "or").collect();
    let near = near::near(wrong.trim_matches('`'), known.iter().copied());
    let remedy = match near::hint(&near) {
        Some(hint) => hint,
        None if (1..=FEW).contains(&known.len()) => {
            format!("leave it out, or use {}", known.join(" or "))
        }
        None => "leave it out, or correct its name".to_owned(),
    };
    let problem = "there is no such field".to_owned();
    Misfit { code: ErrorCode::UnknownField, problem, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_errors_are_told_in_words_of_the_writer() {
        let all =
            "`name`, `retries`, `triggers`, `zone`, `group`, `params`, `env`, `areas`, `lease`";
        let unknown = |wrong: &str| format!("unknown field `{wrong}`, expected one of {all}");
        for (text, field, value, problem, remedy) in [
            (
                "invalid value: integer `-1`, expected u32 at line 1 column 9",
                "jobs[0].retries.count",
                "-1",
                "the number is negative",
                "write 0 to 100",
            ),
            ("invalid u32", "slots", "-1", "the number is negative", "write a whole number"),
            (
                "invalid value: integer `700`, expected u8",
                "priority",
                "700",
                "the number is too large",
                "write 0 to 9; 9 goes first",
            ),
            (
                "invalid value: integer `70000000000`, expected u32",
                "slots",
                "70000000000",
                "the number is too large",
                "write a smaller number",
            ),
            (
                "invalid type: string \"x\", expected u32",
                "slots",
                "x",
                "a whole number is expected",
                "write a whole number",
            ),
            (
                "invalid type: string \"yes\", expected a boolean",
                "noop",
                "yes",
                "true or false is expected",
                "write true or false",
            ),
            (
                "invalid boolean (true or false expected)",
                "noop",
                "yes",
                "true or false is expected",
                "write true or false",
            ),
            (
                "invalid type: integer `5`, expected a string",
                "timeout",
                "5",
                "a text is expected",
                "write a text, in quotes",
            ),
            ("missing field `name`", "jobs[0]", "", "the field name is missing", "write name, too"),
            (
                &unknown("retris"),
                "jobs[0].retris",
                "x",
                "there is no such field",
                "did you mean retries?",
            ),
            (
                &unknown("colour"),
                "colour",
                "x",
                "there is no such field",
                "leave it out, or correct its name",
            ),
            (
                "unknown field `x`, expected `slots` or `description`",
                "x",
                "1",
                "there is no such field",
                "leave it out, or use slots or description",
            ),
            (
                "unknown field `x`, there are no fields",
                "x",
                "1",
                "there is no such field",
                "leave it out, or correct its name",
            ),
        ] {
            let told = misfit(text, field, value);
            assert_eq!((told.problem.as_str(), told.remedy.as_str()), (problem, remedy), "{text}");
        }
    }
}
