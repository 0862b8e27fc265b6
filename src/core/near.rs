//! Names that look like a mistyped one, for the remedy in an error.

/// Longer names are compared with nothing: the work grows with the square.
const MAX_NAME: usize = 128;

/// How many names a remedy lists.
const TAKEN: usize = 3;

/// The changes that lead from one to the other, in bytes: insertions, deletions,
/// substitutions and neighbours that change places.
#[must_use]
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut two_before = vec![0; b.len() + 1];
    let mut before: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1; b.len() + 1];
        for j in 0..b.len() {
            let substituted = before[j] + usize::from(a[i] != b[j]);
            row[j + 1] = substituted.min(before[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                row[j + 1] = row[j + 1].min(two_before[j - 1] + 1);
            }
        }
        two_before = std::mem::replace(&mut before, row);
    }
    before[b.len()]
}

/// Up to three of `known`, the nearest first, that one to three changes lead to.
/// Case is no change; names of up to three letters may differ in one.
#[must_use]
pub fn near<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    if wanted.is_empty() || wanted.len() > MAX_NAME {
        return Vec::new();
    }
    let wanted = wanted.to_ascii_lowercase();
    let allowed = (wanted.len() / 3).clamp(1, 3);
    let mut found: Vec<(usize, &str)> = known
        .into_iter()
        .filter(|name| name.len() <= MAX_NAME)
        .map(|name| (distance(&wanted, &name.to_ascii_lowercase()), name))
        // As many changes as letters lead from anything to anything.
        .filter(|(changes, name)| *changes <= allowed && *changes < name.len())
        .collect();
    found.sort_unstable();
    found.into_iter().take(TAKEN).map(|(_, name)| name).collect()
}

/// The question that a list of near names becomes; none if it is empty.
#[must_use]
pub fn hint(near: &[&str]) -> Option<String> {
    match near {
        [] => None,
        [one] => Some(format!("did you mean {one}?")),
        [most @ .., last] => Some(format!("did you mean {} or {last}?", most.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_changes() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!((distance("", "abc"), distance("abc", "")), (3, 3));
        assert_eq!((distance("tabel", "table"), distance("ba", "ab")), (1, 1));
    }

    #[test]
    fn near_names_come_nearest_first() {
        let known = ["nominal", "due", "job", "params"];
        assert_eq!(near("nominall", known), ["nominal"]);
        assert_eq!(near("Param", known), ["params"]);
        assert_eq!(near("dur", known), ["due"]);
        assert_eq!(near("now", known), Vec::<&str>::new());
        assert_eq!(near("x", ["y"]), Vec::<&str>::new());
        assert_eq!(near(&"x".repeat(9999), known), Vec::<&str>::new());
        assert_eq!(near("aaad", ["aaac", "aaab", "aaxx", "aaad"]), ["aaad", "aaab", "aaac"]);
    }

    #[test]
    fn hints_are_questions() {
        assert_eq!(hint(&[]), None);
        assert_eq!(hint(&["a"]).unwrap(), "did you mean a?");
        assert_eq!(hint(&["a", "b", "c"]).unwrap(), "did you mean a, b or c?");
    }
}
