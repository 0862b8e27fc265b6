//! Why the harness could not do its part, and how that is shown.

use std::error::Error;

/// What ends a verb of the command line.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// An error and all its causes on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_named_once() {
        let cause = std::io::Error::other("no space");
        let error = crate::env::at("write a file")(cause);
        assert_eq!(chain(&error), "cannot write a file: no space");
        assert_eq!(chain(&std::io::Error::other("alone")), "alone");
    }
}
