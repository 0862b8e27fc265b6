//! A Python script: a file behind Python's own arguments.

use horai_core::model::executor::Executor as Kinds;
use horai_proto::worker as pb;

use super::{Executor, Plan, Site, script};

impl Executor for pb::Python {
    fn plan(&self, site: &Site<'_>) -> Result<Plan, String> {
        Ok(script(&self.interpreter, &Kinds::PYTHON, &self.script, site))
    }
}
