//! Nothing, inside the worker: for measuring.

use horai_proto::worker as pb;

use super::{Executor, Plan, Site};

impl Executor for pb::Unit {
    fn plan(&self, _: &Site<'_>) -> Result<Plan, String> {
        Ok(Plan::Noop)
    }
}
