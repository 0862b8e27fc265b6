//! Faults of the harness itself, put in on purpose: a judge that does not judge and
//! a nemesis that breaks nothing must never end in `valid`.
//!
//! Without the feature `mutants` of this package [`on`] is `false` at compile time.
//! With it `JEPSEN_MUTANT=name` chooses one for the process.

/// A fault of the harness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A checker is left out.
    CheckerOff,
    /// A checker says that all is well, and has looked at nothing.
    CheckerBlind,
    /// Faults are said to be there, and nothing is done.
    NemesisIdle,
}

impl Fault {
    /// Every one.
    #[cfg(any(feature = "mutants", test))]
    pub(crate) const ALL: [Self; 3] = [Self::CheckerOff, Self::CheckerBlind, Self::NemesisIdle];

    /// What chooses it.
    #[cfg(any(feature = "mutants", test))]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CheckerOff => "checker-off",
            Self::CheckerBlind => "checker-blind",
            Self::NemesisIdle => "nemesis-idle",
        }
    }
}

/// True if this fault was chosen for the process.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn on(_: Fault) -> bool {
    false
}

/// True if this fault was chosen for the process.
///
/// # Panics
/// If `JEPSEN_MUTANT` names none: a run that was to have a fault must not be without.
#[cfg(feature = "mutants")]
pub(crate) fn on(fault: Fault) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<Fault>> = std::sync::OnceLock::new();
    let chosen = || {
        let name = std::env::var("JEPSEN_MUTANT").ok().filter(|name| !name.is_empty())?;
        let found = Fault::ALL.into_iter().find(|fault| fault.name() == name);
        Some(found.unwrap_or_else(|| panic!("JEPSEN_MUTANT={name}: there is no such fault")))
    };
    *CHOSEN.get_or_init(chosen) == Some(fault)
}
