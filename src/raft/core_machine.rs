//! Joins the core's state to the replication: what Horai replicates.
//!
//! It decides nothing. The core's records go into snapshots as they are, and
//! its own hash is compared when they come out again.

use std::io;

use horai_core::ids::NodeId;
use horai_core::machine::command::{Entry, Envelope};
use horai_core::machine::outcome::Applied;
use horai_core::machine::snapshot::{self, Restore};
use horai_core::machine::state::State;
use horai_core::time::UtcMillis;

use crate::snapshot_store::Records;
use crate::state_machine::{Admission, Machine};

impl Machine for State {
    type View = Self;

    fn apply(&mut self, index: u64, now: UtcMillis, command: &Envelope) -> Applied {
        Self::apply(self, Entry { index, now, command })
    }

    fn now(&self) -> UtcMillis {
        Self::now(self)
    }

    fn admission(&self, node: NodeId) -> Option<Admission> {
        self.node_record(node).map(|record| Admission {
            store: record.store,
            replaces: record.replaces,
            retired: record.retired.is_some(),
        })
    }

    fn view(&self) -> Self {
        self.clone()
    }

    fn write(view: &Self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        snapshot::records(view).try_for_each(|record| sink(&record))
    }

    fn restore(records: &mut Records) -> io::Result<Self> {
        let mut restore = Restore::default();
        for record in records {
            restore.push(&record?).map_err(io::Error::other)?;
        }
        restore.finish().map_err(io::Error::other)
    }
}
