//! What was seen of one conversation of a run.

use super::periods::Periods;
use super::reading::{Mixer, Reading};
use super::settings::Threshold;
use super::turn::{Action, Answer};

/// Tools whose errors and numbers are remembered.
const MAX_TOOLS: usize = 16;
/// Actions of one answer that results are matched with.
const MAX_ACTIONS: usize = 32;
/// Words of arguments that do not make errors differ.
const MAX_WORDS: usize = 64;
/// What is shorter than this is repeated more easily; what is as long as that, hardly by chance
/// (bytes that an agent wrote).
const SHORT: usize = 64;
const LONG: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Conversation {
    pub(super) last_used: u64,
    /// Of (action, result).
    pub(super) pairs: Periods,
    /// Quarters of a call, see [`weight`].
    pub(super) pair_weight: u32,
    /// What was waited for since the last pair, by tools that are part of none.
    pub(super) waited_ms: Option<u64>,
    /// Calls that brought nothing new, in quarters, since so many news of the run.
    stale: (u64, u32),
    /// Of the request that was sent last.
    pub(super) repeats: u32,
    pub(super) request: u64,
    pub(super) chants: u32,
    /// The call before has no answer yet.
    pub(super) is_open: bool,
    /// It went upstream and is over, with an answer or without.
    pub(super) has_ended: bool,
    /// What the call before brought was news.
    pub(super) brought_news: bool,
    pub(super) fresh_request: Option<u64>,
    pub(super) said: Said,
    errors: Vec<ErrorStreak>,
    numbers: Vec<Numbers>,
    pub(super) samples: (String, String),
}

/// The last answer.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) hash: u64,
    pub(super) written: usize,
    pub(super) actions: Vec<ActionMark>,
}

#[derive(Debug)]
pub(super) struct ActionMark {
    pub(super) id: u64,
    pub(super) tool: u64,
    pub(super) arguments: u64,
    pub(super) words: Vec<u64>,
    pub(super) polls: bool,
    pub(super) repeats: Option<u32>,
}

#[derive(Debug)]
struct ErrorStreak {
    tool: u64,
    /// Without the words of the arguments, and with them.
    marks: (u64, u64),
    numbers: Vec<u64>,
    count: u32,
}

/// The numbers in a result, and which way they went.
#[derive(Debug)]
struct Numbers {
    of: u64,
    last: Vec<u64>,
    way: i8,
}

impl Said {
    pub(super) fn of(answer: &Answer) -> Self {
        let mut hash = Mixer::default();
        let mut written = 0;
        // What is said beside an action does not make it another one.
        if answer.actions.is_empty() {
            hash.push(answer.text.hash);
            written = answer.text.len;
        }
        for action in &answer.actions {
            hash.push(action.tool);
            hash.push(action.arguments.hash);
            written += action.arguments.len;
        }
        let actions = answer.actions.iter().take(MAX_ACTIONS);
        Self {
            hash: hash.finish(),
            written,
            actions: actions.map(ActionMark::of).collect(),
        }
    }

    pub(super) fn polls(&self) -> bool {
        self.actions.iter().any(|action| action.polls)
    }

    /// How often it may be repeated: the more an agent writes, the less it does so by chance.
    pub(super) fn repeat_threshold(&self, settings: Threshold) -> Threshold {
        if let Some(repeats) = self.actions.iter().find_map(|action| action.repeats) {
            return Threshold {
                warn: settings.warn.max(repeats / 2),
                trip: if repeats == 0 { 0 } else { repeats + 1 },
            };
        }
        if settings.trip == 0 {
            return settings;
        }
        let trip = match self.written {
            ..SHORT => settings.trip + 1,
            SHORT..LONG => settings.trip,
            LONG.. => settings.trip.saturating_sub(1).max(2),
        };
        Threshold { trip, ..settings }
    }
}

impl ActionMark {
    fn of(action: &Action) -> Self {
        Self {
            id: action.id,
            tool: action.tool,
            arguments: action.arguments.hash,
            words: action
                .arguments
                .words()
                .iter()
                .take(MAX_WORDS)
                .copied()
                .collect(),
            polls: action.traits.polls.unwrap_or(action.polls),
            repeats: action.traits.repeats,
        }
    }
}

