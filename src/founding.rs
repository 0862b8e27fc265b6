//! How a cluster begins: once, by hand, on one node.
//!
//! `found` makes a node's store and leaves a note of what the first start is to
//! commit; `complete` commits it and removes the note. A crash at any point in
//! between is made good by doing the same again. Tokens are noted by their hash.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use horai_core::ids::{Name, NodeId};
use horai_core::machine::command::{Actor, Command, Envelope, Request};
use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::machine::state::State;
use horai_core::model::access::{AccessToken, TokenHash, TokenPurpose};
use horai_core::model::area::Area;
use horai_core::model::cluster::ClusterSettings;
use horai_core::time::{Span, UtcMillis};
use horai_core::timing::zone::{Zone, ZoneError};
use horai_raft::types::Member;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::{NodeConfig, Token, TokenError, make_token};
use crate::files;
use crate::session::Node;

/// Below the data folder: log and snapshots.
const STORE: &str = "raft";
/// Written last when a store is made: without it there is none.
pub(crate) const IDENTITY: &str = "identity";
/// The note of what is still to be committed.
const NOTE: &str = "founding.json";
/// How long the first join token is worth something.
const JOIN_FOR: Span = Span::secs(86_400);
/// How long one proposal may take,
const LIMIT: Duration = Duration::from_secs(5);
/// and the pause before it is made again.
const PAUSE: Duration = Duration::from_millis(50);

/// The folder of a node's store.
#[must_use]
pub fn store_dir(config: &NodeConfig) -> PathBuf {
    config.node.data_dir.join(STORE)
}

/// True if the folder of a store holds a whole one.
pub(crate) fn holds_store(store: &Path) -> io::Result<bool> {
    store.join(IDENTITY).try_exists()
}

/// Why a cluster cannot be founded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node has a store.
    #[error(
        "{} holds a node of a cluster already: start it with `horai node`, or choose an empty \
         data_dir", .0.display()
    )]
    Exists(PathBuf),
    /// The folder holds something that is not ours to remove.
    #[error("{} is not empty and holds no store: choose an empty data_dir", .0.display())]
    Strange(PathBuf),
    /// Not a zone.
    #[error("the default zone cannot be taken")]
    Zone(#[from] ZoneError),
    /// Nothing could be late, or nothing ever would.
    #[error("misfire-after cannot be {0}: write 1s to 1d")]
    Misfire(Span),
    /// The token file.
    #[error("the cluster's token cannot be kept")]
    Token(#[from] TokenError),
    /// The store.
    #[error("the store cannot be made")]
    Store(#[from] horai_raft::open::Error),
    /// Files or folders.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The note is not what was written.
    #[error("{} is damaged: remove the data folder and found the cluster again", .0.display())]
    Damaged(PathBuf),
    /// The cluster was founded otherwise.
    #[error("the first start cannot be completed: {0}")]
    Refused(String),
}

/// What the operator needs to know.
#[derive(Debug, Clone)]
pub struct Founded {
    /// Random id of the cluster.
    pub cluster: Uuid,
    /// Opens everything; it is in the token file.
    pub token: Token,
    /// Lets nodes in for 24 h from the first start; shown once.
    pub join_token: Token,
}

/// What holds for the whole cluster from the beginning, and but for the area for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choices {
    /// Zone of jobs that name none.
    pub default_zone: String,
    /// An instant that is planned later than this is a misfire: 1 s to 1 d.
    pub misfire_after: Span,
    /// Where it stands.
    pub area: Option<Area>,
}

impl Default for Choices {
    fn default() -> Self {
        let usual = ClusterSettings::new(0);
        let (default_zone, misfire_after) = (usual.default_zone, usual.misfire_after);
        Self { default_zone, misfire_after, area: usual.area }
    }
}

/// What the first start is to commit.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    cluster: Uuid,
    default_zone: String,
    /// Notes of an earlier version have none.
    #[serde(default)]
    misfire_after: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    area: Option<Area>,
    admin: TokenHash,
    join: TokenHash,
}

