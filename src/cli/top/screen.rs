//! What is looked at, and what a key does to it. No I/O.

use std::collections::{BTreeMap, VecDeque};

use ratatui::crossterm::event::{KeyCode, KeyModifiers};

use super::shot::{Deed, Kind, Shot};
use crate::admin::view::{AccountView, AgentView, BudgetView, LoopView, RunView, TotalsView};
use crate::core::id::Label;
use crate::core::time::Timestamp;

/// Rates are of so much time, at most.
const WINDOW_US: u64 = 60_000_000;

/// Moments kept of a run or an agent.
const MOMENTS: usize = 320;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum View {
    Runs,
    Agents,
    Budgets,
    Loops,
    Run(Label),
}

impl View {
    /// Those with a number key, in their order.
    pub(super) const LISTS: [Self; 4] = [Self::Runs, Self::Agents, Self::Budgets, Self::Loops];
}

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// Something else is looked at: ask at once.
    Look,
    Do(Deed),
    Quit,
}

/// How quickly something grows, each minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) calls: u64,
    pub(super) tokens: u64,
    pub(super) nano_usd: i64,
}

/// One account and the budget it belongs to.
pub(super) struct Account<'a> {
    pub(super) budget: &'a BudgetView,
    pub(super) account: &'a AccountView,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(super) struct Screen {
    pub(super) view: View,
    pub(super) shot: Option<Shot>,
    /// Key of the chosen row: rows move, the choice stays with its own.
    chosen: Option<String>,
    /// Nothing of this view was seen yet: its first row will be chosen.
    is_fresh: bool,
    pub(super) is_held: bool,
    pub(super) shows_help: bool,
    /// What waits for yes or no.
    pub(super) asked: Option<Deed>,
    /// What was told last, and whether it is bad.
    pub(super) told: Option<(String, bool)>,
    /// Why the last look failed.
    pub(super) missed: Option<String>,
    pub(super) filter: String,
    pub(super) is_typing: bool,
    past: BTreeMap<String, VecDeque<(Timestamp, TotalsView)>>,
}

impl Screen {
    pub(super) fn new(view: View) -> Self {
        Self {
            view,
            shot: None,
            chosen: None,
            is_fresh: true,
            is_held: false,
            shows_help: false,
            asked: None,
            told: None,
            missed: None,
            filter: String::new(),
            is_typing: false,
            past: BTreeMap::new(),
        }
    }

    /// Takes in what was seen. What came for another view is dropped.
    pub(super) fn see(&mut self, shot: Shot) {
        self.missed = None;
        if shot.view != self.view {
            return;
        }
        if self.is_held && self.shot.is_some() {
            return;
        }
        self.remember(&shot);
        self.shot = Some(shot);
        let rows = self.keys();
        // When the chosen row is gone nothing is chosen, so that no key acts on another.
        self.chosen = match self.chosen.take() {
            None if self.is_fresh => rows.into_iter().next(),
            chosen => chosen.filter(|chosen| rows.contains(chosen)),
        };
        self.is_fresh = false;
    }

    pub(super) fn miss(&mut self, wrong: String) {
        self.missed = Some(wrong);
    }

    pub(super) fn note(&mut self, told: String, is_bad: bool) {
        self.told = Some((told, is_bad));
    }

    fn remember(&mut self, shot: &Shot) {
        let now = now(shot);
        let runs = shot
            .runs
            .iter()
            .map(|run| (key_of('r', &run.run), run.totals));
        let agents = shot
            .agents
            .iter()
            .map(|agent| (key_of('a', &agent.agent), agent.figures.totals));
        let seen: BTreeMap<String, TotalsView> = runs.chain(agents).collect();
        // What is on no list any more is forgotten: the memory is as large as the lists.
        self.past
            .retain(|key, _| seen.contains_key(key) || !key.starts_with('r'));
        if !shot.agents.is_empty() {
            self.past.retain(|key, _| seen.contains_key(key));
        }
        for (key, totals) in seen {
            let moments = self.past.entry(key).or_default();
            moments.push_back((now, totals));
            while moments.len() > MOMENTS
                || moments
                    .front()
                    .is_some_and(|(at, _)| now.micros_since(*at) > WINDOW_US)
            {
                moments.pop_front();
            }
        }
    }

    pub(super) fn rate_of_run(&self, run: &Label) -> Option<Rate> {
        self.rate(&key_of('r', run))
    }

    pub(super) fn rate_of_agent(&self, agent: &Label) -> Option<Rate> {
        self.rate(&key_of('a', agent))
    }

