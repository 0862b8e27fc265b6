//! All workloads of a test side by side, phase by phase.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{Ctx, Error, Workload, finals};

/// Phases of a test, for all its workloads side by side. Between them the caller
/// moves the writer's phase, and breaks and heals the cluster.
pub(crate) struct Load {
    workloads: Vec<Workload>,
}

impl Load {
    /// Of these.
    pub(crate) fn new(workloads: Vec<Workload>) -> Self {
        Self { workloads }
    }

    /// Makes what the main phase needs.
    ///
    /// # Errors
    /// [`Error`]
    pub(crate) async fn setup(&self, ctx: &Ctx) -> Result<(), Error> {
        join_all(self.workloads.iter().map(|w| w.setup(ctx))).await.into_iter().collect()
    }

    /// Asks until the time is over, and looks at records before they are forgotten.
    ///
    /// # Errors
    /// [`Error`]
    pub(crate) async fn main(&self, ctx: &Ctx, until: Instant) -> Result<(), Error> {
        let all = join_all(self.workloads.iter().map(|w| w.main(ctx, until)));
        let (done, watched) = tokio::join!(all, finals::watch_runs(ctx, until));
        watched?;
        done.into_iter().collect()
    }

    /// After everything has healed: ends what is planned, waits until nothing is
    /// open any more (at most `patience`), and reads everything on every node.
    ///
    /// # Errors
    /// [`Error`]
    pub(crate) async fn finish(&self, ctx: &Ctx, patience: Duration) -> Result<(), Error> {
        ctx.writer.enter("drain");
        let settled = join_all(self.workloads.iter().map(|w| w.settle(ctx))).await;
        settled.into_iter().collect::<Result<Vec<()>, _>>()?;
        finals::mark_horizon(ctx).await?;
        finals::drain(ctx, patience).await?;
        ctx.writer.enter("final");
        join_all(self.workloads.iter().map(|w| w.finish(ctx)))
            .await
            .into_iter()
            .collect::<Result<Vec<()>, _>>()?;
        finals::read_everything(ctx).await
    }
}
