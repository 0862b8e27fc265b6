//! openraft's own storage suite, on sled and on the simulated disk.

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;
use uuid::Uuid;

use super::support::{Indexes, Sim};
use crate::log_store::LogStore;
use crate::open::create;
use crate::state_machine::StateMachine;
use crate::types::TypeConfig;

struct OnSled;

impl StoreBuilder<TypeConfig, LogStore, StateMachine<Indexes>, TempDir> for OnSled {
    async fn build(
        &self,
    ) -> Result<(TempDir, LogStore, StateMachine<Indexes>), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let stores = create(&dir.path().join("node"), Uuid::from_u128(1), 1).unwrap();
        let machine = StateMachine::new(Indexes::default(), stores.snapshots, None);
        Ok((dir, stores.log, machine))
    }
}

struct OnSim;

impl StoreBuilder<TypeConfig, LogStore, StateMachine<Indexes>, ()> for OnSim {
    async fn build(
        &self,
    ) -> Result<((), LogStore, StateMachine<Indexes>), StorageError<TypeConfig>> {
        let stores = Sim::default().create().unwrap();
        let machine = StateMachine::new(Indexes::default(), stores.snapshots, None);
        Ok(((), stores.log, machine))
    }
}

#[tokio::test]
async fn suite_passes_on_sled() {
    Suite::test_all(OnSled).await.unwrap();
}

#[tokio::test]
async fn suite_passes_on_the_simulated_disk() {
    Suite::test_all(OnSim).await.unwrap();
}
