//! openraft's state machine on top of the core's.
//!
//! Decodes committed commands, applies them under a lock, answers every
//! responder and keeps snapshots. It takes no decision, and does no I/O while
//! applying: an error there stops the node. The core's machine is behind
//! [`Machine`], so that this package does not know what the state looks like.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures_util::{Stream, StreamExt};
use horai_core::ids::NodeId;
use horai_core::machine::command::{self, Envelope};
use horai_core::machine::outcome::{Applied, Event};
use horai_core::time::UtcMillis;
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;

use crate::growth::Growth;
use crate::snapshot_store::{Records, SnapshotHandle, SnapshotStore, SnapshotWriter};
use crate::types::{EntryPayload, LogId, SnapshotMeta, StoredMembership, TypeConfig};

/// What the machine knows of a node that was let in or taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Random id of its store; 0 for the founder.
    pub store: u128,
    /// The lost node whose place it takes.
    pub replaces: Option<NodeId>,
    /// It was taken out for good.
    pub retired: bool,
}

/// What is replicated: the core's state, or a small one in tests.
pub trait Machine: Sized + Send + Sync + 'static {
    /// A copy as of one index: cheap to take, because parts are shared.
    type View: Send + Sync + 'static;

    /// Applies one command of the entry at `index`. Total.
    fn apply(&mut self, index: u64, now: UtcMillis, command: &Envelope) -> Applied;

    /// Replicated time: that of the newest command applied.
    fn now(&self) -> UtcMillis;

    /// What is known of a node's admission; a machine without membership knows nothing.
    fn admission(&self, _node: NodeId) -> Option<Admission> {
        None
    }

    /// The state as it is now, not following later changes.
    fn view(&self) -> Self::View;

    /// Hands a view's records to `sink`, in the order in which they are restored.
    ///
    /// # Errors
    /// Those of `sink`.
    fn write(view: &Self::View, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>;

    /// Builds a state from records, and checks it against their hash.
    ///
    /// # Errors
    /// If records are damaged or do not add up.
    fn restore(records: &mut Records) -> io::Result<Self>;
}

struct State<M> {
    machine: M,
    last: Option<LogId>,
    membership: StoredMembership,
}

/// What an observer is told. It may miss nothing but what a restart skips: a
/// listener that looks at the whole state when it begins sees every change.
#[derive(Debug, Clone, Copy)]
pub enum Heard<'a> {
    /// The entry at this index was applied, with these events.
    Events(u64, &'a [Event]),
    /// A snapshot took the state's place: anything may have changed.
    Replaced,
}

