//! Takes the secrets of an attempt out of what it puts out.
//!
//! A pure function of the secrets and of a stream of bytes, however that is cut into
//! pieces: each stretch of bytes that belongs to a secret is [`STARS`]. Secrets that
//! overlap, or touch, are one stretch. A secret of several lines is masked as a whole and
//! line by line, because jobs print lines; lines below [`MIN_LEN`] would blot out half of
//! every text. What cannot be the beginning of a secret is handed on at once: nobody who
//! follows an output waits for it. It finds secrets as they are; one that the job has
//! encoded, cut or spelt backwards is the job's to keep.
//!
//! One automaton (Aho and Corasick's) for all secrets, so that the rate does not depend
//! on their number; bytes that begin no secret are passed over in one tight loop.

use std::collections::VecDeque;
use std::fmt;

/// What stands for a secret.
pub const STARS: &str = "***";

/// The shortest secret, and the shortest line of one, that is masked: bytes.
pub const MIN_LEN: usize = 3;

/// No node: the root is nobody's child.
const NONE: u32 = 0;
/// The state before a secret's first byte.
const ROOT: u32 = 0;

/// One beginning of one or more secrets.
#[derive(Debug, Clone, Copy, Default)]
struct Node {
    /// Its length in bytes.
    depth: u32,
    /// The longest other beginning that it ends with.
    fail: u32,
    /// Length of the longest secret that it ends with; 0 if none.
    ends: u32,
    /// Its first child, or none.
    child: u32,
    /// The next child of its parent, or none.
    sibling: u32,
    /// Its last byte.
    byte: u8,
}

/// Masks one stream.
#[derive(Clone)]
pub struct Masker {
    nodes: Vec<Node>,
    /// The root's children by byte.
    first: Box<[u32; 256]>,
    state: u32,
    /// Bytes that were read and not handed on.
    held: Vec<u8>,
    /// Stretches of `held` that belong to secrets: ascending, neither overlapping nor
    /// touching, as places in it.
    found: VecDeque<(usize, usize)>,
    /// The last thing that was handed on is a secret's mark.
    marked: bool,
}

