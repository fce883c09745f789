//! What a call may spend: before it goes anywhere it holds what it needs of every budget it counts
//! against, waits for others where only they are in the way, or is refused.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

use super::Proxy;
use super::need::{Repeated, Traits};
use super::receive::Received;
use super::request_body::ReceivedBody;
use super::respond::{Fault, Refused, Unavailability};
use crate::budgets::runs::Enlisted;
use crate::budgets::{Ask, Claim, Granted, Hold, Keeping, Refusal};
use crate::core::id::Label;
use crate::wire::output_limit;

/// How long a client is made to wait that does not say how long it would.
const PATIENCE: Duration = Duration::from_secs(30);
const MOST_PATIENCE: Duration = Duration::from_secs(300);

/// A call that may go on, and on which terms.
pub(super) struct Allowance {
    pub(super) hold: Hold,
    pub(super) enlisted: Enlisted,
    /// The request with a lower output limit.
    pub(super) lowered: Option<Bytes>,
    pub(super) claim: Claim,
    pub(super) keeping: Keeping,
    pub(super) traits: Option<Traits>,
    /// It repeats a call that failed and was counted.
    pub(super) repeated: Option<Repeated>,
}

/// What a client is told about a decision.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// `warn`, `slow`, `clamp`.
    pub(super) words: Vec<&'static str>,
    pub(super) reasons: Vec<String>,
    pub(super) left_nano_usd: Option<i64>,
    pub(super) left_tokens: Option<i64>,
}

impl Decision {
    pub(super) fn add(&mut self, word: &'static str, reason: String) {
        if !self.words.contains(&word) {
            self.words.push(word);
        }
        self.reasons.push(reason);
    }

    /// In one sentence; none when the call was plainly let through.
    pub(super) fn text(&self) -> Option<String> {
        let words = self.words.join(", ");
        let reasons = self.reasons.join("; ");
        (!words.is_empty()).then(|| format!("{words}: {reasons}"))
    }
}

impl Received {
    /// Holds what the call needs, after any wait and delay.
    pub(super) async fn allow(
        &self,
        proxy: &Proxy,
        patience: Patience,
        decision: &mut Decision,
    ) -> Result<Allowance, Fault> {
        let model = self.model();
        let key = || Label::parse(&self.key?.to_string()).ok();
        let key = if proxy.budgets.has_rules() {
            key()
        } else {
            None
        };
        let ask = Ask {
            attribution: &self.attribution,
            key: key.as_ref(),
            model: model.as_ref(),
            upstream: &self.upstream.config().name,
            operation: self.route.operation,
            tightened: self.tightened,
        };
        let claim = self.claim(proxy, &ask).await?;
        let mut allowance = Allowance {
            hold: Hold::nothing(),
            enlisted: proxy.budgets.enlist(&claim),
            lowered: None,
            keeping: Keeping::limits_of(&claim, &proxy.budgets),
            claim,
            traits: None,
            repeated: None,
        };
        let stopped = allowance.enlisted.stopped();
        let allowed = self.wait_and_hold(proxy, (&mut allowance, &ask), patience, decision);
        let outcome = tokio::select! {
            biased;
            why = stopped => Err(why),
            allowed = allowed => allowed.map_err(Arc::new),
        };
        match outcome {
            Ok(()) => Ok(allowance),
            Err(why) if matches!(*why, Refusal::Away) => {
                Err(Fault::Unavailable(Unavailability::Shared))
            }
            Err(why) => Err(self.refused(proxy, why)),
        }
    }

    /// Where nothing limits a call it goes on though the ledger cannot be read.
    async fn claim(&self, proxy: &Proxy, ask: &Ask<'_>) -> Result<Claim, Fault> {
        let budgets = &proxy.budgets;
        match budgets.claim(ask).await {
            Ok(claim) => Ok(claim),
            Err(error) if !budgets.has_rules() && self.tightened.is_empty() => {
                tracing::warn!("a call goes on whether or not its run is paused: {error}");
                Ok(Claim::default())
            }
            Err(error) => {
                tracing::error!("{error}");
                Err(Fault::Unavailable(Unavailability::Budgets))
            }
        }
    }

