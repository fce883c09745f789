//! A ledger in which each call says words of its own, played step by step.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::LedgerConfig;
use crate::core::budget::{AccountId, AccountName, Amounts, Charge, Charged, Deed, Dimension};
use crate::core::call::{Admission, CostSource, LateUsage, Settlement};
use crate::core::digest::Digest;
use crate::core::loops::finding;
use crate::core::loops::trip::{Evidence, Trip};
use crate::core::metric::{Measurement, Subject};
use crate::core::money::NanoUsd;
use crate::core::recorded::HeaderLines;
use crate::core::time::Timestamp;
use crate::core::usage::{Provenance, Usage};

use super::super::erase::Scope;
use super::super::fake::IndexDisk;
use super::super::{Entry, Event, Ledger};
use super::budgets::act;
use super::harness::*;

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Run, user, whether it names a smaller limit for its run.
    Admit(u8, u8, bool),
    /// Which of those that are open, whether it is settled late.
    Settle(u8, bool),
    Late(u8),
    /// A loop of this call and the one before it was stopped.
    Trip(u8),
    Measure(u8),
    Stop(u8),
    Restart(bool),
}

pub(super) fn hour(hours: i64) -> Timestamp {
    Timestamp::from_micros(START.micros() + hours * HOUR_US)
}

pub(super) fn run_name(run: u8) -> String {
    format!("run-named-{run}")
}

pub(super) fn user_name(user: u8) -> String {
    format!("user-named-{user}")
}

/// A call and what it alone said.
#[derive(Clone)]
pub(super) struct Planted {
    pub(super) admission: Admission,
    pub(super) words: Vec<String>,
    pub(super) tightens: bool,
}

impl Planted {
    pub(super) fn run(&self) -> String {
        self.admission.attribution.run.clone().unwrap().to_string()
    }

    pub(super) fn is_meant(&self, scope: &Scope) -> bool {
        let who = &self.admission.attribution;
        match scope {
            Scope::Run(run) => who.run.as_ref() == Some(run),
            Scope::User(user) => who.user.as_ref() == Some(user),
            Scope::Before(at) => self.admission.started_at < *at,
        }
    }
}

pub(super) struct World {
    pub(super) machine: Machine,
    ledger: Option<Ledger>,
    open: Vec<(usize, Entry)>,
    pending: Vec<(usize, Timestamp)>,
    pub(super) calls: Vec<Planted>,
    pub(super) stopped: BTreeSet<String>,
    opened: BTreeSet<u8>,
    /// What the latest measurement of each call was charged.
    charged: BTreeMap<usize, (Timestamp, Charge)>,
    /// Of the runs of calls that come.
    pub(super) parent: Option<String>,
}

pub(super) fn account(number: u8) -> AccountId {
    AccountId(Digest::from_bytes([number; 16]))
}

fn charges(run: u8, user: u8, nano_usd: i64) -> Vec<Charge> {
    let charge = |number| Charge {
        account: account(number),
        bucket: START,
        amounts: Amounts {
            calls: i64::from(nano_usd > 0),
            nano_usd,
            ..Amounts::default()
        },
    };
    [run, 10 + user, 20].map(charge).into()
}

impl World {
    pub(super) fn new(keep_bytes: u64) -> Self {
        let machine = Machine::new(LedgerConfig {
            segment_bytes: 4000,
            keep_bytes: Some(keep_bytes),
            ..config()
        });
        let ledger = Some(machine.open().0);
        Self {
            machine,
            ledger,
            open: Vec::new(),
            pending: Vec::new(),
            calls: Vec::new(),
            stopped: BTreeSet::new(),
            opened: BTreeSet::new(),
            charged: BTreeMap::new(),
            parent: None,
        }
    }

    pub(super) fn ledger(&self) -> Ledger {
        self.ledger.clone().unwrap()
    }

