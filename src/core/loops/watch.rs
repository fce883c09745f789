//! What was seen of one run, and what of it repeats without anything new.
//!
//! Each call costs what its new content costs; nothing of the history is looked at again.

use rustc_hash::FxHashMap;

use super::conversation::{Conversation, Said, weight};
use super::finding::{Finding, Scope, Signal};
use super::novelty::Window;
use super::periods::Periods;
use super::reading::Mixer;
use super::settings::{Settings, Threshold};
use super::turn::{Answer, Ask, From, Kind, Part};

/// Conversations of one run that are kept apart; of more, those unused for longest are forgotten.
const MAX_CONVERSATIONS: usize = 64;
/// Groups of words, results and arguments that are remembered.
const GRAMS: usize = 4096;
const RESULTS: usize = 1024;
/// Pairs of a first request and its answer.
const MAX_ANSWERS: usize = 256;
/// Delegations that are compared.
const MAX_TASKS: usize = 10;
/// A result longer than this is news though it came of arguments seen before.
const LONG_RESULT: usize = 200;
/// A pattern covers so many calls at least.
const PERIOD_CALLS: u32 = 6;
/// Edges that go round so often are a circle.
const CIRCLE_ROUNDS: u32 = 3;
const QUARTERS: u32 = 4;

/// The detector's memory of one run.
#[derive(Debug)]
pub struct Watch {
    grams: Window<u32>,
    results: Window<u64>,
    arguments: Window<u64>,
    conversations: FxHashMap<u64, Conversation>,
    /// Of (caller, agent), and of (agent, action, result) over all conversations.
    edges: Periods,
    pairs: Periods,
    /// Calls that brought nothing new, in quarters, since the last news of the run.
    stale: u32,
    /// How often there was news.
    news: u64,
    /// Of the last calls that began a conversation: task, depth.
    tasks: Vec<(u64, u32)>,
    /// By first request: its last answer, and how often it got that in a row, in quarters.
    answers: FxHashMap<u64, (u64, u32)>,
    asked: u64,
}

/// What a call brings, weighed.
struct News {
    /// Of all that it brings; and of its bytes as they are.
    hash: u64,
    raw: u64,
    counts: bool,
    errors: Vec<u32>,
    polls: bool,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            grams: Window::new(GRAMS),
            results: Window::new(RESULTS),
            arguments: Window::new(RESULTS),
            conversations: FxHashMap::default(),
            edges: Periods::default(),
            pairs: Periods::default(),
            stale: 0,
            news: 0,
            tasks: Vec::new(),
            answers: FxHashMap::default(),
            asked: 0,
        }
    }
}

impl Watch {
    /// Takes a request in; what repeats with it.
    pub fn ask(&mut self, ask: &Ask, settings: &Settings) -> Vec<Finding> {
        self.asked += 1;
        let mut conversation = self.take_conversation(ask);
        conversation.last_used = self.asked;
        if let Some(said) = ask.said.as_ref().filter(|_| conversation.is_open) {
            self.answered(&mut conversation, said, None);
        }
        let mut found = Findings::default();
        if ask.kind == Kind::Again {
            if conversation.request != ask.request {
                conversation.repeats = 0;
            }
            // What never went upstream was not tried.
            if std::mem::take(&mut conversation.has_ended) {
                conversation.repeats += weight(ask.idle_ms);
            }
            let again = (Signal::SameRequest, Scope::Conversation);
            let times = conversation.repeats / QUARTERS;
            found.add(again, (1, times), times + 1, settings.same_request);
        } else {
            conversation.repeats = 0;
            conversation.has_ended = false;
            let news = self.bring(&mut conversation, ask);
            let threshold = if news.polls && settings.same_error.trip > 0 {
                Threshold {
                    trip: settings.stale_poll,
                    ..settings.stale
                }
            } else {
                settings.same_error
            };
            for count in &news.errors {
                let same = (Signal::SameError, Scope::Conversation);
                found.add(same, (1, *count), *count, threshold);
            }
            if ask.kind == Kind::Fresh {
                self.begin(&mut conversation, ask, &news, &mut found, settings);
            } else {
                self.go_on(&mut conversation, ask, &news, &mut found, settings);
            }
            self.is_stale(&mut conversation, &news, &mut found, settings);
            let chants = conversation.chants;
            let chant = (Signal::Chant, Scope::Conversation);
            found.add(chant, (1, chants), chants, settings.chant);
            conversation.is_open = true;
        }
        conversation.request = ask.request;
        self.conversations.insert(ask.conversation, conversation);
        found.0
    }

