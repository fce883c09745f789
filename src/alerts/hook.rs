//! One webhook with its queue: it waits for no other, and what is too much for it is summed up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::message::Message;
use super::post::Post;
use super::report::Reporter;
use crate::config::WebhookConfig;
use crate::core::alert::book::Told;
use crate::core::alert::throttle::Throttle;
use crate::core::alert::{About, Rule};
use crate::metrics::MessageResult;

/// Messages that wait for one webhook.
const QUEUE: usize = 100;
/// How often it is looked whether a summary may go out.
const LOOK: Duration = Duration::from_millis(500);

/// Dropping it ends its queue.
pub(super) struct Hook {
    pub(super) post: Arc<Post>,
    queue: mpsc::Sender<Message>,
    held_back: Arc<HeldBack>,
    reporter: Arc<Reporter>,
    task: JoinHandle<()>,
}

/// What was not sent, by rule.
#[derive(Default)]
struct HeldBack(Mutex<BTreeMap<Rule, u64>>);

impl Hook {
    pub(super) fn start(post: Post, reporter: Arc<Reporter>) -> Self {
        let post = Arc::new(post);
        let held_back = Arc::<HeldBack>::default();
        let (queue, waiting) = mpsc::channel(QUEUE);
        let courier = Courier {
            throttle: Throttle::new(post.config().max_per_minute),
            post: Arc::clone(&post),
            held_back: Arc::clone(&held_back),
            reporter: Arc::clone(&reporter),
        };
        Self {
            post,
            queue,
            held_back,
            reporter,
            task: tokio::spawn(courier.run(waiting)),
        }
    }

    pub(super) fn config(&self) -> &WebhookConfig {
        self.post.config()
    }

    /// Takes an alert if it is for this webhook. Never waits.
    pub(super) fn offer(&self, told: &Told) {
        let alert = &told.alert;
        let config = self.config();
        let is_about_itself = alert.rule == Rule::AlertFailed
            && alert.scope.about == About::Webhook
            && alert.scope.name == config.name.as_str();
        if is_about_itself || !config.takes(alert.rule, alert.severity) {
            return;
        }
        let mut told = told.clone();
        // What became of it elsewhere is nobody's business there.
        told.alert.sent.clear();
        let rule = told.alert.rule;
        let message = Message::Alert(Box::new(told));
        if self.queue.try_send(message).is_err() {
            self.held_back.add(rule, &self.reporter);
        }
    }

    /// Ends its queue once what waits in it is sent.
    pub(super) async fn finish(mut self) {
        let (closed, _) = mpsc::channel(1);
        self.queue = closed;
        let _ = (&mut self.task).await;
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HeldBack {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Rule, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, rule: Rule, reporter: &Reporter) {
        *self.lock().entry(rule).or_default() += 1;
        reporter.count(MessageResult::HeldBack);
    }
}

/// Who carries the messages of one webhook.
struct Courier {
    post: Arc<Post>,
    throttle: Throttle,
    held_back: Arc<HeldBack>,
    reporter: Arc<Reporter>,
}

impl Courier {
    async fn run(mut self, mut waiting: mpsc::Receiver<Message>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = waiting.recv() => match message {
                    Some(message) => self.carry(message).await,
                    None => break,
                },
                _ = look.tick() => self.sum_up().await,
            }
        }
        self.sum_up().await;
    }

    async fn carry(&mut self, message: Message) {
        if self.throttle.passes(self.reporter.now()) {
            self.deliver(&message).await;
        } else if let Some(alert) = message.alert() {
            self.held_back.add(alert.rule, &self.reporter);
        }
    }

    /// Says how much was held back, as soon as it may say anything again.
    async fn sum_up(&mut self) {
        if self.held_back.lock().is_empty() || !self.throttle.passes(self.reporter.now()) {
            return;
        }
        let counts = std::mem::take(&mut *self.held_back.lock());
        self.deliver(&Message::Summary(counts.into_iter().collect()))
            .await;
    }

    async fn deliver(&self, message: &Message) {
        let config = self.post.config();
        let answer = self.post.send(&message.body(config.format)).await;
        self.reporter.report(&config.name, message.alert(), &answer);
    }
}
