//! Between wire messages and the core's types; total, and nothing else.

use std::collections::BTreeMap;

use bytes::Bytes;
use horai_core::ids::{AttemptKey, LeaderId, NodeId, RunId, Token};
use horai_core::machine::command::EndReport;
use horai_core::model::confinement::{Confinement, Isolation, IsolationKind, Power, Rlimit, Usage};
use horai_core::model::executor::{Executor, HttpCall};
use horai_core::model::file::{Digest, JobFile};
use horai_core::model::handle::{Handle, HandleEnd};
use horai_core::model::output;
use horai_core::model::run::EndKind;
use horai_core::time::UtcMillis;
use horai_proto::worker as pb;

use super::ending::Ending;

/// A message lacks what it must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("worker message without {0}: upgrade the older side")]
pub struct Missing(pub &'static str);

/// Names an attempt and its token.
#[must_use]
pub fn attempt_id(key: AttemptKey, token: Token) -> pb::AttemptId {
    pb::AttemptId { run: key.run.0, shard: key.shard, number: key.number, token: token.0 }
}

/// Reads [`attempt_id`]'s form.
///
/// # Errors
/// [`Missing`] if there is none.
pub fn attempt(id: Option<&pb::AttemptId>) -> Result<(AttemptKey, Token), Missing> {
    let id = id.ok_or(Missing("attempt"))?;
    let key = AttemptKey { run: RunId(id.run), shard: id.shard, number: id.number };
    Ok((key, Token(id.token)))
}

/// A leader as the fence that workers keep.
#[must_use]
pub fn fence(leader: LeaderId) -> pb::Fence {
    pb::Fence { term: leader.term, node: leader.node.0 }
}

/// Reads [`fence`]'s form.
///
/// # Errors
/// [`Missing`] if there is none.
pub fn leader(fence: Option<&pb::Fence>) -> Result<LeaderId, Missing> {
    let fence = fence.ok_or(Missing("fence"))?;
    Ok(LeaderId { term: fence.term, node: NodeId(fence.node) })
}

/// An attempt's end as it is sent. A worker never reports its own loss: for a
/// reader that is the same as "gone".
#[must_use]
pub fn result(key: AttemptKey, token: Token, ending: &Ending) -> pb::Result {
    use pb::result::How;
    let Ending { report, outputs, usage } = ending;
    let how = match &report.how {
        EndKind::Exited { code } => How::Exited(*code),
        EndKind::Signaled { signal } => How::Signaled(*signal),
        EndKind::TimedOut => How::TimedOut(pb::Unit {}),
        // Why it was to end is the cluster's to know.
        EndKind::Cancelled | EndKind::Drained => How::Cancelled(pb::Unit {}),
        EndKind::LeaseExpired => How::LeaseExpired(pb::Unit {}),
        // The cluster's own word, which no worker says.
        EndKind::NotStarted { message } | EndKind::Unrendered { message } => {
            How::NotStarted(message.clone())
        }
        EndKind::BadOutput { message } => How::BadOutput(message.clone()),
        EndKind::Declined { message } => How::Declined(message.clone()),
        EndKind::Gone | EndKind::WorkerLost => How::Gone(pb::Unit {}),
        EndKind::OomKilled => How::OomKilled(pb::Unit {}),
        EndKind::LimitsUnsupported { message } => How::LimitsUnsupported(message.clone()),
    };
    pb::Result {
        attempt: Some(attempt_id(key, token)),
        how: Some(how),
        started_ms: report.started.map(|t| t.0),
        ended_ms: report.ended.map(|t| t.0),
        output_bytes: report.output_bytes,
        output_crc: report.output_crc,
        outputs: outputs.clone(),
        usage: (*usage != Usage::default()).then_some(pb::Usage {
            peak_memory_kib: usage.peak_memory_kib,
            cpu_ms: usage.cpu_ms,
            oom_kills: usage.oom_kills,
            refused_forks: usage.refused_forks,
        }),
    }
}

/// Reads [`result`]'s form.
///
/// # Errors
/// [`Missing`] if a part is not there.
pub fn report(result: &pb::Result) -> Result<(AttemptKey, Token, Ending), Missing> {
    use pb::result::How;
    let (key, token) = attempt(result.attempt.as_ref())?;
    let how = match result.how.as_ref().ok_or(Missing("how an attempt ended"))? {
        How::Exited(code) => EndKind::Exited { code: *code },
        How::Signaled(signal) => EndKind::Signaled { signal: *signal },
        How::TimedOut(_) => EndKind::TimedOut,
        How::Cancelled(_) => EndKind::Cancelled,
        How::LeaseExpired(_) => EndKind::LeaseExpired,
        How::NotStarted(message) => EndKind::not_started(message),
        How::Gone(_) => EndKind::Gone,
        How::BadOutput(message) => EndKind::bad_output(message),
        How::Declined(message) => EndKind::declined(message),
        How::OomKilled(_) => EndKind::OomKilled,
        How::LimitsUnsupported(message) => EndKind::limits_unsupported(message),
    };
    // The machine says the same; this way what is too long never gets into the log.
    let (how, outputs) = match output::check(&result.outputs) {
        Ok(()) => (how, result.outputs.clone()),
        Err(why) if how.is_success() => (EndKind::bad_output(&why), output::Values::new()),
        Err(_) => (how, output::Values::new()),
    };
    let report = EndReport {
        how,
        started: result.started_ms.map(UtcMillis),
        ended: result.ended_ms.map(UtcMillis),
        output_bytes: result.output_bytes,
        output_crc: result.output_crc,
    };
    let used = result.usage.unwrap_or_default();
    let usage = Usage {
        peak_memory_kib: used.peak_memory_kib,
        cpu_ms: used.cpu_ms,
        oom_kills: used.oom_kills,
        refused_forks: used.refused_forks,
    };
    Ok((key, token, Ending { report, outputs, usage }))
}

/// What an attempt began elsewhere, as it is sent.
#[must_use]
pub fn handles_said(key: AttemptKey, token: Token, handles: &[Handle]) -> pb::Handles {
    let of = |handle: &Handle| pb::Handle {
        text: handle.text.clone(),
        end: handle
            .end
            .as_ref()
            .map(|end| pb::HandleEnd { done: end.done, said: end.said.clone() }),
    };
    let handles = handles.iter().take(Handle::MAX).map(of).collect();
    pb::Handles { attempt: Some(attempt_id(key, token)), handles }
}

/// Reads [`handles_said`]'s form; what no attempt can have is left out.
///
/// # Errors
/// [`Missing`] if a part is not there.
pub fn handles(said: &pb::Handles) -> Result<(AttemptKey, Token, Vec<Handle>), Missing> {
    let (key, token) = attempt(said.attempt.as_ref())?;
    let of = |handle: &pb::Handle| Handle {
        text: handle.text.clone(),
        end: handle.end.as_ref().map(|end| HandleEnd { done: end.done, said: end.said.clone() }),
    };
    let handles = said.handles.iter().take(Handle::MAX).map(of).filter(Handle::is_sound);
    Ok((key, token, handles.collect()))
}

/// What an attempt is to do.
#[must_use]
pub fn executor(executor: &Executor) -> pb::start::Executor {
    match executor {
        Executor::Shell { interpreter, script } => pb::start::Executor::Shell(pb::Shell {
            interpreter: interpreter.clone(),
            script: script.clone(),
        }),
        Executor::Exec { argv } => pb::start::Executor::Exec(pb::Exec { argv: argv.clone() }),
        Executor::Noop => pb::start::Executor::Noop(pb::Unit {}),
        Executor::Python { interpreter, script } => pb::start::Executor::Python(pb::Python {
            interpreter: interpreter.clone(),
            script: script.clone(),
        }),
        Executor::Interpreter { name, args, script } => {
            pb::start::Executor::Interpreted(pb::Interpreted {
                name: name.to_string(),
                args: args.clone(),
                script: script.clone(),
            })
        }
        Executor::Http(call) => pb::start::Executor::Http(http(call)),
    }
}

fn http(call: &HttpCall) -> pb::Http {
    let range = |(first, last): &(u16, u16)| pb::StatusRange {
        first: u32::from(*first),
        last: u32::from(*last),
    };
    pb::Http {
        method: call.method.clone(),
        url: call.url.clone(),
        headers: call.headers.clone(),
        body: call.body.clone(),
        status: call.expect.status.iter().map(range).collect(),
        body_matches: call.expect.body.clone(),
        connect_timeout_ms: call.connect_timeout.0,
        timeout_ms: call.timeout.0,
        ca_file: call.tls.ca_file.clone().unwrap_or_default(),
        insecure: call.tls.insecure,
    }
}

/// What an attempt's processes may use; none where nothing is said.
#[must_use]
pub fn confinement(wanted: &Confinement) -> Option<pb::Confinement> {
    (*wanted != Confinement::default()).then(|| pb::Confinement {
        memory: wanted.memory,
        cpu: wanted.cpu,
        pids: wanted.pids,
        run_as: wanted.run_as.clone(),
        umask: wanted.umask,
        rlimits: wanted.rlimits.iter().map(|(of, n)| (of.word().to_owned(), *n)).collect(),
    })
}

/// Reads [`confinement`]'s form.
///
/// # Errors
/// The name of a limit that this program does not know: to leave it out would be to run
/// without it.
pub fn confinement_of(wanted: Option<&pb::Confinement>) -> Result<Confinement, String> {
    let Some(wanted) = wanted else { return Ok(Confinement::default()) };
    let known = |word: &str| Rlimit::ALL.iter().find(|(known, _)| *known == word);
    let rlimits = wanted.rlimits.iter().map(|(word, n)| match known(word) {
        Some((_, of)) => Ok((*of, *n)),
        None => Err(format!("this worker knows no limit {word:?}: upgrade it")),
    });
    Ok(Confinement {
        memory: wanted.memory,
        cpu: wanted.cpu,
        pids: wanted.pids,
        run_as: wanted.run_as.clone(),
        umask: wanted.umask,
        rlimits: rlimits.collect::<Result<_, _>>()?,
    })
}

/// What the job brings along.
#[must_use]
pub fn files(files: &BTreeMap<String, JobFile>) -> Vec<pb::File> {
    let file = |(name, file): (&String, &JobFile)| pb::File {
        name: name.clone(),
        digest: Bytes::copy_from_slice(&file.digest.0),
        len: file.len,
        mode: u32::from(file.mode),
    };
    files.iter().map(file).collect()
}

/// Reads [`files`]' form, and looks once more whether their names stay within a folder.
///
/// # Errors
/// What cannot be taken.
pub fn files_of(sent: &[pb::File]) -> Result<BTreeMap<String, JobFile>, String> {
    let mut files = BTreeMap::new();
    for file in sent {
        let digest = <[u8; 32]>::try_from(file.digest.as_ref()).map(Digest);
        let digest = digest.map_err(|_| format!("file {} has no hash", file.name))?;
        let mode = u16::try_from(file.mode).unwrap_or(u16::MAX);
        files.insert(file.name.clone(), JobFile { digest, len: file.len, mode });
    }
    match JobFile::problem(&files) {
        None => Ok(files),
        Some(problem) => Err(format!("{}: {}", problem.field, problem.problem)),
    }
}

/// How a worker keeps attempts apart, as it says so.
#[must_use]
pub fn isolation(isolation: &Isolation) -> pb::Isolation {
    pb::Isolation {
        kind: isolation.kind.word().to_owned(),
        powers: isolation.powers.iter().map(|power| power.word().to_owned()).collect(),
        note: isolation.note.clone(),
    }
}

/// Reads [`isolation`]'s form; what is not known counts as not there.
#[must_use]
pub fn isolation_of(said: Option<&pb::Isolation>) -> Isolation {
    let Some(said) = said else { return Isolation::default() };
    let kind = IsolationKind::ALL.iter().find(|(word, _)| *word == said.kind);
    let power = |word: &String| Power::ALL.iter().find(|(known, _)| known == word);
    Isolation {
        kind: kind.map_or(IsolationKind::Unknown, |(_, kind)| *kind),
        powers: said.powers.iter().filter_map(power).map(|(_, power)| *power).collect(),
        note: said.note.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_arrives_as_it_was_sent() {
        let ends = [
            EndKind::Exited { code: -1 },
            EndKind::Signaled { signal: 9 },
            EndKind::TimedOut,
            EndKind::Cancelled,
            EndKind::LeaseExpired,
            EndKind::NotStarted { message: "no".into() },
            EndKind::Gone,
            EndKind::BadOutput { message: "line 2".into() },
            EndKind::Declined { message: "its disk is full".into() },
            EndKind::OomKilled,
            EndKind::LimitsUnsupported { message: "no cgroup".into() },
        ];
        let key = AttemptKey { run: RunId(7), shard: 1, number: 2 };
        for how in ends {
            let sent = EndReport {
                how,
                started: Some(UtcMillis(5)),
                ended: None,
                output_bytes: 3,
                output_crc: 4,
            };
            let outputs = [("A".to_owned(), "1".to_owned())].into();
            let usage = Usage { peak_memory_kib: 1, cpu_ms: 2, oom_kills: 3, refused_forks: 4 };
            let sent = Ending { report: sent, outputs, usage };
            let wire = result(key, Token(9), &sent);
            assert_eq!(report(&wire).unwrap(), (key, Token(9), sent));
        }
        assert!(report(&pb::Result::default()).is_err());
    }

    #[test]
    fn handles_arrive_as_they_were_sent_within_bounds() {
        let key = AttemptKey { run: RunId(7), shard: 0, number: 2 };
        let end = Some(HandleEnd { done: true, said: "exit 0".into() });
        let sent = vec![Handle::new("a"), Handle { end, ..Handle::new("b") }];
        let said = handles_said(key, Token(9), &sent);
        assert_eq!(handles(&said).unwrap(), (key, Token(9), sent));
        let long = vec![Handle::new(&"x".repeat(257)), Handle::new("y")];
        let (.., taken) = handles(&handles_said(key, Token(9), &long)).unwrap();
        assert_eq!(taken, [Handle::new("y")]);
        assert!(handles(&pb::Handles::default()).is_err());
    }

    #[test]
    fn confinement_and_isolation_arrive_as_they_were_sent() {
        let rlimits = [(Rlimit::Nofile, 64), (Rlimit::Core, Confinement::UNLIMITED)].into();
        let full = Confinement {
            memory: Some(1 << 30),
            cpu: Some(1_500),
            pids: Some(100),
            run_as: Some("etl".into()),
            umask: Some(0),
            rlimits,
        };
        for sent in [full, Confinement::default()] {
            assert_eq!(confinement_of(confinement(&sent).as_ref()), Ok(sent));
        }
        let rlimits = [("horses".to_owned(), 4)].into();
        let newer = pb::Confinement { rlimits, ..Default::default() };
        assert!(confinement_of(Some(&newer)).unwrap_err().contains("horses"));
        let powers = Power::ALL.iter().map(|(_, power)| *power).collect();
        let sent = Isolation { kind: IsolationKind::Cgroup1, powers, note: "so".into() };
        assert_eq!(isolation_of(Some(&isolation(&sent))), sent);
        assert_eq!(isolation_of(None), Isolation::default());
    }

    #[test]
    fn outputs_that_no_run_may_have_are_a_bad_end() {
        let key = AttemptKey { run: RunId(7), shard: 0, number: 1 };
        let how = EndKind::Exited { code: 0 };
        let report = EndReport { how, started: None, ended: None, output_bytes: 0, output_crc: 0 };
        let outputs = [("A".to_owned(), "x".repeat(output::MAX_BYTES))].into();
        let usage = Usage::default();
        let sent = result(key, Token(9), &Ending { report, outputs, usage });
        let (_, _, taken) = super::report(&sent).unwrap();
        assert_eq!(taken.report.how, EndKind::bad_output("16385 bytes, at most 16384"));
        assert!(taken.outputs.is_empty());
    }
}