    /// Takes the answer to the last request of a conversation in. `idle_ms` is how long the request
    /// was waited for.
    pub fn answer(&mut self, conversation: u64, answer: &Answer, idle_ms: Option<u64>) {
        if let Some(mut it) = self.conversations.remove(&conversation) {
            self.answered(&mut it, answer, idle_ms);
            self.conversations.insert(conversation, it);
        }
    }

    /// The last request of a conversation went upstream and got no answer.
    pub fn fail(&mut self, conversation: u64) {
        if let Some(it) = self.conversations.get_mut(&conversation) {
            it.has_ended = true;
        }
    }

    /// Whether a request was asked in its conversation, and so is known.
    pub fn knows(&self, ask: &Ask) -> bool {
        let it = self.conversations.get(&ask.conversation);
        it.is_some_and(|it| it.request == ask.request)
    }

    /// Whether a user says something that was not said in this run.
    pub fn hears_user(&self, ask: &Ask) -> bool {
        let is_new =
            |part: &Part| part.from == From::User && self.grams.look(&part.reading.grams).is_news();
        ask.brought.iter().any(is_new)
    }

    /// The last call of a conversation is not over.
    pub fn is_running(&self, conversation: u64) -> bool {
        let it = self.conversations.get(&conversation);
        it.is_some_and(|it| it.is_open && !it.has_ended)
    }

    /// What a conversation did last, and what came of it.
    pub fn sample(&self, conversation: u64) -> Vec<String> {
        let it = self.conversations.get(&conversation);
        let samples = it.map(|it| [it.samples.0.clone(), it.samples.1.clone()]);
        let samples = samples.into_iter().flatten();
        samples.filter(|sample| !sample.is_empty()).collect()
    }

    /// What was counted so far is no evidence any more.
    pub fn forgive(&mut self) {
        self.conversations
            .values_mut()
            .for_each(Conversation::forgive);
        self.edges.clear();
        self.pairs.clear();
        self.stale = 0;
        self.tasks.clear();
        self.answers.clear();
    }