    /// Everything a call is made to wait for: its run to be resumed, room in its budgets, its delay.
    async fn wait_and_hold(
        &self,
        proxy: &Proxy,
        (allowance, ask): (&mut Allowance, &Ask<'_>),
        patience: Patience,
        decision: &mut Decision,
    ) -> Result<(), Refusal> {
        loop {
            *decision = Decision::default();
            if let Some(why) = self.unusable_budget {
                decision.add("warn", why.to_owned());
            }
            self.enter(proxy, &allowance.claim, patience, decision)
                .await?;
            proxy.budgets.renew(&mut allowance.claim, ask).await;
            if allowance.claim.is_free() {
                return Ok(());
            }
            allowance
                .traits
                .get_or_insert_with(|| self.traits(proxy, ask));
            let granted = self.hold(proxy, (allowance, ask), patience, decision);
            let granted = granted.await?;
            self.delay(proxy, &granted, patience, decision).await;
            // Who was paused meanwhile holds nothing while it waits.
            if !allowance.claim.is_paused() {
                allowance.hold = granted.hold;
                return Ok(());
            }
        }
    }

    /// Waits for its run to be resumed, where that is paused.
    async fn enter(
        &self,
        proxy: &Proxy,
        claim: &Claim,
        patience: Patience,
        decision: &mut Decision,
    ) -> Result<(), Refusal> {
        let (was_paused, since) = (claim.is_paused(), Instant::now());
        proxy.budgets.enter(claim, patience.left()).await?;
        if was_paused {
            let wait = since.elapsed();
            let millis = wait.as_millis();
            decision.add("slow", format!("waited {millis} ms for its run to go on"));
            proxy.metrics.call_slowed(wait);
        }
        Ok(())
    }

    /// Refuses a call of a loop, or makes it wait. What budgets refuse is no evidence: they were asked
    /// before.
    pub(super) async fn watch(
        &self,
        proxy: &Proxy,
        patience: Patience,
        decision: &mut Decision,
    ) -> Result<(), Fault> {
        let Some(turn) = &self.turn else {
            return Ok(());
        };
        let judged = proxy.loops.judge(turn, &self.attribution, self.id);
        let judged = judged.map_err(|why| self.refused(proxy, Arc::new(Refusal::Loop(why))))?;
        if let Some(warning) = judged.warning {
            decision.add("warn", warning);
        }
        if judged.is_probe {
            decision.add(
                "warn",
                "let through to see whether the loop goes on".to_owned(),
            );
        }
        if judged.delay_ms > 0 {
            let delay = Duration::from_millis(judged.delay_ms);
            let delay = delay.min(patience.left());
            let millis = delay.as_millis();
            decision.add("slow", format!("made to wait for {millis} ms"));
            proxy.metrics.call_slowed(delay);
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }

    fn refused(&self, proxy: &Proxy, refusal: Arc<Refusal>) -> Fault {
        Fault::Refused(Refused {
            refusal,
            dialect: self.route.dialect,
            at: proxy.clock.now(),
        })
    }

    /// Holds the worst case or a share of what is left, and lowers the request's output limit to
    /// what is held. Where that cannot be done, only the worst case will do.
    async fn hold(
        &self,
        proxy: &Proxy,
        (allowance, ask): (&mut Allowance, &Ask<'_>),
        patience: Patience,
        decision: &mut Decision,
    ) -> Result<Granted, Refusal> {
        allowance.lowered = None;
        if allowance.repeated.is_none() {
            allowance.repeated = self.repeated(proxy, allowance.traits);
        }
        let mut need = self.need(proxy, (allowance.traits, allowance.repeated.is_some()));
        if !self.is_bounded() {
            need = self.counted(proxy, need).await;
        }
        if need.tariff.is_none() && allowance.claim.counts_usd() {
            let model = self.model();
            let model = model.as_ref().map_or("(none)", Label::as_str);
            proxy.budgets.tell_unpriced(model);
            decision.add("warn", format!("the price of {model:?} is not known"));
        }
        loop {
            let exact = async || {
                proxy.accountant.catch_up().await;
                self.counted(proxy, need).await
            };
            let budgets = &proxy.budgets;
            let granted = budgets
                .hold((&mut allowance.claim, ask), &need, exact, patience.left())
                .await?;
            if !granted.hold.is_clamped() {
                return Ok(granted);
            }
            allowance.lowered = self.lowered(granted.hold.output_tokens());
            if allowance.lowered.is_some() {
                return Ok(granted);
            }
            need.is_clampable = false;
        }
    }

    fn lowered(&self, output_tokens: i64) -> Option<Bytes> {
        let ReceivedBody::Read(body) = &self.body else {
            return None;
        };
        let facts = &self.facts;
        let each = u64::try_from(output_tokens).unwrap_or(0) / facts.choices.max(1);
        output_limit::lower((&self.route, &self.uri), body, facts, each).map(Bytes::from)
    }

    async fn delay(
        &self,
        proxy: &Proxy,
        granted: &Granted,
        patience: Patience,
        decision: &mut Decision,
    ) {
        if let Some(standing) = &granted.warning {
            let part = standing.seat().used_permille() / 10;
            let rule = &standing.rule.name;
            decision.add("warn", format!("budget \"{rule}\" is used to {part} %"));
        }
        if granted.hold.is_clamped() {
            let most = granted.hold.output_tokens();
            decision.add("clamp", format!("the output limit is {most} tokens"));
        }
        decision.left_nano_usd = granted.left_nano_usd;
        decision.left_tokens = granted.left_tokens;
        let delay = granted.delay.min(patience.left());
        let wait = granted.waited.saturating_add(delay);
        if wait.is_zero() {
            return;
        }
        decision.add("slow", format!("made to wait for {} ms", wait.as_millis()));
        proxy.metrics.call_slowed(wait);
        tracing::info!(
            agent = %self.attribution.agent,
            waited_ms = granted.waited.as_millis(),
            delay_ms = delay.as_millis(),
            "a call is slowed by its budgets"
        );
        tokio::time::sleep(delay).await;
    }
}

/// How long a client may be made to wait in all: half of what it would, at most.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    until: Instant,
}

impl Patience {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let said = super::headers::TIMEOUTS.iter().filter_map(|name| {
            let seconds = headers.get(*name)?.to_str().ok()?.parse::<f64>().ok()?;
            Duration::try_from_secs_f64(seconds / 2.0).ok()
        });
        let patience = said.min().map_or(PATIENCE, |said| said.min(MOST_PATIENCE));
        Self {
            until: Instant::now() + patience,
        }
    }

    fn left(self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}
