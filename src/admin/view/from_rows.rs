//! From the rows of the ledger to the shapes of the API.

use super::{
    AgentView, BodyView, CallDetail, CallList, CallView, EdgeView, EventView, OPEN, RollupView,
    RunAgentView, RunDetail, RunEdgeView, RunView, TotalsView,
};
use crate::core::call::StoredBody;
use crate::core::id::CallId;
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::ledger::{
    self, AgentRow, CallRow, EdgeRow, Event, Page, RollupRow, RunAgentRow, RunEdgeRow, RunRow,
    Totals,
};

impl From<Page<CallRow, CallId>> for CallList {
    fn from(page: Page<CallRow, CallId>) -> Self {
        Self {
            calls: page.items.into_iter().map(Into::into).collect(),
            next: page.next,
            partial: page.partial,
        }
    }
}

impl From<CallRow> for CallView {
    fn from(row: CallRow) -> Self {
        Self {
            id: row.id,
            started_at: row.started_at,
            run: row.run,
            parent_run: row.parent_run,
            agent: row.agent,
            caller: row.caller,
            path: row.path,
            depth: row.depth,
            user: row.user,
            variant: row.variant,
            conversation: row.conversation,
            tags: row.tags,
            agent_source: row.agent_source,
            run_source: row.run_source,
            inferred: row.inferred,
            upstream: row.upstream,
            operation: row.operation,
            method: row.method,
            target: row.target,
            request_model: row.request_model,
            response_model: row.response_model,
            model: row.model,
            response_id: row.response_id,
            service_tier: row.service_tier,
            stream: row.stream,
            status: row.status,
            outcome: row.outcome.map_or(OPEN, Into::into).to_owned(),
            finish_reasons: row.finish_reasons,
            usage: row.usage,
            provenance: row.provenance,
            cost_nano_usd: row.cost_nano_usd.map(NanoUsd::new),
            cost_source: row.cost_source,
            duration_us: row.duration_us,
            head_us: row.head_us,
            first_chunk_us: row.first_chunk_us,
            request_bytes: row.request_bytes,
            response_bytes: row.response_bytes,
            client: row.client,
            retry: row.retry,
            error: row.error,
            instance: row.instance,
            metrics: std::collections::BTreeMap::new(),
        }
    }
}

impl From<ledger::CallDetail> for CallDetail {
    fn from(detail: ledger::CallDetail) -> Self {
        let forwarded_us = detail
            .settlement
            .as_ref()
            .and_then(|end| end.timings.forwarded_us);
        let (response_body, response_headers) = detail
            .settlement
            .map_or((None, None), |end| (end.response, end.headers));
        let mut this = Self {
            call: detail.row.into(),
            output_limit: None,
            estimated_input_tokens: None,
            key: None,
            previous_response: None,
            decision: None,
            forwarded_us,
            kept: None,
            request_headers: None,
            response_headers: response_headers.map(Into::into),
            request_body: None,
            response_body: response_body.map(Into::into),
        };
        if let Some(admission) = detail.admission {
            this.call.metrics = admission.attribution.metrics;
            this.output_limit = admission.output_limit;
            this.estimated_input_tokens = Some(admission.estimated_input_tokens);
            this.key = admission.key.map(|key| key.to_string());
            this.previous_response = admission.previous_response;
            this.decision = admission.decision;
            this.kept = admission.kept;
            this.request_headers = admission.headers.map(Into::into);
            this.request_body = admission.request.map(Into::into);
        }
        this
    }
}

impl From<StoredBody> for BodyView {
    fn from(body: StoredBody) -> Self {
        Self {
            len: body.len,
            content_type: body.content_type,
            content_encoding: body.content_encoding,
            changed: body.changed,
            truncated: body.truncated,
        }
    }
}

impl From<Totals> for TotalsView {
    fn from(row: Totals) -> Self {
        Self {
            calls: row.calls,
            errors: row.errors,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            cache_read_input_tokens: row.cache_read_input_tokens,
            cache_write_input_tokens: row.cache_write_input_tokens,
            reasoning_output_tokens: row.reasoning_output_tokens,
            cost_nano_usd: NanoUsd::new(row.cost_nano_usd),
            unpriced_calls: row.unpriced_calls,
            estimated_calls: row.estimated_calls,
            duration_us: row.duration_us,
        }
    }
}

impl From<RunRow> for RunView {
    fn from(row: RunRow) -> Self {
        Self {
            run: row.run,
            parent_run: row.parent_run,
            control: row.control,
            first_at: row.first_at,
            last_at: row.last_at,
            open_calls: row.open_calls,
            agents: row.agents,
            depth: row.depth,
            variant: row.variant,
            tags: row.tags,
            trips: row.trips,
            totals: row.totals.into(),
            metrics: Vec::new(),
        }
    }
}

impl From<ledger::RunDetail> for RunDetail {
    fn from(detail: ledger::RunDetail) -> Self {
        Self {
            run: detail.row.into(),
            by_agent: detail.by_agent.into_iter().map(Into::into).collect(),
            edges: detail.edges.into_iter().map(Into::into).collect(),
            children: detail.children.into_iter().map(Into::into).collect(),
            metrics_by_agent: Vec::new(),
        }
    }
}

impl From<RunAgentRow> for RunAgentView {
    fn from(row: RunAgentRow) -> Self {
        Self {
            agent: row.agent,
            first_at: row.first_at,
            last_at: row.last_at,
            open_calls: row.open_calls,
            totals: row.totals.into(),
        }
    }
}

impl From<RunEdgeRow> for RunEdgeView {
    fn from(row: RunEdgeRow) -> Self {
        Self {
            caller: row.caller,
            agent: row.agent,
            first_at: row.first_at,
            last_at: row.last_at,
            open_calls: row.open_calls,
            totals: row.totals.into(),
        }
    }
}

impl From<AgentRow> for AgentView {
    fn from(row: AgentRow) -> Self {
        Self {
            agent: row.agent,
            first_at: row.first_at,
            last_at: row.last_at,
            open_calls: row.open_calls,
            models: row.models,
            runs: row.runs,
            figures: row.figures.into(),
            metrics: Vec::new(),
        }
    }
}

impl From<EdgeRow> for EdgeView {
    fn from(row: EdgeRow) -> Self {
        Self {
            caller: row.caller,
            agent: row.agent,
            first_at: row.first_at,
            last_at: row.last_at,
            figures: row.figures.into(),
        }
    }
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        Self {
            at: event.at,
            who: event.who,
            what: event.what,
            details: event.details,
        }
    }
}

impl From<RollupRow> for RollupView {
    fn from(row: RollupRow) -> Self {
        Self {
            day: date(row.day),
            agent: row.agent,
            model: row.model,
            upstream: row.upstream,
            totals: row.totals.into(),
        }
    }
}

/// A day since the epoch as 2026-11-01.
fn date(day: i32) -> String {
    Timestamp::of_day(day)
        .to_string()
        .chars()
        .take_while(|c| *c != 'T')
        .collect()
}
