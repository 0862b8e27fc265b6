//! `horai lock`: leases by hand and in scripts.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use horai_core::time::Span;

use super::client::{ApiError, Client, pages};
use super::failure::Failure;
use super::output::{Show, View, moment, note, print};
use super::remote::{Remote, wait};
use crate::api::dto::{AcquireRequest, LeaseDto, LockDto, SpanText};
use crate::error::ErrorCode;

/// Between two looks while in the queue.
const LOOK: Duration = Duration::from_millis(250);

/// Locks.
#[derive(Debug, Args)]
pub(super) struct LockArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: LockCommand,
}

#[derive(Debug, Subcommand)]
enum LockCommand {
    /// Take a lock; prints the token that the protected resource must check
    Acquire {
        /// The lock's name
        name: String,
        /// Who takes it, as lock list shows it
        #[arg(long)]
        owner: String,
        /// Length of the lease, 1s to 24h; renew it in time
        #[arg(long, value_name = "TIME", default_value = "1m")]
        ttl: Span,
        /// How many may hold it at once
        #[arg(long, default_value_t = 1)]
        slots: u32,
        /// How long to wait if it is taken
        #[arg(long, value_name = "TIME", default_value = "0s")]
        wait: Span,
    },
    /// Start a lease anew
    Renew {
        /// The lock's name
        name: String,
        /// The token that was given; not the bearer token
        lease: u64,
    },
    /// Give a lock back
    Release {
        /// The lock's name
        name: String,
        /// The token that was given; not the bearer token
        lease: u64,
    },
    /// List locks that someone holds or waits for
    List,
}

/// Does what was asked.
pub(super) fn run(args: LockArgs, out: &mut impl Write) -> Result<(), Failure> {
    let LockArgs { remote, verb } = args;
    let format = remote.output.output;
    let client = remote.client()?;
    wait(async {
        match verb {
            LockCommand::Acquire { name, owner, ttl, slots, wait } => {
                let (slots, ttl) = (Some(slots), SpanText(ttl));
                let ask = AcquireRequest { owner, ttl, slots, wait: Some(SpanText(wait)) };
                print(out, format, &acquire(&client, &name, ask, wait).await?)
            }
            LockCommand::Renew { name, lease } => {
                print(out, format, &client.renew(&name, lease).await?)
            }
            LockCommand::Release { name, lease } => {
                client.release(&name, lease).await?;
                note(format, &format!("lock {name} is given back"))
            }
            LockCommand::List => {
                let locks = pages::all(async |after| client.locks(after).await).await?;
                print(out, format, &locks)
            }
        }
    })
}

/// Asks again while in the queue: that is how one learns of the grant.
async fn acquire(
    client: &Client,
    name: &str,
    mut ask: AcquireRequest,
    wait: Span,
) -> Result<LeaseDto, ApiError> {
    let deadline = Instant::now() + Duration::from_millis(wait.0);
    loop {
        let lease = match client.acquire(name, &ask).await {
            Err(error) if error.code() == ErrorCode::LockTaken && wait.0 > 0 => {
                return Err(given_up(name, wait));
            }
            answer => answer?,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        match lease {
            LeaseDto::Held { .. } => return Ok(lease),
            LeaseDto::Queued { .. } if left.is_zero() => return Err(given_up(name, wait)),
            LeaseDto::Queued { .. } => tokio::time::sleep(LOOK.min(left)).await,
        }
        let left = deadline.saturating_duration_since(Instant::now());
        ask.wait = Some(SpanText(Span(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))));
    }
}

fn given_up(name: &str, wait: Span) -> ApiError {
    let detail = format!("lock {name} was still taken after {wait}");
    let remedy = "see who holds it: horai lock list; or give more --wait";
    ApiError::new(ErrorCode::LockTaken, detail, remedy)
}

impl Show for LeaseDto {
    fn view(&self) -> View {
        let facts = match self {
            Self::Held { token, expires } => {
                vec![("token", token.to_string()), ("expires", moment(*expires))]
            }
            Self::Queued { position } => vec![("position", position.to_string())],
        };
        View { facts, ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        match self {
            Self::Held { token, .. } => vec![token.to_string()],
            Self::Queued { .. } => Vec::new(),
        }
    }
}

impl Show for Vec<LockDto> {
    fn view(&self) -> View {
        let titles = vec!["name", "slots", "owner", "token", "expires", "waiting"];
        let rows = self.iter().flat_map(|lock| {
            let (name, slots) = (lock.name.clone(), lock.slots.to_string());
            let waiting = lock.waiting.to_string();
            lock.holders.iter().map(move |holder| {
                vec![
                    name.clone(),
                    slots.clone(),
                    holder.owner.clone(),
                    holder.token.to_string(),
                    moment(holder.expires),
                    waiting.clone(),
                ]
            })
        });
        View { titles, rows: rows.collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().map(|lock| lock.name.clone()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("no lock is held")
    }
}
