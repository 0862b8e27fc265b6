//! Every kind of job as real processes: scripts, programs, requests, and the steps around them.

mod handles;
mod web;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Cluster, until};
use crate::secrets::{keygen, rekey_node};

/// Applies a job, runs it to its end, and says what became of it and what it wrote.
fn done(cluster: &Cluster, job: &Value) -> (Value, String) {
    cluster.apply(&json!({"jobs": [job]}).to_string());
    let run = cluster.trigger(job["name"].as_str().unwrap());
    let shown = cluster.wait_for_end(&run);
    let log = cluster.run_ok(&["run", "logs", &run]);
    (shown, log)
}

fn end(run: &Value) -> &Value {
    &run["attempts"].as_array().unwrap().last().unwrap()["end"]
}

/// A program that says how it was called, as an interpreter of a worker.
fn interpreter(cluster: &mut Cluster, name: &str) {
    let program = cluster.path(name);
    fs::write(&program, "#!/bin/sh\necho called \"$@\"; shift; cat \"$1\"; exit 3\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, mode).unwrap();
    cluster.add_worker(&format!(
        "[interpreters.{name}]\ncommand = [{program:?}, \"{{args}}\", \"{{script}}\"]\n"
    ));
}

#[test]
fn scripts_run_by_python_and_by_what_a_worker_is_configured_with() {
    let mut cluster = Cluster::start(1, 1);
    let python = "import os, sys\nprint('job', os.environ['HORAI_JOB'])\nsys.exit(4)";
    let (run, log) = done(&cluster, &json!({"name": "py", "python": python}));
    assert_eq!((end(&run)["code"].as_i64(), log.as_str()), (Some(4), "job py\n"), "{run}");

    // The first worker has no such interpreter, so it waits, and says what for.
    let job = json!({"name": "sql", "script": "select {{ job }}", "interpreter": "pig",
        "args": ["one two"]});
    cluster.apply(&json!({"jobs": [job]}).to_string());
    let run = cluster.trigger("sql");
    let why = until("a reason", || {
        let why = cluster.data(&["run", "explain", &run]);
        (why["reason"] == "interpreter").then_some(why)
    });
    let detail = why["detail"].as_str().unwrap();
    assert!(detail.contains("pig") && detail.contains("w1 has none"), "{why}");
    interpreter(&mut cluster, "pig");
    let shown = cluster.wait_for_end(&run);
    assert_eq!(
        (end(&shown)["code"].as_i64(), &shown["attempts"][0]["worker"]),
        (Some(3), &json!("w2"))
    );
    let log = cluster.run_ok(&["run", "logs", &run]);
    assert!(log.starts_with("called one two ") && log.ends_with("select sql"), "{log}");
    let worker = cluster.run_ok(&["worker", "show", "w2"]);
    assert!(worker.contains("pig"), "{worker}");
    cluster.end();
}

#[test]
fn requests_succeed_by_status_and_body_and_fail_in_time() {
    let cluster = Cluster::start(1, 1);
    let (open, tls) = (web::serve(), web::serve_tls());
    let ask = |name: &str, http: Value| done(&cluster, &json!({"name": name, "http": http}));
    let url = |path: &str| format!("http://{open}/{path}");
    let outcome = |(run, log): (Value, String)| (end(&run)["code"].as_i64(), log);

    let (code, log) = outcome(ask("ok", json!({"url": url("ok")})));
    let first = format!("GET {} -> 200 in ", url("ok"));
    assert!(
        code == Some(0) && log.starts_with(&first) && log.ends_with(" ms\nall done\n"),
        "{log}"
    );
    let (code, log) = outcome(ask("missing", json!({"url": url("no")})));
    assert!(code == Some(1) && log.contains("404 is not a status"), "{log}");
    let expected = json!({"url": url("no"), "expect": {"status": [404]}});
    assert_eq!(outcome(ask("expected", expected)).0, Some(0));
    let other = json!({"url": url("ok"), "expect": {"status": "201-299"}});
    assert_eq!(outcome(ask("other", other)).0, Some(1));
    let body = |pattern: &str| json!({"url": url("ok"), "expect": {"body": pattern}});
    assert_eq!(outcome(ask("matching", body("^all (done|set)$"))).0, Some(0));
    let (code, log) = outcome(ask("differing", body("failed")));
    assert!(code == Some(1) && log.contains("expect.body"), "{log}");
    let (code, log) = outcome(ask("moved", json!({"url": url("moved")})));
    assert!(code == Some(0) && log.contains("302") && log.contains("(to /ok)"), "{log}");
    let post = json!({"url": url("echo"), "body": "of {{ job }}", "headers": {"X-Key": "a b"}});
    let (code, log) = outcome(ask("post", post));
    assert!(code == Some(0) && log.contains("POST /echo HTTP/1.1"), "{log}");
    assert!(log.contains("x-key: a b") && log.ends_with("of post\n"), "{log}");

    let begin = Instant::now();
    let (code, log) = outcome(ask("slow", json!({"url": url("slow"), "timeout": "300ms"})));
    assert!(code == Some(3) && log.contains("no whole answer in 300 ms"), "{log}");
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, log) = outcome(ask("nobody", json!({"url": format!("http://{nobody}/")})));
    assert!(code == Some(3) && log.contains("no connection"), "{log}");

    let secure = format!("https://localhost:{}/ok", tls.port());
    let (code, log) = outcome(ask("unknown", json!({"url": secure})));
    assert!(
        code == Some(3) && log.contains("invalid peer certificate") && log.contains("ca_file"),
        "{log}"
    );
    let (code, log) = outcome(ask("believed", json!({"url": secure, "insecure": true})));
    assert!(code == Some(0) && log.ends_with("all done\n"), "{log}");
    let ca_file = cluster.path("ca.pem");
    fs::write(&ca_file, web::CERTIFICATE).unwrap();
    let (code, log) = outcome(ask("known", json!({"url": secure, "ca_file": ca_file})));
    assert_eq!(code, Some(0), "{log}");
    cluster.end();
}

