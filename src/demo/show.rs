//! The demo from the first line to the ledger: one loop that watches, tells,
//! and starts again what ended.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use horai_core::time::{Span, UtcMillis};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::ledger::{self, Ledger, Record};
use super::print::{Printer, Word, ending};
use super::watch::{self, Change};
use super::{Error, Options, jobs};
use crate::api::dto::LeaderDto;
use crate::api::job_definition::JobDefinition;
use crate::launch::{self, LocalCluster, Role};

/// A killed process stays away for this long, so that one can look.
const RESTART_AFTER: Duration = Duration::from_secs(5);
/// Between two looks at the children.
const LOOK: Duration = Duration::from_millis(50);
/// What was due in the last moment before the end is not counted.
const MARGIN: Span = Span::secs(1);
/// How long what is due may take to finish after the end.
const SETTLE: Duration = Duration::from_secs(20);
/// Between two looks at what is not done in the end.
const ROUND: Duration = Duration::from_millis(200);
/// How many actions are named for each kind of fault.
const NAMED: usize = 10;

/// Shows everything. True if nothing was lost or doubled.
pub(super) async fn show<W: Write>(
    options: &Options,
    cluster: &launch::Options,
    mut printer: Printer<W>,
) -> Result<bool, Error> {
    let begun = Instant::now();
    let mut signals = Signals::new()?;
    let nodes = format!("{} nodes and {} workers", cluster.nodes, cluster.workers);
    print(printer.plain(format!("starting {nodes} in {}", cluster.folder.display())))?;
    let cluster = tokio::select! {
        cluster = LocalCluster::start(cluster) => cluster?,
        // Dropping the half-started cluster calls the guard.
        () = signals.next() => return Ok(true),
    };
    let mut show = Show::load(cluster, printer).await?;
    show.ready(begun.elapsed())?;
    let end =
        options.run_for.map(|span| tokio::time::Instant::now() + Duration::from_millis(span.0));
    let told = show.run(end, &mut signals).await;
    let balance = match told {
        Ok(_) => show.settle(&mut signals).await,
        Err(error) => Err(error),
    };
    show.finish(balance).await
}

/// Ctrl-C, a polite kill, and the end of the terminal.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> Result<Self, Error> {
        let listen =
            |kind| signal(kind).map_err(|source| Error::System { what: "signals", source });
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Why the loop ended.
#[derive(PartialEq, Eq)]
enum End {
    /// Its time is over.
    Time,
    /// Somebody asked.
    Asked,
}

struct Show<W> {
    cluster: LocalCluster,
    printer: Printer<W>,
    jobs: Vec<JobDefinition>,
    /// Where the jobs write.
    files: PathBuf,
    /// From when on every instant counts.
    from: UtcMillis,
    changes: mpsc::Receiver<Change>,
    watchers: tokio::task::JoinSet<()>,
    leader: Option<LeaderDto>,
    /// The leader that ended, and when that was seen.
    lost_leader: Option<(Role, Instant)>,
    /// What ended, and when it is started again.
    restarts: BTreeMap<Role, Instant>,
    /// What is known of runs that are over.
    record: Record,
}

impl<W: Write> Show<W> {
    /// Gives the cluster its jobs, and begins to watch.
    async fn load(cluster: LocalCluster, printer: Printer<W>) -> Result<Self, Error> {
        let files = cluster.folder().join("files");
        let jobs = jobs::definitions(&files);
        cluster.client().apply(&jobs).await?;
        // Asked afterwards: no job can have been committed later than this.
        let from = watch::cluster_time(cluster.client()).await?;
        let nodes: Vec<u32> = nodes(&cluster).collect();
        let clients =
            nodes.iter().map(|n| cluster.node_client(*n)).collect::<Result<Vec<_>, _>>()?;
        let leader = cluster.client().cluster().await?.leader;
        let (watchers, changes) = watch::start(cluster.client().clone(), clients, leader);
        Ok(Self {
            cluster,
            printer,
            jobs,
            files,
            from,
            changes,
            watchers,
            leader,
            lost_leader: None,
            restarts: BTreeMap::new(),
            record: Record::default(),
        })
    }

