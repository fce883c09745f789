//! Where the time of a call went.

use maud::{Markup, html};

use super::super::figure;
use super::Known;

/// One stretch of a call.
struct Phase {
    class: &'static str,
    what: &'static str,
    from: u64,
    to: u64,
}

pub(super) fn draw(known: &Known) -> Markup {
    let Some(settlement) = &known.detail.settlement else {
        return html! { p.note { "The call has not ended: its times are known then." } };
    };
    let timings = &settlement.timings;
    let total = timings.total_us;
    let marks = [
        ("held", "held up by the proxy", timings.forwarded_us),
        ("wait", "until the head of the answer", timings.head_us),
        ("first", "until its first bytes", timings.first_chunk_us),
        ("flow", "until its end", Some(total)),
    ];
    let mut phases = Vec::new();
    let mut from = 0;
    for (class, what, to) in marks {
        let Some(to) = to else { continue };
        let to = to.clamp(from, total);
        phases.push(Phase {
            class,
            what,
            from,
            to,
        });
        from = to;
    }
    let finding = phases.iter().max_by_key(|phase| phase.to - phase.from);
    let finding = finding.map_or_else(String::new, |phase| {
        let part = figure::percent(phase.to - phase.from, total);
        format!(
            "{} in all, {part} of it {}",
            figure::duration(total),
            phase.what
        )
    });
    html! {
        figure {
            figcaption { (finding) }
            (bar(&phases, total, &finding))
        }
        div.scroll {
            table {
                thead { tr { th scope="col" { "What" } th.n scope="col" { "From" } th.n scope="col" { "Took" } th.n scope="col" { "Of all" } } }
                tbody { @for phase in &phases { tr {
                    th scope="row" { span.swatch.(phase.class) {} " " (phase.what) }
                    td.n { (figure::duration(phase.from)) }
                    td.n { (figure::duration(phase.to - phase.from)) }
                    td.n { (figure::percent(phase.to - phase.from, total)) }
                } } }
            }
        }
        (rate(known, &phases))
    }
}

fn bar(phases: &[Phase], total: u64, finding: &str) -> Markup {
    let at = |micros: u64| {
        let part = u128::from(micros) * 1000 / u128::from(total.max(1));
        u64::try_from(part).unwrap_or(1000)
    };
    html! {
        svg.phases viewBox="0 0 1000 24" preserveAspectRatio="none" role="img" aria-label=(finding) {
            title { (finding) }
            @for phase in phases {
                rect class=(phase.class) x=(at(phase.from)) width=((at(phase.to) - at(phase.from)).max(1)) height="24" {}
            }
        }
    }
}

/// Output tokens a second while the answer came.
fn rate(known: &Known, phases: &[Phase]) -> Markup {
    let flow = phases.iter().find(|phase| phase.class == "flow");
    let took = flow.map_or(0, |phase| phase.to - phase.from);
    let tokens = known.detail.row.usage.output_tokens;
    html! {
        @if known.detail.row.stream && took > 100_000 && tokens > 0 {
            p { "While it streamed: " (u128::from(tokens) * 1_000_000 / u128::from(took)) " output tokens a second." }
        }
    }
}
