//! Somebody else as whom a job runs: who that is, and what of the attempt's folder is theirs.
//!
//! The folder itself stays the worker's: whoever could put other files in the place of the
//! shim's could make it, which may be root, write anywhere.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;

use horai_core::model::executor::Steps;
use nix::unistd;
use rustix::process::geteuid;

use super::dir;
use super::launcher::{Failure, User};

impl User {
    /// True if the shim is that user already.
    pub(super) fn is_own(&self) -> bool {
        self.uid == geteuid().as_raw()
    }
}

/// The user of that name, if the shim is it or can become it.
pub(super) fn find(name: &str) -> Result<User, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::Unsupported(format!("run_as: {name} cannot be looked up: {error}"))
    };
    let Some(user) = unistd::User::from_name(name).map_err(|e| failed(&e))? else {
        return Err(Failure::Unsupported(format!("run_as: this machine has no user {name}")));
    };
    let own = geteuid();
    if user.uid.as_raw() != own.as_raw() && !own.is_root() {
        let own = own.as_raw();
        return Err(Failure::Unsupported(format!(
            "run_as: this worker runs as user {own} and cannot become {name}: run it as root"
        )));
    }
    let text = CString::new(name).map_err(|e| failed(&e))?;
    let groups = unistd::getgrouplist(&text, user.gid).map_err(|e| failed(&e))?;
    Ok(User {
        name: name.to_owned(),
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups.into_iter().map(unistd::Gid::as_raw).collect(),
        home: user.dir.to_string_lossy().into_owned(),
    })
}

/// Gives the user what a job of theirs reads and writes, and takes the rest from others.
pub(super) fn hand_over(folder: &Path, user: &User) -> io::Result<()> {
    lchown(folder, None, Some(user.gid))?;
    fs::set_permissions(folder, Permissions::from_mode(0o710))?;
    let own =
        [(dir::WORK, 0o700), (dir::SCRIPT, 0o500), (dir::STATE, 0o400), (dir::OUTPUTS, 0o600)];
    let own = own.map(|(name, mode)| (name.to_owned(), mode));
    let steps = (0..Steps::MAX).flat_map(|i| [(dir::pre(i), 0o500), (dir::post(i), 0o500)]);
    for (name, mode) in own.into_iter().chain(steps) {
        let path = folder.join(name);
        if path.try_exists()? {
            lchown(&path, Some(user.uid), Some(user.gid))?;
            fs::set_permissions(&path, Permissions::from_mode(mode))?;
        }
    }
    // What the job brings along is theirs too; nothing of theirs has run yet.
    give(&folder.join(dir::WORK), user)?;
    let spec = folder.join(dir::SPEC);
    if spec.try_exists()? {
        fs::set_permissions(&spec, Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// Everything in a folder.
fn give(folder: &Path, user: &User) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        lchown(entry.path(), Some(user.uid), Some(user.gid))?;
        if entry.file_type()?.is_dir() {
            give(&entry.path(), user)?;
        }
    }
    Ok(())
}

/// What a login would tell the user's programs, unless the job says it.
pub(super) fn tell(env: &mut BTreeMap<String, String>, user: &User) {
    for (name, value) in [("HOME", &user.home), ("USER", &user.name), ("LOGNAME", &user.name)] {
        env.entry(name.to_owned()).or_insert_with(|| value.clone());
    }
}
