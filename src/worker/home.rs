//! The cluster that this worker belongs to, kept beside its journal: it must not tell another
//! one's leader of its attempts, who would have them killed as unknown.

use std::io;
use std::sync::Arc;

use super::folder::Folder;

const NAME: &str = "cluster";

/// See the module.
pub(super) struct Home {
    folder: Arc<dyn Folder>,
    cluster: Option<String>,
}

impl Home {
    /// Reads the file; a missing or empty one belongs to no cluster yet.
    pub(super) fn open_in(folder: Arc<dyn Folder>) -> io::Result<Self> {
        let text = folder.read(NAME)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let cluster = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(Self { folder, cluster })
    }

    /// As a Hello says it.
    pub(super) fn told(&self) -> String {
        self.cluster.clone().unwrap_or_default()
    }

    /// A leader says which cluster it leads; false if that is another one. The first one is
    /// remembered, durably.
    pub(super) fn is_of(&mut self, cluster: &str) -> io::Result<bool> {
        match &self.cluster {
            Some(known) => Ok(known == cluster),
            None => {
                self.folder.replace(NAME, cluster.as_bytes())?;
                self.cluster = Some(cluster.to_owned());
                Ok(true)
            }
        }
    }

    /// Where it is written down.
    pub(super) fn path(&self) -> std::path::PathBuf {
        self.folder.path(NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::super::folder::OsFolder;
    use super::*;

    #[test]
    fn a_worker_stays_with_the_cluster_that_welcomed_it_first() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Home::open_in(Arc::new(OsFolder::new(folder.path()))).unwrap();
        let mut home = open();
        assert_eq!(home.told(), "");
        assert!(home.is_of("7f").unwrap());
        for mut home in [home, open()] {
            assert_eq!(home.told(), "7f");
            assert!(home.is_of("7f").unwrap() && !home.is_of("80").unwrap());
        }
    }
}
