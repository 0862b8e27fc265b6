//! A small machine, and stores on a simulated disk.

use std::io;
use std::sync::Arc;

use horai_core::machine::command::{Actor, Command, Envelope, encode};
use horai_core::machine::outcome::Applied;
use horai_core::time::UtcMillis;
use openraft::storage::RaftLogStorageExt;
use uuid::Uuid;

use crate::identity::Identity;

use crate::host::OsHost;
use crate::open::{Error, Stores, create_on, open_on};
use crate::sim_disk::SimDisk;
use crate::snapshot_store::Records;
use crate::state_machine::Machine;
use crate::types::{EncodedBatch, Entry, EntryPayload, LogId, TypeConfig, Vote};

/// Remembers the index of every command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Indexes(pub(super) Arc<Vec<u64>>);

impl Machine for Indexes {
    type View = Self;

    fn apply(&mut self, index: u64, _: UtcMillis, _: &Envelope) -> Applied {
        Arc::make_mut(&mut self.0).push(index);
        Applied::default()
    }

    fn now(&self) -> UtcMillis {
        UtcMillis::default()
    }

    fn view(&self) -> Self {
        self.clone()
    }

    fn write(view: &Self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        view.0.iter().try_for_each(|index| sink(&index.to_le_bytes()))
    }

    fn restore(records: &mut Records) -> io::Result<Self> {
        let read = |record: io::Result<Vec<u8>>| {
            let bytes = record?.try_into().map_err(|_| io::Error::other("not a number"))?;
            Ok(u64::from_le_bytes(bytes))
        };
        Ok(Self(Arc::new(records.map(read).collect::<io::Result<_>>()?)))
    }
}

/// Two simulated disks; the identity file lies on the first.
#[derive(Clone, Default)]
pub(super) struct Sim {
    pub(super) log: SimDisk,
    pub(super) snapshots: SimDisk,
}

impl Sim {
    pub(super) fn create(&self) -> Result<Stores, Error> {
        create_on(
            Arc::new(OsHost),
            Arc::new(self.log.clone()),
            Arc::new(self.snapshots.clone()),
            Box::new(self.log.clone()),
            Identity::new(Uuid::from_u128(1), 1, Uuid::new_v4()),
        )
    }

    pub(super) fn open(&self) -> Result<Stores, Error> {
        open_on(
            Arc::new(OsHost),
            Arc::new(self.log.clone()),
            Arc::new(self.snapshots.clone()),
            Box::new(self.log.clone()),
        )
    }
}

pub(super) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(*Vote::new_committed(term, 1).leader_id(), index)
}

/// An entry with one command whose user name makes it about `size` bytes long.
pub(super) fn entry(term: u64, index: u64, size: usize) -> Entry {
    let command =
        Envelope { actor: Actor::User("u".repeat(size)), request: None, command: Command::Tick };
    let batch = EncodedBatch::new(UtcMillis(1), [encode(&command).unwrap()]).unwrap();
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(batch) }
}

/// Appends and waits until it is durable.
pub(super) async fn append(stores: &mut Stores, entries: Vec<Entry>) -> bool {
    RaftLogStorageExt::<TypeConfig>::blocking_append(&mut stores.log, entries).await.is_ok()
}
