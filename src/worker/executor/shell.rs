//! A shell script: a file behind the shell's own arguments.

use horai_proto::worker as pb;

use super::{Executor, Plan, SHELL, Site, script};

impl Executor for pb::Shell {
    fn plan(&self, site: &Site<'_>) -> Result<Plan, String> {
        Ok(script(&self.interpreter, &[SHELL], &self.script, site))
    }

    fn shell(&self) -> &[String] {
        &self.interpreter
    }
}
