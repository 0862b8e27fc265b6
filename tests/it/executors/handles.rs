//! Work that jobs begin elsewhere, ended whatever becomes of job and worker.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::cluster::{Cluster, is_someone_left, until};

/// Workers whose interpreter begins something elsewhere, and what is told to end it.
struct Elsewhere {
    cluster: Cluster,
    ended: PathBuf,
}

impl Elsewhere {
    fn start(workers: usize) -> Self {
        let mut cluster = Cluster::start(1, 0);
        let (kill, ended) = (cluster.path("kill.sh"), cluster.path("ended"));
        fs::write(&kill, format!("#!/bin/sh\necho \"$#\" \"$1\" >> {}\n", ended.display()))
            .unwrap();
        fs::set_permissions(&kill, fs::Permissions::from_mode(0o755)).unwrap();
        for _ in 0..workers {
            cluster.add_worker(&format!(
                "[interpreters.grid]\ncommand = [\"/bin/sh\", \"{{script}}\"]\n\
                 remote_handles = [{{ pattern = 'Submitted (app_\\d+)', kill = [{kill:?}, \"{{1}}\"] }}]\n"
            ));
        }
        Self { cluster, ended }
    }

    /// A run of a job that has begun something elsewhere, which the cluster knows.
    fn begun(&self, more: &Value) -> String {
        let script = "echo Submitted app_$((6 + {{ attempt.number }})); [ {{ attempt.number }} = 2 ] || sleep 600";
        let mut job = json!({"name": "a", "script": script, "interpreter": "grid", "grace": "1s"});
        for (key, value) in more.as_object().unwrap() {
            job[key] = value.clone();
        }
        self.cluster.apply(&json!({"jobs": [job]}).to_string());
        let run = self.cluster.trigger("a");
        until("its handle", || {
            let shown = self.cluster.data(&["run", "show", &run]);
            (shown["attempts"][0]["handles"][0]["text"] == "Submitted app_7").then_some(())
        });
        run
    }

    fn ended(&self) -> String {
        fs::read_to_string(&self.ended).unwrap_or_default()
    }

    /// The machine of the run's worker is gone, with all that ran there.
    fn lose_worker_of(&mut self, run: &str) {
        let shown = self.cluster.data(&["run", "show", run]);
        let name = shown["attempts"][0]["worker"].as_str().unwrap().to_owned();
        let n: usize = name[1..].parse().unwrap();
        self.cluster.workers[n - 1].kill();
        for pid in is_someone_left(&self.cluster.path(&format!("worker{n}"))) {
            // It may have ended with another one.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[test]
fn what_a_cancelled_or_late_run_began_is_ended() {
    let grid = Elsewhere::start(1);
    let run = grid.begun(&json!({}));
    assert_eq!(grid.ended(), "");
    grid.cluster.run_ok(&["run", "cancel", &run]);
    let shown = grid.cluster.wait_for_end(&run);
    assert_eq!(grid.ended(), "1 app_7\n");
    assert_eq!(shown["attempts"][0]["handles"][0]["ended"], true, "{shown}");
    let told = grid.cluster.run_ok(&["run", "show", &run]);
    assert!(told.contains("began elsewhere") && told.contains("app_7 -> exit 0"), "{told}");
    let log = grid.cluster.run_ok(&["run", "logs", &run]);
    assert!(log.contains("horai: Submitted app_7: "), "{log}");

    let run = grid.begun(&json!({"timeout": "1s"}));
    assert_eq!(grid.cluster.wait_for_end(&run)["attempts"][0]["end"]["how"], "timed_out");
    assert_eq!(grid.ended(), "1 app_7\n1 app_7\n");
    grid.cluster.end();
}

#[test]
fn before_a_rerun_another_worker_ends_what_was_begun() {
    let mut grid = Elsewhere::start(2);
    let run = grid.begun(&json!({"lease": "2s"}));
    grid.lose_worker_of(&run);
    let shown = grid.cluster.wait_for_end(&run);
    assert_eq!(shown["state"], "success", "{shown}");
    assert_eq!(grid.ended(), "1 app_7\n");
    let again = &shown["attempts"][1]["handles"];
    assert_eq!((&again[0]["text"], &again[0]["ended"]), (&json!("Submitted app_7"), &json!(true)));
    // A success has ended by itself what it began.
    assert_eq!((&again[1]["text"], &again[1]["ended"]), (&json!("Submitted app_8"), &Value::Null));
    grid.cluster.end();
}

#[test]
fn of_a_run_that_is_over_another_worker_ends_what_was_begun() {
    let mut grid = Elsewhere::start(2);
    let run = grid.begun(&json!({"lease": "2s", "on_worker_lost": "fail"}));
    grid.lose_worker_of(&run);
    assert_eq!(grid.cluster.wait_for_end(&run)["state"], "failed");
    until("it to be ended", || {
        let shown = grid.cluster.data(&["run", "show", &run]);
        (shown["attempts"][0]["handles"][0]["ended"] == true).then_some(())
    });
    assert_eq!(grid.ended(), "1 app_7\n");
    grid.cluster.end();
}