    fn take_conversation(&mut self, ask: &Ask) -> Conversation {
        let known = self.conversations.remove(&ask.conversation);
        if self.conversations.len() >= MAX_CONVERSATIONS {
            let oldest = self.conversations.iter().min_by_key(|(_, it)| it.last_used);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.conversations.remove(&oldest);
            }
        }
        known
            .filter(|_| ask.kind != Kind::Fresh)
            .unwrap_or_default()
    }

    /// Takes in what is new in a request.
    fn bring(&mut self, conversation: &mut Conversation, ask: &Ask) -> News {
        let (mut hash, mut raw) = (Mixer::default(), Mixer::default());
        let mut news = News {
            hash: 0,
            raw: 0,
            counts: false,
            errors: Vec::new(),
            polls: false,
        };
        let mut results = 0;
        for part in &ask.brought {
            let is_new = self.grams.take(&part.reading.grams).is_news();
            match part.from {
                From::System => continue,
                From::User | From::Agent => news.counts |= is_new,
                From::Tool { call, is_error } => {
                    let place = results;
                    results += 1;
                    if is_error {
                        let times = conversation.error_of(call, place, &part.reading);
                        news.counts |= is_new && times == 1;
                        news.errors.push(times);
                    } else {
                        news.counts |= self.result(conversation, (part, call, place)) || is_new;
                    }
                }
            }
            hash.push(part.reading.hash);
            raw.push(part.raw);
            conversation.samples.1.clone_from(&part.sample);
        }
        news.polls = results > 0 && conversation.said.polls();
        news.hash = hash.finish();
        news.raw = raw.finish();
        conversation.brought_news = news.counts;
        news
    }

    /// Whether a result is news by itself: new, for new arguments or long; or its numbers move on.
    fn result(
        &mut self,
        conversation: &mut Conversation,
        (part, call, place): (&Part, u64, usize),
    ) -> bool {
        let reading = &part.reading;
        let action = conversation.action_of(call, place);
        let (tool, arguments) = action.map_or((0, 0), |it| (it.tool, it.arguments));
        conversation.no_error(tool);
        let is_new_action = self.arguments.insert(Mixer::of(&[tool, arguments]));
        let is_new = self.results.insert(reading.hash);
        let of = Mixer::of(&[tool, arguments, reading.masked]);
        let moves_on = conversation.moves_on(of, &reading.numbers);
        moves_on || (is_new && (is_new_action || reading.len > LONG_RESULT))
    }

    /// A conversation begins: is it one task handed down and down?
    fn begin(
        &mut self,
        conversation: &mut Conversation,
        ask: &Ask,
        news: &News,
        found: &mut Findings,
        settings: &Settings,
    ) {
        if ask.caller == 0 {
            // Another job of the run: that it goes like the one before is no pattern of calls.
            self.edges.clear();
            self.pairs.clear();
        }
        self.edges.push(Mixer::of(&[ask.caller, ask.agent]));
        let request = Mixer::of(&[ask.agent, news.raw]);
        conversation.fresh_request = Some(request);
        // One template over many items: each item is news, however little of it differs.
        conversation.brought_news |= self.results.insert(request);
        let asked = |part: &&Part| matches!(part.from, From::User | From::Agent);
        let asked: Vec<u64> = ask
            .brought
            .iter()
            .filter(asked)
            .map(|part| part.reading.masked)
            .collect();
        if self.tasks.len() >= MAX_TASKS {
            self.tasks.remove(0);
        }
        self.tasks.push((Mixer::of(&asked), ask.depth));
        let mut distinct: Vec<u64> = self.tasks.iter().map(|(task, _)| *task).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let first = self.tasks.first().map_or(0, |(_, depth)| *depth);
        let levels = ask.depth.saturating_sub(first);
        if distinct.len() <= 2 {
            let down = (Signal::Delegation, Scope::Run);
            found.add(down, (1, levels), levels, settings.delegation);
        }
        let times = self
            .answers
            .get(&request)
            .map_or(0, |(_, times)| times / QUARTERS);
        let same = (Signal::SameAnswer, Scope::Edge);
        found.add(same, (1, times), times, settings.same_answer);
    }

    /// A conversation goes on: does it go round?
    fn go_on(
        &mut self,
        conversation: &mut Conversation,
        ask: &Ask,
        news: &News,
        found: &mut Findings,
        settings: &Settings,
    ) {
        self.edges.push(Mixer::of(&[ask.caller, ask.agent]));
        conversation.fresh_request = None;
        // Asking whether something is done is part of no pattern.
        if news.polls && news.errors.is_empty() {
            conversation.waited_ms = conversation.waited_ms.max(ask.idle_ms);
            return;
        }
        let pair = Mixer::of(&[ask.agent, conversation.said.hash, news.hash]);
        let is_same = conversation.pairs.push(pair);
        self.pairs.push(pair);
        // Who waits before asking again is patient, but for an error.
        let waited = std::mem::take(&mut conversation.waited_ms).max(ask.idle_ms);
        let quarters = if news.errors.is_empty() {
            weight(waited)
        } else {
            QUARTERS
        };
        conversation.pair_weight = if is_same {
            conversation.pair_weight + quarters
        } else {
            QUARTERS
        };
        let times = conversation.pair_weight / QUARTERS;
        if !news.polls {
            let threshold = conversation.said.repeat_threshold(settings.repeat);
            let covered = conversation.pairs.covered(1);
            let repeat = (Signal::Repeat, Scope::Conversation);
            found.add(repeat, (1, times), covered, threshold);
        }
        for (pairs, scope) in [
            (&conversation.pairs, Scope::Conversation),
            (&self.pairs, Scope::Run),
        ] {
            let (period, covered) = pairs.shortest();
            if period > 1 && covered >= PERIOD_CALLS {
                let rounds = (period, covered / period);
                found.add((Signal::Period, scope), rounds, covered, settings.period);
            }
        }
    }

    /// Does a run, or a conversation of it, say nothing new any more?
    fn is_stale(
        &mut self,
        conversation: &mut Conversation,
        news: &News,
        found: &mut Findings,
        settings: &Settings,
    ) {
        if news.counts {
            self.is_news();
        }
        let own = conversation.stale_since(self.news) / QUARTERS;
        let (period, covered) = self.edges.shortest();
        let is_circle = period > 1 && covered >= CIRCLE_ROUNDS * period;
        let trip = match settings.stale.trip {
            0 => 0,
            _ if news.polls => settings.stale_poll,
            _ if is_circle => settings.stale_in_circle,
            trip => trip,
        };
        let threshold = Threshold {
            warn: settings.stale.warn,
            trip,
        };
        let all = self.stale / QUARTERS;
        found.add(
            (Signal::Stale, Scope::Conversation),
            (1, own),
            own,
            threshold,
        );
        if all > own {
            found.add((Signal::Stale, Scope::Run), (1, all), all, threshold);
        }
    }

    fn answered(&mut self, conversation: &mut Conversation, answer: &Answer, idle_ms: Option<u64>) {
        conversation.has_ended = true;
        let mut is_news = self.grams.take(&answer.text.grams).is_news();
        for action in &answer.actions {
            is_news |= self.grams.take(&action.arguments.grams).is_news();
        }
        let said = Said::of(answer);
        if said.hash != conversation.said.hash {
            conversation.repeats = 0;
        }
        conversation.said = said;
        conversation.samples.0.clone_from(&answer.sample);
        conversation.chants = if answer.chants {
            conversation.chants + 1
        } else {
            0
        };
        if !std::mem::take(&mut conversation.is_open) {
            return;
        }
        if self.is_sample(conversation, idle_ms) {
            return;
        }
        if is_news || conversation.brought_news {
            self.is_news();
        } else {
            self.stale += weight(idle_ms);
            conversation.is_stale(self.news, weight(idle_ms));
        }
    }

    /// What is new to one agent may come from another: news of one are news of the run.
    fn is_news(&mut self) {
        self.stale = 0;
        self.news += 1;
    }

    /// The same first request as before: one more sample, which is neither news nor stale.
    fn is_sample(&mut self, conversation: &Conversation, idle_ms: Option<u64>) -> bool {
        let Some(request) = conversation.fresh_request else {
            return false;
        };
        if self.answers.len() >= MAX_ANSWERS {
            self.answers.clear();
        }
        let answer = conversation.said.hash;
        let (last, times) = self.answers.entry(request).or_insert((answer, 0));
        let is_known = *times > 0;
        if is_known && *last == answer {
            // What is asked now and then is a heartbeat.
            *times += weight(idle_ms).saturating_sub(1);
        } else {
            (*last, *times) = (answer, QUARTERS);
        }
        is_known
    }
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, what: (Signal, Scope), rounds: (u32, u32), calls: u32, threshold: Threshold) {
        self.0.extend(Finding::of(what, rounds, calls, threshold));
    }
}
