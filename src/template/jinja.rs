//! Rendering Jinja texts: the values that the engine sees, and variables, whose values
//! are texts of their own.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value};

use super::context::{Context, Used};
use super::engine::{self, Allowance};
use super::error::{Fault, TemplateError, shown};
use super::names::{Key, is_value, key};
use super::scan::{Tag, has_tags, tags};
use super::times::Time;
use super::{MAX_SIZE, Rendered};

/// Variables that name variables, in one another.
const MAX_DEPTH: usize = 16;

/// Puts the values into the text.
pub(super) fn render<'t>(
    text: &'t str,
    context: &Arc<Context>,
) -> Result<Rendered<'t>, TemplateError> {
    if !has_tags(text) {
        return Ok(Rendered { text: Cow::Borrowed(text), secrets: Vec::new() });
    }
    let mut rendering = Rendering {
        context: Arc::clone(context),
        used: Used::default(),
        allowed: Allowance::default(),
        variables: BTreeMap::new(),
        open: Vec::new(),
    };
    let text = rendering.text(text)?;
    Ok(Rendered { text: Cow::Owned(text), secrets: rendering.used.secrets(context) })
}

struct Rendering {
    context: Arc<Context>,
    used: Used,
    allowed: Allowance,
    /// Variables that are rendered.
    variables: BTreeMap<String, String>,
    /// Variables that are being rendered, the outermost first.
    open: Vec<String>,
}

impl Rendering {
    fn text(&mut self, text: &str) -> Result<String, TemplateError> {
        let tags = tags(text)?;
        for (name, at) in self.variables_of(&tags) {
            self.variable(&name).map_err(|refused| refused.at(text, at, &name))?;
        }
        let values = self.values();
        let used = self.used.clone();
        engine::render(text, &tags, values, &mut self.allowed, || used.is_empty())
    }

    /// The variables that a text can read, each with a place where it is named.
    fn variables_of(&self, tags: &[Tag<'_>]) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for tag in tags {
            for (number, placed) in tag.words.iter().enumerate() {
                if tag.name(number) != Some("vars") || !is_value(tag, number) {
                    continue;
                }
                match key(tag, number) {
                    Key::Known(name, _) => {
                        found.entry(name.to_owned()).or_insert(placed.at);
                    }
                    Key::Computed | Key::Whole => {
                        for name in self.context.variables() {
                            found.entry(name.to_owned()).or_insert(placed.at);
                        }
                    }
                }
            }
        }
        found
    }

    /// Renders a variable, if there is one of that name.
    fn variable(&mut self, name: &str) -> Result<(), Refused> {
        if self.variables.contains_key(name) {
            return Ok(());
        }
        let context = Arc::clone(&self.context);
        let Some(value) = context.variable(name) else { return Ok(()) };
        if self.open.iter().any(|open| open == name) || self.open.len() >= MAX_DEPTH {
            let begin = self.open.iter().position(|open| open == name).unwrap_or(0);
            return Err(Refused::Loop([&self.open[begin..], &[name.to_owned()]].concat()));
        }
        self.open.push(name.to_owned());
        let rendered = if has_tags(value) { self.text(value) } else { Ok(value.to_owned()) };
        self.open.pop();
        let rendered = rendered.map_err(Refused::Within)?;
        if self.variables.values().map(String::len).sum::<usize>() + rendered.len() > MAX_SIZE {
            return Err(Refused::TooLarge);
        }
        self.variables.insert(name.to_owned(), rendered);
        Ok(())
    }

    fn values(&self) -> Value {
        let context = &self.context;
        let time =
            |at| context.local(at).map_or(Value::UNDEFINED, |time| Value::from_object(Time(time)));
        let section = |section| {
            let (context, used) = (Arc::clone(context), self.used.clone());
            Value::from_object(Values { context, used, section })
        };
        let values: BTreeMap<&'static str, Value> = [
            ("nominal", time(context.nominal)),
            ("due", time(context.due)),
            ("job", Value::from(context.job.to_string())),
            ("action", Value::from(format!("{}@{}", context.job, context.nominal.compact()))),
            ("run", Value::from(format!("r-{}", context.attempt.run))),
            ("attempt", section(Section::Attempt)),
            ("batch", Value::from(context.batch.as_str())),
            ("params", section(Section::Params)),
            ("vars", Value::from_object(self.variables.clone())),
            ("outputs", section(Section::Outputs)),
            ("state", section(Section::State)),
            ("secrets", section(Section::Secrets)),
        ]
        .into();
        Value::from_object(values)
    }
}