/// Hears of changes after they are applied. Applying waits meanwhile: it must
/// not block.
pub type Observer = Arc<dyn Fn(Heard<'_>) + Send + Sync>;

struct Shared<M> {
    state: RwLock<State<M>>,
    applied: watch::Sender<Option<LogId>>,
    observer: Option<Observer>,
    growth: Mutex<Growth>,
}

/// Read access to the replicated state. Cheap to clone.
pub struct StateHandle<M>(Arc<Shared<M>>);

impl<M> Clone for StateHandle<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Machine> StateHandle<M> {
    /// Looks at the state. Applying waits meanwhile: keep it short, or take a
    /// view.
    pub fn read<T>(&self, look: impl FnOnce(&M) -> T) -> T {
        look(&self.0.state.read().unwrap_or_else(PoisonError::into_inner).machine)
    }

    /// Works on the count of what was applied.
    pub(crate) fn growth<T>(&self, work: impl FnOnce(&mut Growth) -> T) -> T {
        // Counters: another holder's panic left nothing half-done that matters.
        work(&mut self.0.growth.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last applied log id, and a way to wait for the next.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Option<LogId>> {
        self.0.applied.subscribe()
    }
}

/// What openraft drives.
pub struct StateMachine<M> {
    shared: Arc<Shared<M>>,
    snapshots: Arc<SnapshotStore>,
}

impl<M: Machine> StateMachine<M> {
    /// Starts from `machine`, an empty state; openraft installs the current
    /// snapshot and applies the log from there.
    pub fn new(machine: M, snapshots: Arc<SnapshotStore>, observer: Option<Observer>) -> Self {
        let state = State { machine, last: None, membership: StoredMembership::default() };
        let shared = Shared {
            state: RwLock::new(state),
            applied: watch::Sender::new(None),
            observer,
            growth: Mutex::default(),
        };
        Self { shared: Arc::new(shared), snapshots }
    }

    /// Read access for everybody else.
    #[must_use]
    pub fn handle(&self) -> StateHandle<M> {
        StateHandle(Arc::clone(&self.shared))
    }

    fn builder(&self) -> SnapshotBuilder<M> {
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        SnapshotBuilder {
            view: Arc::new(state.machine.view()),
            meta: SnapshotMeta {
                last_log_id: state.last,
                last_membership: state.membership.clone(),
            },
            snapshots: Arc::clone(&self.snapshots),
        }
    }
}

impl<M: Machine> RaftStateMachine<TypeConfig> for StateMachine<M> {
    type SnapshotData = SnapshotHandle;
    type SnapshotBuilder = SnapshotBuilder<M>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        Ok((state.last, state.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let id = entry.log_id;
            let mut commands = Vec::new();
            let mut bytes = 0;
            if let EntryPayload::Normal(batch) = &entry.payload {
                bytes = batch.body().len();
                for bytes in batch.commands() {
                    // Skipping a command would let nodes differ: stop instead.
                    let command = command::decode(bytes).map_err(|e| {
                        io::Error::new(io::ErrorKind::InvalidData, format!("entry {id}: {e}"))
                    })?;
                    commands.push((batch.now(), command));
                }
            }
            let mut outcomes = Vec::with_capacity(commands.len());
            let mut events = Vec::new();
            {
                let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
                for (now, command) in &commands {
                    let applied = state.machine.apply(id.index, *now, command);
                    outcomes.push(applied.outcome);
                    events.extend(applied.events);
                }
                if let EntryPayload::Membership(membership) = entry.payload {
                    state.membership = StoredMembership::new(Some(id), membership);
                }
                state.last = Some(id);
            }
            self.handle().growth(|growth| growth.note(id.index, commands.len(), bytes));
            self.shared.applied.send_replace(Some(id));
            if let Some(observer) = &self.shared.observer
                && !events.is_empty()
            {
                observer(Heard::Events(id.index, &events));
            }
            if let Some(responder) = responder {
                responder.send(outcomes);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder<M> {
        self.builder()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotHandle,
    ) -> io::Result<()> {
        let snapshots = Arc::clone(&self.snapshots);
        let kept = meta.clone();
        let machine = self
            .snapshots
            .blocking(move || {
                let machine = M::restore(&mut snapshot.records())?;
                // Restored first: a snapshot that does not add up never counts.
                snapshots.publish(&kept, &snapshot)?;
                Ok(machine)
            })
            .await?;
        {
            let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
            *state =
                State { machine, last: meta.last_log_id, membership: meta.last_membership.clone() };
        }
        let index = meta.last_log_id.map(|id| id.index);
        self.handle().growth(|growth| growth.restart(index));
        self.shared.applied.send_replace(meta.last_log_id);
        if let Some(observer) = &self.shared.observer {
            observer(Heard::Replaced);
        }
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<openraft::alias::SnapshotOf<TypeConfig, SnapshotHandle>>> {
        let current = self.snapshots.current();
        Ok(current.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Writes one view in the background.
pub struct SnapshotBuilder<M: Machine> {
    view: Arc<M::View>,
    meta: SnapshotMeta,
    snapshots: Arc<SnapshotStore>,
}

impl<M: Machine> RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder<M> {
    type SnapshotData = SnapshotHandle;

    async fn build_snapshot(
        &mut self,
    ) -> io::Result<openraft::alias::SnapshotOf<TypeConfig, SnapshotHandle>> {
        let (view, meta) = (Arc::clone(&self.view), self.meta.clone());
        let snapshots = Arc::clone(&self.snapshots);
        self.snapshots
            .blocking(move || {
                let mut writer: SnapshotWriter = snapshots.writer(true);
                M::write(&view, &mut |record| writer.record(record))?;
                let snapshot = writer.finish()?;
                snapshots.publish(&meta, &snapshot)?;
                Ok(Snapshot { meta, snapshot })
            })
            .await
    }
}
