//! Where this process's groups are, from the kernel's tables of mounts and memberships.
//! Reads text, and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Controller;

/// The folders of this process's own groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// In the one hierarchy of version 2, if it is mounted.
    pub(super) v2: Option<PathBuf>,
    /// In each hierarchy of version 1.
    pub(super) v1: BTreeMap<Controller, PathBuf>,
}

impl Own {
    /// From `/proc/self/mountinfo` and `/proc/self/cgroup`.
    pub(super) fn read(mounts: &str, memberships: &str) -> Self {
        let mut own = Self::default();
        for mount in mounts.lines().filter_map(Mount::read) {
            match mount.kind {
                "cgroup2" => {
                    let path = membership(memberships, "");
                    own.v2 = own.v2.or_else(|| path.map(|path| mount.folder(path)));
                }
                "cgroup" => {
                    for (word, controller) in Controller::ALL {
                        if mount.options.split(',').any(|option| option == word)
                            && let Some(path) = membership(memberships, word)
                        {
                            own.v1.entry(controller).or_insert_with(|| mount.folder(path));
                        }
                    }
                }
                _ => {}
            }
        }
        own
    }
}

struct Mount<'a> {
    root: &'a str,
    point: String,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, unescaped(mount.next()?));
        let mut system = system.split(' ');
        let (kind, options) = (system.next()?, system.nth(1)?);
        Some(Self { root, point, kind, options })
    }

    /// Where a group of the hierarchy is seen; the mount itself if it is not below it.
    fn folder(&self, path: &str) -> PathBuf {
        let below = Path::new(path).strip_prefix(self.root).unwrap_or(Path::new(""));
        Path::new(&self.point).join(below)
    }
}

/// The kernel writes a space as `\040`.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ")
}

/// The path of this process's group in the hierarchy with that controller; of version 2,
/// whose line names none.
fn membership<'a>(memberships: &'a str, controller: &str) -> Option<&'a str> {
    memberships.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|known| known == controller).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_alone_is_one_folder() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
        let own = Own::read(mounts, "0::/system.slice/horai.service\n");
        let folder = PathBuf::from("/sys/fs/cgroup/system.slice/horai.service");
        assert_eq!(own, Own { v2: Some(folder), v1: BTreeMap::new() });
    }

    #[test]
    fn hierarchies_of_version_1_each_have_a_folder_and_may_share_one() {
        let mounts = "\
            31 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            32 23 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
            33 23 0:29 /docker/7 /mnt/a\\040b rw - cgroup cgroup rw,pids\n\
            34 23 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            35 23 0:31 / /tmp rw - tmpfs tmpfs rw";
        let memberships = "8:pids:/docker/7/x\n4:memory:/a/b\n2:cpu,cpuacct:/\n0::/\n";
        let own = Own::read(mounts, memberships);
        assert_eq!(own.v2, Some("/sys/fs/cgroup/unified/".into()));
        let folder = |controller| own.v1.get(&controller).map(|p| p.to_str().unwrap());
        assert_eq!(folder(Controller::Memory), Some("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(folder(Controller::Cpu), folder(Controller::Cpuacct));
        assert_eq!(folder(Controller::Pids), Some("/mnt/a b/x"));
        assert_eq!(folder(Controller::Freezer), None);
    }
}
