//! `horai freeze`, `horai unfreeze` and `horai pauses`; and what each pause is told by.

use std::io::Write;

use clap::Args;

use super::client::{Held, pages};
use super::failure::Failure;
use super::output::{Format, Show, View, data, moment, note, print};
use super::remote::{Remote, wait};
use crate::api::dto::{PauseDto, PausedDto, ResumedDto};

/// What becomes of the instants of a pause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum AfterPause {
    /// They are recorded and not run
    #[default]
    Skip,
    /// Each trigger's misfire policy says
    Misfire,
}

impl AfterPause {
    /// The word that the API takes.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Misfire => "misfire",
        }
    }
}

/// Stops a whole cluster from starting anything.
#[derive(Debug, Args)]
pub(super) struct FreezeArgs {
    #[command(flatten)]
    remote: Remote,
}

/// Lets it start again.
#[derive(Debug, Args)]
pub(super) struct UnfreezeArgs {
    #[command(flatten)]
    remote: Remote,
    /// What becomes of the instants of the pause
    #[arg(long, value_enum, default_value_t)]
    missed: AfterPause,
}

/// Lists pauses.
#[derive(Debug, Args)]
pub(super) struct PausesArgs {
    #[command(flatten)]
    remote: Remote,
}

/// Freezes the cluster.
pub(super) fn freeze(args: &FreezeArgs, out: &mut impl Write) -> Result<(), Failure> {
    pause(&args.remote, Held::Cluster, out)
}

/// Ends that.
pub(super) fn unfreeze(args: &UnfreezeArgs) -> Result<(), Failure> {
    resume(&args.remote, Held::Cluster, args.missed)
}

/// Lists pauses of the cluster, of groups and of triggers.
pub(super) fn pauses(args: &PausesArgs, out: &mut impl Write) -> Result<(), Failure> {
    let client = args.remote.client()?;
    let pauses = wait(async { Ok(pages::all(async |after| client.pauses(after).await).await?) })?;
    print(out, args.remote.output.output, &pauses)
}

/// Pauses, and tells what else that holds up.
pub(super) fn pause(remote: &Remote, held: Held<'_>, out: &mut impl Write) -> Result<(), Failure> {
    let format = remote.output.output;
    let client = remote.client()?;
    let paused = wait(async { Ok(client.pause(held).await?) })?;
    note(format, &format!("{} paused; what runs goes on", told(held)))?;
    match format {
        Format::Table if paused.dependants.is_empty() => Ok(()),
        Format::Table => {
            let count = paused.dependant_count;
            note(format, &format!("held up besides, because they depend on it: {count}"))?;
            print(out, format, &paused)
        }
        Format::Quiet => print(out, format, &paused),
        Format::Json | Format::Yaml => data(out, format, &paused),
    }
}

/// Ends a pause.
pub(super) fn resume(remote: &Remote, held: Held<'_>, missed: AfterPause) -> Result<(), Failure> {
    let client = remote.client()?;
    wait(async { Ok(client.resume(held, Some(missed.word())).await?) })?;
    note(remote.output.output, &format!("{} active", told(held)))
}

/// Pauses a job and all above or below it.
pub(super) fn pause_with(
    remote: &Remote,
    job: &str,
    with: &str,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let format = remote.output.output;
    let client = remote.client()?;
    let paused = wait(async { Ok(client.pause_with(job, with).await?) })?;
    let count = paused.jobs.len();
    note(format, &format!("{count} jobs are paused, {with} of job {job}; what runs goes on"))?;
    if paused.dependant_count > 0 {
        let count = paused.dependant_count;
        note(format, &format!("held up besides, because they depend on them: {count}"))?;
    }
    match format {
        Format::Table | Format::Quiet => print(out, format, &Chain(&paused.jobs)),
        Format::Json | Format::Yaml => data(out, format, &paused),
    }
}

/// Ends the pauses of a job and of all above or below it.
pub(super) fn resume_with(
    remote: &Remote,
    job: &str,
    with: &str,
    missed: AfterPause,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let format = remote.output.output;
    let client = remote.client()?;
    let resumed: ResumedDto =
        wait(async { Ok(client.resume_with(job, with, missed.word()).await?) })?;
    let count = resumed.jobs.len() - resumed.still_paused.len();
    note(format, &format!("{count} jobs are active, {with} of job {job}"))?;
    if !resumed.still_paused.is_empty() {
        let names = resumed.still_paused.join(", ");
        note(format, &format!("still paused, because a group above them is: {names}"))?;
    }
    match format {
        Format::Table | Format::Quiet => print(out, format, &Chain(&resumed.jobs)),
        Format::Json | Format::Yaml => data(out, format, &resumed),
    }
}

/// Jobs in the order in which something was done with them.
#[derive(serde::Serialize)]
struct Chain<'a>(&'a [String]);

impl Show for Chain<'_> {
    fn view(&self) -> View {
        let rows = self.0.iter().map(|name| vec![name.clone()]).collect();
        View { titles: vec!["job"], rows, ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.0.to_vec()
    }
}

fn told(held: Held<'_>) -> String {
    match held {
        Held::Cluster => "the whole cluster is".to_owned(),
        Held::Group(group) => format!("group {group} is"),
        Held::Job(job) => format!("job {job} is"),
        Held::Trigger(job, trigger) => format!("trigger {trigger:?} of job {job} is"),
    }
}

impl Show for PausedDto {
    fn view(&self) -> View {
        let rows = self.dependants.iter().map(|name| vec![name.clone()]).collect();
        View { titles: vec!["dependant"], rows, ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.dependants.clone()
    }
}

impl Show for Vec<PauseDto> {
    fn view(&self) -> View {
        let row = |pause: &PauseDto| {
            let whose = pause.group.as_ref().or(pause.job.as_ref()).cloned().unwrap_or_default();
            let trigger = pause.trigger.clone().unwrap_or_default();
            vec![pause.what.clone(), whose, trigger, moment(pause.since), pause.by.clone()]
        };
        let titles = vec!["what", "of", "trigger", "since", "by"];
        View { titles, rows: self.iter().map(row).collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().filter_map(|p| p.group.clone().or_else(|| p.trigger.clone())).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("no group, no trigger and not the cluster is paused")
    }
}
