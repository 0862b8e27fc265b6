//! What is wrong with an expression, where, and what would be right.

use std::fmt;

use super::field::Field;
use crate::model::trigger::Dialect;

/// Why a text is not a cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.told())]
pub struct CronError {
    /// The expression, on one line.
    pub text: String,
    /// The grammar it was read by.
    pub dialect: Dialect,
    /// The part at fault; none if it is the whole.
    pub place: Option<Box<Place>>,
    /// What is wrong with it.
    pub fault: Fault,
}

/// Where in a text something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The field.
    pub field: Field,
    /// What stands there: one item of the field's list, or all of it.
    pub value: String,
    /// Where it begins, counted from 1 in characters.
    pub column: usize,
}

impl Place {
    /// The same with the value as it stands in `text`, in whatever case.
    pub(super) fn written_in(self, text: &str) -> Self {
        let length = self.value.chars().count();
        Self { value: text.chars().skip(self.column - 1).take(length).collect(), ..self }
    }
}

/// The kinds of mistakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Longer than any sensible expression; its length in bytes.
    TooLong(usize),
    /// Not as many fields as the dialect has; how many were found.
    FieldCount(usize),
    /// Neither number nor name nor anything else of the grammar.
    NotUnderstood,
    /// A number outside of the field.
    OutOfRange,
    /// A step longer than the field.
    LongStep,
    /// Nothing behind the stroke.
    NoStep,
    /// A range of years whose end lies before its start.
    Backwards,
    /// A name that is none of the field's.
    UnknownName,
    /// A sign that means nothing in this field.
    NotHere(char),
    /// Something else beside a question mark.
    QuestionMark,
    /// Behind `#` stands no 1 to 5.
    Nth,
    /// Behind `L-` stands no 0 to 30.
    Offset,
    /// `L` in a list of weekdays.
    LastInList,
    /// `#` twice in one list.
    SecondNth,
    /// Day of month and day of week both given, or neither.
    Days {
        /// The field for days of the month.
        day_of_month: String,
        /// The field for days of the week.
        day_of_week: String,
    },
    /// An `@` word that there is not.
    Macro,
    /// `@every` without a length of time that can be used.
    Every,
    /// Quartz accepts the text, but part of it has no effect.
    Idle(Idle),
    /// It can be read, and no day of any year is as it says.
    NoDay,
}

/// A part of an expression that Quartz accepts and that does not do what it
/// seems to say. A definition with one is refused, because a schedule that
/// differs from its text is found out too late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Where.
    pub place: Place,
    /// What becomes of it.
    pub idle: Idle,
}

/// What becomes of a part that does not do what it seems to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Idle {
    /// The rest of an item is not read.
    Rest {
        /// What is read.
        read: String,
        /// What is not.
        rest: String,
    },
    /// Nothing matches it.
    Nothing,
    /// Of a list with `#` only the first weekday counts.
    OneOfList {
        /// What is read.
        read: String,
    },
    /// A question mark in a list: the others do not count.
    Question,
    /// A step of zero or less.
    Step {
        /// What is read.
        read: String,
    },
}

impl Idle {
    fn told(&self) -> String {
        match self {
            Self::Rest { read, rest } => {
                format!(
                    "only {read:?} is read, {rest:?} has no effect; leave it out or write what is meant"
                )
            }
            Self::Nothing => "matches nothing here, so the trigger never fires".to_owned(),
            Self::OneOfList { read } => {
                format!("only {read} is read; give each weekday a trigger of its own")
            }
            Self::Question => "with ? in it the rest of the list has no effect".to_owned(),
            Self::Step { read } => format!("a step must be at least 1; this is read as {read}"),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { field, value, column } = &self.place;
        write!(f, "{field} {value:?} (at column {column}): {}", self.idle.told())
    }
}

impl CronError {
    fn told(&self) -> String {
        let problem = self.problem();
        match self.place.as_deref() {
            Some(Place { field, value, column }) => {
                format!("{field} {value:?} (at column {column}) {problem}")
            }
            None => problem,
        }
    }

    /// What may stand in the field at fault.
    fn expected(&self) -> &'static str {
        match (&self.place, self.dialect) {
            (Some(place), Dialect::Quartz) => place.field.expected(),
            (Some(place), Dialect::Unix) => place.field.expected_unix(),
            (None, _) => "",
        }
    }

