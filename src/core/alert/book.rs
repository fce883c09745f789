//! The memory of alerts: what is one and the same, what goes on, and what has to be told now.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::super::budget::AccountId;
use super::super::loops::trip::Trip;
use super::super::time::Timestamp;
use super::words::{clean, text};
use super::{About, Alert, Delivery, Rule, Scope, Sent, Signal};

/// Alerts that are remembered.
const MOST: usize = 1000;
/// Webhooks of one alert that are remembered.
const MOST_DELIVERIES: usize = 16;

/// An event, as far as alerts are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    pub at: Timestamp,
    /// The name of the event.
    pub what: &'a str,
    pub details: &'a str,
    pub signal: Option<&'a Signal>,
    pub trip: Option<&'a Trip>,
}

/// Why something is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// It was not told before, or not for a while.
    Begins,
    /// It was told to begin, and is over.
    Over,
}

/// Something a person should be told now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    pub alert: Alert,
    pub news: News,
}

/// All alerts, each once. Bounded: the oldest leave, those that are over before the open ones.
#[derive(Debug)]
pub struct Book {
    entries: BTreeMap<u64, Entry>,
    latest: HashMap<(Rule, Scope), u64>,
    next: u64,
    most: usize,
    repeat_us: u64,
}

#[derive(Debug)]
struct Entry {
    alert: Alert,
    account: Option<AccountId>,
    until: Option<Timestamp>,
    /// When it was last told to begin, and whether it was not told to be over since.
    told: Option<(Timestamp, bool)>,
}

impl Book {
    /// What comes again within `repeat_us` of the last time is the same alert, and is not told again
    /// before so much time has passed.
    pub fn new(repeat_us: u64) -> Self {
        Self {
            entries: BTreeMap::new(),
            latest: HashMap::new(),
            next: 0,
            most: MOST,
            repeat_us,
        }
    }

    pub fn set_repeat(&mut self, repeat_us: u64) {
        self.repeat_us = repeat_us;
    }

    /// Takes in an event; says what has to be told because of it.
    pub fn take(&mut self, heard: &Heard<'_>) -> Vec<Told> {
        let delivery = heard.signal.and_then(|signal| signal.delivery.as_ref());
        if let (Some(sent), Some(signal)) = (delivery, heard.signal) {
            self.delivered(sent, &signal.scope, heard);
        }
        let mut told = self.end(heard, delivery);
        if let Ok(rule) = heard.what.parse::<Rule>() {
            told.extend(self.begin(rule, scope(rule, heard, delivery), heard));
        }
        told
    }

    /// What came again too early to be told at once and has to be told by now, and what time ended.
    pub fn due(&mut self, now: Timestamp) -> Vec<Told> {
        let repeat_us = self.repeat_us;
        let due = |entry: &mut Entry| {
            let (at, was_told_open) = entry.told?;
            let news = match (entry.is_open(now), was_told_open) {
                (true, false) if now.micros_since(at) >= repeat_us => News::Begins,
                (false, true) => News::Over,
                _ => return None,
            };
            Some(entry.tell(now, news))
        };
        self.entries.values_mut().filter_map(due).collect()
    }

    /// All of them: open ones first, then those that were seen last.
    pub fn list(&self, now: Timestamp) -> Vec<Alert> {
        let mut alerts: Vec<Alert> = self.entries.values().map(|entry| entry.seen(now)).collect();
        alerts.sort_by_key(|alert| std::cmp::Reverse((alert.is_open, alert.last_at)));
        alerts
    }

    fn begin(&mut self, rule: Rule, scope: Scope, heard: &Heard<'_>) -> Option<Told> {
        let key = (rule, scope);
        let (repeat_us, now) = (self.repeat_us, heard.at);
        let known = self
            .latest
            .get(&key)
            .and_then(|number| self.entries.get_mut(number));
        let same = known.filter(|entry| {
            entry.is_open(now) || now.micros_since(entry.alert.last_at) < repeat_us
        });
        if let Some(entry) = same {
            entry.again(heard);
            return entry.tell_begun(now, repeat_us);
        }
        self.make_room(now);
        let number = self.next;
        self.next += 1;
        let mut entry = Entry::new(&key, heard);
        let told = entry.tell_begun(now, repeat_us);
        self.latest.insert(key, number);
        self.entries.insert(number, entry);
        told
    }

    fn end(&mut self, heard: &Heard<'_>, delivery: Option<&Sent>) -> Vec<Told> {
        let mut told = Vec::new();
        for rule in Rule::ended_by(heard.what) {
            let whose = Whose::of(*rule, heard, delivery);
            for entry in self.entries.values_mut() {
                if entry.alert.rule != *rule || !whose.is(entry) || !entry.is_open(heard.at) {
                    continue;
                }
                entry.alert.over_at = Some(heard.at);
                if entry.told.is_some_and(|(_, is_open)| is_open) {
                    told.push(entry.tell(heard.at, News::Over));
                }
            }
        }
        told
    }

    fn delivered(&mut self, sent: &Sent, scope: &Scope, heard: &Heard<'_>) {
        let key = (sent.rule, scope.clone());
        let known = self
            .latest
            .get(&key)
            .and_then(|number| self.entries.get_mut(number));
        let Some(entry) = known else { return };
        let deliveries = &mut entry.alert.sent;
        deliveries.retain(|one| one.webhook != sent.webhook);
        if deliveries.len() >= MOST_DELIVERIES {
            deliveries.remove(0);
        }
        deliveries.push(Delivery {
            webhook: sent.webhook.clone(),
            at: heard.at,
            is_ok: heard.what == "alert_sent",
            answer: clean(&sent.answer),
        });
    }

