//! Faults of disks, each done and seen: what is lost, what is kept, who waits.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{TEARING, Trial, ensure};
use crate::env::torn::Tear;
use crate::env::{Error, at};

fn write_synced(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(text)?;
    file.sync_all()
}

pub(super) fn power_cut(trial: &mut Trial) -> Result<String, Error> {
    let machine = trial.machine();
    let folder = machine.disk.at().to_owned();
    let kept = folder.join("kept");
    write_synced(&kept, b"synced").map_err(at("write a file"))?;
    fs::File::open(&folder).and_then(|f| f.sync_all()).map_err(at("sync a folder"))?;
    fs::File::options()
        .append(true)
        .open(&kept)
        .and_then(|mut file| file.write_all(b" and not synced"))
        .map_err(at("write a file"))?;
    fs::write(folder.join("lost"), "never synced").map_err(at("write a file"))?;
    trial.env.cut_power(&[0], None)?;
    trial.machine().disk.mount()?;
    let text = fs::read_to_string(&kept).map_err(at("read what was synced"))?;
    ensure(text == "synced", || format!("the synced file holds {text:?}"))?;
    ensure(!folder.join("lost").exists(), || "a file that was never synced is there".into())?;
    Ok("what was synced is there, nothing else".into())
}

/// Size of what is overwritten, and how much of it reaches the disk at once.
const PAGES: usize = 256;
const PAGE: usize = 4096;

/// A synced file is overwritten, and the writes reach the disk's cache without a flush.
pub(super) fn torn_sectors(trial: &mut Trial) -> Result<String, Error> {
    let place = usize::from(TEARING) - 1;
    let folder = trial.env.machines[place].disk.at().to_owned();
    let path = folder.join("torn");
    let mut told = Vec::new();
    for keep in [0, 50, 100] {
        write_synced(&path, &[1; PAGES * PAGE]).map_err(at("write a file"))?;
        fs::File::open(&folder).and_then(|f| f.sync_all()).map_err(at("sync a folder"))?;
        write_unflushed(&path, &[2; PAGES * PAGE])?;
        let torn = trial.env.cut_power(&[place], Some(Tear { keep, seed: 11 }))?;
        trial.env.machines[place].disk.mount()?;
        let bytes = fs::read(&path).map_err(at("read what was synced"))?;
        let whole = bytes.chunks(512).all(|sector| sector.iter().all(|b| *b == sector[0]));
        let new = bytes.iter().filter(|byte| **byte == 2).count() * 100 / (PAGES * PAGE);
        let right = match keep {
            0 => new == 0,
            100 => new == 100,
            _ => (30..70).contains(&new),
        };
        let old_or_new = bytes.iter().all(|byte| [1, 2].contains(byte));
        ensure(right && whole && old_or_new && bytes.len() == PAGES * PAGE, || {
            format!("at {keep} % there are {new} % of what was not flushed: {torn:?}")
        })?;
        told.push(format!("{new} % at {keep} %"));
    }
    Ok(format!("of what was not flushed there was {}", told.join(", ")))
}

/// Writes so that the disk has it, and need not have it for good.
fn write_unflushed(path: &Path, text: &[u8]) -> Result<(), Error> {
    use std::os::unix::fs::OpenOptionsExt;
    let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    let file = fs::File::options().write(true).custom_flags(direct).open(path);
    let mut file = file.map_err(at("open a file without the system's cache"))?;
    // The kernel wants memory that begins at a block.
    let mut room = vec![0; text.len() + PAGE];
    let skip = room.as_ptr().align_offset(PAGE);
    room[skip..skip + text.len()].copy_from_slice(text);
    file.write_all(&room[skip..skip + text.len()]).map_err(at("write to the disk's cache"))
}

/// The control: what was synced is lost where the disk only says that it flushed.
pub(super) fn lying_disk(trial: &mut Trial) -> Result<String, Error> {
    let place = usize::from(TEARING) - 1;
    let folder = trial.env.machines[place].disk.at().to_owned();
    let mut found = Vec::new();
    for lies in [false, true] {
        let path = folder.join(format!("said-{lies}"));
        trial.env.machines[place].disk.lie(lies)?;
        write_synced(&path, b"synced").map_err(at("write a file"))?;
        fs::File::open(&folder).and_then(|f| f.sync_all()).map_err(at("sync a folder"))?;
        trial.env.cut_power(&[place], Some(Tear { keep: 0, seed: 1 }))?;
        let machine = &mut trial.env.machines[place];
        machine.disk.lie(false)?;
        machine.disk.mount()?;
        found.push(fs::read(&path).is_ok_and(|text| text == b"synced"));
    }
    ensure(found == [true, false], || {
        format!(
            "what was synced is there with an honest disk: {}, with a lying one: {}",
            found[0], found[1]
        )
    })?;
    Ok("what was synced is there with an honest disk, and gone with one that lies".into())
}

