//! Contents of jobs' files: into the cluster before the definition that names them, and out
//! of it again.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use horai_core::ids::Revision;
use horai_core::machine::command::{Command, Envelope};
use horai_core::machine::state::State as CoreState;
use horai_core::model::file::Digest;

use super::Api;
use super::WRITE_LIMIT;
use super::file_definition::{FileDefinition, Said, contents};
use super::jobs::find;
use super::params::{Params, Segment};
use super::problem::Fault;
use super::write::{Write, accepted};
use crate::chunks::content::digest_of;
use crate::error::{ErrorCode, FieldError};
use crate::logs::FilesError;

/// How long contents may take to a majority's disks.
const KEEP_LIMIT: Duration = Duration::from_secs(8);
/// Contents noted by one command.
const AT_ONCE: usize = 1_000;

impl From<FilesError> for Fault {
    fn from(error: FilesError) -> Self {
        let remedy = match &error {
            FilesError::TooFew { .. } => {
                "ask again when a majority of the nodes runs, with room on their disks"
            }
            FilesError::Missing { .. } => {
                "ask again when more nodes are back, or apply the job with the file's content"
            }
        };
        Self::new(error.code(), error.to_string(), remedy)
    }
}

/// The contents that definitions of one request name.
#[derive(Debug, Default)]
pub(super) struct Contents(BTreeMap<Digest, (u32, Option<Bytes>)>);

impl Contents {
    /// Takes those of one definition. What is only named must be said elsewhere in the
    /// request, before, or be in the cluster.
    pub(super) fn add(
        &mut self,
        files: &BTreeMap<String, FileDefinition>,
        state: &CoreState,
    ) -> Result<(), FieldError> {
        for said in contents(files) {
            match said? {
                (_, Said::Content(bytes)) => {
                    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    let digest = digest_of(&bytes);
                    self.0.insert(digest, (len, Some(bytes)));
                }
                (field, Said::Known(digest, len)) => {
                    let here = self.0.get(&digest).map(|(len, _)| *len);
                    if here.or(state.file_len(digest)) != Some(len) {
                        let problem =
                            format!("the cluster has no content of {len} bytes with this hash");
                        let remedy = "send the content itself, as 'text' or 'base64'";
                        let field = format!("{field}.sha256");
                        return Err(FieldError::invalid(field, digest, problem, remedy));
                    }
                    self.0.entry(digest).or_insert((len, None));
                }
            }
        }
        Ok(())
    }

    /// The commands that say that they are needed.
    pub(super) fn notes(&self) -> Vec<Command> {
        let files: Vec<(Digest, u32)> =
            self.0.iter().map(|(digest, (len, _))| (*digest, *len)).collect();
        files.chunks(AT_ONCE).map(|files| Command::NoteFiles { files: files.to_vec() }).collect()
    }
}

impl Api {
    /// Has a majority keep these, so that definitions may name them.
    pub(super) async fn keep(&self, write: &Write, contents: Contents) -> Result<(), Fault> {
        let notes = contents.notes();
        if notes.is_empty() {
            return Ok(());
        }
        for note in notes {
            // Said twice it is the same as once: the request's id is for what follows.
            let envelope = Envelope { request: None, ..write.envelope(note) };
            accepted(self.node.propose(&envelope, WRITE_LIMIT).await?)?;
        }
        let contents = contents.0.into_iter().map(|(digest, (_, bytes))| (digest, bytes));
        Ok(self.logs.keep_files(contents.collect(), KEEP_LIMIT).await?)
    }
}

/// `GET /jobs/NAME/file?name=FILE`: the content of a file, as its runs have it.
pub(super) async fn show(
    State(api): State<Api>,
    name: Segment,
    params: Params,
) -> Result<Response, Fault> {
    let (job, params) = (name.name()?, params.only(&["name", "revision"])?);
    let file: String = params.parse("name")?.ok_or_else(|| {
        FieldError::invalid("name", "", "it does not say which file", "add ?name=FILE")
    })?;
    let revision = params.parse::<u64>("revision")?.map(Revision);
    api.fresh(&params).await?;
    let digest = api.read(|state| {
        let found = find(state, &job)?;
        let revision = revision.unwrap_or(found.revision);
        let spec = state.spec(found.id, revision).ok_or_else(|| {
            let problem =
                format!("the job has revision {}, and that one is not kept", found.revision);
            let remedy = "leave it out, or ask for another one";
            FieldError::invalid("revision", revision, problem, remedy)
        })?;
        let file = spec.files.get(&file).ok_or_else(|| {
            let names: Vec<&str> = spec.files.keys().map(String::as_str).collect();
            let remedy = match names.as_slice() {
                [] => "it has no files".to_owned(),
                names => format!("it has {}", names.join(", ")),
            };
            let detail = format!("revision {revision} of job {job} has no file {file:?}");
            Fault::new(ErrorCode::NotFound, detail, remedy)
        })?;
        Ok::<_, Fault>(file.digest)
    })?;
    let (_, bytes) = api.logs.file(digest).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::ETAG, format!("\"{digest}\"")),
    ];
    Ok((headers, Body::from(bytes)).into_response())
}