/// Founds a cluster with this node as its first. The node must not run.
///
/// # Errors
/// [`Error`]; what was begun is gone on with when it is called again.
pub fn found(config: &NodeConfig, choices: &Choices) -> Result<Founded, Error> {
    let zone = Zone::parse(&choices.default_zone)?;
    if !(Span::secs(1)..=Span::secs(86_400)).contains(&choices.misfire_after) {
        return Err(Error::Misfire(choices.misfire_after));
    }
    let data_dir = &config.node.data_dir;
    let note = data_dir.join(NOTE);
    let store = store_dir(config);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    };
    if holds_store(&store).map_err(io(&store))? {
        return Err(Error::Exists(data_dir.clone()));
    }
    remove_unfinished(&store, &note)?;
    let token = make_token(&config.node.token_file)?;
    let join_token = Token::random().map_err(io(&config.node.token_file))?;
    let cluster = Uuid::new_v4();
    std::fs::create_dir_all(data_dir).map_err(io(data_dir))?;
    let content = Note {
        cluster,
        default_zone: zone.name().to_owned(),
        misfire_after: Some(choices.misfire_after),
        area: choices.area.clone(),
        admin: token.hash(),
        join: join_token.hash(),
    };
    let content = serde_json::to_vec_pretty(&content).map_err(|e| io(&note)(e.into()))?;
    // First: a store without the note would never become a cluster.
    files::write_durably(&note, &content).map_err(io(&note))?;
    drop(horai_raft::open::create(&store, cluster, NodeId::FOUNDER.0)?);
    files::sync_dir(data_dir).map_err(io(data_dir))?;
    Ok(Founded { cluster, token, join_token })
}

/// Removes what a crash left of a store that was never finished: `note` says that
/// it was ours. Without it, what is there is somebody else's.
pub(crate) fn remove_unfinished(store: &Path, note: &Path) -> Result<(), Error> {
    let io = |source| Error::Io { path: store.to_owned(), source };
    if !store.try_exists().map_err(io)? {
        return Ok(());
    }
    let is_empty = std::fs::read_dir(store).map_err(io)?.next().is_none();
    if !is_empty && !note.try_exists().map_err(io)? {
        return Err(Error::Strange(store.to_owned()));
    }
    std::fs::remove_dir_all(store).map_err(io)
}

/// True if the first start has something to commit.
///
/// # Errors
/// [`Error::Io`]
pub fn is_pending(config: &NodeConfig) -> Result<bool, Error> {
    let note = config.node.data_dir.join(NOTE);
    note.try_exists().map_err(|source| Error::Io { path: note.clone(), source })
}