pub(super) fn full_disk(trial: &mut Trial) -> Result<String, Error> {
    let disk = &trial.machine().disk;
    disk.fill(0)?;
    let refused = fs::write(disk.at().join("more"), vec![0; 100_000]).map_err(|e| e.kind());
    disk.free()?;
    let full = ErrorKind::StorageFull;
    ensure(refused == Err(full), || format!("a write to a full disk gave {refused:?}"))?;
    fs::write(disk.at().join("more"), vec![0; 100_000]).map_err(at("write again"))?;
    Ok("ENOSPC, and space again".into())
}

pub(super) fn hung_disk(trial: &mut Trial) -> Result<String, Error> {
    let disk = &trial.machine().disk;
    let path = disk.at().join("hung");
    disk.hang()?;
    let begun = Instant::now();
    let writer = std::thread::spawn(move || write_synced(&path, b"late"));
    std::thread::sleep(Duration::from_millis(300));
    let hung = !writer.is_finished();
    disk.thaw()?;
    let wrote = writer.join().map_err(|_| Error::Misuse("the writer panicked".into()))?;
    wrote.map_err(at("write after the thaw"))?;
    ensure(hung, || "a write to a hung disk went on".into())?;
    Ok(format!("a write took {:.1?}", begun.elapsed()))
}

pub(super) fn slow_disk(trial: &mut Trial) -> Result<String, Error> {
    let folder = trial.machine().disk.at().display().to_string();
    let script = format!(
        "for i in 1 2 3 4 5; do dd if=/dev/zero of={folder}/slow bs=64k count=1 conv=fsync \
         2>/dev/null; done"
    );
    let timed = |trial: &Trial| -> Result<Duration, Error> {
        let begun = Instant::now();
        trial.shell(&script, false)?;
        Ok(begun.elapsed())
    };
    let fast = timed(trial)?;
    let machine = trial.machine();
    let (device, _) = machine.disk.device()?;
    machine.group.write_limit(&device, Some(200_000))?;
    let slow = timed(trial);
    trial.machine().group.write_limit(&device, None)?;
    let slow = slow?;
    let (least, most) = (Duration::from_millis(800), fast + Duration::from_millis(500));
    ensure(slow > least && slow > most, || format!("320 KB at 200 KB/s took {slow:?}"))?;
    Ok(format!("320 KB took {fast:.1?}, and {slow:.1?} at 200 KB/s"))
}

pub(super) fn read_only_disk(trial: &mut Trial) -> Result<String, Error> {
    let disk = &mut trial.machine().disk;
    disk.turn_read_only()?;
    let refused = fs::write(disk.at().join("ro"), "x").map_err(|e| e.kind());
    disk.unmount()?;
    disk.mend()?;
    disk.mount()?;
    let expected = ErrorKind::ReadOnlyFilesystem;
    ensure(refused == Err(expected), || format!("a write gave {refused:?}"))?;
    fs::write(disk.at().join("rw"), "x").map_err(at("write after it was mended"))?;
    Ok("EROFS, and mended".into())
}

pub(super) fn dead_disk(trial: &mut Trial) -> Result<String, Error> {
    let disk = &mut trial.machine().disk;
    let mut file = fs::File::create(disk.at().join("dead")).map_err(at("make a file"))?;
    disk.die()?;
    let refused = file.write_all(b"x").and_then(|()| file.sync_all());
    drop(file);
    disk.unmount()?;
    disk.mount()?;
    let code = refused.err().and_then(|e| e.raw_os_error());
    ensure(code == Some(rustix::io::Errno::IO.raw_os_error()), || {
        format!("a write to a dead disk gave error {code:?}")
    })?;
    Ok("EIO, and back after a mount".into())
}

pub(super) fn turned_bits(trial: &mut Trial) -> Result<String, Error> {
    let disk = &trial.machine().disk;
    let folder = disk.at().join("bits");
    fs::create_dir_all(&folder).map_err(at("make a folder"))?;
    let path = folder.join("zeros");
    fs::write(&path, vec![0; 50_000]).map_err(at("write a file"))?;
    let done = disk.flip_bits("bits", 3, &mut ChaCha8Rng::seed_from_u64(7))?;
    let bytes = fs::read(&path).map_err(at("read a file"))?;
    let ones: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
    ensure(ones == 3 && done.len() == 3, || format!("{ones} bits of 3 were turned"))?;
    Ok("3 of 3".into())
}
