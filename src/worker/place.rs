//! What a worker takes from the machine that it runs on, in one place.
//!
//! The product's place is [`Place::of`] a configuration; a simulation brings its
//! own. It decides nothing.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

use horai_raft::host::{Host, OsHost};

use super::Config;
use super::agent::Error;
use super::clock::boot_id;
use super::folder::{Folder, OsFolder};
use super::jobs::JobRunner;
use super::load::{Load, OsLoad};
use super::shims::Shims;

/// Where a worker runs.
pub struct Place {
    /// Clocks, connections and threads.
    pub host: Arc<dyn Host>,
    /// Journal and fence.
    pub folder: Arc<dyn Folder>,
    /// What attempts run as.
    pub jobs: Arc<dyn JobRunner>,
    /// How busy it is.
    pub load: Box<dyn Load>,
    /// The machine's boot, by which times since boot may be compared.
    pub boot_id: u128,
    /// Held while the worker lives, if others could use its folder.
    pub lock: Option<File>,
}

impl Place {
    /// This machine, with the configuration's folder.
    ///
    /// # Errors
    /// If the folder cannot be used, or another worker uses it.
    pub fn of(config: &Config) -> Result<Self, Error> {
        let io = |what: String| move |source| Error::Io { what, source };
        let attempts = config.data_dir.join("attempts");
        std::fs::create_dir_all(&attempts)
            .map_err(io(format!("its data folder {}", attempts.display())))?;
        let attempts = attempts.canonicalize().map_err(io("its data folder".into()))?;
        let program = match &config.shim_program {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(io("the path of its own program".into()))?,
        };
        let lock = lock(&config.data_dir)?;
        Ok(Self {
            host: Arc::new(OsHost),
            folder: Arc::new(OsFolder::new(&config.data_dir)),
            jobs: Arc::new(Shims::new(
                &config.name,
                attempts,
                program,
                config.interpreters.clone(),
            )),
            load: Box::new(OsLoad::new(&config.data_dir)),
            boot_id: boot_id().map_err(io("the machine's boot id".into()))?,
            lock: Some(lock),
        })
    }
}

fn lock(data_dir: &Path) -> Result<File, Error> {
    let path = data_dir.join("worker.lock");
    let io = |source| Error::Io { what: format!("its lock file {}", path.display()), source };
    let file = File::options().create(true).append(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: data_dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}
