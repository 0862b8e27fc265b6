//! The same through a whole cluster: what a run shows of its limits, which worker gets it, and
//! that nothing of it is left once it is over.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{HIDDEN, home, of_run};
use crate::cluster::{Cluster, is_someone_left, until};
use crate::secrets::{keygen, rekey_node};

fn begin(cluster: &Cluster, job: &str) -> String {
    cluster.run_ok(&["job", "trigger", job, "-o", "quiet"]).trim().to_owned()
}

fn over(cluster: &Cluster, job: &str) -> Value {
    ended(cluster, job, &begin(cluster, job))
}

/// A run that is over; of its processes nothing is left then.
fn ended(cluster: &Cluster, job: &str, run: &str) -> Value {
    let shown = until(&format!("{run} of {job} is over"), || {
        let shown = cluster.data(&["run", "show", run]);
        (!shown["finished"].is_null()).then_some(shown)
    });
    assert_eq!(of_run(run, Some(&cluster.path(""))), [] as [u32; 0], "left of {job}");
    shown
}

#[test]
fn a_cluster_keeps_limits_and_shows_what_was_used() {
    home();
    let cluster = Cluster::start(1, 1);
    cluster.apply(
        "jobs:\n\
         - {name: hog, shell: 'tail /dev/zero', limits: {memory: 64MiB}}\n\
         - {name: many, shell: 'for i in $(seq 40); do sleep 9 & done', limits: {pids: 20, cpu: 1.5}, grace: 1s}\n\
         - {name: plain, shell: 'ulimit -n; umask', umask: '077', rlimits: {nofile: 99}}\n\
         - {name: nobody, shell: 'id -un', run_as: no-such-user, retries: {count: 1, backoff: 1s}}\n",
    );
    let hog = over(&cluster, "hog");
    assert_eq!(hog["attempts"][0]["end"]["how"], "oom_killed", "{hog}");
    let peak = hog["attempts"][0]["usage"]["peak_memory"].as_u64().unwrap();
    assert!((32 << 20..=64 << 20).contains(&peak), "{peak}");
    let many = over(&cluster, "many");
    let used = &many["attempts"][0]["usage"];
    assert!(used["refused_forks"].as_u64().unwrap() > 0, "{many}");
    let shown = cluster.run_ok(&["run", "show", many["id"].as_str().unwrap()]);
    assert!(shown.contains("forks refused by limits.pids"), "{shown}");
    let plain = over(&cluster, "plain");
    assert_eq!(cluster.run_ok(&["run", "logs", plain["id"].as_str().unwrap()]), "99\n0077\n");
    assert!(plain["attempts"][0]["usage"]["peak_memory"].as_u64().unwrap() > 0, "{plain}");
    let nobody = over(&cluster, "nobody");
    let ends: Vec<&Value> =
        nobody["attempts"].as_array().unwrap().iter().map(|a| &a["end"]["how"]).collect();
    assert_eq!(ends, [&json!("limits_unsupported"); 2], "{nobody}");
    let worker = cluster.data(&["worker", "list"]);
    let (kind, enforces) = (&worker[0]["isolation"], worker[0]["enforces"].as_array().unwrap());
    assert!(["cgroup1", "cgroup2"].iter().any(|known| kind == known), "{worker}");
    assert!(enforces.contains(&json!("limits.memory")), "{worker}");
    let definition = cluster.data(&["job", "get", "many"]);
    assert!(definition.to_string().contains("\"cpu\":\"1.5\""), "{definition}");
    cluster.end();
}

/// The journal is gone, and with it all that a worker knew of its attempts.
#[test]
fn what_a_lost_worker_left_is_ended_by_the_next_one() {
    home();
    let mut cluster = Cluster::start(1, 1);
    cluster.apply("jobs: [{name: stays, shell: 'setsid sleep 600 & echo $! > ../../../stays; sleep 600', lease: 10m}]");
    let run = begin(&cluster, "stays");
    let folder = cluster.path("");
    until("its processes", || (of_run(&run, Some(&folder)).len() == 3).then_some(()));
    cluster.workers[0].kill();
    let shims = is_someone_left(&cluster.path("worker1"));
    let jobs: BTreeSet<u32> = of_run(&run, Some(&folder)).into_iter().collect();
    for pid in shims {
        if !jobs.contains(&u32::try_from(pid.as_raw_nonzero().get()).unwrap()) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }
    let left = of_run(&run, Some(&folder));
    assert_eq!(left.len(), 3, "the job is there without its shim");
    fs::remove_file(cluster.path("worker1/journal")).unwrap();
    let begin = Instant::now();
    cluster.workers[0].start();
    until("them to be gone", || of_run(&run, Some(&folder)).is_empty().then_some(()));
    assert!(begin.elapsed() < Duration::from_secs(60), "that was the lease");
    cluster.end();
}

/// A job that hides a process and does not care to be asked.
fn stubborn(name: &str, more: &str) -> String {
    let script = format!("{HIDDEN} trap \"\" TERM; while :; do sleep 0.05; done");
    json!({"name": name, "shell": script, "grace": "100ms"}).to_string().replacen('}', more, 1)
}

fn hidden(cluster: &Cluster, run: &str) {
    // The shell, the one that hides, and what each of them waits in.
    until("its processes", || (of_run(run, Some(&cluster.path(""))).len() >= 4).then_some(()));
}