impl Masker {
    /// For these secrets; none if there is nothing to mask.
    #[must_use]
    pub fn new<'s>(secrets: impl IntoIterator<Item = &'s str>) -> Option<Self> {
        let mut masker = Self {
            nodes: vec![Node::default()],
            first: Box::new([NONE; 256]),
            state: ROOT,
            held: Vec::new(),
            found: VecDeque::new(),
            marked: false,
        };
        for secret in secrets {
            masker.learn(secret);
            for line in secret.split('\n') {
                masker.learn(line.strip_suffix('\r').unwrap_or(line));
            }
        }
        if masker.nodes.len() == 1 {
            return None;
        }
        masker.link();
        Some(masker)
    }

    fn learn(&mut self, text: &str) {
        if text.len() < MIN_LEN {
            return;
        }
        let mut at = ROOT;
        for byte in text.bytes() {
            at = match self.child(at, byte) {
                NONE => self.add(at, byte),
                child => child,
            };
        }
        let length = self.nodes[at as usize].depth;
        self.nodes[at as usize].ends = length;
    }

    fn add(&mut self, parent: u32, byte: u8) -> u32 {
        // Secrets of one attempt are some hundred kilobytes at most.
        let new = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        let above = self.nodes[parent as usize];
        let depth = above.depth + 1;
        if parent == ROOT {
            self.first[usize::from(byte)] = new;
        } else {
            self.nodes[parent as usize].child = new;
        }
        let sibling = if parent == ROOT { NONE } else { above.child };
        self.nodes.push(Node { depth, sibling, byte, ..Node::default() });
        new
    }

    fn child(&self, of: u32, byte: u8) -> u32 {
        if of == ROOT {
            return self.first[usize::from(byte)];
        }
        let mut child = self.nodes[of as usize].child;
        while child != NONE && self.nodes[child as usize].byte != byte {
            child = self.nodes[child as usize].sibling;
        }
        child
    }

    /// Finds for each beginning, the shorter ones first, what it ends with.
    fn link(&mut self) {
        let mut queue: VecDeque<u32> = self.first.iter().copied().filter(|n| *n != NONE).collect();
        while let Some(at) = queue.pop_front() {
            let Node { fail, mut child, .. } = self.nodes[at as usize];
            while child != NONE {
                let byte = self.nodes[child as usize].byte;
                let ending = self.next(fail, byte);
                let ends = self.nodes[ending as usize].ends;
                let node = &mut self.nodes[child as usize];
                node.fail = ending;
                // Its own is the longest there is.
                node.ends = node.ends.max(ends);
                queue.push_back(child);
                child = node.sibling;
            }
        }
    }

    /// The longest beginning that the text ends with once it has this byte too.
    fn next(&self, state: u32, byte: u8) -> u32 {
        let mut at = state;
        loop {
            match self.child(at, byte) {
                NONE if at == ROOT => return ROOT,
                NONE => at = self.nodes[at as usize].fail,
                child => return child,
            }
        }
    }

    /// Reads the next bytes, and adds to `out` what may be shown by now.
    pub fn push(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let mut at = self.held.len();
        self.held.extend_from_slice(data);
        while at < self.held.len() {
            if self.state == ROOT {
                let rest = &self.held[at..];
                let plain = rest.iter().position(|byte| self.first[usize::from(*byte)] != NONE);
                let Some(plain) = plain else { break };
                at += plain;
            }
            self.state = self.next(self.state, self.held[at]);
            at += 1;
            let ends = self.nodes[self.state as usize].ends as usize;
            if ends > 0 {
                self.find(at.saturating_sub(ends), at);
            }
        }
        let open = self.nodes[self.state as usize].depth as usize;
        self.hand_on(self.held.len().saturating_sub(open), out);
    }

    /// The stream has ended: adds the rest. The masker can begin another stream.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.hand_on(self.held.len(), out);
        self.state = ROOT;
        self.marked = false;
    }

    /// A whole text at once, whatever stream is under way.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        let mut masker = Self {
            state: ROOT,
            held: Vec::new(),
            found: VecDeque::new(),
            marked: false,
            ..self.clone()
        };
        let mut out = Vec::with_capacity(text.len());
        masker.push(text.as_bytes(), &mut out);
        masker.finish(&mut out);
        // Secrets begin and end between characters, so nothing is lost here.
        String::from_utf8_lossy(&out).into_owned()
    }

    /// A secret lies from `from` to `to`, which is as far as was read. Where its begin was
    /// handed on already, that was as the end of another secret.
    fn find(&mut self, mut from: usize, to: usize) {
        while let Some((begin, end)) = self.found.back().copied() {
            if end < from {
                break;
            }
            from = from.min(begin);
            self.found.pop_back();
        }
        self.found.push_back((from, to));
    }

    /// Hands on what lies before `open`, where the longest beginning of a secret stands
    /// that the text ends with; and what begins with a secret's end, for more of that can
    /// only be more of the same mark.
    fn hand_on(&mut self, open: usize, out: &mut Vec<u8>) {
        let mut done = 0;
        loop {
            let next = self.found.front().copied();
            let plain = next.map_or(open, |(begin, _)| begin.min(open));
            if plain > done {
                out.extend_from_slice(&self.held[done..plain]);
                self.marked = false;
                done = plain;
            }
            let Some((begin, end)) = next.filter(|(begin, _)| *begin <= done) else { break };
            // A stretch that touches the last one is the same stretch.
            if !(begin == done && self.marked) {
                out.extend_from_slice(STARS.as_bytes());
                self.marked = true;
            }
            done = end;
            self.found.pop_front();
        }
        self.held.drain(..done);
        for (begin, end) in &mut self.found {
            (*begin, *end) = (begin.saturating_sub(done), *end - done);
        }
    }
}

/// Without the secrets.
impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "mask_tests.rs"]
mod tests;