    fn problem(&self) -> String {
        let expected = self.expected();
        match &self.fault {
            Fault::TooLong(length) => format!(
                "the cron expression has {length} bytes: at most {} are read",
                super::CronExpr::MAX_LEN
            ),
            Fault::FieldCount(found) => self.field_count(*found),
            Fault::NotUnderstood => format!(
                "is not understood: expected {expected}, alone, in lists (1,5), ranges (1-5) or \
                 steps (0/15)"
            ),
            Fault::OutOfRange => format!("is out of range: expected {expected}"),
            Fault::LongStep => {
                let longest = self.place.as_ref().map_or(0, |place| place.field.longest_step());
                format!("has a step longer than the field: expected / and 1 to {longest}")
            }
            Fault::NoStep => "ends with /: write the step behind it, such as 0/15".to_owned(),
            Fault::Backwards => "runs backwards: write the earlier year first".to_owned(),
            Fault::UnknownName => format!("is no name: expected {expected}"),
            Fault::NotHere(sign) => self.not_here(*sign, expected),
            Fault::QuestionMark => "has more than ?: write ? alone".to_owned(),
            Fault::Nth => "needs a number from 1 to 5 behind #, such as MON#2".to_owned(),
            Fault::Offset => "needs a number from 0 to 30 behind L-, such as L-3".to_owned(),
            Fault::LastInList => {
                "has L in a list: write one weekday, such as 6L, and a trigger for each other"
                    .to_owned()
            }
            Fault::SecondNth => {
                "has # twice: write one weekday, such as 6#3, and a trigger for each other"
                    .to_owned()
            }
            Fault::Days { day_of_month, day_of_week } => {
                let [month, week] = self.day_columns();
                format!(
                    "day of month {day_of_month:?} (at column {month}) and day of week \
                     {day_of_week:?} (at column {week}): exactly one of the two must be ?, such \
                     as 0 0 3 * * ? or 0 0 3 ? * MON"
                )
            }
            Fault::NoDay => format!(
                "{:?} never fires: no year has such a day; change days, months or years so that \
                 they meet",
                self.text
            ),
            Fault::Macro => format!(
                "{:?} is not known: expected @yearly, @monthly, @weekly, @daily, @hourly or \
                 @every with a length of time",
                self.text
            ),
            Fault::Every => format!(
                "{:?} has no length of time that can be used: expected whole seconds, at least \
                 one, such as @every 90s",
                self.text
            ),
            Fault::Idle(idle) => idle.told(),
        }
    }

    fn field_count(&self, found: usize) -> String {
        let text = &self.text;
        match self.dialect {
            Dialect::Quartz => {
                let unix = if found == 5 || text.starts_with('@') {
                    "; crontab's form is read with the dialect unix"
                } else {
                    ""
                };
                format!(
                    "{text:?} has {found} fields: write 6 or 7 (seconds minutes hours \
                     day-of-month month day-of-week, then perhaps year), such as 0 30 5 * * ?{unix}"
                )
            }
            Dialect::Unix => {
                let quartz = if matches!(found, 6 | 7) {
                    "; the form with seconds is read with the dialect quartz"
                } else {
                    ""
                };
                format!(
                    "{text:?} has {found} fields: write 5 (minutes hours day-of-month month \
                     day-of-week), such as 30 5 * * *{quartz}"
                )
            }
        }
    }

    fn not_here(&self, sign: char, expected: &str) -> String {
        match (self.dialect, sign) {
            (Dialect::Unix, '?' | 'L' | 'W' | '#') => format!(
                "has {sign}, which is Quartz's: use the dialect quartz, or {expected} with *"
            ),
            (Dialect::Quartz, 'H') => {
                format!("has H, which the dialect unix has: expected {expected}")
            }
            (_, sign) => format!("has {sign}, which means nothing here: expected {expected}"),
        }
    }

    /// Where the fields for days of the month and of the week begin, counted from 1.
    fn day_columns(&self) -> [usize; 2] {
        [3, 5].map(|nth| {
            let before = self.text.split(' ').take(nth);
            before.map(|field| field.chars().count() + 1).sum::<usize>() + 1
        })
    }

    /// The expression with a mark under the part at fault, on two lines.
    #[must_use]
    pub fn caret(&self) -> Option<String> {
        let marked = match (&self.place, &self.fault) {
            (Some(place), _) => vec![(place.column, place.value.as_str())],
            (None, Fault::Days { day_of_month, day_of_week }) => {
                self.day_columns().into_iter().zip([&**day_of_month, day_of_week]).collect()
            }
            (None, Fault::TooLong(_)) => return None,
            (None, _) => vec![(1, self.text.as_str())],
        };
        let mut line = String::new();
        for (column, value) in marked {
            line.extend(std::iter::repeat_n(' ', (column - 1).saturating_sub(line.len())));
            line.extend(std::iter::repeat_n('^', value.chars().count().max(1)));
        }
        Some(format!("{}\n{line}", self.text))
    }
}
