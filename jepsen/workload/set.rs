//! Set: jobs that do nothing are created under unique names, and listed on every
//! node. An element that was acknowledged must be in every later list.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde_json::{Value, json};

use super::{Ctx, Error, MOST_PAGES, Process};
use crate::client::{Client, Outcome, Request};
use crate::history::Came;

/// Names begin so, and no other job's does.
const PREFIX: &str = "set-";
/// More would make lists long without telling more.
const MOST: u32 = 4_000;
/// Clients that add.
const ADDERS: u32 = 3;
/// How long the last reads are tried.
const PATIENCE: Duration = Duration::from_secs(30);

fn name(n: u32) -> String {
    format!("{PREFIX}{n:06}")
}

/// Adds, and lists.
pub(super) async fn main(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    let adders = try_join_all((0..ADDERS).map(|adder| add(ctx, adder, until)));
    let readers = try_join_all(ctx.clients.iter().map(|client| read_often(ctx, client, until)));
    tokio::try_join!(adders, readers)?;
    Ok(())
}

async fn add(ctx: &Ctx, adder: u32, until: Instant) -> Result<(), Error> {
    let mut rng = ctx.stream(&format!("set-{adder}"));
    let mut process = Process::new(ctx);
    // Each adder has its own residue, so that no two add one element.
    for n in (adder..MOST).step_by(ADDERS as usize) {
        if Instant::now() >= until {
            break;
        }
        let path = format!("jobs/{}", name(n));
        let body = json!({"name": name(n), "noop": true});
        let request = Request::new(reqwest::Method::PUT, &path).body(body);
        process.ask(ctx.any(), ("add", "set", json!(n)), request, |_| json!(n)).await?;
        tokio::time::sleep(ctx.pause(5.0, &mut rng)).await;
    }
    Ok(())
}

async fn read_often(ctx: &Ctx, client: &Client, until: Instant) -> Result<(), Error> {
    let mut rng = ctx.stream(&format!("set-read-{}", client.node));
    while Instant::now() < until {
        read(ctx, client).await?;
        tokio::time::sleep(ctx.pause(0.5, &mut rng)).await;
    }
    Ok(())
}

/// Nothing is left to do but to read: the adds are over.
pub(super) async fn settle(ctx: &Ctx) -> Result<(), Error> {
    for client in ctx.clients.iter() {
        read(ctx, client).await?;
    }
    Ok(())
}

/// A list from every node; each is asked until it answers.
pub(super) async fn finish(ctx: &Ctx) -> Result<(), Error> {
    let until = Instant::now() + PATIENCE;
    for client in ctx.clients.iter() {
        while !read(ctx, client).await? && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    Ok(())
}

async fn read(ctx: &Ctx, client: &Client) -> Result<bool, Error> {
    let work = async || match list(client).await {
        Ok(found) => (Came::ok(ranges(&found)), true),
        Err(why) => (Came::fail(why), false),
    };
    Process::new(ctx).whole(&client.node, ("read", "set", Value::Null), work).await
}

/// Page by page. Nothing is ever deleted, so an element that is there when the
/// first page is asked for must be in its page.
async fn list(client: &Client) -> Result<Vec<u32>, String> {
    let mut found = Vec::new();
    let mut after = PREFIX.to_owned();
    for _ in 0..MOST_PAGES {
        let request = Request::get("jobs").query("limit", 1000).query("after", &after);
        let page = match client.send(request).await {
            Outcome::Done(answer) => answer.body,
            Outcome::Refused(_, why) | Outcome::Unknown(_, why) => return Err(why),
        };
        let items = page["items"].as_array().ok_or("a list without items")?;
        for item in items {
            let name = item["name"].as_str().unwrap_or_default();
            match name.strip_prefix(PREFIX) {
                Some(number) => found.push(number.parse().map_err(|_| format!("job {name:?}"))?),
                None if name > PREFIX => return Ok(found),
                None => {}
            }
        }
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => return Ok(found),
        }
    }
    Err(format!("jobs: after {MOST_PAGES} pages there is no end"))
}

/// `[[from, to], …]` of sorted numbers.
pub(crate) fn ranges(numbers: &[u32]) -> Value {
    let mut found: Vec<[u32; 2]> = Vec::new();
    for n in numbers {
        match found.last_mut() {
            Some([_, to]) if *to + 1 == *n => *to = *n,
            _ => found.push([*n, *n]),
        }
    }
    json!(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_written_short() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), json!([[0, 2], [5, 5], [7, 8]]));
        assert_eq!(ranges(&[]), json!([]));
    }
}
