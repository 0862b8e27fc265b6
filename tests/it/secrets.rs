//! Secrets in a cluster of processes: masked in what jobs print, on no disk, and under
//! keys that nodes may lack and operators change.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::{Cluster, until};

const VALUE: &str = "swordfish-7431";

/// Gives a node a file of keys, and starts it again.
pub(crate) fn rekey_node(cluster: &mut Cluster, node: usize, keys: &[&str]) {
    let (config, file) = (format!("node{}.toml", node + 1), format!("node{}.key", node + 1));
    let (config, file) = (cluster.path(&config), cluster.path(&file));
    fs::write(&file, keys.join("\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    if !text.contains("[secrets]") {
        fs::write(&config, format!("{text}\n[secrets]\nkey_file = {file:?}\n")).unwrap();
    }
    cluster.nodes[node].terminate();
    cluster.nodes[node].start();
    cluster.wait_for_leader();
    cluster.wait_for_all_to_follow();
}

pub(crate) fn keygen(cluster: &Cluster) -> String {
    cluster.run_ok(&["secret", "keygen"]).trim().to_owned()
}

fn set(cluster: &Cluster, name: &str, value: &str) {
    let set = cluster.run_fed(&["secret", "set", name, "--description", "for tests"], value);
    assert!(set.status.success(), "{set:?}");
}

/// Files below a folder that hold these bytes.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(holding(&entry.path(), text));
        } else if kind.is_file() {
            // A file may be gone by now; pipes are none.
            let bytes = fs::read(entry.path()).unwrap_or_default();
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                found.push(entry.path().display().to_string());
            }
        }
    }
    found
}

#[test]
fn a_secret_reaches_the_job_and_nothing_else() {
    let mut cluster = Cluster::start(3, 1);
    let refused = cluster.run_fed(&["secret", "set", "db"], VALUE);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("horai secret keygen --out"));
    let key = keygen(&cluster);
    for node in 0..3 {
        rekey_node(&mut cluster, node, &[&key]);
    }
    set(&cluster, "db-password", &format!("{VALUE}\n"));
    set(&cluster, "letter", "dear reader\nit is\nme, the writer");
    let go = cluster.path("go");
    cluster.apply(
        &format!(
            "jobs:\n\
             - name: login\n  \
               env: {{PASS: \"{{{{ secrets['db-password'] }}}}\"}}\n  \
               shell: |\n    \
                 while [ ! -e {go} ]; do sleep 0.1; done\n    \
                 printf %s \"$PASS\" | sha256sum | cut -c 1-8\n    \
                 printf 'user=me pass=%s sword' \"$PASS\"; sleep 1; printf 'fish-7431 swordfish\\n'\n    \
                 echo '{{{{ secrets[\"db-password\"] }}}}' >&2; sleep 1; echo '{{{{ secrets.letter }}}}'\n    \
                 echo the writer, me, the writer\n\
             - {{name: lost, exec: [\"/no/{{{{ secrets['db-password'] }}}}\"]}}\n\
             - {{name: old, syntax: hera, exec: [/bin/echo, \"${{secret.db-password}} is all\"]}}\n",
            go = go.display()
        ),
    );
    let run = cluster.trigger("login");
    until("the job to run", || {
        (cluster.data(&["run", "show", &run])["state"] == "running").then_some(())
    });
    until("its shim to have its order", || {
        let attempts = fs::read_dir(cluster.path("worker1").join("attempts")).ok()?;
        attempts.flatten().any(|attempt| attempt.path().join("job").exists()).then_some(())
    });
    let home = cluster.path("");
    assert_eq!(holding(&home, VALUE), [""; 0], "while it runs");
    fs::write(&go, "").unwrap();
    let shown = cluster.wait_for_end(&run);
    assert_eq!(shown["state"], "success", "{shown}");
    let log = cluster.run_ok(&["run", "logs", &run]);
    let wanted = "8ed33540\nuser=me pass=*** *** swordfish\n***\n***\nthe writer, ***\n";
    assert_eq!(log, wanted);
    // Offsets are those of what is shown.
    let bytes = shown["attempts"][0]["output_bytes"].as_u64();
    assert_eq!(bytes, Some(wanted.len() as u64), "{shown}");

    let run = cluster.over(&["job", "trigger", "lost"]);
    assert_eq!(run["state"], "failed");
    let message = run["attempts"][0]["end"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("its program: "), "{message}");
    let run = cluster.trigger("old");
    cluster.wait_for_end(&run);
    assert_eq!(cluster.run_ok(&["run", "logs", &run]), "*** is all\n");
    let rendered = cluster.data(&["job", "render", "login@20260301T160000Z"]);
    assert_eq!(rendered["texts"]["env.PASS"], "***");

    let refused = cluster.run(&["secret", "delete", "db-password"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("login, lost, old"), "{refused:?}");
    let list = cluster.run_ok(&["secret", "list"]);
    assert!(list.contains("db-password") && list.contains("login, lost, old"), "{list}");
    cluster.data(&["cluster", "snapshot"]);
    assert_eq!(holding(&home, VALUE), [""; 0], "afterwards");
    cluster.end();
}