/// Commits what the note says, then removes it. Waits as long as it takes: for
/// this node's leadership, and for a time.
///
/// # Errors
/// [`Error`] if the note cannot be used, or the cluster is another.
pub async fn complete(config: &NodeConfig, node: &Node, me: Member) -> Result<(), Error> {
    let path = config.node.data_dir.join(NOTE);
    let io = |source| Error::Io { path: path.clone(), source };
    let Some(content) = files::read_optional(&path).map_err(io)? else { return Ok(()) };
    let note: Note = serde_json::from_slice(&content).map_err(|_| Error::Damaged(path.clone()))?;
    let refused = |e: horai_raft::Error| Error::Refused(e.to_string());
    if !node.is_founded().await.map_err(refused)? {
        node.init(me).await.map_err(refused)?;
    }
    let mut settings = ClusterSettings::new(note.cluster.as_u128());
    settings.default_zone = note.default_zone;
    settings.misfire_after = note.misfire_after.unwrap_or(settings.misfire_after);
    settings.area = note.area;
    let ask = async |step: &str, command| commit(node, note.cluster, step, command).await;
    match ask("init", Command::InitCluster(settings)).await {
        Outcome::Rejected(Reject::AlreadyInitialised) => {
            let uuid = node.read(|state| state.settings().map(|s| s.uuid));
            if uuid != Some(note.cluster.as_u128()) {
                return Err(Error::Refused("the store belongs to another cluster".to_owned()));
            }
        }
        Outcome::Rejected(reject) => return Err(Error::Refused(reject.to_string())),
        _ => {}
    }
    let now = node.cluster_now().unwrap_or_else(|| node.read(State::now));
    let expires = Some(now.plus(JOIN_FOR));
    let tokens = [
        ("admin", TokenPurpose::Admin, note.admin, None),
        ("join", TokenPurpose::Join, note.join, expires),
    ];
    for (name, purpose, hash, expires) in tokens {
        let token = AccessToken { purpose, hash, expires, created: UtcMillis::default() };
        let name = Name::new(name).expect("a literal of the right form");
        let step = name.to_string();
        if let Outcome::Rejected(reject) = ask(&step, Command::PutToken { name, token }).await {
            return Err(Error::Refused(reject.to_string()));
        }
    }
    std::fs::remove_file(&path).map_err(io)?;
    files::sync_dir(&config.node.data_dir).map_err(io)?;
    tracing::info!(cluster = %note.cluster, "cluster founded");
    Ok(())
}

/// Until it is committed. The request id makes once of several times: a token that
/// was dropped since does not come back with a start that was cut short.
async fn commit(node: &Node, cluster: Uuid, step: &str, command: Command) -> Outcome {
    let request = Request { id: format!("founding-{cluster}-{step}"), body_hash: 0, issued: None };
    let actor = Actor::User("cluster init".to_owned());
    let envelope = Envelope { actor, request: Some(request), command };
    loop {
        match node.propose(&envelope, LIMIT).await {
            Ok(outcome) => return outcome,
            Err(error) => tracing::debug!(%error, step, "founding waits"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(home: &Path) -> NodeConfig {
        let text = format!(
            "[node]\ndata_dir = \"{0}/node\"\ntoken_file = \"{0}/token\"\n\
             http = \"127.0.0.1:0\"\ngrpc = \"127.0.0.1:0\"\nraft = \"127.0.0.1:0\"\n",
            home.display()
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn a_cluster_is_founded_once_and_a_crash_before_that_is_made_good() {
        let home = tempfile::tempdir().unwrap();
        let config = config(home.path());
        let of_zone = |zone: &str| Choices { default_zone: zone.to_owned(), ..Choices::default() };
        assert!(matches!(found(&config, &of_zone("Nowhere/Land")), Err(Error::Zone(_))));
        let never = Choices { misfire_after: Span::secs(86_401), ..Choices::default() };
        assert!(matches!(found(&config, &never), Err(Error::Misfire(_))));
        // A crash left half a store and its note.
        let store = store_dir(&config);
        std::fs::create_dir_all(store.join("log")).unwrap();
        assert!(matches!(found(&config, &of_zone("UTC")), Err(Error::Strange(_))));
        std::fs::write(config.node.data_dir.join(NOTE), "{}").unwrap();
        let area = Some(Area::new("EU").unwrap());
        let choices = Choices { area, ..of_zone("europe/berlin") };
        let founded = found(&config, &choices).unwrap();
        assert!(is_pending(&config).unwrap());
        let note = std::fs::read_to_string(config.node.data_dir.join(NOTE)).unwrap();
        assert!(note.contains("Europe/Berlin") && note.contains("\"area\": \"EU\""), "{note}");
        assert!(!note.contains(founded.token.text()));
        let kept = crate::config::read_token(&config.node.token_file).unwrap();
        assert_eq!(kept, founded.token);
        let again = found(&config, &of_zone("UTC")).unwrap_err().to_string();
        assert!(again.contains("horai node"), "{again}");
    }
}