    /// The line that says it works, and what one may do with it.
    fn ready(&mut self, took: Duration) -> Result<(), Error> {
        let urls: Vec<String> = nodes(&self.cluster).map(|n| self.cluster.url(n)).collect();
        let (urls, token) = (urls.join(","), self.cluster.token().to_owned());
        let mut lines = vec![format!(
            "ready in {:.1} s: {}  token {token}",
            took.as_secs_f64(),
            urls.replace(',', " ")
        )];
        for member in self.cluster.members() {
            let place = member.http.map(|a| format!("  http://{a}")).unwrap_or_default();
            let leads = if self.leads(member.role) { "  leads" } else { "" };
            lines.push(format!("  {:<9} pid {:<7}{place}{leads}", member.role, member.pid));
        }
        let pid = self.leader_pid().map_or_else(|| "PID".to_owned(), |pid| pid.to_string());
        lines.push(String::new());
        lines.push("In another terminal:".to_owned());
        lines.push(format!("  kill -9 {pid}     # the leader; see the next fire come"));
        lines.push(format!("  export HORAI_URL={urls} HORAI_TOKEN={token}"));
        lines.push(format!("  {} run list", program()));
        lines.push(format!("  cat {}", self.files.join("report.md").display()));
        lines.push(String::new());
        lines.push("What happens (times in UTC; Ctrl-C ends it):".to_owned());
        for line in lines {
            print(self.printer.plain(line))?;
        }
        Ok(())
    }

    fn leads(&self, role: Role) -> bool {
        matches!((role, self.leader), (Role::Node(n), Some(l)) if u64::from(n) == l.node)
    }

    fn leader_pid(&self) -> Option<u32> {
        self.cluster.members().find(|member| self.leads(member.role)).map(|member| member.pid)
    }

