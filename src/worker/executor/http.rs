//! One HTTP request, made by a process of this program, so that limits, time-outs, cancel
//! and output are those of every job. Its only argument is where the request is: what that
//! says may be secret.

use horai_proto::worker as pb;

use super::{Executor, OWN_PROGRAM, Plan, Site};
use crate::worker::http::Request;

impl Executor for pb::Http {
    fn plan(&self, site: &Site<'_>) -> Result<Plan, String> {
        let code = |code: u32| u16::try_from(code).map_err(|_| format!("{code} is no status"));
        let range = |range: &pb::StatusRange| Ok((code(range.first)?, code(range.last)?));
        let request = Request {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            status: self.status.iter().map(range).collect::<Result<_, String>>()?,
            body_matches: self.body_matches.clone(),
            connect_timeout_ms: self.connect_timeout_ms,
            timeout_ms: self.timeout_ms,
            ca_file: Some(self.ca_file.clone()).filter(|file| !file.is_empty()),
            insecure: self.insecure,
        };
        let script = serde_json::to_string(&request).map_err(|error| error.to_string())?;
        let argv = vec![OWN_PROGRAM.to_owned(), "http".to_owned(), site.script()];
        Ok(Plan::Process { argv, script: Some(script) })
    }
}