    pub(super) fn play(&mut self, step: &Step) {
        self.machine.clock.advance_micros(HOUR_US);
        let ledger = self.ledger();
        match *step {
            Step::Admit(run, user, tightens) => self.admit((run, user), tightens),
            Step::Settle(at, is_pending) if !self.open.is_empty() => {
                let (call, entry) = self.open.remove(usize::from(at) % self.open.len());
                self.settle(call, entry, is_pending);
            }
            Step::Late(at) if !self.pending.is_empty() => {
                let (call, at) = self.pending.remove(usize::from(at) % self.pending.len());
                self.late(call, at);
            }
            Step::Trip(at) if !self.calls.is_empty() => {
                self.trip(usize::from(at) % self.calls.len());
            }
            Step::Measure(at) if !self.calls.is_empty() => {
                let call = usize::from(at) % self.calls.len();
                let measured = self.measurement(call);
                ledger.measured(measured).unwrap().block();
            }
            Step::Stop(run) => {
                let name = run_name(run);
                let stop = Deed::RunStopped(label(&name));
                ledger.act(act(&self.machine, stop)).unwrap().block();
                self.stopped.insert(name);
            }
            Step::Restart(keeps_index) if self.open.is_empty() => {
                self.close();
                drop(ledger);
                if !keeps_index {
                    self.machine.index = IndexDisk::default();
                }
                self.ledger = Some(self.machine.open().0);
            }
            _ => {}
        }
    }

    pub(super) fn admit(&mut self, (run, user): (u8, u8), tightens: bool) {
        let (ledger, nth) = (self.ledger(), self.calls.len());
        let mut admission = self.machine.call(&run_name(run), "researcher");
        let word = |what: &str| format!("{what}-of-call-{nth}-only");
        let who = &mut admission.attribution;
        who.parent_run = self.parent.as_deref().map(label);
        who.user = Some(label(&user_name(user)));
        who.tags = BTreeMap::from([("team".to_owned(), label(&word("tag")))]);
        who.variant = Some(label(&word("variant")));
        admission.client = Some(label(&word("client")));
        let mut headers = HeaderLines::default();
        headers.show("x-said", &word("header"));
        admission.headers = Some(headers);
        admission.hold = charges(run, user, 7);
        if tightens {
            admission.tightened.nano_usd = Some(1000);
        }
        for (number, dimension, name) in [
            (run, Dimension::Run, run_name(run)),
            (10 + user, Dimension::User, user_name(user)),
        ] {
            let key = vec![(dimension, Some(label(&name)))];
            let rule = label("each");
            if self.opened.insert(number) {
                let name = AccountName { rule, key };
                assert!(ledger.open_account(account(number), &name));
            }
        }
        let texts = [word("text"), format!("shared by some {}", nth % 2)];
        let messages = texts.map(|text| format!("{{\"content\":\"{}\"}}", [&*text; 8].join(" ")));
        let request = conversation(ledger.seed(), &messages);
        let entry = ledger.admit(admission.clone(), Some(request)).unwrap();
        entry.durable().block();
        self.open.push((nth, entry));
        let words = ["tag", "variant", "client", "header", "text", "answer"];
        let more = ["note", "sample"];
        let words = words.iter().chain(&more).map(|what| word(what)).collect();
        self.calls.push(Planted {
            admission,
            words,
            tightens,
        });
    }

    fn numbers(&self, call: usize) -> (u8, u8) {
        let hold = &self.calls[call].admission.hold;
        let number = |charge: &Charge| charge.account.0.to_bytes()[0];
        (number(&hold[0]), number(&hold[1]) - 10)
    }

    fn settle(&mut self, call: usize, entry: Entry, is_pending: bool) {
        let (run, user) = self.numbers(call);
        let now = self.machine.clock.now();
        let (answer, settlement) = (
            format!("answer-of-call-{call}-only"),
            Settlement {
                charges: charges(run, user, 5),
                settled_at: Some(now),
                is_pending,
                provenance: if is_pending {
                    Provenance::Estimated
                } else {
                    Provenance::Reported
                },
                ..settlement(&self.calls[call].admission)
            },
        );
        entry.settle(settlement, Some(plain(answer.as_bytes())));
        if is_pending {
            self.pending.push((call, now));
        }
    }

