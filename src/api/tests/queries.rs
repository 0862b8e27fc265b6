//! Query parameters of every read against made-up input: each is answered, with
//! what was asked for or with a problem that names a field, and never by a fault of
//! the server's own. Runs as long as the targets of `tests/it/fuzz.rs`.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::http::Uri;
use tokio::runtime::Runtime;

use super::support::{Answer, Cluster};

/// The first byte chooses; of one job there is something.
const PATHS: [&str; 25] = [
    "jobs",
    "calendars",
    "pools",
    "locks",
    "workers",
    "pauses",
    "runs",
    "cluster",
    "jobs/a",
    "jobs/a/actions",
    "jobs/a/missed",
    "runs/r-1",
    "runs/r-1/explain",
    "runs/r-17/logs",
    "actions/a@20261121T030000Z/explain",
    "runs/r-1/history",
    "jobs/a/explain",
    "actions/a@20261121T030000Z/history",
    "jobs/none",
    "workers/none",
    "calendars/c",
    "pools/p",
    "groups",
    "groups/g",
    "readyz",
];

const PARTS: &[&str] = &[
    "limit=",
    "after=",
    "before=",
    "job=",
    "batch=",
    "from=",
    "to=",
    "attempt=",
    "offset=",
    "follow=",
    "consistency=",
    "&",
    "&",
    "&",
    "&",
    "=",
    "0",
    "1",
    "2",
    "1000",
    "1001",
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "stale",
    "linearizable",
    "true",
    "false",
    "a",
    "b",
    "r-1",
    "r-17",
    "r-18446744073709551615",
    "a@20261121T030000Z",
    "2026-11-21T03:00:00Z",
    "2026-11-21T04:00:00%2B01:00",
    "9999-12-31T23:59:59Z",
    "-009999-01-01T00:00:00Z",
    "%",
    "%0",
    "%00",
    "%26",
    "%3D",
    "%ff",
    "%C3%A4",
    "+",
    ";",
    "?",
    "[",
    "x",
];

struct World {
    runtime: Runtime,
    cluster: Cluster,
}

impl World {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let cluster = runtime.block_on(async {
            let cluster = Cluster::start().await;
            let body = r#"{"jobs": [{"name": "a", "noop": true}, {"name": "b", "noop": true}]}"#;
            assert_eq!(cluster.ask("POST", "jobs", body).await.status.as_u16(), 200);
            cluster.ask("POST", "jobs/a/trigger", "").await;
            cluster.ask("POST", "jobs/a/trigger", "").await;
            let body = r#"{"name": "c", "weekly": "SUN"}"#;
            cluster.ask("PUT", "calendars/c", body).await;
            cluster.ask("PUT", "pools/p", r#"{"slots": 2}"#).await;
            cluster.ask("PUT", "groups/g", r#"{"params": {"A": "1"}}"#).await;
            cluster.ask("PUT", "groups/g%2Fin", "{}").await;
            cluster
        });
        Self { runtime, cluster }
    }

    fn get(&self, path: &str) -> Answer {
        self.runtime.block_on(self.cluster.get(path))
    }
}

/// What the bytes ask for; none if no client could send it.
fn question(bytes: &[u8]) -> Option<String> {
    let (first, rest) = bytes.split_first()?;
    let parts = rest.iter().map(|byte| PARTS[usize::from(*byte) % PARTS.len()]);
    let path = PATHS[usize::from(*first) % PATHS.len()];
    let asked = format!("{path}?{}", parts.collect::<String>());
    format!("/api/v1/{asked}").parse::<Uri>().is_ok().then_some(asked)
}

fn check(world: &AssertUnwindSafe<World>, asked: &str) {
    let answer = world.get(asked);
    let status = answer.status.as_u16();
    // A slow machine may be told to come again; nothing else is the server's.
    assert!(status < 500 || matches!(status, 503 | 504), "{asked}: {}", answer.body);
    if status == 400 && answer.code() != "malformed" {
        let [field, _, remedy] = answer.field();
        assert!(!field.is_empty() && !remedy.is_empty(), "{asked}: {}", answer.body);
    }
    let Some(items) = answer.body["items"].as_array().filter(|_| status == 200) else { return };
    let limit = asked.split(['?', '&']).find_map(|pair| pair.strip_prefix("limit="));
    // Digits may be written in other ways; no page is longer than this.
    let limit = limit.map_or(100, |text| text.parse().unwrap_or(1_000));
    assert!(items.len() <= limit, "{asked}: {}", answer.body);
    // Where a page ends the next one begins.
    let pages = ["jobs?", "calendars?", "pools?", "groups?", "locks?", "workers?", "pauses?"];
    if let Some(path) = pages.iter().find(|path| asked.starts_with(**path))
        && let Some(next) = answer.body["next"].as_str()
    {
        let next = world.get(&format!("{path}after={next}&consistency=stale"));
        assert_eq!(next.status.as_u16(), 200, "{asked}: {}", next.body);
        let again = next.body["items"].as_array().unwrap();
        assert!(items.iter().all(|item| !again.contains(item)), "{asked}: {}", next.body);
    }
}

#[test]
fn any_query_is_answered() {
    let seconds = std::env::var("HORAI_FUZZ_SECONDS").ok();
    let seconds = seconds.map_or(10, |text| text.parse().unwrap());
    let world = AssertUnwindSafe(World::new());
    // Right ones first: nearly all that is made up is refused.
    for asked in ["jobs?limit=1", "calendars?limit=1", "runs?job=a&limit=1", "jobs/a/actions?to="] {
        check(&world, asked);
    }
    let target = bolero::check!().with_test_time(Duration::from_secs(seconds)).with_max_len(16);
    target.for_each(|bytes: &[u8]| {
        if let Some(asked) = question(bytes) {
            check(&world, &asked);
        }
    });
}
