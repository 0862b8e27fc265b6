//! Templates in jobs, in a cluster of processes: what is rendered, what is refused, and a
//! text that cannot be rendered.

use serde_json::json;

use crate::cluster::Cluster;

#[test]
fn texts_have_the_values_of_their_attempt() {
    let cluster = Cluster::start(1, 1);
    let proof = cluster.path("proof");
    let content = format!(
        "jobs:\n\
         - name: load\n  \
           zone: Asia/Shanghai\n  \
           params: {{TABLE: clicks}}\n  \
           env: {{YESTERDAY: \"{{{{ nominal.add(days=-1).format('yyyyMMdd') }}}}\"}}\n  \
           shell: |\n    \
             all=(1 2); echo \"${{#all[@]}} $YESTERDAY {{{{ params.TABLE }}}} {{{{ attempt }}}}\" >> {proof}\n  \
           interpreter: [bash, -e]\n\
         - name: old\n  \
           syntax: hera\n  \
           exec: [/bin/sh, -c, 'echo ${{yesterday}} ${{HOME_OF_NOBODY}} >> {proof}']\n\
         - {{name: raw, syntax: none, exec: [/bin/sh, -c, 'echo {{{{.ID}}}} >> {proof}']}}\n",
        proof = proof.display()
    );
    cluster.apply(&content);
    let nominal = "2026-03-01T16:00:00Z";
    let run = cluster.over(&["job", "trigger", "load", "--nominal", nominal]);
    assert_eq!(run["state"], "success", "{run}");
    for job in ["old", "raw"] {
        let run = cluster.over(&["job", "trigger", job, "--nominal", nominal]);
        assert_eq!(run["state"], "success", "{run}");
    }
    let attempt = format!("{}.1", run["id"].as_str().unwrap());
    let wanted =
        format!("2 20260301 clicks {attempt}\n20260228 ${{HOME_OF_NOBODY}}\n{{{{.ID}}}}\n");
    // A shell has no such variable.
    let wanted = wanted.replace("${HOME_OF_NOBODY}", "").replace("20260228 \n", "20260228\n");
    assert_eq!(std::fs::read_to_string(&proof).unwrap(), wanted);

    let shown = cluster.data(&["job", "render", "load@20260301T160000Z"]);
    assert_eq!(shown["texts"]["env.YESTERDAY"], "20260301");
    assert!(shown["texts"]["shell"].as_str().unwrap().contains("clicks r-0.1"), "{shown}");
    let exported = cluster.data(&["job", "get", "raw"]);
    assert_eq!(exported["definition"]["syntax"], "none");
    cluster.end();
}

#[test]
fn what_cannot_be_rendered_is_refused_or_fails_at_once() {
    let cluster = Cluster::start(1, 1);
    let job = |text: &str| {
        format!(
            "jobs: [{{name: a, retries: {{count: 3}}, params: {{DAY: '1'}}, shell: \"{text}\"}}]"
        )
    };
    for (text, place) in [
        ("echo\\necho {{ nominall }}", "line 2, column 9"),
        ("echo {{ params.DAYS }}", "DAY"),
        ("docker ps --format {{.ID}}", "syntax: none"),
        ("echo {{ nominal", "line 1"),
    ] {
        let refused = cluster.try_apply(&job(text));
        assert_eq!(refused.status.code(), Some(2), "{text}: {refused:?}");
        let told = String::from_utf8(refused.stderr).unwrap();
        assert!(told.contains("shell") && told.contains(place), "{text}: {told}");
    }
    cluster.apply(&job("echo {{ params.DAY|int + 1 }} {{ 1 // (params.DAY|int) }}"));
    let well = cluster.over(&["job", "trigger", "a"]);
    assert_eq!(well["state"], "success", "{well}");
    let run = cluster.over(&["job", "trigger", "a", "--param", "DAY=0"]);
    assert_eq!((&run["state"], &run["retries"]), (&json!("failed"), &json!(0)));
    let end = &run["attempts"][0]["end"];
    assert_eq!(end["how"], "unrendered");
    assert!(end["message"].as_str().unwrap().starts_with("shell: "), "{end}");
    cluster.end();
}
