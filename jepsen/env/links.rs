//! What the network does to a packet, as data: directed links and the faults laid
//! over them.
//!
//! Each fault is an overlay under a number of its own, so that faults of several
//! kinds may overlap and each is healed by itself. Pure: the switch asks, nothing
//! here sends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A machine on the switch: the last byte of its address.
pub(crate) type Host = u8;

/// What happens on the way from one host to another. The default does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Link {
    /// Nothing passes.
    pub(crate) cut: bool,
    /// Each packet is this late.
    pub(crate) delay_us: u32,
    /// And up to this much more, drawn for each: packets overtake each other.
    pub(crate) jitter_us: u32,
    /// Of 1,000 packets so many are lost.
    pub(crate) loss: u16,
    /// Of 1,000 packets so many come twice.
    pub(crate) twice: u16,
    /// Bits a second; 0 is as fast as it goes.
    pub(crate) rate: u64,
    /// Longer packets vanish, as where a tunnel eats the answer about the size; 0 is none.
    pub(crate) longest: u32,
    /// Both ends of a TCP connection that a packet belongs to are told that it is over.
    pub(crate) reset: bool,
}

impl Link {
    /// A link that is cut.
    pub(crate) const CUT: Self = Self {
        cut: true,
        delay_us: 0,
        jitter_us: 0,
        loss: 0,
        twice: 0,
        rate: 0,
        longest: 0,
        reset: false,
    };

    fn over(self, other: Self) -> Self {
        let smaller = |a: u64, b: u64| if a == 0 || b != 0 && b < a { b } else { a };
        Self {
            cut: self.cut || other.cut,
            delay_us: self.delay_us.saturating_add(other.delay_us),
            jitter_us: self.jitter_us.saturating_add(other.jitter_us),
            loss: self.loss.max(other.loss),
            twice: self.twice.max(other.twice),
            rate: smaller(self.rate, other.rate),
            longest: u32::try_from(smaller(self.longest.into(), other.longest.into()))
                .unwrap_or(u32::MAX),
            reset: self.reset || other.reset,
        }
    }
}

/// Which links a fault changes, and how.
pub(crate) type Overlay = BTreeMap<(Host, Host), Link>;

/// All links of the network: those without an entry do nothing.
#[derive(Debug, Default)]
pub(crate) struct Links {
    overlays: BTreeMap<u64, Overlay>,
    sum: Overlay,
}

impl Links {
    pub(crate) fn lay(&mut self, fault: u64, overlay: Overlay) {
        self.overlays.insert(fault, overlay);
        self.add_up();
    }

    /// Takes one fault away; the others stay.
    pub(crate) fn lift(&mut self, fault: u64) {
        self.overlays.remove(&fault);
        self.add_up();
    }

    fn add_up(&mut self) {
        self.sum.clear();
        for (pair, link) in self.overlays.values().flatten() {
            let sum = self.sum.entry(*pair).or_default();
            *sum = sum.over(*link);
        }
    }

    pub(crate) fn get(&self, from: Host, to: Host) -> Link {
        self.sum.get(&(from, to)).copied().unwrap_or_default()
    }
}

/// An overlay of the same kind on each of these directed pairs.
pub(crate) fn on(pairs: impl IntoIterator<Item = (Host, Host)>, link: Link) -> Overlay {
    pairs.into_iter().map(|pair| (pair, link)).collect()
}

/// Both directions between two sides.
pub(crate) fn between(one: &[Host], other: &[Host]) -> Vec<(Host, Host)> {
    let mut pairs = one_way(one, other);
    pairs.extend(one_way(other, one));
    pairs
}

/// Only what goes from one side to the other.
pub(crate) fn one_way(from: &[Host], to: &[Host]) -> Vec<(Host, Host)> {
    from.iter().flat_map(|a| to.iter().filter(move |b| *b != a).map(move |b| (*a, *b))).collect()
}

/// Each host hears only its neighbours on a ring: all see a majority, none the same.
pub(crate) fn ring(hosts: &[Host]) -> Vec<(Host, Host)> {
    let n = hosts.len();
    // A majority is n / 2 + 1 with oneself, half of the others on each side.
    let reach = (n / 2).div_ceil(2);
    let mut pairs = Vec::new();
    for (i, a) in hosts.iter().enumerate() {
        for (j, b) in hosts.iter().enumerate() {
            let far = (i.abs_diff(j)).min(n - i.abs_diff(j));
            if i != j && far > reach {
                pairs.push((*a, *b));
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_overlap_and_heal_one_by_one() {
        let mut links = Links::default();
        let slow = Link { delay_us: 100, rate: 1000, loss: 10, ..Link::default() };
        links.lay(1, on([(1, 2), (2, 1)], slow));
        links.lay(2, on([(1, 2)], Link { delay_us: 50, rate: 500, loss: 5, ..Link::CUT }));
        let both = links.get(1, 2);
        assert_eq!((both.cut, both.delay_us, both.rate, both.loss), (true, 150, 500, 10));
        assert_eq!(links.get(2, 1), slow);
        links.lift(1);
        assert_eq!(links.get(2, 1), Link::default());
        assert!(links.get(1, 2).cut);
        links.lift(2);
        assert_eq!(links.get(1, 2), Link::default());
    }

    #[test]
    fn shapes_cut_what_they_say() {
        assert_eq!(one_way(&[1], &[2, 3]), [(1, 2), (1, 3)]);
        assert_eq!(between(&[1], &[2]), [(1, 2), (2, 1)]);
        // Five on a ring: each keeps its two neighbours and loses the two others.
        let cut = ring(&[1, 2, 3, 4, 5]);
        assert_eq!(cut.len(), 10);
        assert!(cut.contains(&(1, 3)) && cut.contains(&(1, 4)) && !cut.contains(&(1, 5)));
        let seven = ring(&[1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(seven.iter().filter(|(a, _)| *a == 1).count(), 2);
        // Three all see each other: there is no ring to break.
        assert_eq!(ring(&[1, 2, 3]), []);
    }
}
