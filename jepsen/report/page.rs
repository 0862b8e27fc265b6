//! The page around charts and tables: head, sections, style.

use super::svg::escape;
use crate::check::fires::Fires;
use crate::check::{Results, Verdict};
use crate::store::{Evidence, Regime};
use crate::time::shown;

/// A page that grows section by section.
pub(super) struct Page(String);

/// How a verdict is coloured.
pub(super) fn class_of(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "valid",
        Verdict::Invalid => "invalid",
        Verdict::Unknown => "unknown",
        Verdict::HarnessFailure => "failure",
    }
}

/// What each verdict means, in a sentence.
fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "Every promise that this test can judge was kept.",
        Verdict::Invalid => "A promise was broken. The findings below name it.",
        Verdict::Unknown => {
            "Nothing wrong was found, but too little was done to say that all is well."
        }
        Verdict::HarnessFailure => {
            "The evidence is damaged, so that nothing it says can be trusted. This says nothing \
             about the cluster."
        }
    }
}

/// Colours and their words.
pub(super) fn legend(entries: &[(&str, &str)]) -> String {
    let entry = |(class, word): &(&str, &str)| {
        format!("<span><i class=\"key {class}\"></i>{}</span>", escape(word))
    };
    format!("<p class=\"legend\">{}</p>", entries.iter().map(entry).collect::<String>())
}

fn tile(value: &str, label: &str, class: &str) -> String {
    format!(
        "<div class=\"tile {class}\"><b>{}</b><span>{}</span></div>",
        escape(value),
        escape(label)
    )
}

/// A count with a space between thousands.
pub(super) fn count(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    if n < 0 { format!("\u{2212}{out}") } else { out }
}

impl Page {
    /// With title and style.
    pub(super) fn new(evidence: &Evidence, results: &Results) -> Self {
        let title = format!("{}: {}", name(evidence), results.verdict);
        Self(format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{}</title><style>{STYLE}</style></head><body><main>\n",
            escape(&title)
        ))
    }

    /// The verdict, the numbers that matter most, and how to run it again.
    pub(super) fn head(&mut self, evidence: &Evidence, results: &Results, fires: &Fires) {
        let test = &evidence.test;
        let verdict = results.verdict;
        let (_, utc) = evidence.origin();
        let counted = |checker: &str, what: &str| {
            let found = results.checkers.iter().find(|checked| checked.name == checker);
            found.and_then(|checked| checked.counts.get(what)).copied()
        };
        let mut tiles = String::new();
        let mut add = |value: Option<i64>, label: &str, is_bad: bool| {
            let Some(value) = value else { return };
            let class = match (is_bad, value) {
                (true, 0) => "good",
                (true, _) => "bad",
                (false, _) => "",
            };
            tiles.push_str(&tile(&count(value), label, class));
        };
        let installed = evidence.bands.iter().filter(|band| band.installed).count();
        add(counted("fires", "expected"), "fires expected", false);
        add(counted("fires", "missed"), "lost", true);
        add(counted("fires", "doubled"), "doubled", true);
        add(counted("fires", "late"), "late beyond their deadline", true);
        add(counted("attempts", "overlap"), "overlapping attempts", true);
        add(counted("set", "acknowledged"), "writes acknowledged", false);
        add(counted("set", "lost"), "of them lost", true);
        add(counted("locks", "two holders"), "locks with two holders", true);
        add(i64::try_from(installed).ok(), "faults installed", false);
        add(counted("raft", "leader changes"), "changes of leader", false);
        let late = fires.lateness();
        if let Some(p99) = late.get(late.len() * 99 / 100) {
            tiles.push_str(&tile(&format!("{}\u{202f}ms", count(*p99)), "lateness, 99 of 100", ""));
        }
        let regime = match test.regime {
            Regime::Safe => {
                "quorum-safe: survivors always formed a majority, so being available is judged too"
            }
            Regime::Brutal => {
                "brutal: majorities were taken away, so only safety is judged until it healed"
            }
        };
        let facts = [
            ("Workloads", test.workloads.join(", ")),
            (
                "Faults",
                if test.nemesis.is_empty() { "none".into() } else { test.nemesis.join(", ") },
            ),
            ("Regime", regime.to_owned()),
            ("Cluster", format!("{} nodes, {} workers", test.nodes.len(), test.workers.len())),
            ("Seed", test.seed.to_string()),
            ("Length", format!("{} s of load", test.seconds)),
            ("Begun", shown(utc)),
            ("Program", format!("{} {}", test.version, test.commit).trim().to_owned()),
        ];
        let facts: String = facts
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>", escape(value)))
            .collect();
        let rerun = if test.rerun.is_empty() {
            String::new()
        } else {
            format!("<p class=\"rerun\">Run it again:</p><pre>{}</pre>", escape(&test.rerun))
        };
        self.0.push_str(&format!(
            "<header><div class=\"badge {}\">{verdict}</div><div><h1>{}</h1><p>{}</p></div></header>\n\
             <div class=\"tiles\">{tiles}</div>\n<dl>{facts}</dl>\n{rerun}\n",
            class_of(verdict),
            escape(&name(evidence)),
            meaning(verdict),
        ));
    }

    /// A part with a heading, a sentence and what it shows.
    pub(super) fn section(&mut self, title: &str, told: &str, body: String) {
        let told = if told.is_empty() { String::new() } else { format!("<p>{}</p>", escape(told)) };
        let title = escape(title);
        self.0.push_str(&format!("<section><h2>{title}</h2>{told}\n{body}</section>\n"));
    }

    /// The whole page.
    pub(super) fn finish(mut self) -> String {
        self.0.push_str("</main></body></html>\n");
        self.0
    }
}

