//! Output of jobs: as bytes and as events, where to go on, what is kept, and what is told
//! of output that is not to be had.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt;
use horai_core::ids::{AttemptKey, RunId, Token};
use horai_core::machine::command::{Command, EndReport};
use horai_core::model::run::EndKind;
use horai_core::time::{Span, UtcMillis};
use tower::ServiceExt;

use super::support::{Cluster, PATIENCE, logs, report, until};
use crate::chunks::piece::pack;
use crate::chunks::{Content, Mark, Piece, Stream};
use crate::logs::{Keep, LogError, LogRequest};

const EVENTS: (&str, &str) = ("accept", "text/event-stream");

/// A piece that came at the second `at` on standard output.
fn piece(key: AttemptKey, from: u64, at: i64, bytes: &[u8]) -> Piece {
    let mark = Mark { at: from, time: UtcMillis(at * 1_000), stream: Stream::Stdout };
    let content = Content::Data { bytes: Bytes::copy_from_slice(bytes), marks: vec![mark] };
    Piece { key, from, to: from + bytes.len() as u64, content }
}

impl Cluster {
    /// Runs of a job, each given to the worker.
    async fn runs(&self, count: usize) -> Vec<(AttemptKey, Token)> {
        let body = r#"{"name": "says", "noop": true}"#;
        self.ask("PUT", "jobs/says", body).await;
        let worker = self.worker().await;
        let mut runs = Vec::new();
        for _ in 0..count {
            let made = self.ask("POST", "jobs/says/trigger", "").await;
            let run = made.body["run"].as_str().unwrap().trim_start_matches("r-");
            runs.push(self.dispatch(RunId(run.parse().unwrap()), worker).await);
        }
        runs
    }

    /// The worker says that an attempt ended, having written so much.
    async fn over(&self, (attempt, token): (AttemptKey, Token), output_bytes: u64) {
        let ended = Some(UtcMillis(1));
        let report = EndReport { ended, output_bytes, ..report(EndKind::Exited { code: 0 }) };
        self.propose(Command::Complete { attempt, token, report }).await;
    }

    async fn put(&self, piece: &Piece) {
        self.logs.store().opened().await;
        self.logs.store().put(vec![pack(piece)]).await.unwrap();
    }