#[test]
fn a_request_is_cancelled_and_timed_out_as_every_job() {
    let cluster = Cluster::start(1, 1);
    let url = format!("http://{}/slow", web::serve());
    let job = json!({"name": "late", "http": {"url": url}, "timeout": "500ms"});
    assert_eq!(end(&done(&cluster, &job).0)["how"], "timed_out");
    cluster.apply(&json!({"jobs": [{"name": "long", "http": {"url": url}}]}).to_string());
    let run = cluster.trigger("long");
    until("it to run", || {
        (cluster.data(&["run", "show", &run])["state"] == "running").then_some(())
    });
    cluster.run_ok(&["run", "cancel", &run]);
    assert_eq!(cluster.wait_for_end(&run)["state"], "cancelled");
    cluster.end();
}

#[test]
fn secrets_of_requests_and_steps_are_masked_and_on_no_disk() {
    let mut cluster = Cluster::start(1, 1);
    let key = keygen(&cluster);
    rekey_node(&mut cluster, 0, &[&key]);
    let value = "swordfish-7431";
    assert!(cluster.run_fed(&["secret", "set", "db"], value).status.success());
    let web = web::serve();
    let secret = "{{ secrets.db }}";
    let http = json!({"url": format!("http://{web}/echo"), "body": format!("a {secret}"),
        "headers": {"authorization": format!("Bearer {secret}")}});
    let folder = cluster.path("worker1/attempts");
    let job = json!({"name": "ask", "http": http,
        "pre": [format!("test {secret} = {value} && echo same {secret}"),
            format!("! grep -r {} {}/*/[sp]*", &value[..9], folder.display())]});
    let (run, log) = done(&cluster, &job);
    assert_eq!(run["state"], "success", "{run} {log}");
    assert!(log.starts_with("same ***\n") && log.contains("authorization: Bearer ***"), "{log}");
    assert!(log.ends_with("a ***\n"), "{log}");
    cluster.end();
}

