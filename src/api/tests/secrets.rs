//! Secrets over HTTP: what is taken, and that nothing is given back.

use std::os::unix::fs::PermissionsExt;

use horai_core::ids::Name;
use horai_core::machine::command::Command;
use horai_core::machine::snapshot::records;
use serde_json::{Value, json};

use super::support::{Cluster, extended};
use crate::secrets::{Keyring, new_key};

/// Keys of a file of such lines.
fn keys(lines: &[String]) -> Keyring {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("key");
    std::fs::write(&path, lines.join("\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Keyring::read(&path).unwrap()
}

async fn cluster() -> Cluster {
    Cluster::start_with(keys(&[new_key().unwrap()])).await
}

fn job(text: &str, more: &Value) -> String {
    extended(json!({"name": "j", "exec": ["/bin/echo", text]}), more).to_string()
}

/// True if the cluster's state has these bytes anywhere.
fn holds(cluster: &Cluster, text: &str) -> bool {
    let is_in = |record: Vec<u8>| record.windows(text.len()).any(|part| part == text.as_bytes());
    cluster.node.read(|state| records(state).any(is_in))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_set_and_never_told() {
    let cluster = cluster().await;
    let body = r#"{"value": "hunter2", "description": "of the warehouse"}"#;
    let made = cluster.with("PUT", "secrets/db", body, &[("if-none-match", "*")]).await;
    assert_eq!((made.status.as_u16(), &made.headers["etag"]), (201, &"\"1\"".parse().unwrap()));
    assert_eq!(made.body, json!({"name": "db", "revision": 1}));
    let set = cluster.ask("PUT", "secrets/db", r#"{"value": "hunter3"}"#).await;
    assert_eq!(set.body, json!({"name": "db", "revision": 2}));
    let answer = cluster.with("PUT", "secrets/db", body, &[("if-match", "\"1\"")]).await;
    assert_eq!(answer.code(), "wrong_revision");
    let answer = cluster.with("PUT", "secrets/nowhere", body, &[("if-match", "*")]).await;
    assert_eq!(answer.code(), "wrong_revision");
    let answer = cluster.ask("POST", "jobs", &job("{{ secrets.db }}", &json!({}))).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    let shown = cluster.get("secrets/db").await.body;
    assert_eq!(shown["description"], "of the warehouse");
    assert_eq!((&shown["revision"], &shown["jobs"]), (&json!(2), &json!(["j"])));
    let rendered = cluster.get("jobs/j/render").await.body;
    assert_eq!(rendered["texts"]["exec[1]"], "***");
    let list = cluster.get("secrets?limit=1").await.body;
    assert_eq!(list["items"][0], shown);
    for answer in [&made.body, &set.body, &shown, &rendered, &list] {
        assert!(!answer.to_string().contains("hunter"), "{answer}");
    }
    assert!(!holds(&cluster, "hunter") && holds(&cluster, "of the warehouse"));
    // It stays while the job names it.
    let answer = cluster.ask("DELETE", "secrets/db", "").await;
    assert_eq!(answer.code(), "conflict");
    assert!(answer.body["detail"].as_str().unwrap().contains("jobs j"), "{}", answer.body);
    cluster.ask("DELETE", "jobs/j", "").await;
    assert_eq!(cluster.ask("DELETE", "secrets/db", "").await.status.as_u16(), 204);
    for method in ["GET", "DELETE"] {
        assert_eq!(cluster.ask(method, "secrets/db", "").await.code(), "not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_cannot_be_kept_are_refused_and_not_shown() {
    let cluster = cluster().await;
    let value = |value: &str| json!({"value": value}).to_string();
    for (body, code, remedy) in [
        (value("no"), "invalid_value", "at least 3"),
        (value(&"x".repeat(8_193)), "invalid_value", "at most 8192"),
        (value("zer\0"), "invalid_value", "base64"),
        (r#"{"value": 31337}"#.to_owned(), "malformed", "\"value\""),
        (r#"{"valeu": "hunter2"}"#.to_owned(), "malformed", "\"value\""),
        (r#""hunter2""#.to_owned(), "malformed", "\"value\""),
        (r#"{"value": "hunter2"#.to_owned(), "malformed", "\"value\""),
    ] {
        let answer = cluster.ask("PUT", "secrets/a", &body).await;
        assert_eq!((answer.code(), answer.status.as_u16()), (code, 400), "{}", answer.body);
        let told = answer.body.to_string();
        assert!(
            answer.body["remedy"].as_str().unwrap().contains(remedy)
                || answer.field()[2].contains(remedy),
            "{told}"
        );
        assert!(!told.contains("hunter") && !told.contains("31337") && !told.contains("xxx"));
    }
    let long = value(&"x".repeat(8_192));
    assert_eq!(cluster.ask("PUT", "secrets/a", &long).await.status.as_u16(), 201);
    let answer = cluster.ask("PUT", "secrets/No%20Name", &value("hunter2")).await;
    assert_eq!(answer.status.as_u16(), 400, "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_again_is_recognised_and_tells_nothing_of_the_value() {
    let cluster = cluster().await;
    let send = async |value: &str| {
        let body = json!({"value": value}).to_string();
        cluster.with("PUT", "secrets/a", &body, &[("idempotency-key", "one")]).await
    };
    assert_eq!(send("hunter2").await.body["revision"], 1);
    assert_eq!(send("hunter2").await.body["revision"], 1, "sent again, it is answered again");
    assert_eq!(send("hunter3").await.code(), "request_reused");
    // Whoever has the state could else try words until the sum fits.
    let plain = xxhash_rust::xxh3::xxh3_128(b"PUT /api/v1/secrets/a\n{\"value\":\"hunter2\"}");
    let kept = cluster.node.read(|state| state.remembered("one").map(|(hash, _)| hash)).unwrap();
    assert_ne!(kept, plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_may_name_what_is_there() {
    let cluster = cluster().await;
    cluster.ask("PUT", "secrets/db-password", r#"{"value": "hunter2"}"#).await;
    for (text, syntax, problem, remedy) in [
        ("{{ secrets['db-passwort'] }}", "jinja", "no secret `db-passwort`", "mean db-password?"),
        ("\n{{ secrets.nothing }}", "jinja", "line 2, column 4", "horai secret set nothing"),
        ("{{ secrets[params.x] }}", "jinja", "cannot be computed", "secrets.x"),
        ("${secret.token}", "hera", "no secret `token`", "horai secret set token"),
        ("{{ secrets.Loud }}", "jinja", "no such secret", "horai secret list"),
    ] {
        let answer = cluster.ask("POST", "jobs", &job(text, &json!({"syntax": syntax}))).await;
        assert_eq!(answer.status.as_u16(), 400, "{text}: {}", answer.body);
        assert_eq!(answer.field()[0], "exec[1]", "{text}: {}", answer.body);
        let told = answer.body.to_string();
        assert!(told.contains(problem) && answer.field()[2].contains(remedy), "{text}: {told}");
    }
    let many: String = (0..33).map(|n| format!("{{{{ secrets.s{n} }}}}")).collect();
    let answer = cluster.ask("POST", "jobs", &job(&many, &json!({}))).await;
    assert!(answer.field()[2].contains("at most 32"), "{}", answer.body);
    for (text, syntax) in
        [("{{ secrets['db-password'] }}", "jinja"), ("${secret.db-password}", "hera")]
    {
        let answer = cluster.ask("POST", "jobs", &job(text, &json!({"syntax": syntax}))).await;
        assert_eq!(answer.status.as_u16(), 200, "{text}: {}", answer.body);
        let shown = cluster.get("secrets/db-password").await.body;
        assert_eq!(shown["jobs"], json!(["j"]), "{text}");
    }
    // As it is not read, it is no template.
    let answer =
        cluster.ask("POST", "jobs", &job("{{ secrets.x }}", &json!({"syntax": "none"}))).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    assert_eq!(cluster.get("secrets/db-password").await.body["jobs"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_secrets_are_written_under_the_first_key() {
    let (old, new) = (new_key().unwrap(), new_key().unwrap());
    let lost = keys(&[new_key().unwrap()]);
    let before = keys(std::slice::from_ref(&old));
    let after = keys(&[new, old]);
    let first = after.first().unwrap();
    let cluster = Cluster::start_with(after.clone()).await;
    let put = async |name: &str, keys: &Keyring| {
        let name = Name::new(name).unwrap();
        let sealed = keys.seal(&name, "hunter2").unwrap();
        let (description, expected) = (None, None);
        cluster.propose(Command::PutSecret { name, sealed, description, expected }).await;
    };
    for n in 0..150 {
        put(&format!("s{n}"), &before).await;
    }
    put("lost", &lost).await;
    cluster.ask("PUT", "secrets/new", r#"{"value": "hunter2"}"#).await;
    let done = cluster.ask("POST", "cluster/secrets/rekey", "").await.body;
    let wanted = json!({"key": first.to_string(), "resealed": 150, "kept": 1, "failed": ["lost"]});
    assert_eq!(done, wanted);
    let again = cluster.ask("POST", "cluster/secrets/rekey", "").await.body;
    assert_eq!((&again["resealed"], &again["kept"]), (&json!(0), &json!(151)));
    let shown = cluster.get("secrets/s7").await.body;
    assert_eq!((&shown["revision"], shown["key"].as_str()), (&json!(1), Some(&*first.to_string())));
    let name = Name::new("s7").unwrap();
    let sealed = cluster.node.read(|state| state.secret(&name).unwrap().sealed.clone());
    assert_eq!(after.open(&name, &sealed).unwrap().expose(), "hunter2");
    assert!(before.open(&name, &sealed).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_secrets_are_refused_and_all_else_works() {
    let cluster = Cluster::start().await;
    let answer = cluster.ask("PUT", "secrets/a", r#"{"value": "hunter2"}"#).await;
    assert_eq!(answer.code(), "conflict");
    assert!(answer.body["detail"].as_str().unwrap().contains("no key"), "{}", answer.body);
    assert!(answer.body["remedy"].as_str().unwrap().contains("horai secret keygen"));
    assert_eq!(cluster.ask("POST", "cluster/secrets/rekey", "").await.code(), "conflict");
    assert_eq!(cluster.get("secrets").await.body["items"], json!([]));
    let answer = cluster.ask("POST", "jobs", &job("plain", &json!({}))).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
}
