//! One attempt's life on this worker: journal, start, result; and adoption.
//!
//! Each attempt is one task that reports to the agent. It never decides whether
//! an attempt may run: the agent has checked fence, token and lease. What runs,
//! and where, is behind [`JobRunner`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use horai_core::ids::{AttemptKey, LeaderId, Token};
use horai_core::machine::command::EndReport;
use horai_core::model::handle::Handle;
use horai_core::model::run::EndKind;
use horai_core::mutants::{self, Mutant};
use horai_core::time::UtcMillis;
use horai_proto::worker as pb;
use horai_raft::host::Host;
use tokio::sync::mpsc;

use super::bring::Bring;
use super::clock::millis;
use super::ending::Ending;
use super::intake::is_of_machine;
use super::jobs::{Control, JobRunner, Started};
use super::journal::{self, Journal, Record};
use super::kills;

/// Between two looks for what an attempt began elsewhere.
const HANDLES_LOOK: Duration = Duration::from_millis(200);

/// What an attempt's task tells the agent.
pub(super) enum Notice {
    /// It takes orders now.
    Started(AttemptKey, Box<dyn Control>),
    /// What it began elsewhere, as far as that is known now.
    Handles(AttemptKey, Token, Vec<Handle>),
    /// What became of what an attempt of another worker began elsewhere.
    EndedElsewhere(AttemptKey, Token, Vec<Handle>),
    /// It is over, and its result is in the journal.
    Ended(Vec<(AttemptKey, Token, Ending)>),
    /// The same of one that is given back, through no fault of this worker.
    Unfurnished(AttemptKey, Token, Ending),
    /// The journal failed: the worker must stop.
    Broken(journal::Error),
}

/// The clocks that all attempts share with the agent.
pub(super) struct Shared {
    host: Arc<dyn Host>,
    /// When the last acknowledged heartbeat was sent, since boot.
    pub(super) lease_from: AtomicU64,
    /// Cluster time minus time since boot.
    pub(super) offset: AtomicI64,
}

impl Shared {
    pub(super) fn new(host: Arc<dyn Host>) -> Self {
        Self { host, lease_from: AtomicU64::new(0), offset: AtomicI64::new(0) }
    }

    /// Milliseconds since boot.
    pub(super) fn boot_ms(&self) -> u64 {
        millis(self.host.boot_time())
    }

    pub(super) fn deadline(&self, lease_ms: u64) -> u64 {
        match self.lease_from.load(Ordering::Acquire) {
            0 => 0,
            from => from.saturating_add(lease_ms),
        }
    }

    pub(super) fn cluster_now(&self) -> UtcMillis {
        UtcMillis(self.offset.load(Ordering::Acquire).saturating_add_unsigned(self.boot_ms()))
    }
}

/// What every attempt's task needs.
#[derive(Clone)]
pub(super) struct Runner {
    pub(super) jobs: Arc<dyn JobRunner>,
    pub(super) journal: Journal,
    pub(super) bring: Arc<Bring>,
    pub(super) shared: Arc<Shared>,
    pub(super) notices: mpsc::Sender<Notice>,
}

impl Runner {
    /// Records a batch of noops as accepted and finished, by one sync.
    pub(super) async fn noops(self, batch: Vec<(AttemptKey, Token, LeaderId)>) {
        let now = self.shared.cluster_now();
        let report = ended(EndKind::Exited { code: 0 }, Some(now), now);
        let accepted = batch.iter().map(|(key, token, fence)| Record::Accepted {
            key: *key,
            token: *token,
            fence: *fence,
        });
        let finished = batch.iter().map(|(key, token, _)| Record::Finished {
            key: *key,
            token: *token,
            report: report.clone(),
        });
        let records = accepted.chain(finished).collect();
        let notice = match self.journal.append(records).await {
            Ok(()) => Notice::Ended(
                batch
                    .into_iter()
                    .map(|(key, token, _)| (key, token, report.clone().into()))
                    .collect(),
            ),
            Err(error) => refused(error, batch),
        };
        self.tell(notice).await;
    }

    /// Runs one attempt.
    pub(super) async fn run(
        self,
        start: pb::Start,
        key: AttemptKey,
        token: Token,
        fence: LeaderId,
    ) {
        if let Err(e) = self.journal.append(vec![Record::Accepted { key, token, fence }]).await {
            return self.tell(refused(e, vec![(key, token, fence)])).await;
        }
        let files = match self.bring.all(&start.files).await {
            Ok(files) => files,
            Err(why) => return self.give_back(key, token, &why).await,
        };
        let deadline_ms = self.shared.deadline(start.lease_ms);
        let now = self.shared.cluster_now();
        if self.shared.boot_ms() >= deadline_ms || is_too_late(&start, now) {
            let report = ended(EndKind::LeaseExpired, None, now);
            return self.finish(key, token, report.into()).await;
        }
        let offset = self.shared.offset.load(Ordering::Acquire);
        match self.jobs.start(start, key, token, files, deadline_ms, offset).await {
            Ok(Started { control, ended, has_handles }) => {
                self.tell(Notice::Started(key, control)).await;
                if has_handles {
                    return self.collect_with_handles(key, token, ended).await;
                }
                ended.await;
                self.collect(key, token).await;
            }
            Err(e) => {
                let how = match is_of_machine(&e) {
                    true => EndKind::declined(&format!("the worker cannot take it: {e}")),
                    false => EndKind::not_started(&format!("the worker could not start it: {e}")),
                };
                let now = self.shared.cluster_now();
                self.finish(key, token, ended(how, None, now).into()).await;
            }
        }
    }