    async fn open(&self, path: &str, headers: &[(&str, &str)]) -> axum::response::Response {
        let mut request = Request::get(format!("/api/v1/{path}"));
        for (name, value) in [&[("authorization", "Bearer admin")], headers].concat() {
            request = request.header(name, value);
        }
        let request = request.body(Body::empty()).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// An answer's text, and whether it came to its end.
    async fn text(&self, path: &str, headers: &[(&str, &str)]) -> (StatusCode, String, bool) {
        let answer = self.open(path, headers).await;
        let status = answer.status();
        let (mut text, mut parts) = (Vec::new(), answer.into_body().into_data_stream());
        while let Some(part) = parts.next().await {
            match part {
                Ok(bytes) => text.extend_from_slice(&bytes),
                Err(_) => return (status, String::from_utf8(text).unwrap(), false),
            }
        }
        (status, String::from_utf8(text).unwrap(), true)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_on_behind_the_last_one_that_came() {
    let cluster = Cluster::start().await;
    let attempt = cluster.runs(1).await[0];
    let key = attempt.0;
    cluster.put(&piece(key, 0, 1, b"one\n")).await;
    cluster.put(&Piece { key, from: 4, to: 10, content: Content::Gap }).await;
    let one = "event: output\nid: r-1.1@4\ndata: {\"from\":0,\"to\":4,\
               \"at\":\"1970-01-01T00:00:01.000Z\",\"stream\":\"stdout\",\"text\":\"one\\n\"}\n\n";
    let gap = "event: gap\nid: r-1.1@10\ndata: {\"from\":4,\"to\":10}\n\n";
    let two = one.replace("@4", "@14").replace("\"from\":0,\"to\":4", "\"from\":10,\"to\":14");
    let two = two.replace("01.000Z", "02.000Z").replace("one", "two");
    let end =
        |total: u64| format!("event: end\nid: r-1.1@{total}\ndata: {{\"total\":{total}}}\n\n");
    let so_far = cluster.text("runs/r-1/logs", &[EVENTS]).await;
    assert_eq!(so_far, (StatusCode::OK, format!("{one}{gap}{}", end(10)), true));
    let later = cluster.text("runs/r-1/logs", &[EVENTS, ("last-event-id", "r-1.1@4")]).await;
    assert_eq!(later.1, format!("{gap}{}", end(10)));

    // Who follows gets the rest as it comes, and comes back when a node is lost.
    let answer = cluster.open("runs/r-1/logs?follow=true", &[EVENTS]).await;
    let mut followed = answer.into_body().into_data_stream();
    let first = followed.next().await.unwrap().unwrap();
    assert_eq!(first, one.as_bytes());
    drop(followed);
    let back = [EVENTS, ("last-event-id", "r-1.1@4")];
    let answer = cluster.open("runs/r-1/logs?follow=true", &back).await;
    let rest = tokio::spawn(to_bytes(answer.into_body(), usize::MAX));
    cluster.put(&piece(key, 10, 2, b"two\n")).await;
    cluster.over(attempt, 14).await;
    let rest = tokio::time::timeout(PATIENCE, rest).await.unwrap().unwrap().unwrap();
    let rest = String::from_utf8(rest.to_vec()).unwrap().replace(": alive\n\n", "");
    assert_eq!(rest, format!("{gap}{two}{}", end(14)));
    let bytes = cluster.text("runs/r-1/logs?attempt=1&offset=2", &[]).await.1;
    assert_eq!(bytes, "e\n\n[horai: 6 bytes of output are left out here]\ntwo\n");

    for (id, problem) in [
        ("r-1@4", "this is no id of an event"),
        ("r-2.1@4", "it is of another run"),
        ("r-1.7@4", "the run has no such attempt"),
    ] {
        let answer = cluster.with("GET", "runs/r-1/logs", "", &[("last-event-id", id)]).await;
        let told = answer.body["errors"][0]["problem"].as_str().unwrap();
        assert!(told.starts_with(problem), "{id}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_never_told_as_the_whole() {
    let cluster = Cluster::start().await;
    let [short, none]: [_; 2] = cluster.runs(2).await.try_into().unwrap();
    cluster.put(&piece(short.0, 0, 1, b"the first\n")).await;
    cluster.over(short, 30).await;
    cluster.over(none, 30).await;
    // Of what was not delivered the first bytes are waited for, and then it is told.
    let (status, text, whole) = cluster.text("runs/r-1/logs", &[]).await;
    assert_eq!((status, text.as_str(), whole), (StatusCode::OK, "the first\n", false));
    let local = cluster.text("runs/r-1/logs?local=true", &[]).await;
    assert_eq!(local, (StatusCode::OK, "the first\n".to_owned(), true), "it says what is here");
    let (_, text, whole) = cluster.text("runs/r-1/logs", &[EVENTS]).await;
    assert!(text.contains("the first") && !text.contains("event: end") && !whole, "{text}");
    let read = LogRequest { key: none.0, offset: 0, follow: false, local: false };
    let mut parts = cluster.logs.read(read).await.unwrap();
    let missing = LogError::Missing { from: 0, to: 30 };
    assert_eq!(parts.recv().await, Some(crate::logs::LogPart::Failed(missing)));
    // It comes later, and is read whole.
    cluster.put(&piece(short.0, 10, 2, b"and all that follows")).await;
    let whole = cluster.text("runs/r-1/logs", &[]).await;
    assert_eq!(whole.1, "the first\nand all that follows");
    assert!(whole.2);
}

/// Bytes that cannot be made smaller.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let word = |n: u64| xxhash_rust::xxh3::xxh3_64(&[seed.to_le_bytes(), n.to_le_bytes()].concat());
    (0..).flat_map(|n| word(n).to_le_bytes()).take(len).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_logs_make_room_and_no_more_of_them_than_needed() {
    const LEN: usize = 60_000;
    let cluster = Cluster::start().await;
    let home = tempfile::tempdir().unwrap();
    let keep = Keep { max_bytes: 11 * LEN as u64 / 2, ..Keep::default() };
    let logs = logs(&cluster.node, home.path(), keep);
    let attempts = cluster.runs(9).await;
    logs.store().opened().await;
    for (n, attempt) in attempts.iter().enumerate() {
        let piece = piece(attempt.0, 0, 1, &noise(n as u64, LEN));
        logs.store().put(vec![pack(&piece)]).await.unwrap();
        // The first is not over.
        if n > 0 {
            cluster.over(*attempt, LEN as u64).await;
        }
    }
    let running = std::sync::Arc::clone(&logs);
    let runs = tokio::spawn(async move { running.run().await });
    let kept = || logs.store().runs(RunId(0), 100).into_iter().map(|(run, _)| run.0);
    until("room", || kept().count() < 5).await;
    // Some more rounds: what is of no use any more is not counted again.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(kept().collect::<Vec<_>>(), [1, 7, 8, 9]);
    let read = |run: usize| LogRequest {
        key: attempts[run - 1].0,
        offset: 0,
        follow: false,
        local: false,
    };
    assert_eq!(logs.read(read(5)).await.unwrap_err(), LogError::Dropped);
    assert!(logs.read(read(9)).await.is_ok());
    runs.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_kept_for_so_long_after_the_end_of_their_run() {
    let cluster = Cluster::start().await;
    let home = tempfile::tempdir().unwrap();
    let keep = |max_age| Keep { max_age, ..Keep::default() };
    let attempts = cluster.runs(2).await;
    for (name, max_age, left) in [("long", Span::secs(3_600), 2), ("short", Span::secs(0), 1)] {
        let folder = home.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let logs = logs(&cluster.node, &folder, keep(max_age));
        logs.store().opened().await;
        for (key, _) in &attempts {
            logs.store().put(vec![pack(&piece(*key, 0, 1, b"hello"))]).await.unwrap();
        }
        if name == "long" {
            cluster.over(attempts[1], 5).await;
        }
        let running = std::sync::Arc::clone(&logs);
        let runs = tokio::spawn(async move { running.run().await });
        if left == 2 {
            // Some rounds, in which nothing is dropped.
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        until(name, || logs.store().runs(RunId(0), 100).len() == left).await;
        assert!(!logs.store().held(attempts[0].0).is_empty(), "it is not over");
        runs.abort();
    }
}
