//! Orders with secrets: what is decrypted, what is noted of it, and what cannot be sent.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use horai_core::ids::RunId;

use super::*;

/// Keys of a file of such lines.
fn keys(lines: &[&str]) -> Keyring {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("key");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
    writeln!(file, "{}", lines.join("\n")).unwrap();
    Keyring::read(&path).unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn draft(start: pb::Start, sealed: Vec<(Name, Option<Sealed>)>) -> Draft {
    let key = AttemptKey { run: RunId(7), shard: 0, number: 1 };
    let zone = Zone::either(None, None);
    let context = Context::new(name("load"), key, UtcMillis(0), zone);
    Draft { start, key, token: Token(3), texts: Some((Syntax::Jinja, context)), sealed }
}

fn shell(script: &str, env: &[(&str, &str)]) -> pb::Start {
    let shell = pb::Shell { interpreter: vec!["sh".to_owned()], script: script.to_owned() };
    let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let executor = Some(pb::start::Executor::Shell(shell));
    pb::Start { executor, env: env.collect(), ..pb::Start::default() }
}

fn script(start: &pb::Start) -> &str {
    match &start.executor {
        Some(pb::start::Executor::Shell(shell)) => &shell.script,
        _ => panic!("no script"),
    }
}

const ONE: &str = "0101010101010101010101010101010101010101010101010101010101010101";
const TWO: &str = "0202020202020202020202020202020202020202020202020202020202020202";

#[test]
fn an_order_says_which_secrets_it_holds_and_where() {
    let keys = keys(&[ONE]);
    let sealed = |secret: &str, value: &str| {
        let name = name(secret);
        let sealed = keys.seal(&name, value).unwrap();
        (name, Some(sealed))
    };
    let given = vec![sealed("a", "hunter2"), sealed("b", "hunter2"), sealed("c", "swordfish")];
    let plain = shell("echo {{ job }}", &[("PASS", "x{{ secrets.a }}{{ secrets.b }}")]);
    let order = draft(plain, given.clone()).finish(&keys).ok().unwrap();
    assert_eq!(order.env["PASS"], "xhunter2hunter2");
    assert_eq!(
        (order.secrets.as_slice(), order.secret_script),
        (&["hunter2".to_owned()][..], false)
    );
    assert_eq!(script(&order), "echo load");
    assert!(!format!("{order:?}").contains("hunter2"));
    let within = shell("login {{ secrets.c }}", &[("NAME", "{{ secrets.a }}")]);
    let order = draft(within, given.clone()).finish(&keys).ok().unwrap();
    assert_eq!((order.secrets.len(), order.secret_script), (2, true));
    // Named and not read, none is in the order.
    let unread = shell("{% if false %}{{ secrets.c }}{% endif %}", &[]);
    let order = draft(unread, given).finish(&keys).ok().unwrap();
    assert!(order.secrets.is_empty() && !order.secret_script);
}

#[test]
fn what_cannot_be_opened_is_lost_or_fails_and_shows_no_value() {
    let (mine, other) = (keys(&[ONE]), keys(&[TWO, ONE]));
    let text = || shell("{{ secrets.a }}", &[]);
    let refused = |sealed: Option<Sealed>, keys: &Keyring| {
        let refused = draft(text(), vec![(name("a"), sealed)]).finish(keys).err().unwrap();
        assert_eq!((refused.key.run, refused.token), (RunId(7), Token(3)));
        refused.report.how
    };
    let sealed = other.seal(&name("a"), "hunter2").unwrap();
    // The run goes back to the queue, and waits there.
    assert_eq!(refused(Some(sealed.clone()), &mine), EndKind::Gone);
    assert!(draft(text(), vec![(name("a"), Some(sealed.clone()))]).finish(&other).is_ok());
    let stolen = other.seal(&name("b"), "hunter2").unwrap();
    let why = |how| match how {
        EndKind::Unrendered { message } => message,
        other => panic!("{other:?}"),
    };
    assert!(why(refused(Some(stolen), &other)).contains("set the secret again"));
    assert!(why(refused(None, &other)).contains("secret a does not exist"));
    let broken = shell("{{ secrets.a|int }}", &[]);
    let broken = draft(broken, vec![(name("a"), Some(sealed))]).finish(&other).err().unwrap();
    assert!(!why(broken.report.how).contains("hunter2"));
}
