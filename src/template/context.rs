//! The values that a text may name, for one attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use horai_core::ids::{AttemptKey, Name};
use horai_core::time::UtcMillis;
use horai_core::timing::local::LocalTime;
use horai_core::timing::zone::Zone;

/// A value that nobody may read in a log, an error or a debugger's line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Of this value.
    #[must_use]
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self(value.into())
    }

    /// The value, for the attempt and for what masks its log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The values of one attempt.
#[derive(Clone)]
pub struct Context {
    /// Which job.
    pub job: Name,
    /// Which attempt of which run; a preview makes one up.
    pub attempt: AttemptKey,
    /// The instant that the action stands for.
    pub nominal: UtcMillis,
    /// When it was due: nominal and jitter.
    pub due: UtcMillis,
    /// The job's zone.
    pub zone: Zone,
    /// The area whose `AREA.key` variables serve as `key`.
    pub area: Option<String>,
    /// The run's parameters, those of its groups apart.
    pub params: BTreeMap<String, String>,
    /// The batch key of the action.
    pub batch: String,
    /// The parameters of the job's groups, which templates know as variables: the nearest
    /// of each name. Parameters of the run go before them.
    pub vars: BTreeMap<String, String>,
    /// By the upstream job's name, what it put out.
    pub outputs: BTreeMap<String, BTreeMap<String, String>>,
    /// What the job's last run kept.
    pub state: BTreeMap<String, String>,
    /// What only the attempt may know.
    pub secrets: BTreeMap<String, Secret>,
}

impl Context {
    /// Without any values but those that each attempt has.
    #[must_use]
    pub fn new(job: Name, attempt: AttemptKey, nominal: UtcMillis, zone: Zone) -> Self {
        Self {
            batch: format!("{job}@{}", nominal.compact()),
            job,
            attempt,
            nominal,
            due: nominal,
            zone,
            area: None,
            params: BTreeMap::new(),
            vars: BTreeMap::new(),
            outputs: BTreeMap::new(),
            state: BTreeMap::new(),
            secrets: BTreeMap::new(),
        }
    }

    /// What the job's clock shows at an instant; none beyond the year 9999.
    pub(super) fn local(&self, at: UtcMillis) -> Option<LocalTime> {
        LocalTime::new(&self.zone, at)
    }

    /// A parameter of the run, or else of the job's groups, as it is written.
    pub(super) fn param(&self, key: &str) -> Option<&str> {
        let area = self.area.as_deref();
        in_area(&self.params, area, key).or_else(|| in_area(&self.vars, area, key))
    }

    /// What [`Self::param`] knows.
    pub(super) fn all_params(&self) -> BTreeMap<&str, &str> {
        let all = self.vars.iter().chain(&self.params);
        all.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// A variable by its name, or by the area and its name.
    pub(super) fn variable(&self, key: &str) -> Option<&str> {
        in_area(&self.vars, self.area.as_deref(), key)
    }

    /// The names that [`Self::variable`] knows.
    pub(super) fn variables(&self) -> BTreeSet<&str> {
        let prefix = self.area.as_ref().map(|area| format!("{area}."));
        let short = |key: &'_ str| -> Option<usize> {
            prefix.as_deref().filter(|prefix| key.starts_with(prefix)).map(str::len)
        };
        self.vars
            .keys()
            .flat_map(|key| [Some(key.as_str()), short(key).and_then(|cut| key.get(cut..))])
            .flatten()
            .collect()
    }
}

/// The value of `key`, or else of `AREA.key`.
pub(super) fn in_area<'v>(
    values: &'v BTreeMap<String, String>,
    area: Option<&str>,
    key: &str,
) -> Option<&'v str> {
    let of_area = || values.get(&format!("{}.{key}", area?));
    values.get(key).or_else(of_area).map(String::as_str)
}

/// Names alone: values are whatever a caller gave.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("job", &self.job)
            .field("attempt", &self.attempt)
            .field("nominal", &self.nominal)
            .field("secrets", &self.secrets.keys())
            .finish_non_exhaustive()
    }
}

/// Which secrets one rendering has read, shared with the engine's values.
#[derive(Clone, Default)]
pub(super) struct Used(Arc<Mutex<BTreeSet<String>>>);

impl Used {
    /// The secret's value; it counts as read from now on.
    pub(super) fn read<'c>(&self, context: &'c Context, name: &str) -> Option<&'c Secret> {
        let secret = context.secrets.get(name)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        Some(secret)
    }

    /// True as long as none was read.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// What was read, by name.
    pub(super) fn secrets(&self, context: &Context) -> Vec<(String, Secret)> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = |name: &String| Some((name.clone(), context.secrets.get(name)?.clone()));
        names.iter().filter_map(found).collect()
    }
}