#[test]
fn steps_run_before_and_after_and_decide() {
    let cluster = Cluster::start(1, 1);
    let job = json!({"name": "good", "shell": "echo main", "pre": ["echo a", "echo b"],
        "post": "echo after $HORAI_EXIT_CODE"});
    let (run, log) = done(&cluster, &job);
    assert_eq!((&run["state"], log.as_str()), (&json!("success"), "a\nb\nmain\nafter 0\n"));

    let job =
        json!({"name": "pre", "shell": "echo main", "pre": ["exit 7", "echo b"], "post": "echo c"});
    let (run, log) = done(&cluster, &job);
    assert_eq!(
        (end(&run)["code"].as_i64(), log.as_str()),
        (Some(7), "horai: pre[0] exited with 7\n")
    );

    let job = json!({"name": "main", "exec": ["false"], "post": ["echo $HORAI_EXIT_CODE; exit 9", "echo d"]});
    let (run, log) = done(&cluster, &job);
    let said = "1\nhorai: post[0] exited with 9\nd\n";
    assert_eq!((end(&run)["code"].as_i64(), log.as_str()), (Some(1), said));

    let job = json!({"name": "post", "shell": "true", "post": "exit 9"});
    assert_eq!(end(&done(&cluster, &job).0)["code"], 9);

    // Something that is left behind does not reach the next step.
    let job = json!({"name": "left", "shell": "sleep 600 & echo $! > pid", "grace": "1s",
        "post": "kill -0 $(cat pid) 2>/dev/null || echo gone"});
    assert_eq!(done(&cluster, &job).1, "gone\n");
    cluster.end();
}

#[test]
fn what_was_told_to_end_has_its_last_steps_within_the_grace() {
    let cluster = Cluster::start(1, 1);
    let deaf = "trap '' TERM; while :; do sleep 0.05; done";
    let job = json!({"name": "late", "shell": deaf, "timeout": "500ms", "grace": "4s",
        "post": "echo after $HORAI_EXIT_CODE"});
    let (run, log) = done(&cluster, &job);
    assert_eq!((&end(&run)["how"], log.as_str()), (&json!("timed_out"), "after 137\n"), "{run}");
    let job = json!({"name": "stuck", "shell": "sleep 600", "timeout": "500ms", "grace": "1s",
        "post": deaf});
    let begin = Instant::now();
    assert_eq!(end(&done(&cluster, &job).0)["how"], "timed_out");
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());

    let job = json!({"name": "long", "shell": "echo on; sleep 600", "post": "echo after $HORAI_EXIT_CODE"});
    cluster.apply(&json!({"jobs": [job]}).to_string());
    let run = cluster.trigger("long");
    until("it to say so", || {
        let log = cluster.run(&["run", "logs", &run]).stdout;
        log.starts_with(b"on").then_some(())
    });
    cluster.run_ok(&["run", "cancel", &run]);
    assert_eq!(cluster.wait_for_end(&run)["state"], "cancelled");
    assert_eq!(cluster.run_ok(&["run", "logs", &run]), "on\nafter 143\n");
    cluster.end();
}

#[test]
fn a_bad_definition_is_refused_at_apply() {
    let cluster = Cluster::start(1, 0);
    let refused = |job: Value, part: &str| {
        let out = cluster.try_apply(&json!({"jobs": [job]}).to_string());
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains(part), "{part}: {said}");
    };
    refused(json!({"name": "a", "http": {"url": "gopher://a"}}), "http.url");
    refused(
        json!({"name": "a", "http": {"url": "http://a", "expect": {"body": "("}}}),
        "expect.body",
    );
    refused(json!({"name": "a", "http": {"url": "http://a/{{ x }}"}}), "line 1, column");
    refused(json!({"name": "a", "http": {"url": 7}}), "http.url");
    refused(json!({"name": "a", "http": {"url": "http://a", "metod": "GET"}}), "metod");
    refused(json!({"name": "a", "shell": "x", "pre": [""]}), "pre[0]");
    refused(json!({"name": "a", "script": "x"}), "interpreter");
    cluster.end();
}
