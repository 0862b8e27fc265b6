//! Stores that a node must not start with, as their operator meets them: the
//! program ends at once, says what is wrong and what to do.

use std::fs;
use std::path::{Path, PathBuf};

use horai_raft::sled_disk::SledDisk;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::{Cluster, Process, until};

/// Written to the log, so that the place in the file can be found again.
const MARKER: &str = "a-name-to-be-found-again";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if let Err(error) = fs::copy(entry.path(), target) {
            // sled's own files come and go while it runs.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
    }
}

/// Writes the identity file anew, with a right checksum.
fn change_identity(store: &Path, change: impl FnOnce(&mut Value)) {
    let file = store.join("identity");
    let text = fs::read_to_string(&file).unwrap();
    let mut identity: Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
    change(&mut identity);
    let body = serde_json::to_string_pretty(&identity).unwrap();
    let crc = crc32c::crc32c(body.as_bytes());
    fs::write(file, format!("horai identity crc32c={crc:08x}\n{body}")).unwrap();
}

/// Flips a bit of each place that holds the marker.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let marker = MARKER.as_bytes();
    let places: Vec<usize> =
        (0..bytes.len() - marker.len()).filter(|at| bytes[*at..].starts_with(marker)).collect();
    assert!(!places.is_empty(), "the marker is not in {}", file.display());
    for at in places {
        bytes[at] ^= 1;
    }
    fs::write(file, bytes).unwrap();
}

/// A configuration like that of node 2, for a copy of its data.
fn configure(cluster: &Cluster, name: &str) -> (PathBuf, PathBuf) {
    let text = fs::read_to_string(cluster.path("node2.toml")).unwrap();
    let data = cluster.path(name);
    let was = format!("{:?}", cluster.path("node2"));
    assert!(text.contains(&was), "{text}");
    let config = cluster.path(&format!("{name}.toml"));
    fs::write(&config, text.replace(&was, &format!("{data:?}"))).unwrap();
    (config, data)
}

/// Runs a node that must end by itself; what it said as it did.
#[track_caller]
fn refusal(config: &Path) -> String {
    let mut node = Process::spawn("node", config);
    let code = node.wait();
    let log = node.log();
    assert_eq!(code, Some(1), "{log}");
    let last: Vec<&str> = log.lines().skip_while(|line| !line.starts_with("error: ")).collect();
    let [error, hint] = last[..] else { panic!("not one error with one hint: {log}") };
    assert!(hint.starts_with("hint: ") && hint.len() > 20, "{log}");
    assert!(!log.contains("RUST_BACKTRACE"), "{log}");
    format!("{error}\n{hint}")
}

type Spoil = fn(&Path);

#[test]
fn every_refusal_tells_its_reader_what_to_do() {
    const REPLACE: &str = "run `horai cluster replace`";
    let mut cluster = Cluster::start(2, 0);
    cluster.post("jobs", &json!({"name": MARKER, "noop": true}));
    cluster.wait_for_all_to_follow();
    let other = cluster.path("node1").join("raft");
    cluster.nodes[1].terminate();
    let foreign = cluster.path("foreign-snapshots");
    copy(&other.join("snapshots"), &foreign);
    let cases: [(&str, Spoil, &[&str]); 11] = [
        ("missing", |s| fs::remove_dir_all(s).unwrap(), &["holds no store", "cluster join"]),
        ("no-identity", |s| fs::remove_file(s.join("identity")).unwrap(), &["missing", REPLACE]),
        (
            "empty",
            |s| {
                fs::remove_dir_all(s.join("log")).unwrap();
                drop(SledDisk::open(&s.join("log"), 8 << 20).unwrap());
            },
            &["log store is empty although it held data", REPLACE],
        ),
        (
            "cut",
            |s| fs::File::options().write(true).open(s.join("log/db")).unwrap().set_len(0).unwrap(),
            &["store is empty|is damaged|below", REPLACE],
        ),
        (
            "gone",
            |s| fs::remove_file(s.join("snapshots/db")).unwrap(),
            &["snapshots store", REPLACE],
        ),
        (
            "below",
            |s| change_identity(s, |i| i["synced"] = json!(i["synced"].as_u64().unwrap() + 1_000)),
            &["last entry is", "below", REPLACE],
        ),
        (
            "foreign",
            |s| {
                fs::remove_dir_all(s.join("snapshots")).unwrap();
                copy(&s.join("../../foreign-snapshots"), &s.join("snapshots"));
            },
            &["has id", "put this node's own files back", REPLACE],
        ),
        ("newer", |s| change_identity(s, |i| i["format"] = json!(2)), &["start the newer program"]),
        ("damaged", |s| damage(&s.join("log/db")), &["disk lost|is damaged", REPLACE]),
        (
            "suspect",
            |s| change_identity(s, |i| i["suspect"] = json!("an I/O error")),
            &["suspect", "an I/O error", "check the disk", REPLACE],
        ),
        (
            "retired",
            |s| change_identity(s, |i| i["retired"] = json!(true)),
            &["node 2 was removed", "`horai cluster join`"],
        ),
    ];
    for (name, spoil, words) in cases {
        let (config, data) = configure(&cluster, name);
        copy(&cluster.path("node2"), &data);
        spoil(&data.join("raft"));
        let said = refusal(&config);
        for word in words {
            let is_there = word.split('|').any(|word| said.contains(word));
            assert!(is_there, "{name}: {word:?} is not in {said:?}");
        }
        report(&format!("{name}: {said}"));
    }
    // As it is, it starts; twice it does not.
    cluster.nodes[1].start();
    until("node 2 to answer", || cluster.status(1));
    let text = fs::read_to_string(cluster.path("node2.toml")).unwrap();
    let free: Vec<String> = (text.lines())
        .map(|line| match line.split_once("127.0.0.1:") {
            Some((start, _)) => format!("{start}127.0.0.1:0\""),
            None => line.to_owned(),
        })
        .collect();
    let twice = cluster.path("twice.toml");
    fs::write(&twice, free.join("\n")).unwrap();
    let said = refusal(&twice);
    assert!(said.contains("another process uses the store"), "{said}");
    report(&format!("in use: {said}"));
    cluster.end();
}

#[test]
fn a_store_that_the_cluster_does_not_know_is_refused_under_a_known_number() {
    let mut cluster = Cluster::start(3, 0);
    cluster.nodes[1].terminate();
    let store = cluster.path("node2").join("raft");
    let text = fs::read_to_string(store.join("identity")).unwrap();
    let identity: Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
    let id: Uuid = identity["cluster"].as_str().unwrap().parse().unwrap();
    fs::remove_dir_all(&store).unwrap();
    drop(horai_raft::open::create_as(&store, id, 2, Uuid::new_v4()).unwrap());
    cluster.nodes[1].start();
    assert_eq!(cluster.nodes[1].wait(), Some(1), "{}", cluster.nodes[1].log());
    let said = cluster.nodes[1].log();
    assert!(said.contains("run `horai cluster replace 2`"), "{said}");
    assert!(said.contains("error: the node cannot go on: the storage of this node"), "{said}");
    cluster.post("jobs", &json!({"name": "goes-on", "noop": true}));
    cluster.end();
}

/// What was said, for whoever runs the test with `--nocapture`.
#[allow(clippy::print_stderr)]
fn report(said: &str) {
    eprintln!("{said}\n");
}
