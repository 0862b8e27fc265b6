//! Between wire messages and the core's types; total, and nothing else.

use horai_core::ids::{AttemptKey, LeaderId, NodeId, RunId, Token};
use horai_core::machine::command::EndReport;
use horai_core::model::job::Executor;
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
    let Ending { report, outputs } = ending;
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
    };
    pb::Result {
        attempt: Some(attempt_id(key, token)),
        how: Some(how),
        started_ms: report.started.map(|t| t.0),
        ended_ms: report.ended.map(|t| t.0),
        output_bytes: report.output_bytes,
        output_crc: report.output_crc,
        outputs: outputs.clone(),
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
    Ok((key, token, Ending { report, outputs }))
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
            let sent = Ending { report: sent, outputs };
            let wire = result(key, Token(9), &sent);
            assert_eq!(report(&wire).unwrap(), (key, Token(9), sent));
        }
        assert!(report(&pb::Result::default()).is_err());
    }

    #[test]
    fn outputs_that_no_run_may_have_are_a_bad_end() {
        let key = AttemptKey { run: RunId(7), shard: 0, number: 1 };
        let how = EndKind::Exited { code: 0 };
        let report = EndReport { how, started: None, ended: None, output_bytes: 0, output_crc: 0 };
        let outputs = [("A".to_owned(), "x".repeat(output::MAX_BYTES))].into();
        let sent = result(key, Token(9), &Ending { report, outputs });
        let (_, _, taken) = super::report(&sent).unwrap();
        assert_eq!(taken.report.how, EndKind::bad_output("16385 bytes, at most 16384"));
        assert!(taken.outputs.is_empty());
    }
}