    /// Of all runs together.
    pub(super) fn rate_of_all(&self) -> Option<Rate> {
        let runs = self.past.keys().filter(|key| key.starts_with('r'));
        let rates = runs.filter_map(|key| self.rate(key));
        rates.reduce(|sum, rate| Rate {
            calls: sum.calls + rate.calls,
            tokens: sum.tokens + rate.tokens,
            nano_usd: sum.nano_usd + rate.nano_usd,
        })
    }

    fn rate(&self, key: &str) -> Option<Rate> {
        let moments = self.past.get(key)?;
        let ((from, old), (to, new)) = (moments.front()?, moments.back()?);
        let span = to.micros_since(*from);
        if span == 0 {
            return None;
        }
        let tokens = |of: &TotalsView| of.input_tokens + of.output_tokens;
        let scale = |grown: u64| {
            let minute = u128::from(grown) * u128::from(WINDOW_US) / u128::from(span);
            u64::try_from(minute).unwrap_or(u64::MAX)
        };
        let spent = new
            .cost_nano_usd
            .get()
            .saturating_sub(old.cost_nano_usd.get());
        Some(Rate {
            calls: scale(new.calls.saturating_sub(old.calls)),
            tokens: scale(tokens(new).saturating_sub(tokens(old))),
            nano_usd: i64::try_from(scale(u64::try_from(spent).unwrap_or(0))).unwrap_or(i64::MAX),
        })
    }

    // === rows ===

    fn passes(&self, texts: &[&str]) -> bool {
        let wanted = self.filter.to_lowercase();
        wanted.is_empty()
            || texts
                .iter()
                .any(|text| text.to_lowercase().contains(&wanted))
    }

    pub(super) fn runs(&self) -> Vec<&RunView> {
        let runs = self.shot.iter().flat_map(|shot| &shot.runs);
        runs.filter(|run| {
            let agents = run.agents.iter().map(Label::as_str);
            let texts: Vec<&str> = agents.chain([run.run.as_str()]).collect();
            self.passes(&texts)
        })
        .collect()
    }

    pub(super) fn agents(&self) -> Vec<&AgentView> {
        let agents = self.shot.iter().flat_map(|shot| &shot.agents);
        agents
            .filter(|agent| self.passes(&[agent.agent.as_str()]))
            .collect()
    }

