//! Streams between workers and nodes: first in, first out, late, cut off, and
//! noticed to be broken at one end before the other.

use super::replicas::Problem;
use super::script::NODES;
use super::worker::{FromWorker, ToWorker};
use super::world::{Happening, World};

/// Keepalive finds a silent stream out within this time.
const SILENCE: i64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Node,
    Worker,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    To(ToWorker),
    From(FromWorker),
}

/// A message under way.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) w: usize,
    pub(super) n: usize,
    pub(super) epoch: u64,
    pub(super) body: Body,
}

/// One worker's streams to one node, one after the other.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) epoch: u64,
    pub(super) node_open: bool,
    pub(super) worker_open: bool,
    /// The incarnation that opened it.
    pub(super) incarnation: u128,
    is_cut: bool,
    /// Counts cuts: a later one is not healed with an earlier one.
    cuts: u64,
    pub(super) slow: i64,
    /// When the last message arrives, to the worker and from it.
    last: [i64; 2],
    /// Held up by a cut that nobody has noticed yet.
    held: Vec<Frame>,
}

impl World {
    pub(super) fn link(&mut self, w: usize, n: usize) -> &mut Link {
        self.links.get_mut(&(w, n)).expect("every worker and node have a link")
    }

    pub(super) fn send(&mut self, w: usize, n: usize, epoch: u64, body: Body) {
        let delay = 1 + self.draw(25);
        let now = self.now();
        let link = self.link(w, n);
        let is_open = match body {
            Body::To(_) => link.node_open,
            Body::From(_) => link.worker_open,
        };
        if !is_open || link.epoch != epoch {
            return;
        }
        let last = &mut link.last[usize::from(matches!(body, Body::To(_)))];
        *last = (*last).max(now + delay + link.slow);
        let at = *last;
        self.agenda.at(at, Happening::Frame(Frame { w, n, epoch, body }));
    }

    pub(super) fn on_frame(&mut self, frame: Frame) -> Result<(), Problem> {
        let now = self.now();
        let (w, n) = (frame.w, frame.n);
        let link = self.link(w, n);
        if link.epoch != frame.epoch {
            return Ok(());
        }
        if link.is_cut {
            link.held.push(frame);
            return Ok(());
        }
        let (node_open, worker_open) = (link.node_open, link.worker_open);
        let epoch = frame.epoch;
        match frame.body {
            Body::To(message) => {
                let frozen_until = self.workers[w].frozen_until();
                if !worker_open {
                    return Ok(());
                }
                if frozen_until > now {
                    let body = Body::To(message);
                    self.agenda.at(frozen_until, Happening::Frame(Frame { w, n, epoch, body }));
                    return Ok(());
                }
                self.workers[w].on_message(n, message, now);
                self.take_turn(w)
            }
            Body::From(message) => {
                let lead = self.leads.iter().find(|lead| lead.node == n);
                let frozen_until = lead.map_or(0, |lead| lead.frozen_until);
                if !node_open || !self.nodes.of[n].is_up {
                    return Ok(());
                }
                if frozen_until > now {
                    let body = Body::From(message);
                    self.agenda.at(frozen_until, Happening::Frame(Frame { w, n, epoch, body }));
                    return Ok(());
                }
                self.on_said((w, n), epoch, message)
            }
        }
    }

    /// One end closes; the other hears of it unless the way is cut.
    pub(super) fn on_close(
        &mut self,
        w: usize,
        n: usize,
        epoch: u64,
        side: Side,
    ) -> Result<(), Problem> {
        // Who stands still first takes what had come before.
        let stands_still = match side {
            Side::Worker => self.workers[w].frozen_until(),
            Side::Node => self.leads.iter().find(|l| l.node == n).map_or(0, |l| l.frozen_until),
        };
        if stands_still > self.now() && self.nodes.of[n].is_up {
            self.agenda.at(stands_still + 1, Happening::Close(w, n, epoch, side));
            return Ok(());
        }
        let link = self.link(w, n);
        if link.epoch != epoch {
            return Ok(());
        }
        let (was_open, other, is_other_open) = match side {
            Side::Node => (std::mem::take(&mut link.node_open), Side::Worker, link.worker_open),
            Side::Worker => (std::mem::take(&mut link.worker_open), Side::Node, link.node_open),
        };
        let is_cut = link.is_cut;
        if is_other_open && !is_cut {
            self.agenda.after(3, Happening::Close(w, n, epoch, other));
        }
        if !was_open {
            return Ok(());
        }
        match side {
            Side::Node => self.detach(w, n, epoch),
            Side::Worker => {
                self.workers[w].on_down(n);
                self.connect_soon(w, n);
            }
        }
        Ok(())
    }

