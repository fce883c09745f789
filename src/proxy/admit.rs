//! Step two: from [`Received`] to [`Admitted`]. What the call needs of its budgets is held, and the
//! admission is queued to the ledger before anything goes upstream, with room reserved for the
//! settlement, so that no call that reached an upstream can be missing.

use std::sync::Arc;

use bytes::Bytes;

use super::Proxy;
use super::allowance::{Allowance, Decision, Patience};
use super::call::{EndedCall, OpenCall, Origin};
use super::headers;
use super::propagation::Onward;
use super::receive::Received;
use super::request_body::ReceivedBody;
use super::respond::{Fault, Unavailability};
use crate::budgets::Hold;
use crate::config::RecordLevel;
use crate::core::budget::Limits;
use crate::core::call::Admission;
use crate::core::recorded::{Kept, Level};
use crate::ledger::Capture;
use crate::wire::route::Route;
use crate::wire::scan::Segment;

/// A call that may go upstream. Dropping it settles it.
pub(super) struct Admitted {
    pub(super) received: Received,
    pub(super) call: OpenCall,
}

impl Received {
    /// Holds what the call needs, records it, and only then lets it go on.
    pub(super) async fn admit(
        mut self,
        proxy: &Arc<Proxy>,
        decision: &mut Decision,
    ) -> Result<Admitted, Fault> {
        let seat = proxy
            .accountant
            .seat()
            .ok_or(Fault::Unavailable(Unavailability::TooManyCalls))?;
        let patience = Patience::of(&self.headers);
        let Allowance {
            mut hold,
            enlisted,
            lowered,
            claim,
            keeping: _keeping,
            traits,
            repeated,
        } = self.allow(proxy, patience, decision).await?;
        self.watch(proxy, patience, decision).await?;
        let tightened = claim.tightened();
        self.onward = Onward::of(&self, proxy.ledger.seed());
        let admission = self.admission(proxy, (&hold, tightened), decision);
        let capture = self.capture();
        // What can still fail comes before the record: a call that is recorded costs what it holds.
        if let Some(lowered) = lowered {
            self.replace_body(proxy, lowered)?;
        }
        proxy.budgets.open_accounts(&claim);
        let entry = proxy
            .ledger
            .admit(admission, capture)
            .map_err(|_| Fault::Unavailable(Unavailability::Ledger))?;
        let budgets = &proxy.budgets;
        budgets.admitted((&mut hold, &claim), &tightened, entry.is_recorded());
        if let Some(repeated) = repeated {
            repeated.use_up();
        }
        proxy.metrics.call_admitted(self.facts.stream);
        let origin = Origin {
            live: Arc::clone(&self.live),
            upstream: Arc::clone(&self.upstream),
            started_at: self.started_at,
            attribution: self.attribution.clone(),
            operation: self.route.operation,
            fetch: self.route.fetch,
            model: self.model(),
            record: self.record,
            text: self.text().cloned().unwrap_or_default(),
            body_bytes: match &self.body {
                ReceivedBody::Read(bytes) => bytes.len() as u64,
                ReceivedBody::Unread { .. } => 0,
            },
            facts: Arc::clone(&self.facts),
            traits,
            turn: self.turn.clone(),
        };
        let room = std::mem::replace(&mut self.room, proxy.memory.room());
        let ended = EndedCall::new(origin, room, (entry, hold));
        let call = OpenCall::new(proxy, seat, ended, enlisted);
        Ok(Admitted {
            received: self,
            call,
        })
    }

    /// What goes on is another body than what came in; the ledger has the latter.
    fn replace_body(&mut self, proxy: &Proxy, body: Bytes) -> Result<(), Fault> {
        let limit = self.live.config.proxy.max_memory_bytes;
        if !self.room.grow(body.len(), limit) {
            return Err(Fault::Unavailable(Unavailability::Memory));
        }
        let Route {
            operation, dialect, ..
        } = self.route;
        self.facts = Arc::new(proxy.scanner.scan(operation, dialect, &body));
        self.body = ReceivedBody::Read(body);
        Ok(())
    }

    fn admission(
        &self,
        proxy: &Proxy,
        (hold, tightened): (&Hold, Limits),
        decision: &Decision,
    ) -> Admission {
        let model = self.model();
        let text_len = self.text().map_or(0, Bytes::len);
        let estimate = proxy.counter.quick_estimate(
            model.as_ref().map_or("", |model| model.as_str()),
            text_len,
            &self.facts,
        );
        let path = self.target.split('?').next().unwrap_or_default();
        Admission {
            id: self.id,
            started_at: self.started_at,
            attribution: self.attribution.clone(),
            upstream: self.upstream.config().name.clone(),
            operation: self.route.operation,
            method: self.method.to_string(),
            target: match self.record {
                RecordLevel::None => path.to_owned(),
                RecordLevel::Meta | RecordLevel::Full => headers::redact_target(&self.target),
            },
            request_model: model,
            stream: self.facts.stream,
            output_limit: self.facts.output_limit,
            estimated_input_tokens: estimate,
            key: self.key,
            client: self.client.clone(),
            retry: self.retry,
            previous_response: self
                .facts
                .previous_response_id
                .as_deref()
                .and_then(|id| crate::core::id::Label::parse(id).ok()),
            request: None,
            hold: hold.charges(),
            tightened,
            decision: decision.text(),
            headers: (self.record > RecordLevel::None).then(|| {
                let also = &self.live.config.ledger.show_headers;
                headers::recorded(&self.headers, also, proxy.ledger.seed())
            }),
            kept: Some(self.kept()),
            instance: None,
            trace: self.trace.clone(),
        }
    }

    /// How much of the call is kept, and who wanted it so.
    fn kept(&self) -> Kept {
        Kept {
            level: match self.record {
                RecordLevel::None => Level::None,
                RecordLevel::Meta => Level::Meta,
                RecordLevel::Full => Level::Full,
            },
            by_client: self.record < self.live.config.ledger.record,
        }
    }

    fn capture(&self) -> Option<Capture> {
        let ReceivedBody::Read(bytes) = &self.body else {
            return None;
        };
        if self.record < RecordLevel::Full || bytes.is_empty() {
            return None;
        }
        // Of an encoded body the segments lie in the copy, and the body itself is kept.
        let segments: &[Segment] = match &self.decoded {
            None => &self.facts.segments,
            Some(_) => &[],
        };
        Some(Capture {
            is_broken: false,
            chunks: vec![bytes.clone()],
            len: bytes.len() as u64,
            segments: segments
                .iter()
                .map(|segment| (segment.range.clone(), segment.digest))
                .collect(),
            content_type: headers::text(&self.headers, &http::header::CONTENT_TYPE),
            content_encoding: headers::text(&self.headers, &http::header::CONTENT_ENCODING),
        })
    }
}
