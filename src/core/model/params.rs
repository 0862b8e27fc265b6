//! Parameters: what they may be called, and which value holds where several are given.
//!
//! They are given on levels, the nearest first: of the run, of its triggers, of the job,
//! of the job's group, and of the groups that this lies in. A name may begin with an area
//! and a dot, as `EU.bucket` does: in a cluster of that area it counts as `bucket`, unless
//! there is a plain `bucket` on its own level or on a nearer one. `secret.` is no area's:
//! hera's scripts read secrets under such names, and no parameter may stand before those.

use std::collections::BTreeMap;

use super::area::Area;
use super::job::JobSpec;

/// Values by name.
pub type Params = BTreeMap<String, String>;

/// What can be the name of a parameter: that of a variable in a shell, perhaps behind an
/// area and a dot.
#[must_use]
pub fn is_name(text: &str) -> bool {
    match text.split_once('.') {
        Some((area, plain)) => {
            Area::is_name(area) && area != "secret" && JobSpec::is_param_name(plain)
        }
        None => JobSpec::is_param_name(text),
    }
}

/// The name without its area.
#[must_use]
pub fn plain_name(name: &str) -> &str {
    name.split_once('.').map_or(name, |(_, plain)| plain)
}

/// The values that hold in a cluster of that area, of levels given from the nearest on.
/// Names with areas are among them as they are written, too.
#[must_use]
pub fn in_force<'a>(levels: impl IntoIterator<Item = &'a Params>, area: Option<&Area>) -> Params {
    let mut found = Params::new();
    let mut offer = |name: &str, value: &str| {
        if !found.contains_key(name) {
            found.insert(name.to_owned(), value.to_owned());
        }
    };
    for level in levels {
        for (name, value) in level {
            offer(name, value);
        }
        let Some(area) = area else { continue };
        for (name, value) in level {
            match name.split_once('.') {
                Some((of, plain)) if of == area.as_str() => offer(plain, value),
                Some(_) | None => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(pairs: &[(&str, &str)]) -> Params {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn names_are_those_of_shells_with_an_area_before() {
        for good in ["A", "_a1", "EU.A", "us-1.a", "0.a"] {
            assert!(is_name(good), "{good}");
        }
        let long = format!("{}.a", "x".repeat(33));
        for bad in ["", ".a", "EU.", "EU.1", "EU.a.b", "a-b", "E U.a", "secret.a", &long] {
            assert!(!is_name(bad), "{bad}");
        }
        assert_eq!((plain_name("EU.a"), plain_name("a")), ("a", "a"));
    }

    /// hera's G17, and what it leaves open: of two levels the nearer holds, whichever of
    /// them names the area.
    #[test]
    fn the_nearest_holds_and_an_area_counts_where_no_plain_name_is_as_near() {
        let eu = Area::new("EU").unwrap();
        let plain = level(&[("name", "x")]);
        let of_eu = level(&[("EU.name", "y")]);
        let both = level(&[("name", "x"), ("EU.name", "y"), ("US.name", "z")]);
        for (levels, area, wanted) in [
            (&[&of_eu][..], Some(&eu), Some("y")),
            (&[&both], Some(&eu), Some("x")),
            (&[&of_eu], None, None),
            (&[&plain, &of_eu], Some(&eu), Some("x")),
            (&[&of_eu, &plain], Some(&eu), Some("y")),
            (&[&of_eu, &plain], None, Some("x")),
            (&[&level(&[("US.name", "z")]), &plain], Some(&eu), Some("x")),
        ] {
            let found = in_force(levels.iter().copied(), area);
            assert_eq!(found.get("name").map(String::as_str), wanted, "{levels:?} {area:?}");
        }
        // As they are written, too: hera's scripts may name them so.
        assert_eq!(in_force([&both], Some(&eu))["US.name"], "z");
    }
}
