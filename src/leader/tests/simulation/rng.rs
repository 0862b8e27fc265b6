//! Numbers from a seed, the same on every machine for ever.
//!
//! What a world draws while it runs comes from [`mix`], keyed by what it is
//! for: so that taking an event out of a list changes little else.

/// A number that depends on all of these and nothing else.
pub(super) fn mix(parts: &[u64]) -> u64 {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for part in parts {
        state = finish(state.wrapping_add(*part).wrapping_add(0x9E37_79B9_7F4A_7C15));
    }
    state
}

/// The last step of splitmix64.
fn finish(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A stream of numbers.
pub(super) struct Rng {
    seed: u64,
    drawn: u64,
}

impl Rng {
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        Self { seed: mix(&[seed, stream]), drawn: 0 }
    }

    fn next(&mut self) -> u64 {
        self.drawn += 1;
        mix(&[self.seed, self.drawn])
    }

    /// From 0, below `end`; 0 if that is 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a length")
    }

    /// From 0 to `most`.
    pub(super) fn up_to(&mut self, most: i64) -> i64 {
        i64::try_from(self.below(most.unsigned_abs() + 1)).expect("at most what was given")
    }

    /// True so many times of thousand.
    pub(super) fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }
}
