//! Keeps every job planned ahead while this node leads.
//!
//! One loop: hear of changed jobs, take a view of the state, let the book say
//! what is missing, propose it, look at what became of it. One proposal is
//! under way at a time, because what follows in the plan rests on it; a
//! proposal holds up to 2,000 actions. What to plan is decided in
//! [`super::plan_book`] and [`super::plan_job`].

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::machine::state::State;
use horai_core::time::UtcMillis;
use tokio::time::{Instant, sleep, timeout_at};

use super::events::{Changed, Receiver};
use super::plan_book::{PlanBook, Round};
use super::ports::{Replica, propose};
use super::{Error, LIMIT, Term};

/// Changes are gathered for this long: windows are filled long before they end.
const GATHER: Duration = Duration::from_millis(5);
/// All jobs are compared with the book this often, should an event be missing.
const COMPARE: Duration = Duration::from_secs(60);
/// Before the next try after a proposal that failed, or without cluster time.
const RETRY: Duration = Duration::from_millis(50);

/// Plans until this node no longer leads, which is the one way it ends.
pub(super) async fn run<R: Replica>(term: Term<R>, mut news: Receiver) -> Result<(), Error> {
    let mut book = PlanBook::default();
    let mut compare_at = Instant::now();
    let mut was_full = false;
    loop {
        let Some(time) = term.replica.cluster_now() else {
            sleep(RETRY).await;
            continue;
        };
        let changed = news.take().jobs;
        let view = term.replica.read(State::clone);
        let now = time.max(view.now());
        if compare_at <= Instant::now() {
            compare_at = Instant::now() + COMPARE;
            book.changed(&view, &Changed::All, now);
        } else {
            book.changed(&view, &changed, now);
        }
        let round = book.plan(&view, now);
        drop(view);
        report(&term, &round);
        if round.is_full && !was_full {
            tracing::error!("cluster holds all the actions it may; nothing new is planned");
        }
        was_full = round.is_full;
        if !round.batches.is_empty() {
            submit(&term, &mut book, round).await?;
            continue;
        }
        let wait = book.next().map_or(COMPARE, |at| Duration::from_millis(at.since(now).0));
        if wait.is_zero() {
            // A round looks at a bounded number of jobs; there are more.
            tokio::task::yield_now().await;
            continue;
        }
        let until = (Instant::now() + wait.min(COMPARE)).min(compare_at);
        // Either way the next step is to look.
        if timeout_at(until, news.changed()).await.is_ok() {
            sleep(GATHER).await;
        }
    }
}

async fn submit<R: Replica>(
    term: &Term<R>,
    book: &mut PlanBook,
    round: Round,
) -> Result<(), Error> {
    let counters = &term.counters;
    counters.plan_commands.fetch_add(1, Relaxed);
    let command = round.command();
    let outcome = propose(&*term.replica, term.leader, command, LIMIT).await;
    let failed = match outcome {
        Ok(Outcome::Planned { created, .. }) => {
            counters.planned.fetch_add(u64::from(created), Relaxed);
            false
        }
        Ok(Outcome::Rejected(Reject::StaleLeader(leader))) => return Err(Error::Deposed(leader)),
        // A calendar changed meanwhile: it is computed again, at once.
        Ok(Outcome::Rejected(Reject::StalePlan(_))) => false,
        Ok(other) => {
            tracing::warn!(outcome = ?other, "plan was refused as a whole");
            true
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "plan was not committed");
            true
        }
    };
    if failed {
        sleep(RETRY).await;
    }
    // Whether it was committed, cut or refused: the cursors say.
    let refused = {
        let view = term.replica.read(State::clone);
        let now: UtcMillis = term.replica.cluster_now().unwrap_or_default().max(view.now());
        book.settle(&view, round, now)
    };
    counters.refused_batches.fetch_add(refused, Relaxed);
    Ok(())
}

fn report<R: Replica>(term: &Term<R>, round: &Round) {
    for (job, trouble) in &round.troubles {
        term.counters.bad_jobs.fetch_add(1, Relaxed);
        tracing::error!(%job, %trouble, "job cannot be planned; it is tried again, with pauses");
    }
}