    pub(super) fn connect_soon(&mut self, w: usize, n: usize) {
        let wait = 100 + self.draw(400) + self.setup.scale.unit() / 100;
        let life = self.workers[w].life;
        self.agenda.after(wait, Happening::Connect(w, n, life));
    }

    pub(super) fn on_connect(&mut self, w: usize, n: usize, life: u64) -> Result<(), Problem> {
        let worker = &self.workers[w];
        if worker.life != life || !worker.is_running() {
            return Ok(());
        }
        let now = self.now();
        let incarnation = worker.incarnation().0;
        let is_worker_frozen = worker.frozen_until() > now;
        let is_node_frozen = self.leads.iter().any(|l| l.node == n && l.frozen_until > now);
        let is_up = self.nodes.of[n].is_up && !is_node_frozen;
        let link = self.link(w, n);
        if link.worker_open {
            return Ok(());
        }
        // Under a name that is in use another incarnation is refused.
        let is_refused = link.node_open && link.incarnation != incarnation;
        if link.is_cut || !is_up || is_worker_frozen || is_refused {
            self.connect_soon(w, n);
            return Ok(());
        }
        if link.node_open {
            let epoch = link.epoch;
            link.node_open = false;
            self.detach(w, n, epoch);
        }
        let link = self.link(w, n);
        link.epoch += 1;
        (link.node_open, link.worker_open) = (true, true);
        link.incarnation = incarnation;
        link.held.clear();
        let epoch = link.epoch;
        self.workers[w].on_up(n);
        let lead = self.leads.iter().find(|lead| lead.node == n && lead.has_begun());
        if let Some((id, serial)) = lead.map(|lead| (lead.id, lead.serial)) {
            let time = self.cluster_now(serial).unwrap_or_default().0;
            self.send(w, n, epoch, Body::To(ToWorker::Lead(id, time)));
        }
        Ok(())
    }

    /// The way between a worker and a node is cut, for so long.
    pub(super) fn cut(&mut self, w: usize, n: usize, long: i64) {
        let (a, b) = (300 + self.draw(SILENCE - 300), 300 + self.draw(SILENCE - 300));
        let link = self.link(w, n);
        link.is_cut = true;
        link.cuts += 1;
        let (cut, epoch) = (link.cuts, link.epoch);
        self.agenda.after(a, Happening::Detect(w, n, epoch, Side::Node, cut));
        self.agenda.after(b, Happening::Detect(w, n, epoch, Side::Worker, cut));
        self.agenda.after(long, Happening::Uncut(w, n, cut));
    }

    pub(super) fn on_detect(
        &mut self,
        w: usize,
        n: usize,
        epoch: u64,
        side: Side,
        cut: u64,
    ) -> Result<(), Problem> {
        let link = self.link(w, n);
        let is_that_one = link.is_cut && link.cuts == cut;
        if is_that_one { self.on_close(w, n, epoch, side) } else { Ok(()) }
    }

    pub(super) fn on_uncut(&mut self, w: usize, n: usize, cut: u64) -> Result<(), Problem> {
        let link = self.link(w, n);
        if link.cuts != cut {
            return Ok(());
        }
        link.is_cut = false;
        let held = std::mem::take(&mut link.held);
        let (epoch, node, worker) = (link.epoch, link.node_open, link.worker_open);
        for frame in held {
            self.agenda.after(1, Happening::Frame(frame));
        }
        // What one end has given up, the other hears of now.
        if !node {
            self.agenda.after(3, Happening::Close(w, n, epoch, Side::Worker));
        }
        if !worker {
            self.agenda.after(3, Happening::Close(w, n, epoch, Side::Node));
        }
        Ok(())
    }

    /// A node's process is gone: so are its ends of all streams.
    pub(super) fn close_node(&mut self, n: usize) -> Result<(), Problem> {
        for w in 0..self.setup.workers {
            let epoch = self.link(w, n).epoch;
            self.on_close(w, n, epoch, Side::Node)?;
        }
        Ok(())
    }

    /// A worker's agent is gone: so are its ends of all streams.
    pub(super) fn close_worker(&mut self, w: usize) -> Result<(), Problem> {
        for n in 0..NODES {
            let epoch = self.link(w, n).epoch;
            self.on_close(w, n, epoch, Side::Worker)?;
        }
        Ok(())
    }

    /// Who stands still beyond the keepalive is given up by the other end, and
    /// hears of it when it goes on.
    pub(super) fn frozen(&mut self, w: usize, n: usize, side: Side, until: i64) {
        let epoch = self.link(w, n).epoch;
        if until - self.now() > SILENCE {
            let other = if side == Side::Node { Side::Worker } else { Side::Node };
            self.agenda.after(SILENCE, Happening::Close(w, n, epoch, other));
        }
    }
}
