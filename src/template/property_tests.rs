//! Whatever a text holds: nothing panics, and what has no marks stays as it is.

use std::sync::Arc;

use horai_core::ids::{AttemptKey, Name, RunId};
use horai_core::time::UtcMillis;
use horai_core::timing::zone::Zone;
use proptest::prelude::*;

use super::{Context, Names, Secret, Syntax, check, render, secrets_of};

fn context() -> Context {
    let attempt = AttemptKey { run: RunId(1), shard: 0, number: 1 };
    let name = Name::new("a").unwrap();
    let mut context = Context::new(name, attempt, UtcMillis(0), Zone::UTC);
    context.vars = [("a".to_owned(), "${b}{{ vars.b }}".to_owned())].into();
    context.params = [("b".to_owned(), "x".to_owned())].into();
    context.secrets = [("key".to_owned(), Secret::new("hunter2"))].into();
    context
}

/// Texts of pieces that mean something, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let words: Vec<&str> =
        "{{|}}|{%|%}|{%#|#%}|-|+| |\n|(|)|[|]|{|}|.|,|=|'|\"|\\|if|else|elif|endif|\
        for|in|endfor|set|x|1|2.5|raw|endraw|with|endwith|filter|is|not|defined|nominal|due|add|\
        days|format|yyyy|%Y|start_of|params|vars|outputs|state|secrets|attempt|number|a|b|key|${|\
        zdt|addDay|yesterday|secret|é|$|~|upper|default|range|loop|*|9"
            .split('|')
            .chain(["|"])
            .collect();
    prop::collection::vec(prop::sample::select(words), 0..24).prop_map(|words| words.concat())
}

/// Expressions that are mostly right.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "nominal",
        "due",
        "params.b",
        "vars.a",
        "vars",
        "secrets.key",
        "secrets['key']",
        "secrets",
        "1",
        "'é'",
        "[1, 'a']",
        "attempt",
        "state",
        "outputs",
        "x",
    ]);
    let leaf = leaf.prop_map(str::to_owned);
    leaf.prop_recursive(4, 16, 2, |inner| {
        let part = prop::sample::select(vec![
            ".add(days=1)",
            ".format('yyyy')",
            "|upper",
            "|int",
            "[0]",
            ".year",
            "|default(1)",
            ".start_of('day')",
            "|list",
            "|tojson",
            " is defined",
            "|length",
            "[1:]",
        ]);
        let pair = prop::sample::select(vec![" + ", " ~ ", " * ", " == ", " < ", " in ", " and "]);
        prop_oneof![
            (inner.clone(), part).prop_map(|(inner, part)| format!("{inner}{part}")),
            (inner.clone(), pair, inner).prop_map(|(a, pair, b)| format!("({a}{pair}{b})")),
        ]
    })
}

fn any_use(text: &str) -> Result<(), TestCaseError> {
    let context = Arc::new(context());
    for (_, syntax) in Syntax::ALL {
        let checked = check(text, syntax, &Names::default());
        match render(text, syntax, &context) {
            Ok(done) => {
                let read = done.text.contains("hunter2");
                prop_assert!(!read || !done.secrets.is_empty());
                if checked.is_ok() {
                    // All that is read is known before there are values.
                    let named = secrets_of(text, syntax);
                    let named = named.map_err(|error| TestCaseError::fail(error.to_string()))?;
                    let is_named = |(name, _): &(String, Secret)| named.contains(name.as_str());
                    prop_assert!(done.secrets.iter().all(is_named), "{named:?}");
                }
            }
            Err(error) => {
                let said = format!("{error} {error:?}");
                prop_assert!(!said.contains("hunter2"), "{said}");
                let lines = u32::try_from(text.split('\n').count()).unwrap_or(u32::MAX);
                prop_assert!(error.line >= 1 && error.line <= lines, "{error}");
                let line = text.split('\n').nth(error.line as usize - 1).unwrap_or_default();
                prop_assert!(error.column >= 1, "{error}");
                prop_assert!(error.column as usize <= line.chars().count() + 1, "{error}");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_characters(text in "\\PC*") {
        any_use(&text)?;
    }

    #[test]
    fn any_pieces(text in pieces()) {
        any_use(&text)?;
    }

    #[test]
    fn any_pieces_in_a_tag(text in pieces()) {
        any_use(&format!("{{{{ {text} }}}}"))?;
        any_use(&format!("{{% set {text} %}}{{{{ x }}}}"))?;
        any_use(&format!("${{zdt.{text}}}"))?;
    }

    #[test]
    fn any_expression(text in expressions()) {
        any_use(&format!("a\n{{{{ {text} }}}}"))?;
        any_use(&format!("{{% set x = {text} %}}{{% for y in x %}}{{{{ y }}}}{{% endfor %}}"))?;
    }

    #[test]
    fn texts_without_marks_stay(text in "[^{$]*") {
        for (_, syntax) in Syntax::ALL {
            prop_assert_eq!(check(&text, syntax, &Names::default()), Ok(()));
            let done = render(&text, syntax, &Arc::new(context())).unwrap();
            prop_assert_eq!(&done.text, &text);
        }
    }
}
