//! Lock: leases are taken, used and given back; some holders deliberately stay
//! longer than their lease, as one that is frozen would.
//!
//! The protected resource is here, outside the cluster: it remembers the largest
//! token it was shown and refuses smaller ones. A client counts its lease from
//! before it asked, so that it never believes longer than the cluster does.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rand::Rng;
use serde_json::{Value, json};

use super::{Ctx, Error, Process};
use crate::client::Request;
use crate::history::Came;
use crate::time::MS;

/// Clients.
const USERS: u32 = 4;
/// Locks at a time.
const LOCKS: u32 = 2;
/// A lock's name serves so long; then another is used, so that searches stay short.
const NAME: Duration = Duration::from_secs(20);
/// Lengths of leases, in seconds.
const TTLS: [u64; 3] = [1, 2, 4];

/// Remembers the largest token of each lock.
#[derive(Default)]
struct Resource(Mutex<BTreeMap<String, u64>>);

impl Resource {
    /// True if the token is not older than one it has seen.
    fn show(&self, lock: &str, token: u64) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let largest = seen.entry(lock.to_owned()).or_default();
        *largest = (*largest).max(token);
        *largest == token
    }
}

/// Takes, uses, gives back.
pub(super) async fn main(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    let (resource, begun) = (Resource::default(), Instant::now());
    let users = (0..USERS).map(|user| use_locks(ctx, user, &resource, begun, until));
    try_join_all(users).await.map(drop)
}

async fn use_locks(
    ctx: &Ctx,
    user: u32,
    resource: &Resource,
    begun: Instant,
    until: Instant,
) -> Result<(), Error> {
    let mut rng = ctx.stream(&format!("lock-{user}"));
    let mut process = Process::new(ctx);
    let mut turn = 0_u32;
    while Instant::now() < until {
        turn += 1;
        let era = begun.elapsed().as_secs() / NAME.as_secs();
        let lock = format!("lock-{}-{era}", rng.random_range(0..LOCKS));
        // A new owner each time: a grant whose answer was lost ends with its lease.
        let owner = format!("user-{user}-{turn}");
        let ttl = TTLS[rng.random_range(0..TTLS.len())];
        let waits = rng.random_bool(0.5);
        let outstays = rng.random_bool(0.15);
        if let Some(held) = acquire(ctx, &mut process, &lock, &owner, ttl, waits).await? {
            hold(ctx, &mut process, &lock, held, resource, outstays, &mut rng).await?;
        }
        tokio::time::sleep(ctx.pause(4.0, &mut rng)).await;
    }
    Ok(())
}

/// A lease that this client was given.
struct Held {
    token: u64,
    /// It does not believe in its lease any longer than this.
    until: Instant,
}

async fn acquire(
    ctx: &Ctx,
    process: &mut Process<'_>,
    lock: &str,
    owner: &str,
    ttl: u64,
    waits: bool,
) -> Result<Option<Held>, Error> {
    let path = format!("locks/{lock}/acquire");
    let mut body = json!({"owner": owner, "ttl": format!("{ttl}s")});
    if waits {
        body["wait"] = json!("2s");
    }
    let give_up = Instant::now() + Duration::from_secs(4);
    let mut since = None;
    loop {
        let asked = Instant::now();
        let what = ("acquire", lock, json!({"owner": owner, "ttl_ms": ttl * 1000}));
        let request = Request::post(&path, body.clone());
        let outcome = process.ask(ctx.any(), what, request, |answer| answer.body.clone()).await?;
        let Some(answer) = outcome.body() else { return Ok(None) };
        if let Some(token) = answer["token"].as_u64() {
            // A grant from the queue came after the question that was answered with
            // a place in it, perhaps long before the one that told of it.
            let since = since.unwrap_or(asked);
            return Ok(Some(Held { token, until: since + Duration::from_secs(ttl) }));
        }
        since = Some(asked);
        if asked > give_up {
            return Ok(None);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn hold(
    ctx: &Ctx,
    process: &mut Process<'_>,
    lock: &str,
    held: Held,
    resource: &Resource,
    outstays: bool,
    rng: &mut impl Rng,
) -> Result<(), Error> {
    let Held { token, until } = held;
    let uses = rng.random_range(1..6);
    for _ in 0..uses {
        tokio::time::sleep(Duration::from_millis(rng.random_range(10..150))).await;
        if Instant::now() >= until {
            break;
        }
        use_once(process, lock, token, resource, until).await?;
    }
    if outstays {
        // As if frozen: past the lease, and not aware of it.
        tokio::time::sleep_until((until + Duration::from_millis(500)).into()).await;
        use_once(process, lock, token, resource, until).await?;
    }
    let path = format!("locks/{lock}/release");
    let request = Request::post(&path, json!({ "token": token }));
    let what = ("release", lock, json!({ "token": token }));
    process.ask(ctx.any(), what, request, |_| Value::Null).await?;
    Ok(())
}

async fn use_once(
    process: &mut Process<'_>,
    lock: &str,
    token: u64,
    resource: &Resource,
    until: Instant,
) -> Result<(), Error> {
    let left = until.saturating_duration_since(Instant::now()).as_nanos();
    let left = u64::try_from(left).unwrap_or(u64::MAX) / MS;
    let what = ("access", lock, json!({"token": token, "left_ms": left}));
    let work = async || (Came::ok(json!({"accepted": resource.show(lock, token)})), ());
    process.whole("resource", what, work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resource_refuses_older_tokens() {
        let resource = Resource::default();
        assert!(resource.show("a", 3));
        assert!(resource.show("a", 3));
        assert!(resource.show("a", 7));
        assert!(!resource.show("a", 3));
        assert!(resource.show("b", 1));
    }
}
