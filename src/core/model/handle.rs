//! Work that an attempt began elsewhere, as its output names it: an application of a cluster,
//! a job of another scheduler. It does not end with the attempt's processes, so it is kept
//! with the attempt, and ended when that ends without success.

use serde::{Deserialize, Serialize};

use super::run::{Attempt, Run};

/// One piece of such work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handle {
    /// What the output said of it, as the interpreter's pattern took it: at most
    /// [`Handle::MAX_BYTES`]. Whoever ends it finds the name in it by the same pattern.
    pub text: String,
    /// What the last try to end it came to; none before there was one.
    pub end: Option<HandleEnd>,
}

/// What a try to end it came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandleEnd {
    /// True if the command succeeded.
    pub done: bool,
    /// The command and its end, for people; at most [`Handle::MAX_BYTES`].
    pub said: String,
}

impl Handle {
    /// The most of one attempt.
    pub const MAX: usize = 32;
    /// The longest text, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// One that nobody has tried to end.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), end: None }
    }

    /// As much of a text as is kept.
    #[must_use]
    pub fn cut(text: &str) -> String {
        let fits = (0..=Self::MAX_BYTES.min(text.len())).rev();
        let end = fits.into_iter().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text[..end].to_owned()
    }

    /// True if it can be kept.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let said = self.end.as_ref().map_or(0, |end| end.said.len());
        !self.text.is_empty() && self.text.len().max(said) <= Self::MAX_BYTES
    }

    /// Adds to a list what it does not have, and what became of those that it has. True if
    /// that changed it.
    pub fn merge(list: &mut Vec<Self>, news: &[Self]) -> bool {
        let mut is_changed = false;
        for new in news.iter().filter(|new| new.is_sound()) {
            let Some(place) = list.iter().position(|known| known.text == new.text) else {
                if list.len() < Self::MAX {
                    list.push(new.clone());
                    is_changed = true;
                }
                continue;
            };
            let known = &mut list[place];
            let is_news = new.end.is_some() && known.end != new.end;
            // What is done is not undone by a report that comes late.
            let is_done = known.end.as_ref().is_some_and(|end| end.done);
            if is_news && !is_done {
                known.end.clone_from(&new.end);
                is_changed = true;
            }
        }
        is_changed
    }
}

impl Run {
    /// What attempts that are over without success began elsewhere, and nobody is known to
    /// have ended: each once, oldest first.
    #[must_use]
    pub fn handles_left(&self) -> Vec<&str> {
        let failed =
            |attempt: &&Attempt| attempt.end.as_ref().is_some_and(|end| !end.how.is_success());
        let failed = self.attempts.iter().filter(failed);
        let of = |attempt: &Attempt| self.handles.get(&attempt.key.number);
        let all = failed.filter_map(of).flatten();
        let is_done = |text: &str| {
            let all = self.handles.values().flatten();
            all.filter(|known| known.text == text)
                .any(|known| known.end.as_ref().is_some_and(|end| end.done))
        };
        let mut left: Vec<&str> = Vec::new();
        for handle in all {
            if left.len() < Handle::MAX
                && !left.contains(&handle.text.as_str())
                && !is_done(&handle.text)
            {
                left.push(&handle.text);
            }
        }
        left
    }

    /// The attempt that left something elsewhere which nobody has tried to end, and with which
    /// no further attempt will begin.
    #[must_use]
    pub fn owed(&self) -> Option<(&Attempt, Vec<&Handle>)> {
        if self.is_live() || self.has_succeeded() {
            return None;
        }
        self.attempts.iter().find_map(|attempt| {
            let untried = |handle: &&Handle| handle.end.is_none();
            let handles = self.handles.get(&attempt.key.number)?;
            let left: Vec<&Handle> = handles.iter().filter(untried).collect();
            (!left.is_empty()).then_some((attempt, left))
        })
    }

    /// True if there is such an attempt.
    #[must_use]
    pub fn owes_an_end(&self) -> bool {
        !self.handles.is_empty() && self.owed().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(text: &str, done: bool) -> Handle {
        let end = Some(HandleEnd { done, said: "kill: exit".to_owned() });
        Handle { end, ..Handle::new(text) }
    }

    #[test]
    fn news_are_merged_once_and_within_bounds() {
        let mut list = Vec::new();
        assert!(Handle::merge(&mut list, &[Handle::new("a"), Handle::new("a"), Handle::new("b")]));
        assert_eq!(list.len(), 2);
        assert!(!Handle::merge(&mut list, &[Handle::new("a")]));
        assert!(Handle::merge(&mut list, &[ended("a", false)]));
        assert!(Handle::merge(&mut list, &[ended("a", true)]));
        assert!(!Handle::merge(&mut list, &[ended("a", false), Handle::new("a")]));
        assert_eq!(list, [ended("a", true), Handle::new("b")]);
        let many: Vec<Handle> = (0..99).map(|n| Handle::new(&n.to_string())).collect();
        assert!(Handle::merge(&mut list, &many));
        assert_eq!(list.len(), Handle::MAX);
        assert!(!Handle::merge(&mut Vec::new(), &[Handle::new(""), Handle::new(&"x".repeat(257))]));
    }
}
