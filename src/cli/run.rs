//! `horai run`: what was executed, is, and waits to be.

use std::io::Write;

use clap::{Args, Subcommand};

use super::action::NOT_HERE;
use super::client::{LogsQuery, Which};
use super::failure::Failure;
use super::job_state::{Values, brief};
use super::logs::Shown;
use super::output::{Format, Show, View, moment, note, or_dash, print, tenths, text_or_dash};
use super::remote::{Remote, wait};
use crate::api::dto::{
    ActionRef, AttemptDto, EndDto, ExplainDto, HandleDto, HistoryDto, RunDto, RunRef, ShardDto,
    Time,
};

/// What is shown of an attempt.
const ATTEMPT: [&str; 10] = [
    "attempt",
    "worker",
    "cause",
    "dispatched",
    "started",
    "ended",
    "end",
    "output",
    "memory",
    "cpu",
];
/// Signals by which a kernel ends who is over a limit, as Linux counts them.
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;
/// Told of outputs that are gone.
const DROPPED: &str = "dropped: the cluster held too much, and newer outputs took their place";

/// Runs.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: RunCommand,
}

#[derive(Debug, Subcommand)]
enum RunCommand {
    /// List runs, newest first
    List {
        /// Of this job alone; of one that is deleted by its number, as '#79'
        #[arg(long)]
        job: Option<String>,
        /// Of this kind alone
        #[arg(long, value_parser = RunDto::KINDS)]
        kind: Option<String>,
        /// In this state alone
        #[arg(long, value_parser = RunDto::STATES)]
        state: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show a run and its attempts
    Show {
        /// Such as r-17
        run: RunRef,
        /// One shard alone
        #[arg(long)]
        shard: Option<u32>,
    },
    /// Print the output of a run's last attempt, or of another one
    Logs {
        /// Such as r-17
        run: RunRef,
        /// Stay until the attempt has ended; goes on at another node if one is lost
        #[arg(short, long)]
        follow: bool,
        /// Which shard, of a run that has several
        #[arg(long)]
        shard: Option<u32>,
        /// Which try; the last if none is given
        #[arg(long)]
        attempt: Option<u32>,
        /// From which byte; those that are left out count too
        #[arg(long, alias = "offset", value_name = "BYTE", default_value_t = 0)]
        since_offset: u64,
        /// Only lines that contain this text
        #[arg(long, value_name = "TEXT")]
        grep: Option<String>,
        /// Before each line its time and stream
        #[arg(short, long)]
        timestamps: bool,
    },
    /// Print what a run put out, by key
    Outputs {
        /// Such as r-17
        run: RunRef,
    },
    /// End a run: its processes get SIGTERM, and SIGKILL after the job's grace
    Cancel {
        /// Such as r-17
        run: RunRef,
        /// One shard alone; the others go on
        #[arg(long)]
        shard: Option<u32>,
    },
    /// Run the action of a run again; what waits for it goes on when it succeeds
    Rerun {
        /// Such as r-17
        run: RunRef,
        /// Only show what would run, and what waits for that
        #[arg(long)]
        preview: bool,
    },
    /// Tell every change of a run: when it was, and who made it
    History {
        /// Such as r-17
        run: RunRef,
    },
    /// Say why a run or an action does not run
    Explain {
        /// Such as r-17, or load@20261121T030000Z
        id: String,
        /// One shard of a run
        #[arg(long)]
        shard: Option<u32>,
    },
}

/// Does what was asked.
pub(super) fn run(args: RunArgs, out: &mut impl Write) -> Result<(), Failure> {
    let RunArgs { remote, verb } = args;
    let format = remote.output.output;
    let client = remote.client()?;
    wait(async {
        match verb {
            RunCommand::List { job, kind, state, limit } => {
                let which =
                    Which { job: job.as_deref(), kind: kind.as_deref(), state: state.as_deref() };
                print(out, format, &client.newest_runs(which, limit).await?)
            }
            RunCommand::Show { run, shard: None } => print(out, format, &client.run(run).await?),
            RunCommand::Show { run, shard: Some(shard) } => {
                print(out, format, &client.shard(run, shard).await?)
            }
            RunCommand::Outputs { run } => {
                let found = client.run(run).await?;
                if found.outputs_dropped && format == Format::Table {
                    return note(format, DROPPED);
                }
                print(out, format, &Values(found.outputs))
            }
            RunCommand::Logs { run, follow, shard, attempt, since_offset, grep, timestamps } => {
                let query = LogsQuery { shard, attempt, offset: since_offset, follow };
                let mut logs = client.logs(run, query).await?;
                let mut shown = Shown::new(format == Format::Json, timestamps, grep);
                while let Some(event) = logs.next().await? {
                    shown.show(&event, out)?;
                    out.flush()?;
                }
                Ok(shown.end(out)?)
            }
            RunCommand::Cancel { run, shard: None } => {
                client.cancel_run(run).await?;
                note(format, &format!("run {run} is asked to end"))
            }
            RunCommand::Cancel { run, shard: Some(shard) } => {
                client.cancel_shard(run, shard).await?;
                note(format, &format!("shard {shard} of run {run} is asked to end"))
            }
            RunCommand::Rerun { run, preview } => {
                let Some(action) = client.run(run).await?.action else {
                    let hint = "run its job again: horai job trigger";
                    let text = format!("run {run} is of no action");
                    return Err(Failure::new(text, hint, crate::error::exit::CONFLICT));
                };
                if preview {
                    return print(out, format, &client.recover_preview(&action, false).await?);
                }
                match client.recover(&action, false).await? {
                    Some(again) => print(out, format, &client.run(again).await?),
                    None => {
                        note(format, &format!("{action} {NOT_HERE}"))?;
                        print(out, format, &vec![client.action(&action).await?])
                    }
                }
            }
            RunCommand::History { run } => print(out, format, &client.run_history(run).await?),
            RunCommand::Explain { id, shard } => {
                let explained = match (id.parse::<ActionRef>(), shard) {
                    (Ok(action), None) => client.explain_action(&action).await?,
                    (_, shard) => {
                        let run = id.parse().map_err(|error| wrong_id(&id, &error))?;
                        match shard {
                            Some(shard) => client.explain_shard(run, shard).await?,
                            None => client.explain_run(run).await?,
                        }
                    }
                };
                print(out, format, &explained)
            }
        }
    })
}

fn wrong_id(id: &str, error: &crate::api::dto::TextError) -> Failure {
    let hint = "write a run as r-17, an action as load@20261121T030000Z";
    Failure::new(format!("{id:?} names nothing: {error}"), hint, crate::error::exit::USAGE)
}

impl Show for Vec<RunDto> {
    fn view(&self) -> View {
        let titles = vec!["id", "job", "kind", "state", "nominal", "tries", "worker"];
        let row = |run: &RunDto| {
            vec![
                run.id.to_string(),
                run.job.clone(),
                run.kind.clone(),
                state(run),
                moment(run.nominal),
                run.attempts.last().map_or(0, |attempt| attempt.number).to_string(),
                or_dash(of_shards(run).as_ref().or(run.attempts.last().map(|a| &a.worker))),
            ]
        };
        View { titles, rows: self.iter().map(row).collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().map(|run| run.id.to_string()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("no runs yet")
    }
}

/// The batch key, unless it is only the action's name.
fn batch(run: &RunDto) -> Option<&String> {
    let Time(nominal) = run.nominal;
    let own = ActionRef { job: run.job.clone(), nominal }.to_string();
    Some(&run.batch).filter(|batch| **batch != own)
}

impl Show for RunDto {
    fn view(&self) -> View {
        let mut facts = vec![
            ("run", self.id.to_string()),
            ("job", format!("{}, revision {}", self.job, self.revision)),
            ("kind", self.kind.clone()),
            ("action", or_dash(self.action.as_ref())),
            ("state", state(self)),
            ("nominal", moment(self.nominal)),
            ("batch", or_dash(batch(self))),
            ("created", moment(self.created)),
            ("finished", or_dash(self.finished.map(moment))),
            ("priority", self.priority.to_string()),
            ("retries", self.retries.to_string()),
            ("workers lost", self.losses.to_string()),
        ];
        facts.extend(self.shard.map(|shard| ("shard", shard.to_string())));
        facts.extend(
            self.shard_counts
                .map(|counts| ("shards", format!("{}, {} over", counts.total, counts.over))),
        );
        let of_shards = self.shards.iter().flat_map(|shard| &shard.attempts);
        // A sentence would make a table of it too wide to read.
        facts.extend(self.attempts.iter().chain(of_shards).filter_map(|attempt| {
            let message = attempt.end.as_ref()?.message.as_ref()?;
            Some(("why", format!("{}: {message}", attempt.id)))
        }));
        for attempt in &self.attempts {
            let told = |handle: &HandleDto| match &handle.by {
                Some(by) => format!("{}: {}: {by}", attempt.id, handle.text),
                None => format!("{}: {}", attempt.id, handle.text),
            };
            facts.extend(attempt.handles.iter().map(|handle| ("began elsewhere", told(handle))));
        }
        facts.extend(self.outputs.iter().map(|(key, value)| ("output", brief(key, value))));
        facts.extend(self.outputs_dropped.then(|| ("outputs", DROPPED.to_owned())));
        let row = |attempt: &AttemptDto| {
            vec![
                attempt.id.to_string(),
                attempt.worker.clone(),
                attempt.cause.clone(),
                moment(attempt.dispatched),
                or_dash(attempt.started.map(moment)),
                or_dash(attempt.ended.map(moment)),
                attempt.end.as_ref().map_or_else(|| "alive".to_owned(), |how| end(how, attempt)),
                or_dash(attempt.output_bytes.map(|bytes| format!("{bytes} B"))),
                or_dash(
                    attempt
                        .usage
                        .map(|usage| format!("{} MiB", tenths(usage.peak_memory, 1 << 20))),
                ),
                or_dash(attempt.usage.map(|usage| format!("{} s", tenths(usage.cpu_ms, 1_000)))),
            ]
        };
        let of_shards = self.shards.iter().flat_map(|shard| {
            let waits = shard.attempts.is_empty().then(|| not_tried(self.id, shard));
            shard.attempts.iter().map(row).chain(waits)
        });
        let rows: Vec<_> = self.attempts.iter().map(row).chain(of_shards).collect();
        let titles = if rows.is_empty() { Vec::new() } else { ATTEMPT.to_vec() };
        View { facts, titles, rows }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.id.to_string()]
    }
}

impl Show for Vec<HistoryDto> {
    fn view(&self) -> View {
        let row = |change: &HistoryDto| {
            let HistoryDto { at, what, by, detail } = change;
            vec![moment(*at), what.clone(), by.clone(), detail.clone()]
        };
        let titles = vec!["at", "what", "by", "detail"];
        View { titles, rows: self.iter().map(row).collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().map(|change| change.what.clone()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("nothing has become of it yet")
    }
}

impl Show for Vec<ExplainDto> {
    fn view(&self) -> View {
        let row = |explained: &ExplainDto| {
            let waits: Vec<String> = explained.waits_for.iter().map(ToString::to_string).collect();
            vec![
                explained.id.clone(),
                explained.state.clone(),
                or_dash(explained.reason.as_ref()),
                explained.detail.clone(),
                text_or_dash(&waits.join(" ")),
            ]
        };
        let titles = vec!["trigger", "state", "reason", "detail", "waits for"];
        View { titles, rows: self.iter().map(row).collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().filter_map(|explained| explained.reason.clone()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty()
            .then_some("it has no triggers: it runs after others, or when it is asked to")
    }
}

impl Show for ExplainDto {
    fn view(&self) -> View {
        let mut facts = vec![("id", self.id.clone()), ("state", self.state.clone())];
        facts.extend(self.reason.clone().map(|reason| ("reason", reason)));
        facts.push(("detail", self.detail.clone()));
        facts.extend(self.waits_for.iter().map(|action| ("waits for", action.to_string())));
        View { facts, ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.reason.clone().into_iter().collect()
    }
}

/// In the place of the worker of a run that has several.
fn of_shards(run: &RunDto) -> Option<String> {
    run.shard_counts.map(|counts| format!("{} shards", counts.total))
}

/// A row for a shard that no worker has begun.
fn not_tried(run: RunRef, shard: &ShardDto) -> Vec<String> {
    let state = match &shard.reason {
        Some(reason) => format!("{} ({reason})", shard.state),
        None => shard.state.clone(),
    };
    let mut row = vec!["-".to_owned(); ATTEMPT.len()];
    row[0] = format!("{run}/{}", shard.shard);
    row[1] = or_dash(shard.worker.as_ref());
    row[ATTEMPT.len() - 4] = state;
    row
}

/// A cancel that is under way is told, and a limit that was passed.
fn state(run: &RunDto) -> String {
    match &run.reason {
        Some(reason) => format!("{} ({reason})", run.state),
        None if run.cancel_requested && !run.is_over() => format!("{}, cancelling", run.state),
        None => run.state.clone(),
    }
}

/// How it ended, and the limits that it met on the way.
fn end(end: &EndDto, attempt: &AttemptDto) -> String {
    let met = attempt.usage.map_or_else(String::new, |usage| {
        let oom = (usage.oom_kills > 0 && end.how != "oom_killed")
            .then(|| format!("{} oom kills", usage.oom_kills));
        let pids = (usage.refused_forks > 0)
            .then(|| format!("{} forks refused by limits.pids", usage.refused_forks));
        let met: Vec<String> = oom.into_iter().chain(pids).collect();
        if met.is_empty() { String::new() } else { format!(" ({})", met.join(", ")) }
    });
    let number = end.code.or(end.signal);
    let how = number.map_or_else(|| end.how.clone(), |number| format!("{} {number}", end.how));
    how + end.signal.map_or("", limit_of) + &met
}

/// The limit of a process whose end is such a signal.
fn limit_of(signal: i32) -> &'static str {
    match signal {
        SIGXCPU => " (over its rlimits.cpu)",
        SIGXFSZ => " (over its rlimits.fsize)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = r#"{"id": "r-17", "kind": "schedule", "job": "load", "revision": 2,
        "action": "load@20261121T030000Z", "nominal": "2026-11-21T03:00:00.000Z",
        "batch": "2026-11-20", "state": "running", "priority": 5, "created": "2026-11-21T03:00:00.004Z",
        "ready_at": "2026-11-21T03:00:00.004Z", "finished": null, "retries": 1, "losses": 0,
        "cancel_requested": true, "attempts": [
        {"id": "r-17.1", "number": 1, "token": 8, "worker": "w1", "cause": "first",
         "dispatched": "2026-11-21T03:00:00.010Z", "started": "2026-11-21T03:00:00.020Z",
         "ended": "2026-11-21T03:00:01.000Z",
         "end": {"how": "exited", "code": 1, "at": "2026-11-21T03:00:01.010Z"},
         "output_bytes": 12, "usage": {"peak_memory": 5767168, "cpu_ms": 1234, "refused_forks": 2}},
        {"id": "r-17.2", "number": 2, "token": 9, "worker": "w2", "cause": "retry",
         "dispatched": "2026-11-21T03:00:11.010Z", "started": null, "ended": null,
         "end": null, "output_bytes": null}]}"#;

    fn printed(format: Format, what: &impl Show) -> String {
        let mut out = Vec::new();
        print(&mut out, format, what).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// How the first attempt's end is shown.
    fn shown_end(run: &RunDto, ended: &str) -> String {
        end(&serde_json::from_str(ended).unwrap(), &run.attempts[0])
    }

    #[test]
    fn a_run_is_printed_for_people_and_for_programs() {
        let run: RunDto = serde_json::from_str(RUN).unwrap();
        let shown = printed(Format::Table, &run);
        for line in [
            "state         running, cancelling\n",
            "action        load@20261121T030000Z\n",
            "batch         2026-11-20\n",
            "r-17.1   w1      first  2026-11-21 03:00:00.010Z  2026-11-21 03:00:00.020Z  2026-11-21 03:00:01Z  exited 1 (2 forks refused by limits.pids)  12 B    5.5 MiB  1.2 s\n",
            "r-17.2   w2      retry  2026-11-21 03:00:11.010Z  -                         -                     alive                                      -       -        -\n",
        ] {
            assert!(shown.contains(line), "{line:?} is missing in\n{shown}");
        }
        let over =
            shown_end(&run, r#"{"how": "signaled", "signal": 24, "at": "2026-11-21T03:00:01Z"}"#);
        assert_eq!(over, "signaled 24 (over its rlimits.cpu) (2 forks refused by limits.pids)");
        let list = printed(Format::Table, &vec![run.clone()]);
        assert_eq!(
            list,
            "ID    JOB   KIND      STATE                NOMINAL               TRIES  WORKER\n\
             r-17  load  schedule  running, cancelling  2026-11-21 03:00:00Z  2      w2\n"
        );
        assert_eq!(printed(Format::Quiet, &vec![run.clone()]), "r-17\n");
        let json: serde_json::Value = serde_json::from_str(&printed(Format::Json, &run)).unwrap();
        assert_eq!(json, serde_json::from_str::<serde_json::Value>(RUN).unwrap());
    }

    #[test]
    fn a_sentence_stands_beside_the_table_of_attempts() {
        let text = RUN.replace(
            r#"{"how": "exited", "code": 1,"#,
            r#"{"how": "unrendered", "message": "there is no parameter `x`","#,
        );
        let run: RunDto = serde_json::from_str(&text).unwrap();
        let shown = printed(Format::Table, &run);
        assert!(shown.contains("why           r-17.1: there is no parameter `x`\n"), "{shown}");
        assert!(shown.contains("  unrendered (2 forks"), "{shown}");
    }

    #[test]
    fn a_history_is_a_table_of_who_did_what() {
        let changes = r#"[{"at": "2026-11-21T03:00:00.004Z", "what": "created", "by": "ann",
            "detail": "manual"}, {"at": "2026-11-21T03:00:01.000Z", "what": "ended",
            "by": "worker w1", "detail": "r-17.1 exited 1"}]"#;
        let changes: Vec<HistoryDto> = serde_json::from_str(changes).unwrap();
        assert_eq!(
            printed(Format::Table, &changes),
            "AT                        WHAT     BY         DETAIL\n\
             2026-11-21 03:00:00.004Z  created  ann        manual\n\
             2026-11-21 03:00:01Z      ended    worker w1  r-17.1 exited 1\n"
        );
        assert_eq!(printed(Format::Quiet, &changes), "created\nended\n");
    }
}