impl Conversation {
    /// The action that a result is of: by its id, else by its place.
    pub(super) fn action_of(&self, call: u64, place: usize) -> Option<&ActionMark> {
        let actions = &self.said.actions;
        let by_id = actions.iter().find(|action| call != 0 && action.id == call);
        by_id.or_else(|| actions.get(place))
    }

    /// Counts an error that came of an action; how often its tool said the same in a row.
    pub(super) fn error_of(&mut self, call: u64, place: usize, result: &Reading) -> u32 {
        let action = self.action_of(call, place);
        let tool = action.map_or(0, |action| action.tool);
        let words = action.map_or(&[][..], |action| &action.words);
        let marks = (result.error_mark(words), result.error_mark(&[]));
        let known = self.errors.iter_mut().find(|streak| streak.tool == tool);
        if let Some(streak) = known {
            let is_same = streak.marks.0 == marks.0 || streak.marks.1 == marks.1;
            // Fewer failures than before are progress; more attempts are not.
            let numbers = streak.numbers.iter().zip(&result.numbers);
            let falls = numbers.into_iter().any(|(before, now)| now < before);
            streak.count = if is_same && !falls {
                streak.count + 1
            } else {
                1
            };
            streak.marks = marks;
            streak.numbers.clone_from(&result.numbers);
            return streak.count;
        }
        push_bounded(
            &mut self.errors,
            ErrorStreak {
                tool,
                marks,
                numbers: result.numbers.clone(),
                count: 1,
            },
        );
        1
    }

    /// A tool did well.
    pub(super) fn no_error(&mut self, tool: u64) {
        self.errors.retain(|streak| streak.tool != tool);
    }

    /// Whether the numbers of a result that is otherwise the same go on moving one way.
    pub(super) fn moves_on(&mut self, of: u64, numbers: &[u64]) -> bool {
        let Some(known) = self.numbers.iter_mut().find(|known| known.of == of) else {
            let last = numbers.to_vec();
            push_bounded(&mut self.numbers, Numbers { of, last, way: 0 });
            return false;
        };
        let way = direction(&known.last, numbers);
        let moves = way != 0 && (known.way == 0 || known.way == way);
        if way != 0 {
            known.way = way;
        }
        known.last = numbers.to_vec();
        moves
    }

    /// Calls in a row that brought nothing new, in quarters, when the run has had so much news.
    pub(super) fn stale_since(&self, news: u64) -> u32 {
        let (since, quarters) = self.stale;
        if since == news { quarters } else { 0 }
    }

    pub(super) fn is_stale(&mut self, news: u64, quarters: u32) {
        self.stale = (news, self.stale_since(news) + quarters);
    }

    /// Begins anew: what was counted so far is no evidence any more.
    pub(super) fn forgive(&mut self) {
        self.pairs.clear();
        self.pair_weight = 0;
        self.stale = (0, 0);
        self.repeats = 0;
        self.chants = 0;
        self.errors.clear();
    }
}

fn push_bounded<T>(list: &mut Vec<T>, item: T) {
    if list.len() >= MAX_TOOLS {
        list.remove(0);
    }
    list.push(item);
}

/// 1 when some number grew and none fell, -1 the other way round, else 0.
fn direction(before: &[u64], now: &[u64]) -> i8 {
    let mut way = 0;
    for (before, now) in before.iter().zip(now) {
        let this = match now.cmp(before) {
            std::cmp::Ordering::Less => -1,
            std::cmp::Ordering::Equal => continue,
            std::cmp::Ordering::Greater => 1,
        };
        if way == -this {
            return 0;
        }
        way = this;
    }
    way
}

/// What a call counts in quarters: one that was waited for is more patient than one that follows
/// at once.
pub(super) fn weight(idle_ms: Option<u64>) -> u32 {
    match idle_ms {
        None | Some(..2_000) => 4,
        Some(2_000..8_000) => 3,
        Some(8_000..30_000) => 2,
        Some(30_000..) => 1,
    }
}
