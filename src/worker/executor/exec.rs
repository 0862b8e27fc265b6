//! A program and its arguments.

use horai_proto::worker as pb;

use super::{Executor, Plan, Site};

impl Executor for pb::Exec {
    fn plan(&self, _: &Site<'_>) -> Result<Plan, String> {
        if self.argv.is_empty() {
            return Err("exec needs a program: its argv is empty".into());
        }
        Ok(Plan::Process { argv: self.argv.clone(), script: None })
    }
}
