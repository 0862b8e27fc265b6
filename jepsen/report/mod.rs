//! The report of a test: one HTML file that needs nothing else, for a reader who does
//! not believe us. It shows the evidence beside the verdict, says what was not
//! judged, and how to run the same again. It decides nothing.

mod page;
mod plots;
mod registers;
mod svg;
mod tables;

use std::fs;
use std::io;
use std::path::Path;

use crate::check::Results;
use crate::check::fires::Fires;
use crate::check::records::Records;
use crate::store::Evidence;

/// Its name, beside the evidence.
pub(crate) const FILE: &str = "report.html";

/// The report as text.
pub(crate) fn html(evidence: &Evidence, results: &Results) -> String {
    let records = Records::of(evidence);
    let fires = Fires::of(evidence, &records);
    let span = plots::Span::of(evidence);
    let mut page = page::Page::new(evidence, results);
    page.head(evidence, results, &fires);
    page.section("What was judged", "", tables::verdicts(results, span));
    page.section(
        "Faults",
        "One bar for each fault, from its installation to its healing. The same bands are \
         drawn faintly behind the other charts. Pale and dashed: it could not be \
         verified that the fault was there. Below, how soon after a fault began, and after \
         it healed, a write was taken and something that was due began.",
        plots::faults(evidence, span) + &tables::faults(evidence, span),
    );
    page.section(
        "Fires against what was promised",
        "A row for each job, a bar for each instant of its triggers as a second cron \
         evaluator computes them, up to the moment in which the job itself wrote that it \
         began. Nothing is needed where someone was changing the job just then, and after \
         the end of the test.",
        page::legend(&[
            ("ok", "ran"),
            ("late", "late"),
            ("missed", "nothing ran"),
            ("held", "held by a pause"),
            ("maybe", "not needed"),
        ]) + &plots::fires(evidence, &fires, span),
    );
    page.section(
        "Lateness of fires",
        "From the instant to the job's own first line, on a logarithmic scale.",
        plots::lateness(evidence, &fires, span) + &tables::lateness(&fires),
    );
    page.section(
        "Leaders",
        "Whom each node took for the leader when it was asked, five times a second. Grey: \
         it did not answer. White: it knew no leader.",
        plots::leaders(evidence, span),
    );
    page.section(
        "Requests",
        "Each request at the moment it was asked, by how long it took. No request is sent \
         twice in secret: what nobody knows the outcome of stays unknown.",
        page::legend(&[("ok", "done"), ("fail", "certainly not done"), ("info", "nobody knows")])
            + &plots::latency(evidence, span)
            + &plots::rate(evidence, span)
            + &tables::latency(evidence),
    );
    if evidence.ran("lock") {
        page.section(
            "Locks",
            "From the answer that granted it to the moment in which its holder stopped \
             believing in it. Bars of one row must never overlap.",
            plots::locks(evidence, span),
        );
    }
    page.section(
        "Replication",
        "Commands that each node had not applied yet, against the node that was farthest.",
        plots::lag(evidence, span) + &tables::states(evidence),
    );
    for job in registers::failing(results) {
        page.section(
            &format!("Register {job}"),
            "Every operation on it from question to answer, with what was asked and seen. \
             No order of them is possible.",
            registers::view(evidence, &job),
        );
    }
    page.section(
        "Clients",
        "Every operation from question to answer, one lane a client.",
        plots::clients(evidence, span),
    );
    page.section("What this test does not say", "", tables::limits(evidence));
    page.finish()
}

/// Writes the report beside the evidence.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write(store: &Path, evidence: &Evidence, results: &Results) -> io::Result<()> {
    fs::write(store.join(FILE), html(evidence, results))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::planted::Planted;
    use crate::history::Kind;
    use crate::store::Said;

    #[test]
    fn a_report_shows_what_is_wrong_and_needs_nothing_else() {
        let mut planted = Planted::new();
        let definition =
            json!({"definition": {"name": "<j>", "triggers": [{"cron": "* * * * * ?"}]}});
        planted.op(1_000, Some(1_020), "apply", "<j>", definition, Kind::Ok, json!({}));
        for second in [2, 3, 5] {
            planted.line(
                second * 1_000 + 9,
                Said::Start,
                "<j>",
                Some(second * 1_000),
                second as u64,
                1,
            );
        }
        planted.poll(1_000, "n1", 3, 5, "h");
        planted.poll(2_000, "n1", 0, 0, "");
        planted.fault(2_500, 3_500, "kill-leader");
        let utc = json!({"utc": planted.base() + 5_500});
        planted.op(90_000, Some(90_001), "horizon", "", json!(null), Kind::Ok, utc);
        let mut evidence = planted.evidence();
        evidence.test.rerun = "jepsen test --seed 7".to_owned();
        evidence.test.workloads = vec!["lock".to_owned()];
        let results = crate::check::all(&evidence);
        let html = html(&evidence, &results);
        let recovered = "<td>kill-leader</td><td class=\"num\">1</td>";
        assert!(html.contains(recovered), "a row for each kind of fault");
        assert!(!html.contains("first fire max"), "and its times are told once");
        assert!(html.contains("nothing ran for 2026-11-21T10:00:04Z"), "the missed fire");
        assert!(html.contains("fire missed"), "its mark");
        assert!(html.contains("jepsen test --seed 7"));
        assert!(html.contains("&lt;j&gt;") && !html.contains("<j>"), "names are escaped");
        for needs in ["http://", "https://", "src=", "<link", "@import", "<script"] {
            assert!(!html.contains(needs), "{needs}");
        }
        assert_eq!(html.matches("<section").count(), html.matches("</section>").count());
    }

    #[test]
    fn a_register_that_no_order_explains_is_shown() {
        let mut planted = Planted::new();
        for (from, revision, value) in [(0, 1, 5), (50, 2, 7), (100, 1, 5)] {
            let seen = json!({"revision": revision, "value": value});
            planted.op(from, Some(from + 10), "reg-read", "reg-0", json!(null), Kind::Ok, seen);
        }
        let mut evidence = planted.evidence();
        evidence.test.workloads = vec!["register".to_owned()];
        let html = html(&evidence, &crate::check::all(&evidence));
        assert!(html.contains("Register reg-0") && html.contains("sees 7 as 2"));
    }

    #[test]
    fn an_empty_store_has_a_report_too() {
        let evidence = Evidence::default();
        let html = html(&evidence, &crate::check::all(&evidence));
        assert!(html.contains("harness-failure"));
    }
}