    /// Takes over an attempt that this worker's predecessor started.
    pub(super) async fn adopt(self, key: AttemptKey, token: Token) {
        if let Some(control) = self.jobs.adopt(key) {
            self.tell(Notice::Started(key, control)).await;
        }
        let jobs = Arc::clone(&self.jobs);
        let has_handles = tokio::task::spawn_blocking(move || jobs.has_handles(key)).await;
        if has_handles.unwrap_or(false) {
            return self.collect_with_handles(key, token, std::future::ready(())).await;
        }
        self.collect(key, token).await;
    }

    /// Tells what it begins elsewhere while it runs, and what became of that before its end.
    async fn collect_with_handles(
        self,
        key: AttemptKey,
        token: Token,
        ended: impl Future<Output = ()>,
    ) {
        let mut known = Vec::new();
        let ending = {
            let ending = async {
                ended.await;
                self.jobs.collect(key, token).await
            };
            let mut ending = std::pin::pin!(ending);
            loop {
                tokio::select! {
                    ending = &mut ending => break ending,
                    () = tokio::time::sleep(HANDLES_LOOK) => {
                        self.tell_handles(key, token, &mut known).await;
                    }
                }
            }
        };
        self.tell_handles(key, token, &mut known).await;
        self.finish(key, token, ending).await;
    }

    /// Ends what an attempt of another worker began elsewhere.
    pub(super) async fn end_elsewhere(
        self,
        key: AttemptKey,
        token: Token,
        left: Vec<(String, Vec<String>)>,
    ) {
        let handles = kills::end_all(left).await;
        self.tell(Notice::EndedElsewhere(key, token, handles)).await;
    }

    /// Tells what is there, if that is not what is known.
    async fn tell_handles(&self, key: AttemptKey, token: Token, known: &mut Vec<Handle>) {
        let jobs = Arc::clone(&self.jobs);
        let read = tokio::task::spawn_blocking(move || jobs.handles(key)).await;
        let Ok(handles) = read else { return };
        if handles != *known {
            known.clone_from(&handles);
            self.tell(Notice::Handles(key, token, handles)).await;
        }
    }

    /// Waits until it is over, and reports how it ended.
    async fn collect(self, key: AttemptKey, token: Token) {
        let ending = self.jobs.collect(key, token).await;
        self.finish(key, token, ending).await;
    }

    /// It never began, for want of what it should have had.
    async fn give_back(self, key: AttemptKey, token: Token, why: &str) {
        let report = ended(EndKind::declined(why), None, self.shared.cluster_now());
        let ending = Ending::from(report);
        let record = Record::of_end(key, token, ending.clone());
        let notice = match self.journal.append(vec![record]).await {
            Ok(()) => Notice::Unfurnished(key, token, ending),
            Err(error) => Notice::Broken(error),
        };
        self.tell(notice).await;
    }

    async fn finish(self, key: AttemptKey, token: Token, ending: Ending) {
        let record = Record::of_end(key, token, ending.clone());
        let notice = match self.journal.append(vec![record]).await {
            Ok(()) => Notice::Ended(vec![(key, token, ending)]),
            Err(error) => Notice::Broken(error),
        };
        self.tell(notice).await;
    }

    async fn tell(&self, notice: Notice) {
        // The agent is gone when the worker stops: the journal has it.
        let _ = self.notices.send(notice).await;
    }
}

/// An acceptance that the journal did not take: a full one means that nothing was
/// started, any other error that nothing may be any more.
fn refused(error: journal::Error, batch: Vec<(AttemptKey, Token, LeaderId)>) -> Notice {
    if !matches!(error, journal::Error::Full { .. }) {
        return Notice::Broken(error);
    }
    let how = EndKind::declined("its worker's journal is full");
    let report = EndReport { how, ..gone() };
    let ended = batch.into_iter().map(|(key, token, _)| (key, token, report.clone().into()));
    Notice::Ended(ended.collect())
}

/// True if the cluster may soon count the attempt as over: its dispatch, or the order,
/// was long on its way.
pub(crate) fn is_too_late(start: &pb::Start, cluster_now: UtcMillis) -> bool {
    let is_late = start.begin_by_ms != 0 && cluster_now.0 > start.begin_by_ms;
    is_late && !mutants::on(Mutant::LateOrdersBegin)
}

/// When a lost process ended is not known.
pub(super) fn gone() -> EndReport {
    EndReport { how: EndKind::Gone, started: None, ended: None, output_bytes: 0, output_crc: 0 }
}

pub(super) fn ended(how: EndKind, started: Option<UtcMillis>, at: UtcMillis) -> EndReport {
    EndReport { how, started, ended: Some(at), output_bytes: 0, output_crc: 0 }
}
