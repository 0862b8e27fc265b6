//! A script for an interpreter of this worker's configuration.

use horai_proto::worker as pb;

use super::{Executor, Plan, Site};
use crate::worker::interpreters::RemoteHandle;

impl Executor for pb::Interpreted {
    fn plan(&self, site: &Site<'_>) -> Result<Plan, String> {
        let name = &self.name;
        let Some(interpreter) = site.interpreters.named(name) else {
            return Err(format!(
                "this worker has no interpreter {name}: give it a command in \
                 [interpreters.{name}] of its file"
            ));
        };
        let argv = interpreter.command(&site.script(), &self.args)?;
        Ok(Plan::Process { argv, script: Some(self.script.clone()) })
    }

    fn handles(&self, site: &Site<'_>) -> Vec<RemoteHandle> {
        let interpreter = site.interpreters.named(&self.name);
        interpreter.map(|interpreter| interpreter.handles.clone()).unwrap_or_default()
    }
}
