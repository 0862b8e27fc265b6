//! The masker against a plain second reading of its rule.

use proptest::prelude::*;

use super::*;

/// All that is to be found, as the module says.
fn needles(secrets: &[&str]) -> Vec<String> {
    let lines = |secret: &&str| -> Vec<String> {
        let lines = secret.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        lines.chain([*secret]).map(str::to_owned).collect()
    };
    secrets.iter().flat_map(lines).filter(|needle| needle.len() >= MIN_LEN).collect()
}

/// By looking at every place for every secret.
fn plainly(secrets: &[&str], text: &[u8]) -> Vec<u8> {
    let mut is_secret = vec![false; text.len()];
    for needle in needles(secrets) {
        for (at, window) in text.windows(needle.len()).enumerate() {
            if window == needle.as_bytes() {
                is_secret[at..at + needle.len()].fill(true);
            }
        }
    }
    let mut out = Vec::new();
    for (at, byte) in text.iter().enumerate() {
        match (is_secret[at], at > 0 && is_secret[at - 1]) {
            (false, _) => out.push(*byte),
            (true, false) => out.extend_from_slice(STARS.as_bytes()),
            (true, true) => {}
        }
    }
    out
}

/// In pieces; what is held back after each of them may be a secret's beginning.
fn in_pieces<'t>(secrets: &[&str], pieces: impl IntoIterator<Item = &'t [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(mut masker) = Masker::new(secrets.iter().copied()) else {
        pieces.into_iter().for_each(|piece| out.extend_from_slice(piece));
        return out;
    };
    let needles = needles(secrets);
    for piece in pieces {
        masker.push(piece, &mut out);
        let is_beginning = |needle: &String| {
            let longest = needle.len() - 1;
            (1..=longest).any(|k| needle.as_bytes()[..k].ends_with(&masker.held))
        };
        assert!(masker.held.is_empty() || needles.iter().any(is_beginning), "{masker:?}");
    }
    masker.finish(&mut out);
    assert!(masker.held.is_empty() && masker.found.is_empty());
    out
}

fn masked(secrets: &[&str], text: &str) -> String {
    String::from_utf8(in_pieces(secrets, [text.as_bytes()])).unwrap()
}

#[test]
fn secrets_are_stars_however_the_text_is_cut() {
    let secrets = ["hunter2", "correct horse"];
    let text = "user=me password=hunter2; correct horse, correct hunter, hunter2hunter2\n";
    let wanted = "user=me password=***; ***, correct hunter, ***\n";
    assert_eq!(masked(&secrets, text), wanted);
    for cut in 0..text.len() {
        let (one, two) = text.as_bytes().split_at(cut);
        assert_eq!(in_pieces(&secrets, [one, two]), wanted.as_bytes(), "{cut}");
    }
    let bytes = text.as_bytes().chunks(1);
    assert_eq!(in_pieces(&secrets, bytes), wanted.as_bytes());
}

#[test]
fn overlapping_and_touching_secrets_are_one_stretch() {
    for (secrets, text, wanted) in [
        (vec!["abc", "cde"], "xabcdey", "x***y"),
        (vec!["abc", "cde"], "xabcdy", "x***dy"),
        (vec!["abc", "def"], "xabcdefy", "x***y"),
        (vec!["aaa"], "aaaaa aa", "*** aa"),
        // A shorter one within a longer one that does not come.
        (vec!["12cd34Z", "2cd"], "12cd34Y", "1***34Y"),
        (vec!["ab123cd345Z", "123", "345"], "ab123cd345Y", "ab***cd***Y"),
        (vec!["ab123cd345Z", "123", "345"], "ab123cd345Z", "***"),
        (vec!["ünï"], "an ünï of ün", "an *** of ün"),
    ] {
        assert_eq!(masked(&secrets, text), wanted, "{secrets:?}");
        let bytes = text.as_bytes().chunks(1);
        assert_eq!(in_pieces(&secrets, bytes), wanted.as_bytes(), "{secrets:?}");
    }
}

#[test]
fn lines_of_a_secret_are_masked_alone_and_short_ones_only_with_the_rest() {
    let secret = "-----BEGIN\r\nabcdef\n{}\nghijkl\n";
    assert_eq!(masked(&[secret], "say -----BEGIN and abcdef"), "say *** and ***");
    assert_eq!(masked(&[secret], "{} is no secret"), "{} is no secret");
    assert_eq!(masked(&[secret], secret), "***");
    assert_eq!(masked(&[secret], "abcdef\n{}\nghijkl"), "***\n{}\n***");
}

#[test]
fn nothing_is_held_back_that_begins_no_secret() {
    let mut masker = Masker::new(["secret"]).unwrap();
    let mut out = Vec::new();
    masker.push(b"progress 10%\nse", &mut out);
    assert_eq!(out, b"progress 10%\n");
    masker.push(b"c", &mut out);
    assert_eq!(out, b"progress 10%\n");
    masker.push(b"ond", &mut out);
    assert_eq!(out, b"progress 10%\nsecond");
    masker.push(b" secret", &mut out);
    assert_eq!(out, b"progress 10%\nsecond ***");
    masker.push(b"s", &mut out);
    masker.finish(&mut out);
    assert_eq!(out, b"progress 10%\nsecond ***s");
}

#[test]
fn what_has_nothing_to_mask_is_no_masker_and_none_shows_a_secret() {
    assert!(Masker::new([]).is_none());
    assert!(Masker::new(["", "ab", "a\n"]).is_none());
    let masker = Masker::new(["hunter2"]).unwrap();
    assert!(!format!("{masker:?}").contains("hunter2"));
    assert_eq!(masker.mask("no program hunter2/bin"), "no program ***/bin");
}

/// Few letters, so that secrets overlap, repeat and lie in one another.
fn text(length: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof![Just('a'), Just('b'), Just('\n')], length)
        .prop_map(|letters| letters.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_cut_gives_what_the_plain_reading_gives(
        secrets in prop::collection::vec(text(0..9), 0..4),
        pieces in prop::collection::vec(text(0..12), 0..9),
    ) {
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let whole = pieces.concat();
        let cut = in_pieces(&secrets, pieces.iter().map(String::as_bytes));
        prop_assert_eq!(&cut, &plainly(&secrets, whole.as_bytes()));
        prop_assert_eq!(in_pieces(&secrets, [whole.as_bytes()]), cut);
    }

    #[test]
    fn bytes_of_all_kinds_pass(
        secret in "[a-z]{3,6}",
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5),
    ) {
        let whole = pieces.concat();
        let cut = in_pieces(&[&secret], pieces.iter().map(Vec::as_slice));
        prop_assert_eq!(cut, plainly(&[&secret], &whole));
    }
}
