//! The journal as its users see it.

use horai_core::ids::RunId;
use horai_core::model::run::EndKind;
use proptest::prelude::*;

use super::*;

fn key(run: u64) -> AttemptKey {
    AttemptKey { run: RunId(run), shard: 0, number: 1 }
}

fn report(code: i32) -> EndReport {
    EndReport {
        how: EndKind::Exited { code },
        started: None,
        ended: None,
        output_bytes: 0,
        output_crc: 0,
    }
}

fn record() -> impl Strategy<Value = Record> {
    (0..6u64, 1..3u64, 0..4u8).prop_map(|(run, token, kind)| match kind {
        0 => Record::Accepted { key: key(run), token: Token(token), fence: LeaderId::default() },
        1 => Record::Finished { key: key(run), token: Token(token), report: report(3) },
        2 => Record::FinishedWith {
            key: key(run),
            token: Token(token),
            report: report(0),
            outputs: [("A".to_owned(), token.to_string())].into(),
        },
        _ => Record::Forgotten { key: key(run) },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_was_acknowledged_is_there_after_reopening(
        batches in proptest::collection::vec(proptest::collection::vec(record(), 1..5), 1..12)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut model = Entries::new();
        for batch in batches {
            for record in &batch {
                apply(&mut model, record);
            }
            runtime.block_on(journal.append(batch)).unwrap();
            prop_assert_eq!(&Journal::open(dir.path()).unwrap().1, &model);
        }
    }
}

#[tokio::test]
async fn many_callers_at_once_are_all_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path()).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for run in 0..200 {
        let journal = journal.clone();
        tasks.spawn(async move {
            let fence = LeaderId::default();
            journal.append(vec![Record::Accepted { key: key(run), token: Token(run), fence }]).await
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    let incarnation = journal.incarnation();
    let (again, entries) = Journal::open(dir.path()).unwrap();
    assert_eq!(entries.len(), 200);
    assert_eq!(again.incarnation(), incarnation);
}

#[tokio::test]
async fn what_nobody_waits_for_is_written_with_what_follows_and_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path()).unwrap();
    let accepted = |run| {
        let fence = LeaderId::default();
        Record::Accepted { key: key(run), token: Token(run), fence }
    };
    journal.append(vec![accepted(1), accepted(2), accepted(3)]).await.unwrap();
    journal.append_lazily(vec![Record::Forgotten { key: key(1) }]).await.unwrap();
    journal.append(vec![accepted(4)]).await.unwrap();
    // Opened as a copy: whoever opens a journal cuts off what its last write has not
    // finished, and here somebody writes still.
    let held = || {
        let copy = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        let (_, entries) = Journal::open(copy.path()).unwrap();
        entries.keys().map(|key| key.run.0).collect::<Vec<_>>()
    };
    assert_eq!(held(), [2, 3, 4]);
    journal.append_lazily(vec![Record::Forgotten { key: key(2) }]).await.unwrap();
    drop(journal);
    // The writer ends soon after its last handle.
    while held() != [3, 4] {
        tokio::task::yield_now().await;
    }
}