    /// Tells what happens until the end comes.
    async fn run(
        &mut self,
        end: Option<tokio::time::Instant>,
        signals: &mut Signals,
    ) -> Result<End, Error> {
        let over = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(over);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut over => return Ok(End::Time),
                () = signals.next() => return Ok(End::Asked),
                _ = look.tick() => self.look_at_children()?,
                Some(change) = self.changes.recv() => self.tell(change)?,
            }
        }
    }

    fn look_at_children(&mut self) -> Result<(), Error> {
        for ended in self.cluster.reap() {
            let now = Instant::now();
            if self.leads(ended.role) {
                self.lost_leader = Some((ended.role, now));
            }
            self.restarts.insert(ended.role, now + RESTART_AFTER);
            let leads = if self.leads(ended.role) { ", the leader" } else { "" };
            let detail = format!(
                "pid {}{leads}: {}; again in {} s",
                ended.pid,
                how(ended.status),
                RESTART_AFTER.as_secs()
            );
            print(self.printer.line(Word::Killed, &ended.role.to_string(), &detail))?;
        }
        let due: Vec<Role> = self
            .restarts
            .iter()
            .filter(|(_, at)| **at <= Instant::now())
            .map(|(role, _)| *role)
            .collect();
        for role in due {
            self.restarts.remove(&role);
            let pid = self.cluster.restart(role)?;
            let detail = format!("pid {pid}, with its data as it was");
            print(self.printer.line(Word::Restart, &role.to_string(), &detail))?;
        }
        Ok(())
    }

    fn tell(&mut self, change: Change) -> Result<(), Error> {
        match change {
            Change::Leader(leader) => {
                self.leader = Some(leader);
                let pid = self.leader_pid().map(|pid| format!(" (pid {pid})")).unwrap_or_default();
                let after = self.lost_leader.take().map(|(role, at)| {
                    format!(", {} ms after {role} ended", at.elapsed().as_millis())
                });
                let detail =
                    format!("leads now{pid}, term {}{}", leader.term, after.unwrap_or_default());
                print(self.printer.line(Word::Election, &format!("node-{}", leader.node), &detail))
            }
            Change::Attempt(run, attempt) => print(self.printer.attempt(&run, &attempt)),
            Change::Over(run) => {
                if run.state != "success" {
                    let end = run.attempts.last().and_then(|attempt| attempt.end.as_ref());
                    let detail = format!(
                        "{} after {} attempts: {}",
                        run.state,
                        run.attempts.len(),
                        end.map_or_else(|| "it never started".to_owned(), ending)
                    );
                    print(self.printer.line(Word::Failed, &run.id.to_string(), &detail))?;
                }
                self.record.note(&run);
                Ok(())
            }
        }
    }

    /// Lets what is due finish, and draws the balance.
    async fn settle(&mut self, signals: &mut Signals) -> Result<Ledger, Error> {
        let now = watch::cluster_time(self.cluster.client()).await;
        // Without a cluster that answers, the wall clock is near enough: what is
        // planned up to it and not run is lost either way.
        let now = now.unwrap_or_else(|_| UtcMillis(jiff::Timestamp::now().as_millisecond()));
        let to = now.minus(MARGIN);
        let until = tokio::time::Instant::now() + SETTLE;
        let mut told = false;
        loop {
            let ledger = self.balance(to).await?;
            let step = tokio::time::Instant::now() + ROUND;
            if ledger.lost.is_empty() || step > until {
                return Ok(ledger);
            }
            if !told {
                told = true;
                let detail = format!("{} of {} actions", ledger.lost.len(), ledger.expected);
                print(self.printer.line(Word::Note, "waiting for what is due", &detail))?;
            }
            // What ended meanwhile is still started again.
            if self.run(Some(step), signals).await? == End::Asked {
                return self.balance(to).await;
            }
        }
    }

    /// The balance of every instant up to `to`.
    async fn balance(&mut self, to: UtcMillis) -> Result<Ledger, Error> {
        let expected = ledger::expected(&self.jobs, self.from, to)?;
        // Once more all that the cluster keeps: what was told on the way may
        // have changed since. If it does not answer, what was told must do.
        if let Ok(runs) = watch::all_runs(self.cluster.client()).await {
            for run in &runs {
                self.record.note(run);
            }
        }
        let witness = jobs::witness(&self.files)
            .map_err(|source| Error::System { what: "the files that the jobs wrote", source })?;
        Ok(Ledger::draw(&expected, &self.record.by_action(), &witness, (self.from, to)))
    }

    /// Stops the cluster, whatever happened, and shows the balance.
    async fn finish(mut self, balance: Result<Ledger, Error>) -> Result<bool, Error> {
        self.watchers.abort_all();
        let kept = self.cluster.folder().to_owned();
        let stopped = self.cluster.stop().await;
        let ledger = balance?;
        let printer = &mut self.printer;
        print(printer.plain(""))?;
        if kept.exists() {
            print(
                printer.plain(format!("logs, data and the jobs' files are in {}", kept.display())),
            )?;
        }
        if !stopped {
            print(printer.plain("some process or file of the demo could not be removed"))?;
        }
        if ledger.failed > 0 {
            print(printer.plain(format!("{} actions failed by themselves", ledger.failed)))?;
        }
        for (fault, actions) in
            [("lost", &ledger.lost), ("double", &ledger.double), ("unplanned", &ledger.unplanned)]
        {
            for action in actions.iter().take(NAMED) {
                print(printer.plain(format!("{fault}: {action}")))?;
            }
        }
        print(printer.plain(&ledger))?;
        Ok(stopped && ledger.is_clean())
    }
}

/// The numbers of the nodes that run.
fn nodes(cluster: &LocalCluster) -> impl Iterator<Item = u32> + '_ {
    cluster.members().filter_map(|member| match member.role {
        Role::Node(n) => Some(n),
        Role::Worker(_) => None,
    })
}

/// How this program is called from where it was called.
fn program() -> String {
    let Ok(program) = std::env::current_exe() else { return "horai".to_owned() };
    let here = std::env::current_dir().unwrap_or_default();
    match program.strip_prefix(&here) {
        Ok(below) => format!("./{}", below.display()),
        Err(_) => program.display().to_string(),
    }
}

fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, code) => format!("exit {}", code.unwrap_or_default()),
    }
}

fn print(written: io::Result<()>) -> Result<(), Error> {
    written.map_err(|source| Error::System { what: "standard output", source })
}
