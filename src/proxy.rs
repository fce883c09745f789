//! The spine: the way of one call, `Received -> Admitted -> Forwarded -> settled`.
//!
//! Each step is a type that only the step before can make, so none can be skipped. What a
//! step needs from the outside (ledger, upstreams, clock, metrics) hangs on [`Proxy`].

mod accountant;
mod admit;
mod allowance;
pub mod attribution;
mod body;
mod call;
mod charges;
mod forward;
pub mod headers;
mod hearing;
mod kept;
mod need;
mod propagation;
mod receive;
mod request_body;
mod request_text;
mod respond;
mod stream_end;
pub mod tags;
mod tunnel;

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::{Semaphore, watch};

use self::accountant::{Accountant, Books};
use self::body::ResponseBody;
pub(crate) use self::body::Rewriter;
use self::receive::Received;
use self::respond::Fault;
use crate::alerts::Alerts;
use crate::budgets::{Budgets, refusal};
use crate::clock::Clock;
use crate::config::Config;
use crate::core::loops::refusal as loop_refusal;
use crate::core::price::PriceTable;
use crate::core::space::Space;
use crate::ledger::Ledger;
use crate::loops::Loops;
use crate::metrics::Metrics;
use crate::tokens::Counter;
use crate::upstream::Upstream;
use crate::wire::scan::Scanner;

/// Messages whose token counts are remembered; about 100 bytes each.
const MEMO_ENTRIES: usize = 500_000;

/// What every call needs, for the life of the process.
pub struct Proxy {
    live: ArcSwap<Live>,
    ledger: Ledger,
    scanner: Scanner,
    counter: Arc<Counter>,
    accountant: Accountant,
    budgets: Arc<Budgets>,
    loops: Arc<Loops>,
    /// Taken by bodies of running calls.
    memory: Arc<Space>,
    /// For those who decode bodies of requests.
    decoders: Arc<Semaphore>,
    clock: Clock,
    metrics: Arc<Metrics>,
    cut: watch::Sender<bool>,
}

/// What a config reload replaces as a whole. A call keeps the one it began with.
pub struct Live {
    pub config: Config,
    /// At least one; the first is the default.
    pub upstreams: Vec<Arc<Upstream>>,
    pub prices: PriceTable,
}

impl Live {
    fn upstream(&self, name: &str) -> Option<&Arc<Upstream>> {
        let mut upstreams = self.upstreams.iter();
        upstreams.find(|upstream| upstream.config().name.as_str() == name)
    }
}

/// The way of a call. An error is answered in one place and carries the same marks.
pub async fn handle(proxy: &Arc<Proxy>, request: Request<Incoming>) -> Response<ResponseBody> {
    let received = match Received::read(proxy, request).await {
        Ok(received) => received,
        Err(fault) => return proxy.answer(fault),
    };
    let mut marks = received.marks();
    let who = &received.attribution;
    let (run, agent) = (who.run.clone(), who.agent.clone());
    let answered = async {
        let admitted = received.admit(proxy, &mut marks.decision).await?;
        let forwarded = admitted.forward_unless_stopped(proxy).await?;
        Ok(forwarded.into_response().await)
    };
    let mut response = answered.await.unwrap_or_else(|fault| {
        if let Fault::Refused(refused) = &fault {
            let budgets = &proxy.budgets;
            budgets.note_refusal(run.as_ref(), &agent, &refused.refusal);
        }
        proxy.answer(fault)
    });
    marks.write(response.headers_mut());
    response
}

impl Proxy {
    pub fn new(
        live: Live,
        ledger: Ledger,
        clock: Clock,
        metrics: Arc<Metrics>,
        memory: Arc<Space>,
        (budgets, loops, alerts): (Arc<Budgets>, Arc<Loops>, Arc<Alerts>),
    ) -> Arc<Self> {
        let counter = Arc::new(Counter::new(MEMO_ENTRIES));
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let books = Books {
            counter: Arc::clone(&counter),
            metrics: Arc::clone(&metrics),
            budgets: Arc::clone(&budgets),
            loops: Arc::clone(&loops),
            alerts,
            ledger: ledger.clone(),
            clock: clock.clone(),
        };
        let refusals = [
            &refusal::Refusal::KINDS[..],
            &loop_refusal::Refusal::KINDS,
            &respond::UNAVAILABLE,
        ];
        metrics.foresee(&refusals.concat(), &respond::REJECTIONS);
        foresee(&live.config, &metrics);
        Arc::new(Self {
            accountant: Accountant::start(books),
            budgets,
            loops,
            live: ArcSwap::from_pointee(live),
            memory,
            decoders: Arc::new(Semaphore::new(processors)),
            cut: watch::Sender::new(false),
            scanner: Scanner::new(ledger.seed()),
            ledger,
            counter,
            clock,
            metrics,
        })
    }

    /// Takes over a new configuration for calls from now on.
    pub fn reload(&self, live: Live) {
        let config = &live.config;
        self.budgets
            .reload(&config.budgets, config.accounting.max_accounts);
        self.loops.reload(config);
        foresee(config, &self.metrics);
        self.live.store(Arc::new(live));
    }

    /// How long running calls may go on once the process was told to end.
    pub fn drain_timeout(&self) -> Duration {
        self.live.load().config.proxy.drain_timeout
    }

    /// Ends what still runs: clients see a broken stream, the ledger an outcome `cut`.
    pub fn cut_running_calls(&self) {
        self.cut.send_replace(true);
    }

    /// Turns true when running calls must end.
    pub fn cut_signal(&self) -> watch::Receiver<bool> {
        self.cut.subscribe()
    }

    /// Waits until every call that ended is settled in the ledger's queue.
    pub async fn settled(&self) {
        self.accountant.idle().await;
    }

    fn answer(&self, fault: Fault) -> Response<ResponseBody> {
        let kind = fault.kind();
        match &fault {
            Fault::Rejected(_) => {
                self.metrics.call_rejected(kind);
                tracing::info!(kind, "{fault}");
            }
            Fault::Upstream(upstream) => {
                self.metrics.upstream_fault(&upstream.upstream, kind);
                tracing::warn!(kind, "{fault}");
            }
            Fault::Unavailable(_) => {
                self.metrics.refused(kind);
                tracing::warn!(kind, "{fault}");
            }
            Fault::Refused(refused) => {
                self.metrics.refused(kind);
                if let Some(budget) = refused.refusal.rule() {
                    self.metrics.budget_refused(budget);
                }
                if let Some(signal) = refused.refusal.stops_loop() {
                    self.metrics.loop_stopped(signal);
                }
                // Some clients repeat a refused call many times over: said once by an event.
                tracing::debug!(kind, "{:#}", refused.refusal);
            }
        }
        fault.into_response().map(ResponseBody::Ours)
    }
}

/// What may be counted of what the configuration names is there before it is counted.
fn foresee(config: &Config, metrics: &Metrics) {
    for upstream in &config.upstreams {
        metrics.foresee_upstream(&upstream.name, &respond::UPSTREAM_FAULTS);
    }
    for budget in &config.budgets {
        metrics.foresee_budget(&budget.name);
    }
}
