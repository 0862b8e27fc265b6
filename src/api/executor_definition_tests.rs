//! What a job does, read and written: by files as people write them.

use horai_core::ids::Name;

use super::super::job_definition::JobDefinition;
use super::*;

fn read(text: &str) -> JobDefinition {
    serde_saphyr::from_str(&format!("name: a\n{text}")).unwrap()
}

fn executor(text: &str) -> Executor {
    read(text).to_spec(|_| None).unwrap().executor
}

#[test]
fn each_kind_becomes_what_it_says() {
    let words = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let script = || "print(1)".to_owned();
    let usual = Executor::Python { interpreter: words(&["python3", "-u"]), script: script() };
    assert_eq!(executor("python: print(1)"), usual);
    let other = Executor::Python { interpreter: words(&["/opt/py"]), script: script() };
    assert_eq!(executor("python: print(1)\ninterpreter: [/opt/py]"), other);
    let hive = Executor::Interpreter {
        name: Name::new("hive").unwrap(),
        args: words(&["--hiveconf", "a=b"]),
        script: "select 1".to_owned(),
    };
    let text = "script: select 1\ninterpreter: hive\nargs: [--hiveconf, a=b]";
    assert_eq!(executor(text), hive);
    let Executor::Http(call) = executor("http: {url: 'http://a/b'}") else { panic!("no http") };
    assert_eq!(*call, HttpCall::new("http://a/b"));
    let text = "http:\n  url: https://a/b\n  body: x\n  headers: {X-Key: v}\n  expect: \
                {status: [200, 202-204, 5xx], body: 'ok|done'}\n  timeout: 3s\n  insecure: true";
    let Executor::Http(call) = executor(text) else { panic!("no http") };
    assert_eq!((call.method.as_str(), call.headers["x-key"].as_str()), ("POST", "v"));
    assert_eq!(call.expect.status, [(200, 200), (202, 204), (500, 599)]);
    assert!(call.tls.insecure && call.timeout.0 == 3_000);
    let spec = read("shell: x\npre: one\npost: [two, three]").to_spec(|_| None).unwrap();
    assert_eq!((spec.steps.pre.len(), spec.steps.post.len()), (1, 2));
}

#[test]
fn each_mistake_names_its_field_and_a_remedy() {
    let cases = [
        ("shell: ''", "shell"),
        ("python: '  '", "python"),
        ("python: x\nshell: y", "shell"),
        ("python: x\ninterpreter: python2", "interpreter"),
        ("python: x\ninterpreter: []", "interpreter"),
        ("python: x\nargs: [y]", "args"),
        ("script: x", "interpreter"),
        ("script: x\ninterpreter: [hive]", "interpreter"),
        ("script: x\ninterpreter: Hive", "interpreter"),
        ("script: ' '\ninterpreter: hive", "script"),
        ("http: {url: 'example.org'}", "http.url"),
        ("http: {url: 'ftp://a'}", "http.url"),
        ("http: {url: 'http://a b'}", "http.url"),
        ("http: {url: 'http://u:p@a'}", "http.url"),
        ("http: {url: 'http://a', method: get}", "http.method"),
        ("http: {url: 'http://a', headers: {'a b': c}}", "http.headers.a b"),
        ("http: {url: 'http://a', headers: {A: b, a: c}}", "http.headers.a"),
        ("http: {url: 'http://a', headers: {Content-Length: '1'}}", "http.headers.Content-Length"),
        ("http: {url: 'http://a', headers: {a: \"b\\nc\"}}", "http.headers.a"),
        ("http: {url: 'http://a', expect: {status: 99}}", "http.expect.status"),
        ("http: {url: 'http://a', expect: {status: [299-200]}}", "http.expect.status"),
        ("http: {url: 'http://a', expect: {body: '('}}", "http.expect.body"),
        ("http: {url: 'http://a', timeout: 0s}", "http.timeout"),
        ("http: {url: 'http://a', connect_timeout: soon}", "http.connect_timeout"),
        ("http: {url: 'http://a', ca_file: ca.pem}", "http.ca_file"),
        ("shell: x\npre: ''", "pre[0]"),
        ("shell: x\npost: [a, ' ']", "post[1]"),
        ("shell: x\npre: [a, a, a, a, a, a, a, a, a]", "pre"),
        ("noop: true\npost: x", "post"),
        // Templates, with where they are wrong.
        ("http: {url: 'http://a/{{ nominl }}'}", "http.url"),
        ("http: {url: 'http://a', headers: {a: '{{ params.X }}'}}", "http.headers.a"),
        ("shell: x\npost: 'echo {{ nominl }}'", "post[0]"),
    ];
    for (text, field) in cases {
        let error = read(text).to_spec(|_| None).unwrap_err();
        assert_eq!(error.field, field, "{text}: {error:?}");
        assert!(!error.remedy.is_empty(), "{text}");
    }
    let error = read("http: {url: 'http://a', body: \"a\\n b {{ nominl }}\"}");
    let error = error.to_spec(|_| None).unwrap_err();
    assert!(error.problem.contains("line 2"), "{error:?}");
}

#[test]
fn unknown_fields_and_wrong_types_are_named() {
    let cases = [
        ("http: {uri: x}", "uri"),
        ("http: {url: 'http://a', expect: {code: 1}}", "code"),
        ("shell: x\npre: {a: b}", "pre"),
        ("shell: x\ninterpreter: 7", "interpreter"),
    ];
    for (text, part) in cases {
        let error = serde_saphyr::from_str::<JobDefinition>(&format!("name: a\n{text}"));
        let error = error.unwrap_err().to_string();
        assert!(error.contains(part) || error.contains("a list"), "{text}: {error}");
    }
}