    fn late(&self, call: usize, charged_at: Timestamp) {
        let (run, user) = self.numbers(call);
        let late = LateUsage {
            id: self.calls[call].admission.id,
            at: self.machine.clock.now(),
            usage: Usage {
                output_tokens: 700,
                ..Usage::default()
            },
            cost: Some(NanoUsd::new(20)),
            cost_source: Some(CostSource::Table),
            charges: charges(run, user, -3),
            charged_at,
            is_estimated: false,
            instance: None,
            is_found: false,
        };
        assert!(self.ledger().late(late).is_ok());
    }

    /// Nobody says of which run, as where the attribution of calls differs.
    fn trip(&self, call: usize) {
        let (at, ledger) = (self.machine.clock.now(), self.ledger());
        let calls = [call.saturating_sub(1), call];
        let evidence = Evidence {
            signal: finding::Signal::SameAnswer,
            scope: finding::Scope::Run,
            period: 1,
            count: 2,
            agents: vec![label("researcher")],
            calls: calls.map(|call| self.calls[call].admission.id).into(),
            since: at,
            tokens: 1,
            sample: calls
                .map(|call| format!("sample-of-call-{call}-only"))
                .into(),
        };
        let mut event = Event::own(at, "loop_tripped", None);
        event.trip = Some(Box::new(Trip {
            id: self.calls[call].admission.id,
            at,
            run: None,
            conversation: None,
            agent: label("researcher"),
            caller: None,
            evidence,
            refused: 1,
            closed: None,
        }));
        ledger.event(event).unwrap().block();
    }

    /// One after the other of the same call, each charged in the place of the one before.
    fn measurement(&mut self, call: usize) -> Measurement {
        let at = self.machine.clock.now();
        let admission = &self.calls[call].admission;
        let charge = Charge {
            account: account(30),
            bucket: START,
            amounts: Amounts {
                micro_metric: 5 + i64::try_from(self.charged.len()).unwrap(),
                ..Amounts::default()
            },
        };
        let before = self.charged.insert(call, (at, charge));
        let charged = Charged {
            at,
            charges: vec![charge],
            replaced: before.map(|(at, charge)| (at, vec![charge])),
        };
        Measurement {
            at,
            name: "solved".to_owned(),
            value: "true".parse().unwrap(),
            subject: Subject::Call(admission.id),
            who: label("judge"),
            note: Some(format!("note-of-call-{call}-only")),
            key: None,
            run: admission.attribution.run.clone(),
            agent: Some(admission.attribution.agent.clone()),
            charged: Some(charged),
            instance: None,
        }
    }

    /// Whether what it really used may still become known: until then no deletion takes it out.
    pub(super) fn is_awaited(&self, call: &Planted) -> bool {
        let id = call.admission.id;
        let mut pending = self.pending.iter();
        let is_pending = pending.any(|(call, _)| self.calls[*call].admission.id == id);
        let age = self.machine.clock.now().micros() - call.admission.started_at.micros();
        is_pending && age <= 30 * 24 * HOUR_US
    }

    pub(super) fn goes(&self, call: &Planted, scope: &Scope) -> bool {
        call.is_meant(scope) && !self.is_awaited(call)
    }

    pub(super) fn close(&mut self) {
        let ledger = self.ledger.take().unwrap();
        ledger.sync_index();
        block_on(ledger.close()).unwrap();
    }

    /// Calls of another run and user until the first segments are gone.
    pub(super) fn push_out_the_front(&mut self) {
        let first = self.machine.disk.segments()[0];
        while self.machine.disk.segments()[0] == first {
            let open = self.open.len();
            self.play(&Step::Admit(2, 2, false));
            let (call, entry) = self.open.remove(open);
            self.settle(call, entry, false);
            self.ledger().sync_index();
        }
    }

    /// Plays all of it; the last calls that are open end with the process, and are settled by the next.
    pub(super) fn played(keep_bytes: u64, steps: &[Step]) -> Self {
        let mut world = Self::new(keep_bytes);
        for step in steps {
            world.play(step);
        }
        world.end();
        world
    }

    pub(super) fn reopen(&mut self) {
        self.ledger = Some(self.machine.open().0);
    }

    pub(super) fn end(&mut self) {
        for (_, entry) in self.open.drain(..) {
            std::mem::forget(entry);
        }
        self.close();
        self.machine.config.keep_bytes = None;
        self.reopen();
        self.close();
    }
}