#[test]
fn what_is_cancelled_or_late_is_over_when_nothing_is_left() {
    home();
    let cluster = Cluster::start(1, 1);
    let (cancelled, late) =
        (stubborn("cancelled", "}"), stubborn("late", ", \"timeout\": \"2s\"}"));
    cluster.apply(&format!("jobs: [{cancelled}, {late}]"));
    let late = begin(&cluster, "late");
    let run = begin(&cluster, "cancelled");
    hidden(&cluster, &run);
    cluster.run_ok(&["run", "cancel", &run]);
    assert_eq!(ended(&cluster, "cancelled", &run)["state"], "cancelled");
    assert_eq!(ended(&cluster, "late", &late)["attempts"][0]["end"]["how"], "timed_out");
    // The cluster has their results, and soon what they wrote.
    until("their folders to go", || {
        let mut attempts = fs::read_dir(cluster.path("worker1/attempts")).unwrap();
        attempts.next().is_none().then_some(())
    });
    cluster.end();
}

#[test]
fn show_tells_what_attempts_use_and_which_processes_are_busy() {
    let cluster = Cluster::start(3, 1);
    cluster.apply("jobs: [{name: busy, shell: 'echo up; while :; do :; done'}]");
    let run = begin(&cluster, "busy");
    let up = || (cluster.run(&["run", "logs", &run]).stdout == b"up\n").then_some(());
    until("the loop to run", up);
    // From every node: each has a stream of the worker's.
    for node in 0..3 {
        let shown = until("its share of a core", || {
            let (_, shown) = cluster.ask(node, "GET", "workers/w1?sight=true", None, None)?;
            let sight = &shown["sight"]["attempts"][0];
            (sight["cpu_permille"].as_u64()? > 0 && sight["cpu_ms"].as_u64()? > 0).then_some(shown)
        });
        let attempt = &shown["sight"]["attempts"][0];
        assert_eq!(attempt["attempt"], format!("{run}.1"), "{shown}");
        assert!(attempt["rss"].as_u64().unwrap() > 0 && attempt["processes"] == 1, "{shown}");
    }
    let shown = cluster.run_ok(&["worker", "show", "w1"]);
    assert!(shown.contains(&format!("{run}.1: 1 processes")), "{shown}");
    assert!(shown.contains("of a core") && shown.contains("pid"), "{shown}");
    cluster.run_ok(&["run", "cancel", &run]);
    assert_eq!(ended(&cluster, "busy", &run)["state"], "cancelled");
    cluster.end();
}

#[test]
fn a_worker_without_cgroups_warns_and_gets_nothing_with_limits() {
    let mut cluster = Cluster::start(1, 0);
    cluster.attach_without_cgroups();
    let worker = &cluster.data(&["worker", "list"])[0];
    assert_eq!(worker["isolation"], "process_group", "{worker}");
    assert_eq!(worker["enforces"], json!(["run_as", "umask and rlimits"]), "{worker}");
    let warning = "it cannot enforce limits.memory, limits.cpu, limits.pids";
    let shown = cluster.run_ok(&["worker", "show", "w1"]);
    assert!(shown.contains(warning), "{shown}");
    for log in [cluster.workers[0].log(), cluster.nodes[0].log()] {
        let warned = log.lines().any(|line| line.contains("WARN") && line.contains(warning));
        assert!(warned, "{log}");
    }
    cluster.apply(&format!(
        "jobs: [{{name: limited, shell: 'true', limits: {{memory: 1GiB}}}}, {}]",
        stubborn("hiding", "}")
    ));
    let limited = begin(&cluster, "limited");
    let run = begin(&cluster, "hiding");
    hidden(&cluster, &run);
    cluster.run_ok(&["run", "cancel", &run]);
    let hiding = ended(&cluster, "hiding", &run);
    assert_eq!(hiding["state"], "cancelled");
    assert!(hiding["attempts"][0]["usage"]["peak_memory"].as_u64().unwrap() > 0, "{hiding}");
    let why = cluster.data(&["run", "explain", &limited]);
    assert_eq!(why["reason"], "limits", "{why}");
    let detail = why["detail"].as_str().unwrap();
    assert!(detail.starts_with("w1 cannot enforce limits.memory: it cannot"), "{why}");
    cluster.run_ok(&["run", "cancel", &limited]);
    cluster.end();
}

/// Its script is a file in memory that the worker made, and not its user.
#[test]
fn a_script_with_a_secret_runs_as_somebody_else() {
    let mut cluster = Cluster::start(1, 1);
    let key = keygen(&cluster);
    rekey_node(&mut cluster, 0, &[&key]);
    let open = fs::Permissions::from_mode(0o711);
    fs::set_permissions(cluster.path(""), open).unwrap();
    let set = cluster.run_fed(&["secret", "set", "key"], "hunter2");
    assert!(set.status.success(), "{set:?}");
    cluster.apply(
        "jobs: [{name: a, shell: 'id -un; echo {{ secrets.key }} | tr a-z A-Z', run_as: nobody}]",
    );
    let run = over(&cluster, "a");
    assert_eq!(run["state"], "success", "{run}");
    let logs = cluster.run_ok(&["run", "logs", run["id"].as_str().unwrap()]);
    assert_eq!(logs, "nobody\nHUNTER2\n");
    cluster.end();
}
