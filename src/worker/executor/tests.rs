//! What each kind of order becomes.

use horai_core::ids::Name;
use pb::start::Executor as Order;

use super::*;
use crate::worker::interpreters::Interpreter;

fn words(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn order(executor: Order) -> pb::Start {
    pb::Start { executor: Some(executor), ..Default::default() }
}

fn planned(executor: Order) -> Result<Plan, String> {
    let plain = Interpreter { command: words(&["cat", "{args}", "--f={script}"]), handles: vec![] };
    let interpreters = Interpreters::ready().with([(Name::new("cat").unwrap(), plain)]);
    let site = Site { folder: Path::new("/a"), interpreters: &interpreters };
    plan(&order(executor), &site)
}

fn process(argv: &[&str], script: &str) -> Result<Plan, String> {
    let script = (!script.is_empty()).then(|| script.to_owned());
    Ok(Plan::Process { argv: words(argv), script })
}

fn shell(interpreter: &[&str]) -> Order {
    Order::Shell(pb::Shell { interpreter: words(interpreter), script: "s".into() })
}

fn python(interpreter: &[&str]) -> Order {
    Order::Python(pb::Python { interpreter: words(interpreter), script: "s".into() })
}

fn interpreted(name: &str, args: &[&str]) -> Order {
    let (name, script) = (name.to_owned(), "s".to_owned());
    Order::Interpreted(pb::Interpreted { name, args: words(args), script })
}

#[test]
fn scripts_stand_behind_what_runs_them() {
    assert_eq!(planned(shell(&[])), process(&["/bin/sh", "/a/script"], "s"));
    assert_eq!(planned(shell(&["bash", "-e"])), process(&["bash", "-e", "/a/script"], "s"));
    assert_eq!(planned(python(&[])), process(&["python3", "-u", "/a/script"], "s"));
    assert_eq!(planned(python(&["py"])), process(&["py", "/a/script"], "s"));
    assert_eq!(planned(interpreted("cat", &[])), process(&["cat", "--f=/a/script"], "s"));
    let hive = process(&["hive", "--silent", "x y", "-f", "/a/script"], "s");
    assert_eq!(planned(interpreted("hive", &["--silent", "x y"])), hive);
    let refused = planned(interpreted("pig", &[])).unwrap_err();
    assert!(refused.contains("[interpreters.pig]"), "{refused}");
}

#[test]
fn programs_need_no_script_and_noops_no_process() {
    let exec = |argv: &[&str]| Order::Exec(pb::Exec { argv: words(argv) });
    assert_eq!(planned(exec(&["ls", "-l"])), process(&["ls", "-l"], ""));
    assert!(planned(exec(&[])).unwrap_err().contains("empty"));
    assert_eq!(planned(Order::Noop(pb::Unit {})), Ok(Plan::Noop));
}

#[test]
fn of_a_request_the_arguments_say_only_where_it_is() {
    let http = pb::Http {
        method: "GET".into(),
        url: "http://a/?key=hunter2".into(),
        status: vec![pb::StatusRange { first: 200, last: 299 }],
        ..Default::default()
    };
    let Ok(Plan::Process { argv, script }) = planned(Order::Http(http)) else { panic!("no plan") };
    assert_eq!(argv, ["/proc/self/exe", "http", "/a/script"]);
    let request: crate::worker::http::Request = serde_json::from_str(&script.unwrap()).unwrap();
    assert_eq!((request.url.as_str(), request.status), ("http://a/?key=hunter2", vec![(200, 299)]));
}

#[test]
fn steps_are_run_by_the_shell_of_their_job() {
    let folder = Path::new("/a");
    let steps_of = |executor: Order| {
        let start = pb::Start { pre: words(&["p"]), post: words(&["q", "r"]), ..order(executor) };
        steps(&start, folder)
    };
    let [pre, post] = steps_of(shell(&["bash", "-e"]));
    assert_eq!(pre, [Step { argv: words(&["bash", "-e", "/a/pre-0"]), script: Some("p".into()) }]);
    assert_eq!(post[1].argv, ["bash", "-e", "/a/post-1"]);
    let [pre, _] = steps_of(python(&["py"]));
    assert_eq!(pre[0].argv, ["/bin/sh", "/a/pre-0"]);
}