fn name(evidence: &Evidence) -> String {
    let test = &evidence.test;
    if test.name.is_empty() { "A test without a name".to_owned() } else { test.name.clone() }
}

/// Works in light and dark.
const STYLE: &str = r#"
:root{--bg:#fbfbf9;--ink:#1d2126;--soft:#69707a;--line:#e2e3df;--card:#fff;
--ok:#1a7f64;--fail:#9aa1ab;--info:#d98a00;--bad:#c62828;--late:#e06c00;--maybe:#b9c0c8}
@media(prefers-color-scheme:dark){:root{--bg:#15181c;--ink:#e6e8ea;--soft:#98a1ab;--line:#2c3138;
--card:#1c2025;--ok:#45c39c;--fail:#6d7681;--info:#f0ad3a;--bad:#ff6b60;--late:#ff9d4d;--maybe:#545d67}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
main{max-width:1200px;margin:0 auto;padding:28px 20px 60px}
header{display:flex;gap:20px;align-items:center;margin-bottom:18px}
h1{margin:0;font-size:25px;line-height:1.2}header p{margin:3px 0 0;color:var(--soft)}
h2{font-size:17px;margin:0 0 4px}section{background:var(--card);border:1px solid var(--line);
border-radius:9px;padding:16px 18px 14px;margin-top:18px}section>p{margin:0 0 8px;color:var(--soft);max-width:86ch}
.badge{font-weight:700;font-size:19px;padding:9px 18px;border-radius:8px;color:#fff;white-space:nowrap}
.badge.valid{background:#1a7f64}.badge.invalid{background:#c62828}.badge.unknown{background:#8a6d00}
.badge.failure{background:#5b4a8a}
.tiles{display:flex;flex-wrap:wrap;gap:10px}.tile{background:var(--card);border:1px solid var(--line);
border-radius:9px;padding:9px 15px;min-width:104px}.tile b{display:block;font-size:22px;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:12.5px}.tile.good b{color:var(--ok)}.tile.bad b{color:var(--bad)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 18px;margin:16px 2px 8px}dt{color:var(--soft)}dd{margin:0}
pre{background:var(--card);border:1px solid var(--line);border-radius:7px;padding:9px 12px;white-space:pre-wrap;overflow-wrap:anywhere;
font:13px/1.45 ui-monospace,"DejaVu Sans Mono",monospace;margin:4px 0}.rerun{margin:8px 2px 0;color:var(--soft)}
table{border-collapse:collapse;width:100%;font-size:13.5px;margin-top:6px}
th{text-align:left;color:var(--soft);font-weight:500;border-bottom:1px solid var(--line);padding:4px 10px 4px 0}
td{border-bottom:1px solid var(--line);padding:5px 10px 5px 0;vertical-align:top}tr:last-child td{border-bottom:0}
.promise{min-width:21em}
.num{text-align:right;font-variant-numeric:tabular-nums}td.num,th.num{padding-right:18px}
.word-valid{color:var(--ok);font-weight:600}.word-invalid{color:var(--bad);font-weight:600}
.word-unknown{color:var(--info);font-weight:600}.word-failure{color:#8d7ac9;font-weight:600}
.small{color:var(--soft);font-size:12.5px}details{margin-top:4px}summary{cursor:pointer;color:var(--soft)}.found summary{color:var(--bad)}
.legend{display:flex;gap:18px;font-size:12.5px;color:var(--soft)}.key{display:inline-block;width:10px;height:10px;
border-radius:5px;margin-right:6px}.key.ok{background:var(--ok)}.key.fail{background:var(--fail)}.key.info{background:var(--info)}.key.late{background:var(--late)}.key.missed{background:var(--bad)}
.key.held{background:var(--ok);opacity:.3}.key.maybe{background:var(--maybe)}
ul{margin:4px 0;padding-left:20px}li{margin:3px 0}
svg{display:block;width:100%;height:auto;margin:6px 0 4px}svg text{font:11px system-ui,"DejaVu Sans",sans-serif;fill:var(--soft)}
.label{text-anchor:end}.tick{text-anchor:middle}.grid{stroke:var(--line);stroke-width:1}
.ok{fill:var(--ok)}.fail{fill:var(--fail)}.info{fill:var(--info)}circle.ok{opacity:.55}circle.fail{opacity:.7}
.line{fill:none;stroke-width:1.3}.line.ok{stroke:var(--ok)}.line.fail{stroke:var(--fail)}.line.info{stroke:var(--info)}
.line.starts{stroke:#5a78d1;stroke-dasharray:3 2}
.fire.ran,circle.ran{fill:var(--ok)}.fire.missed{fill:var(--bad)}.fire.held{fill:var(--ok);opacity:.3}.fire.late,circle.late{fill:var(--late)}.fire.maybe{fill:var(--maybe)}
circle.ran{opacity:.5}circle.phantom{fill:none;stroke:var(--bad);stroke-width:1.6}
.silent{fill:#8b929b;opacity:.45}.noleader{fill:none;stroke:var(--line)}
.l0,.node0{fill:#7a5cc2}.l1,.node1{fill:#2f7ebc}.l2,.node2{fill:#2f9e77}.l3,.node3{fill:#c9822b}
.l4,.node4{fill:#b84e7d}.l5,.node5{fill:#6b8f2a}.l6,.node6{fill:#3f9fb0}.l7,.node7{fill:#94653b}
.line.node0{stroke:#7a5cc2}.line.node1{stroke:#2f7ebc}.line.node2{stroke:#2f9e77}.line.node3{stroke:#c9822b}
.line.node4{stroke:#b84e7d}.line.node5{stroke:#6b8f2a}.line.node6{stroke:#3f9fb0}.line.node7{stroke:#94653b}
.line[class*=node]{fill:none}svg text.word{fill:var(--ink);font-size:11px}svg text.light{fill:#fff}
.fault{opacity:.62;rx:3px}.fault.unsure{opacity:.25;stroke-dasharray:3 2;stroke:var(--ink)}.band{opacity:.10}
.p-partition{fill:#8a4fd3}.p-packets{fill:#2b9aa6}.p-kill{fill:#d6493b}.p-freeze{fill:#3c7dd9}.p-power{fill:#a31f34}
.p-disk{fill:#96683a}.p-clock{fill:#2f9e55}.p-worker{fill:#8f8a1f}.p-member{fill:#c7528f}.p-resource{fill:#737b85}.p-admin{fill:#4b6a88}
"#;
