//! Cuts a failing list of events down to one of which none can be left out.

use super::script::Step;

/// Worlds tried at most.
const TRIES: usize = 300;

/// The shortest list found for which `fails` still holds, in the same order.
pub(super) fn shrink(script: &[Step], mut fails: impl FnMut(&[Step]) -> bool) -> Vec<Step> {
    let mut best = script.to_vec();
    let (mut size, mut tries) = (best.len().div_ceil(2), 0);
    while size > 0 && tries < TRIES {
        let (mut place, mut is_shorter) = (0, false);
        while place < best.len() && tries < TRIES {
            let mut less = best.clone();
            less.drain(place..(place + size).min(best.len()));
            tries += 1;
            if fails(&less) {
                (best, is_shorter) = (less, true);
            } else {
                place += size;
            }
        }
        if size > 1 || !is_shorter {
            size /= 2;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::super::script::Event;
    use super::*;

    #[test]
    fn what_does_not_matter_is_left_out() {
        let script: Vec<Step> =
            (0..40).map(|at| Step { at, event: Event::Pause(at.unsigned_abs()) }).collect();
        // Fails while 7 comes before 31.
        let fails = |list: &[Step]| {
            let at = |n| list.iter().position(|step| step.event == Event::Pause(n));
            at(7).zip(at(31)).is_some_and(|(a, b)| a < b)
        };
        let times: Vec<i64> = shrink(&script, fails).iter().map(|step| step.at).collect();
        assert_eq!(times, [7, 31]);
    }
}
