//! How busy this machine is, for the heartbeat.

use std::path::{Path, PathBuf};

use horai_proto::worker as pb;
use sysinfo::{Disks, System};

/// Says how busy a machine is.
pub trait Load: Send {
    /// A heartbeat without number, slots and attempts.
    fn read(&mut self) -> pb::Heartbeat;
}

/// Keeps what the difference between two readings needs.
pub(super) struct OsLoad {
    system: Option<System>,
    disks: Option<Disks>,
    data_dir: PathBuf,
}

impl OsLoad {
    /// What cannot be read on this machine is reported as 0.
    pub(super) fn new(data_dir: &Path) -> Self {
        let data_dir = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
        Self { system: System::new().ok(), disks: Disks::new_with_refreshed_list().ok(), data_dir }
    }
}

impl Load for OsLoad {
    fn read(&mut self) -> pb::Heartbeat {
        let mut beat = pb::Heartbeat::default();
        if let Some(system) = &mut self.system {
            system.refresh_memory();
            system.refresh_cpu_usage();
            let cores = u32::try_from(system.cpus().len().max(1)).unwrap_or(1);
            beat.memory_total = system.total_memory();
            beat.memory_available = system.available_memory();
            beat.cpu_permille = permille(f64::from(system.global_cpu_usage()) / 100.0);
            if let Ok(load) = System::load_average() {
                beat.load_per_core_permille = permille(load.one / f64::from(cores));
            }
        }
        if let Some(disks) = &mut self.disks {
            disks.refresh(false);
            // The disk that holds the data folder: the longest mount point above it.
            let disk = disks
                .iter()
                .filter(|disk| self.data_dir.starts_with(disk.mount_point()))
                .max_by_key(|disk| disk.mount_point().as_os_str().len());
            beat.disk_total = disk.map_or(0, sysinfo::Disk::total_space);
            beat.disk_available = disk.map_or(0, sysinfo::Disk::available_space);
        }
        beat
    }
}

fn permille(ratio: f64) -> u32 {
    // The cast saturates, and a value that is no number becomes 0.
    (ratio * 1000.0).round() as u32
}