    /// Accounts of all budgets, those closest to their limits first.
    pub(super) fn accounts(&self) -> Vec<Account<'_>> {
        let budgets = self.shot.iter().flat_map(|shot| &shot.budgets);
        let accounts = budgets.flat_map(|budget| {
            let accounts = budget.accounts.iter();
            accounts.map(move |account| Account { budget, account })
        });
        let passes =
            |it: &Account<'_>| self.passes(&[it.budget.name.as_str(), &it.account.key_text]);
        let mut accounts: Vec<_> = accounts.filter(passes).collect();
        accounts.sort_by_key(|it| std::cmp::Reverse(it.account.used_permille));
        accounts
    }

    /// The account of a run that is closest to its limit.
    pub(super) fn account_of_run(&self, run: &Label) -> Option<Account<'_>> {
        let budgets = self.shot.iter().flat_map(|shot| &shot.budgets);
        let accounts = budgets.flat_map(|budget| {
            let accounts = budget.accounts.iter();
            accounts.map(move |account| Account { budget, account })
        });
        let own = accounts.filter(|it| {
            let mut key = it.account.key.iter();
            key.any(|part| part.dimension == "run" && part.value.as_ref() == Some(run))
        });
        own.max_by_key(|it| it.account.used_permille)
    }

    pub(super) fn loops(&self) -> Vec<&LoopView> {
        let loops = self.shot.iter().flat_map(|shot| &shot.loops);
        let run = |it: &LoopView| it.run.as_ref().map(ToString::to_string).unwrap_or_default();
        loops
            .filter(|it| self.passes(&[it.agent.as_str(), &run(it)]))
            .collect()
    }

    /// What the rows of the view are known by, from top to bottom.
    fn keys(&self) -> Vec<String> {
        match &self.view {
            View::Runs => self.runs().iter().map(|run| run.run.to_string()).collect(),
            View::Agents => self
                .agents()
                .iter()
                .map(|it| it.agent.to_string())
                .collect(),
            View::Budgets => {
                let key = |it: &Account<'_>| format!("{} {}", it.budget.name, it.account.key_text);
                self.accounts().iter().map(key).collect()
            }
            View::Loops => self.loops().iter().map(|it| it.id.to_string()).collect(),
            View::Run(_) => {
                let calls = self.shot.iter().flat_map(|shot| &shot.calls);
                calls.map(|call| call.id.to_string()).collect()
            }
        }
    }

    /// Which row is chosen.
    pub(super) fn row(&self) -> Option<usize> {
        let chosen = self.chosen.as_ref()?;
        self.keys().iter().position(|key| key == chosen)
    }

    /// The run that a key acts on.
    fn run(&self) -> Option<Label> {
        match &self.view {
            View::Run(run) => Some(run.clone()),
            View::Runs => self.runs().get(self.row()?).map(|run| run.run.clone()),
            View::Loops => self.loops().get(self.row()?)?.run.clone(),
            View::Budgets => {
                let accounts = self.accounts();
                let mut key = accounts.get(self.row()?)?.account.key.iter();
                key.find(|part| part.dimension == "run")?.value.clone()
            }
            View::Agents => None,
        }
    }

    // === keys ===

    pub(super) fn key(&mut self, key: KeyCode, with: KeyModifiers) -> Wish {
        if key == KeyCode::Char('c') && with.contains(KeyModifiers::CONTROL) {
            return Wish::Quit;
        }
        if let Some(deed) = self.asked.take() {
            return self.answered(deed, key);
        }
        if self.is_typing {
            self.typed(key);
            return Wish::Nothing;
        }
        self.told = None;
        if self.shows_help {
            self.shows_help = false;
            return Wish::Nothing;
        }
        self.chosen_by(key)
    }

    fn answered(&mut self, deed: Deed, key: KeyCode) -> Wish {
        if key == KeyCode::Char('y') {
            return Wish::Do(deed);
        }
        self.note(format!("{} goes on as it was", deed.run), false);
        Wish::Nothing
    }

    fn typed(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.is_typing = false;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c) if self.filter.len() < 64 => self.filter.push(c),
            _ => {}
        }
    }

    fn chosen_by(&mut self, key: KeyCode) -> Wish {
        match key {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Char('j') | KeyCode::Down => self.step(1),
            KeyCode::Char('k') | KeyCode::Up => self.step(-1),
            KeyCode::PageDown => self.step(20),
            KeyCode::PageUp => self.step(-20),
            KeyCode::Home => self.step(isize::MIN),
            KeyCode::End => self.step(isize::MAX),
            KeyCode::Char('?') => self.shows_help = true,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char(' ') => self.is_held = !self.is_held,
            KeyCode::Char(digit @ '1'..='4') => {
                let index = usize::try_from(u32::from(digit) - u32::from('1')).unwrap_or(0);
                return self.go(View::LISTS.get(index).cloned().unwrap_or(View::Runs));
            }
            KeyCode::Tab => {
                let at = View::LISTS.iter().position(|view| *view == self.view);
                let next = at.map_or(0, |at| (at + 1) % View::LISTS.len());
                return self.go(View::LISTS.get(next).cloned().unwrap_or(View::Runs));
            }
            KeyCode::Enter => return self.open(),
            KeyCode::Esc | KeyCode::Backspace if matches!(self.view, View::Run(_)) => {
                return self.go(View::Runs);
            }
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('p') => return self.wish(Kind::Pause),
            KeyCode::Char('r') => return self.wish(Kind::Resume),
            KeyCode::Char('s') => return self.wish(Kind::Stop),
            _ => {}
        }
        Wish::Nothing
    }

    fn step(&mut self, by: isize) {
        let keys = self.keys();
        let last = keys.len().saturating_sub(1);
        let at = self
            .row()
            .map_or(0, |at| at.saturating_add_signed(by).min(last));
        self.chosen = keys.into_iter().nth(at);
    }

    fn go(&mut self, view: View) -> Wish {
        // The run that was looked into is the one chosen in the list.
        self.chosen = match (&self.view, &view) {
            (View::Run(run), View::Runs) => Some(run.to_string()),
            _ => None,
        };
        self.filter.clear();
        self.is_held = false;
        self.is_fresh = self.chosen.is_none();
        self.view = view;
        Wish::Look
    }

    fn open(&mut self) -> Wish {
        match self.run() {
            Some(run) if !matches!(self.view, View::Run(_)) => self.go(View::Run(run)),
            _ => Wish::Nothing,
        }
    }

    fn wish(&mut self, kind: Kind) -> Wish {
        let Some(run) = self.run() else {
            self.note("choose a run first".to_owned(), true);
            return Wish::Nothing;
        };
        let deed = Deed { kind, run };
        if kind == Kind::Stop {
            self.asked = Some(deed);
            return Wish::Nothing;
        }
        Wish::Do(deed)
    }
}

/// The server's time.
pub(super) fn now(shot: &Shot) -> Timestamp {
    shot.status.started_at.plus_micros(shot.status.uptime_us)
}

fn key_of(kind: char, name: &Label) -> String {
    format!("{kind}{name}")
}
