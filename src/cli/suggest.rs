//! What could be spared: listed, the dearest first, each with what to do.

use std::io;

use super::table::Output;
use super::{Common, Failure, command, format};
use crate::admin::suggestions::SuggestParams;
use crate::core::id::CallId;
use crate::core::suggest::{Finding, Report};
use crate::core::text::{many, visible};

/// Calls that are named of one finding; `--json` names more.
const NAMED: usize = 3;

pub(super) const EXAMPLES: &str = "\
Examples:
  open-aiops suggest
  open-aiops suggest --since 30d --agent researcher
  open-aiops suggest --rule cache_broken --json

Savings are what these calls would not have cost; of several claims on one call the largest counts for
the total. `[suggestions]` in the config says from where on a finding matters, and which are ignored.";

pub(super) fn list(
    common: &Common,
    params: &SuggestParams,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let path = "/api/v1/suggestions";
    command::list(common, path, params, out, |report: Report, out| {
        show(&report, out)
    })
}

fn show(report: &Report, out: &mut Output<'_>) -> io::Result<()> {
    for (number, finding) in report.findings.iter().enumerate() {
        one(number + 1, finding, out)?;
    }
    if report.findings.is_empty() {
        writeln!(out.writer, "nothing found that matters")?;
    } else {
        let total = report.total.words(format::duration);
        writeln!(
            out.writer,
            "together: {total}; of several claims on one call the largest counts"
        )?;
    }
    let spent = report.spent_nano_usd.brief();
    let calls = many(report.calls, "call");
    let (from, until) = (report.from, report.until);
    writeln!(
        out.writer,
        "looked at {calls} from {from} to {until} that cost {spent}"
    )?;
    if let Some(bound) = report.cut_by {
        writeln!(
            out.writer,
            "there are older calls in the span, which were not looked at: no more than {}",
            bound.words()
        )?;
    }
    for line in report.unseen.words() {
        writeln!(out.writer, "{line}")?;
    }
    if report.below > 0 {
        let are = if report.below == 1 { "is" } else { "are" };
        let below = many(report.below, "finding");
        writeln!(out.writer, "{below} {are} below what matters")?;
    }
    Ok(())
}

fn one(number: usize, finding: &Finding, out: &mut Output<'_>) -> io::Result<()> {
    let writer = &mut *out.writer;
    let rule = finding.rule.name();
    writeln!(
        writer,
        "{number}. {} ({rule}): {}",
        finding.rule.title(),
        finding.saving.words(format::duration)
    )?;
    writeln!(writer, "   {}", visible(&finding.sentence))?;
    for it in &finding.evidence {
        writeln!(writer, "   - {}: {}", it.what, visible(&it.value))?;
    }
    writeln!(writer, "   do: {}", visible(&finding.fix))?;
    writeln!(writer, "   counted so: {}", finding.assumption)?;
    let calls: Vec<String> = finding
        .calls
        .iter()
        .take(NAMED)
        .map(CallId::to_string)
        .collect();
    let count = many(finding.call_count, "call");
    writeln!(writer, "   {count}, as {}\n", calls.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::call::Outcome;
    use crate::suggest::tests::ledger::{Api, Talk, Work, prose};

    /// Six runs that offer a tool nobody calls and tell the time first, and a call without an answer.
    fn shown() -> String {
        let mut work = Work::new();
        for n in 0..24 {
            work.run(&format!("run-{}", n / 4));
            let talk = Talk::new(Api::Chat)
                .tool("search", "Finds.")
                .tool("de\u{1b}[31mploy", &prose(1, 9000))
                .system(&format!(
                    "It is 2026-11-01T10:00:{}Z. {}",
                    10 + n,
                    prose(2, 8000)
                ))
                .user(&format!("question {n}"));
            work.asks(&talk).calls("search", &format!("{{\"q\":{n}}}"));
        }
        let late = work.asks(&Talk::new(Api::Chat).user("hm"));
        late.ends(Outcome::ClientGone, 200).answers(None);
        let mut bytes = Vec::new();
        let mut out = Output {
            writer: &mut bytes,
            terminal: false,
        };
        show(&work.report(), &mut out).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn one_finding_below_what_matters_is_told_as_one() {
        for (below, words) in [(1, "1 finding is below"), (2, "2 findings are below")] {
            let report = Report {
                below,
                calls: 1,
                ..Report::default()
            };
            let mut bytes = Vec::new();
            let mut out = Output {
                writer: &mut bytes,
                terminal: false,
            };
            show(&report, &mut out).unwrap();
            let shown = String::from_utf8(bytes).unwrap();
            assert!(shown.contains(words), "{shown}");
            assert!(shown.contains("looked at 1 call from "), "{shown}");
        }
    }

    #[test]
    fn findings_are_told_with_evidence_and_figures_the_dearest_first() {
        let shown = shown();
        let at = |text: &str| {
            let place = shown.find(text);
            place.unwrap_or_else(|| panic!("no {text} in\n{shown}"))
        };
        let places = [
            at("1. The prompt cache is broken (cache_broken): $"),
            at("   - first difference: a time or date: `2026-11-01T10:00:10Z.` became"),
            at("   do: Put what changes"),
            at("   23 calls, as "),
            at("2. Tools are sent and never called (unused_tools): $"),
            at("   24 calls, as "),
            at("together: $"),
            at("looked at 25 calls from "),
        ];
        assert!(places.is_sorted(), "{shown}");
        assert!(
            !shown.contains('\u{1b}'),
            "what a model says moves no cursor"
        );
    }
}
