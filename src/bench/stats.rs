//! Medians and percentiles, by the nearest rank: every figure is one that was measured.

/// The value below or at which `permille` of the samples lie; none without samples.
pub(super) fn percentile<T: Copy + PartialOrd>(samples: &[T], permille: usize) -> Option<T> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let rank = (sorted.len() * permille).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied()
}

/// The middle one; of an even number the lower of the two.
pub(super) fn median<T: Copy + PartialOrd>(samples: &[T]) -> Option<T> {
    percentile(samples, 500)
}

/// Summary of times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(super) struct Times {
    pub(super) samples: usize,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

impl Times {
    /// None without samples.
    pub(super) fn of(samples: &[f64]) -> Option<Self> {
        Some(Self {
            samples: samples.len(),
            p50_ms: percentile(samples, 500)?,
            p99_ms: percentile(samples, 990)?,
            max_ms: percentile(samples, 1000)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_of_the_nearest_rank() {
        let hundred: Vec<u32> = (1..=100).rev().collect();
        for (permille, value) in [(0, 1), (10, 1), (500, 50), (501, 51), (990, 99), (1000, 100)] {
            assert_eq!(percentile(&hundred, permille), Some(value), "{permille}");
        }
        assert_eq!(percentile(&[7], 10), Some(7));
        assert_eq!(percentile::<u32>(&[], 500), None);
    }

    #[test]
    fn a_median_ignores_one_wild_run() {
        assert_eq!(median(&[3.0, 900.0, 2.0]), Some(3.0));
        assert_eq!(median(&[1, 2, 3, 4]), Some(2));
    }

    #[test]
    fn times_are_summed_up() {
        let times = Times::of(&[5.0, 1.0, 9.0]).unwrap();
        assert_eq!((times.samples, times.p50_ms, times.max_ms), (3, 5.0, 9.0));
        assert_eq!(Times::of(&[]), None);
    }
}