    fn make_room(&mut self, now: Timestamp) {
        if self.entries.len() < self.most {
            return;
        }
        let over = self.entries.iter().find(|(_, entry)| !entry.is_open(now));
        let leaving = over.or_else(|| self.entries.iter().next());
        let Some(number) = leaving.map(|(number, _)| *number) else {
            return;
        };
        if let Some(entry) = self.entries.remove(&number) {
            let key = (entry.alert.rule, entry.alert.scope);
            if self.latest.get(&key) == Some(&number) {
                self.latest.remove(&key);
            }
        }
    }
}

impl Entry {
    fn new((rule, scope): &(Rule, Scope), heard: &Heard<'_>) -> Self {
        let named = format!("{} {scope:?} {}", rule.name(), heard.at.micros());
        let mut entry = Self {
            alert: Alert {
                id: format!("{:016x}", xxh3_64(named.as_bytes())),
                rule: *rule,
                severity: rule.severity(),
                scope: scope.clone(),
                text: String::new(),
                value: None,
                limit: None,
                first_at: heard.at,
                last_at: heard.at,
                count: 0,
                is_open: true,
                over_at: None,
                sent: Vec::new(),
            },
            account: None,
            until: None,
            told: None,
        };
        entry.again(heard);
        entry
    }

    fn again(&mut self, heard: &Heard<'_>) {
        let alert = &mut self.alert;
        alert.count += 1;
        alert.last_at = heard.at.max(alert.last_at);
        alert.over_at = None;
        alert.text = text(alert.rule, &alert.scope, heard.details);
        let signal = heard.signal.filter(|signal| signal.delivery.is_none());
        alert.value = signal.and_then(|signal| signal.value.as_deref()).map(clean);
        alert.limit = signal.and_then(|signal| signal.limit.as_deref()).map(clean);
        self.account = signal.and_then(|signal| signal.account);
        let lasts = alert.rule.lasts_us();
        let by_itself = lasts.map(|lasts_us| alert.last_at.plus_micros(lasts_us));
        self.until = signal.and_then(|signal| signal.until).or(by_itself);
    }

    fn is_open(&self, now: Timestamp) -> bool {
        self.alert.over_at.is_none() && self.until.is_none_or(|until| now < until)
    }

    fn tell_begun(&mut self, now: Timestamp, repeat_us: u64) -> Option<Told> {
        let is_new = self
            .told
            .is_none_or(|(at, _)| now.micros_since(at) >= repeat_us);
        is_new.then(|| self.tell(now, News::Begins))
    }

    fn tell(&mut self, now: Timestamp, news: News) -> Told {
        self.told = match (news, self.told) {
            (News::Over, Some((at, _))) => Some((at, false)),
            _ => Some((now, news == News::Begins)),
        };
        Told {
            alert: self.seen(now),
            news,
        }
    }

    fn seen(&self, now: Timestamp) -> Alert {
        let is_open = self.is_open(now);
        let over_at = self.alert.over_at.or(self.until);
        Alert {
            is_open,
            over_at: over_at.filter(|_| !is_open),
            ..self.alert.clone()
        }
    }
}

/// Which alerts of a rule an event ends.
#[derive(Debug, PartialEq, Eq)]
enum Whose {
    All,
    Account(AccountId),
    Scope(Scope),
}

impl Whose {
    fn of(rule: Rule, heard: &Heard<'_>, delivery: Option<&Sent>) -> Self {
        let account = heard.signal.and_then(|signal| signal.account);
        match account {
            _ if heard.what == "started" => Self::All,
            Some(account) => Self::Account(account),
            None => Self::Scope(scope(rule, heard, delivery)),
        }
    }

    fn is(&self, entry: &Entry) -> bool {
        match self {
            Self::All => true,
            Self::Account(account) => entry.account == Some(*account),
            Self::Scope(scope) => entry.alert.scope == *scope,
        }
    }
}

/// What an alert of this rule is about. Recorded events of older versions do not say.
fn scope(rule: Rule, heard: &Heard<'_>, delivery: Option<&Sent>) -> Scope {
    let scope = raw_scope(rule, heard, delivery);
    Scope {
        about: scope.about,
        name: clean(&scope.name),
        key: scope.key.as_deref().map(clean),
    }
}

fn raw_scope(rule: Rule, heard: &Heard<'_>, delivery: Option<&Sent>) -> Scope {
    if let Some(sent) = delivery {
        return Scope::new(About::Webhook, &sent.webhook);
    }
    if let Some(trip) = heard.trip {
        let scope = Scope::new(About::Loop, &trip.id);
        return match &trip.run {
            Some(run) => scope.with_key(run),
            None => scope,
        };
    }
    if let Some(signal) = heard.signal {
        return signal.scope.clone();
    }
    let about = match rule {
        Rule::BudgetWarning | Rule::BudgetSlowed | Rule::BudgetSpent => About::Budget,
        Rule::LoopWarning | Rule::LoopSlowed => About::Run,
        Rule::LoopTripped => About::Loop,
        Rule::UpstreamFailing => About::Upstream,
        Rule::LedgerFailed | Rule::IndexFailed | Rule::DiskLow => About::Ledger,
        Rule::ConfigRefused => About::Config,
        Rule::UnpricedModel => About::Model,
        Rule::AlertFailed | Rule::AlertTest => About::Webhook,
        Rule::MetricOff => About::Metric,
        Rule::SinkFailing | Rule::SinkIncomplete => About::Sink,
    };
    Scope::new(about, "")
}

#[cfg(test)]
mod tests;