/// Why a variable has no value.
enum Refused {
    Loop(Vec<String>),
    TooLarge,
    Within(TemplateError),
}

impl Refused {
    fn at(self, text: &str, at: usize, name: &str) -> TemplateError {
        match self {
            Self::Loop(names) => circle(text, at, &names),
            Self::TooLarge => {
                let remedy = format!("all variables of a text may be {MAX_SIZE} bytes long");
                let message = "the variables are too long";
                TemplateError::at(text, at, Fault::TooLarge, message, remedy)
            }
            Self::Within(error) => error.within(name, text, at),
        }
    }
}

/// Variables that refer to each other, or too many in one another.
pub(super) fn circle(text: &str, at: usize, names: &[String]) -> TemplateError {
    let path: Vec<String> = names.iter().map(|name| shown(name)).collect();
    let message = if names.first() == names.last() {
        format!("variables refer to each other in a circle: {}", path.join(" -> "))
    } else {
        format!("variables refer to each other too deep: {}", path.join(" -> "))
    };
    let remedy = "let one of them name none of the others";
    TemplateError::at(text, at, Fault::Loop, message, remedy)
}

/// Values of the context by name, without copies of them.
struct Values {
    context: Arc<Context>,
    used: Used,
    section: Section,
}

/// Which values.
enum Section {
    Attempt,
    Params,
    Outputs,
    /// Of one job.
    Output(String),
    State,
    Secrets,
}

impl Object for Values {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match self.section {
            Section::Attempt | Section::Secrets => ObjectRepr::Plain,
            Section::Params | Section::Outputs | Section::Output(_) | Section::State => {
                ObjectRepr::Map
            }
        }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let (key, context) = (key.as_str()?, &self.context);
        let text = |values: &BTreeMap<String, String>| Some(Value::from(values.get(key)?.as_str()));
        match &self.section {
            Section::Attempt => (key == "number").then(|| Value::from(context.attempt.number)),
            Section::Params => Some(Value::from(context.param(key)?)),
            Section::State => text(&context.state),
            Section::Outputs => context.outputs.contains_key(key).then(|| {
                let section = Section::Output(key.to_owned());
                let (context, used) = (Arc::clone(context), self.used.clone());
                Value::from_object(Self { context, used, section })
            }),
            Section::Output(job) => text(context.outputs.get(job)?),
            Section::Secrets => Some(Value::from(self.used.read(context, key)?.expose())),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let names = |values: &BTreeMap<String, String>| {
            Enumerator::Values(values.keys().map(|name| Value::from(name.as_str())).collect())
        };
        match &self.section {
            Section::Attempt | Section::Secrets => Enumerator::NonEnumerable,
            Section::Params => {
                let names = self.context.all_params().into_keys();
                Enumerator::Values(names.map(Value::from).collect())
            }
            Section::State => names(&self.context.state),
            Section::Outputs => {
                let jobs = self.context.outputs.keys();
                Enumerator::Values(jobs.map(|name| Value::from(name.as_str())).collect())
            }
            Section::Output(job) => self.context.outputs.get(job).map_or(Enumerator::Empty, names),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.section {
            Section::Attempt => fmt::Display::fmt(&self.context.attempt, f),
            Section::Secrets => f.write_str("(secrets)"),
            Section::Params => f.debug_map().entries(self.context.all_params()).finish(),
            Section::State => f.debug_map().entries(&self.context.state).finish(),
            Section::Outputs => f.debug_map().entries(&self.context.outputs).finish(),
            Section::Output(job) => {
                f.debug_map().entries(self.context.outputs.get(job).into_iter().flatten()).finish()
            }
        }
    }
}

/// Without values.
impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Values")
    }
}