#[test]
fn runs_wait_while_the_leader_lacks_a_key_and_keys_can_be_changed() {
    let mut cluster = Cluster::start(3, 1);
    let (old, new) = (keygen(&cluster), keygen(&cluster));
    rekey_node(&mut cluster, 0, &[&old]);
    rekey_node(&mut cluster, 1, &[&old]);
    rekey_node(&mut cluster, 2, &[&new]);
    set(&cluster, "token", VALUE);
    let stranger = until("a word of the third node", || {
        let closed = cluster.data(&["secret", "show", "token"])["closed_to"].clone();
        closed.as_array().map(|nodes| nodes[0].as_u64().unwrap().to_string())
    });
    cluster.apply(
        "jobs:\n\
         - {name: knowing, exec: [/bin/echo, \"{{ secrets.token }}\"]}\n\
         - {name: plain, exec: [/bin/echo, plain]}\n",
    );
    until("the third node to lead", || {
        cluster.run(&["cluster", "transfer", &stranger]);
        let leads = cluster.data(&["cluster", "status"])["leader"]["node"].to_string();
        (leads == stranger).then_some(())
    });
    let waiting = cluster.trigger("knowing");
    // Who is behind it in the queue is not held up.
    let plain = cluster.over(&["job", "trigger", "plain"]);
    assert_eq!(plain["state"], "success");
    let why = cluster.data(&["run", "explain", &waiting]);
    assert_eq!(why["reason"], "secret", "{why}");
    let detail = why["detail"].as_str().unwrap();
    assert!(detail.contains("secrets token") && detail.contains("key_file"), "{detail}");
    assert!(cluster.nodes[2].log().contains("keys of secrets are missing"));
    assert_eq!(cluster.data(&["run", "show", &waiting])["attempts"], json!([]));
    // It gets the key, and another node leads meanwhile.
    rekey_node(&mut cluster, 2, &[&new, &old]);
    assert_eq!(cluster.wait_for_end(&waiting)["state"], "success");
    until("the third node's other word", || {
        let shown = cluster.data(&["secret", "show", "token"]);
        shown["closed_to"].is_null().then_some(())
    });

    for node in 0..2 {
        rekey_node(&mut cluster, node, &[&new, &old]);
    }
    let done = cluster.data(&["secret", "rekey"]);
    assert_eq!((&done["resealed"], &done["failed"]), (&json!(1), &Value::Null), "{done}");
    for node in 0..3 {
        rekey_node(&mut cluster, node, &[&new]);
    }
    let run = cluster.trigger("knowing");
    assert_eq!(cluster.wait_for_end(&run)["state"], "success");
    assert_eq!(cluster.run_ok(&["run", "logs", &run]), "***\n");
    assert_eq!(cluster.data(&["secret", "show", "token"])["revision"], 1);

    // A node whose file others can read does not start.
    fs::set_permissions(cluster.path("node1.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let config = cluster.path("node1.toml");
    let refused = cluster.run(&["config", "check", "node", config.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("chmod 600"), "{refused:?}");
    cluster.nodes[0].terminate();
    cluster.nodes[0].start();
    assert_eq!(cluster.nodes[0].wait(), Some(64));
    cluster.end();
}
