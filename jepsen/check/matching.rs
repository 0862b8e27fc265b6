//! Starts against windows, without trusting the names that starts carry.
//!
//! Each start may serve one window that is open at that time. Taking for each start
//! the open window that closes first serves as many starts as can be, and also as
//! many windows (points against intervals); and where all starts can be served and,
//! separately, all windows that must be, both can be at once (Mendelsohn and
//! Dulmage). So two passes decide exactly, in O(n log n).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A stretch in which one start is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// First millisecond.
    pub(crate) from: i64,
    /// Last millisecond.
    pub(crate) to: i64,
    /// False if it may stay without a start.
    pub(crate) must: bool,
}

/// What does not fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Misfits {
    /// Windows without a start.
    pub(crate) missed: Vec<usize>,
    /// Starts without a window.
    pub(crate) extra: Vec<usize>,
}

/// Finds what does not fit.
pub(crate) fn misfits(windows: &[Window], starts: &[i64]) -> Misfits {
    let all: Vec<usize> = (0..windows.len()).collect();
    let must: Vec<usize> = all.iter().copied().filter(|at| windows[*at].must).collect();
    let (_, extra) = sweep(windows, &all, starts);
    let (missed, _) = sweep(windows, &must, starts);
    Misfits { missed, extra }
}

/// Windows and starts that are left over.
fn sweep(windows: &[Window], which: &[usize], starts: &[i64]) -> (Vec<usize>, Vec<usize>) {
    let mut order = which.to_vec();
    order.sort_by_key(|at| windows[*at].from);
    let mut by_time: Vec<usize> = (0..starts.len()).collect();
    by_time.sort_by_key(|at| starts[*at]);
    let mut waiting = order.into_iter().peekable();
    let mut open: BinaryHeap<Reverse<(i64, usize)>> = BinaryHeap::new();
    let (mut missed, mut extra) = (Vec::new(), Vec::new());
    for start in by_time {
        let now = starts[start];
        while let Some(at) = waiting.next_if(|at| windows[*at].from <= now) {
            open.push(Reverse((windows[at].to, at)));
        }
        while let Some(Reverse((_, at))) = open.peek().copied().filter(|Reverse((to, _))| *to < now)
        {
            open.pop();
            missed.push(at);
        }
        if open.pop().is_none() {
            extra.push(start);
        }
    }
    missed.extend(open.into_iter().map(|Reverse((_, at))| at));
    missed.extend(waiting);
    missed.sort_unstable();
    extra.sort_unstable();
    (missed, extra)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: i64, to: i64, must: bool) -> Window {
        Window { from, to, must }
    }

    #[test]
    fn what_fits_fits_and_the_rest_is_found() {
        let windows = [window(0, 9, true), window(10, 19, true), window(20, 29, true)];
        assert_eq!(misfits(&windows, &[1, 11, 21]), Misfits::default());
        assert_eq!(misfits(&windows, &[1, 21]).missed, [1]);
        assert_eq!(misfits(&windows, &[1, 2, 11, 21]).extra, [1]);
        // Early, and so both: a start without a window, a window without a start.
        let early = misfits(&windows, &[1, 9, 21]);
        assert_eq!((early.missed, early.extra), (vec![1], vec![1]));
    }

    #[test]
    fn overlapping_windows_are_served_by_who_closes_first() {
        let windows = [window(0, 100, true), window(10, 20, true)];
        assert_eq!(misfits(&windows, &[15, 90]), Misfits::default());
        assert_eq!(misfits(&windows, &[90, 95]).missed, [1]);
    }

    #[test]
    fn optional_windows_take_a_start_but_need_none() {
        let windows = [window(0, 20, false), window(10, 30, true)];
        assert_eq!(misfits(&windows, &[15]), Misfits::default());
        assert_eq!(misfits(&windows, &[15, 25]), Misfits::default());
        assert_eq!(misfits(&windows, &[15, 16, 17]).extra, [2]);
        assert_eq!(misfits(&windows, &[5]).missed, [1]);
    }

    #[test]
    fn two_passes_agree_with_every_assignment_tried() {
        // Small cases, all of them: is there an assignment that serves all starts
        // and all windows that must be?
        fn fits(windows: &[Window], starts: &[i64], used: &mut Vec<bool>, at: usize) -> bool {
            let Some(now) = starts.get(at) else {
                return windows.iter().zip(used.iter()).all(|(w, used)| *used || !w.must);
            };
            for i in 0..windows.len() {
                if !used[i] && (windows[i].from..=windows[i].to).contains(now) {
                    used[i] = true;
                    if fits(windows, starts, used, at + 1) {
                        return true;
                    }
                    used[i] = false;
                }
            }
            false
        }
        let mut seed = 7_u64;
        let mut draw = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
            i64::try_from((seed >> 33) % below).unwrap()
        };
        let mut both = [0, 0];
        for _ in 0..3_000 {
            let windows: Vec<Window> = (0..draw(5))
                .map(|_| {
                    let from = draw(8);
                    window(from, from + draw(5), draw(2) == 0)
                })
                .collect();
            let starts: Vec<i64> = (0..draw(5)).map(|_| draw(12)).collect();
            let expected = fits(&windows, &starts, &mut vec![false; windows.len()], 0);
            let found = misfits(&windows, &starts);
            assert_eq!(found == Misfits::default(), expected, "{windows:?} {starts:?}");
            both[usize::from(expected)] += 1;
        }
        assert!(both[0] > 300 && both[1] > 300, "{both:?}");
    }
}
