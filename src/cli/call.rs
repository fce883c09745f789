//! One call, as lines of `name  value` with what is unknown left out.

use std::io;

use super::format::{self, UNKNOWN};
use super::table::{Output, printable};
use crate::admin::view::{BodyView, CallDetail, CallView, OPEN};
use crate::core::id::Label;
use crate::core::usage::Usage;

pub(super) fn write(detail: &CallDetail, out: &mut Output<'_>) -> io::Result<()> {
    let call = &detail.call;
    let mut lines = Lines(out);
    lines.put("call", &call.id.to_string())?;
    lines.put("started", &format::time(call.started_at))?;
    who(detail, &mut lines)?;
    what(call, &mut lines)?;
    lines.some("budgets", detail.decision.as_ref())?;
    lines.body("request body", detail.request_body.as_ref())?;
    if call.outcome == OPEN {
        return lines.put("outcome", OPEN);
    }
    end(call, &mut lines)?;
    lines.body("response body", detail.response_body.as_ref())
}

fn who(detail: &CallDetail, lines: &mut Lines<'_, '_>) -> io::Result<()> {
    let call = &detail.call;
    lines.put("agent", call.agent.as_str())?;
    lines.some("caller", call.caller.as_ref())?;
    lines.some("run", call.run.as_ref())?;
    lines.some("parent run", call.parent_run.as_ref())?;
    if !call.path.is_empty() {
        let path: Vec<_> = call.path.iter().map(Label::as_str).collect();
        lines.put("path", &format!("/{}", path.join("/")))?;
    }
    if !call.inferred.is_empty() {
        lines.put("inferred, in %", &call.inferred.to_string())?;
    }
    lines.some("user", call.user.as_ref())?;
    lines.some("variant", call.variant.as_ref())?;
    lines.some("conversation", call.conversation.as_ref())?;
    for (name, value) in &call.tags {
        lines.put(&format!("tag {name}"), value.as_str())?;
    }
    for (name, value) in &detail.call.metrics {
        lines.put(&format!("metric {name}"), &value.to_string())?;
    }
    Ok(())
}

fn what(call: &CallView, lines: &mut Lines<'_, '_>) -> io::Result<()> {
    lines.put("upstream", call.upstream.as_str())?;
    lines.put("operation", call.operation.into())?;
    lines.put("request", &format!("{} {}", call.method, call.target))?;
    lines.some("client", call.client.as_ref())?;
    lines.some("asked for", call.request_model.as_ref())?;
    lines.put("streamed", if call.stream { "yes" } else { "no" })?;
    if call.retry > 0 {
        lines.put("retry", &call.retry.to_string())?;
    }
    Ok(())
}

fn end(call: &CallView, lines: &mut Lines<'_, '_>) -> io::Result<()> {
    let status = call
        .status
        .map_or_else(|| "no status".to_owned(), |status| status.to_string());
    lines.put("outcome", &format!("{} ({status})", call.outcome))?;
    lines.some("error", call.error.as_ref())?;
    lines.some("model", call.model.as_ref())?;
    lines.some("response id", call.response_id.as_ref())?;
    lines.some("service tier", call.service_tier.as_ref())?;
    if !call.finish_reasons.is_empty() {
        let reasons: Vec<_> = call.finish_reasons.iter().map(Label::as_str).collect();
        lines.put("finish reasons", &reasons.join(", "))?;
    }
    let provenance = call.provenance.map_or(UNKNOWN, Into::into);
    lines.put("tokens", &format!("{} ({provenance})", tokens(&call.usage)))?;
    lines.put("cost", &format::cost(call.cost_nano_usd))?;
    lines.some(
        "first bytes",
        call.first_chunk_us.map(format::duration).as_ref(),
    )?;
    lines.some("took", call.duration_us.map(format::duration).as_ref())
}

/// The totals, with the parts that make a difference in brackets.
fn tokens(usage: &Usage) -> String {
    let input = with_parts(
        usage.input_tokens,
        &[
            ("cache read", usage.cache_read_input_tokens),
            ("cache write", usage.cache_write_input_tokens),
        ],
    );
    let output = with_parts(
        usage.output_tokens,
        &[("reasoning", usage.reasoning_output_tokens)],
    );
    format!("{input} in, {output} out")
}

fn with_parts(total: u64, parts: &[(&str, u64)]) -> String {
    let known: Vec<_> = parts
        .iter()
        .filter(|(_, tokens)| *tokens > 0)
        .map(|(name, tokens)| format!("{name} {}", format::count(*tokens)))
        .collect();
    let total = format::count(total);
    if known.is_empty() {
        total
    } else {
        format!("{total} [{}]", known.join(", "))
    }
}

struct Lines<'a, 'b>(&'a mut Output<'b>);

impl Lines<'_, '_> {
    fn put(&mut self, name: &str, value: &str) -> io::Result<()> {
        let (name, value) = (printable(name), printable(value));
        if self.0.terminal {
            writeln!(self.0.writer, "{name:16}{value}")
        } else {
            writeln!(self.0.writer, "{name}\t{value}")
        }
    }

    fn some(&mut self, name: &str, value: Option<&impl ToString>) -> io::Result<()> {
        value.map_or(Ok(()), |value| self.put(name, &value.to_string()))
    }

    fn body(&mut self, name: &str, body: Option<&BodyView>) -> io::Result<()> {
        let Some(body) = body else {
            return self.put(name, "not recorded");
        };
        let mut text = format::bytes(body.len);
        for (holds, remark) in [(body.changed, ", changed"), (body.truncated, ", truncated")] {
            text.push_str(if holds { remark } else { "" });
        }
        if let Some(content_type) = &body.content_type {
            text = format!("{text}, {content_type}");
        }
        self.put(name, &text)
    }
}
