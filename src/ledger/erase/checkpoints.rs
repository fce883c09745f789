//! What a checkpoint says of calls that go is taken out of it; what they spent stays in its sums.

use std::collections::HashMap;
use std::io;

use crate::core::budget::{AccountId, Charge, StoredAccount};
use crate::core::call::{Admission, LateUsage, Settlement};
use crate::core::id::Label;

use super::super::checkpoint::{Calls, Packing};
use super::super::record::{Checkpoint, kind};
use super::super::removal::Residue;
use super::super::rows::CallRow;
use super::super::slices::{Grain, Of};
use super::super::summary::{Key, Summary, keys_of_row};
use super::super::totals::Totals;
use super::Scope;
use super::plan::Plan;

/// What is left of a checkpoint; none when it says nothing of what is meant.
pub(super) fn left_of(plan: &Plan, mut checkpoint: Checkpoint) -> io::Result<Option<Residue>> {
    if strip(plan, &mut checkpoint) {
        pack(checkpoint).map(Some)
    } else {
        Ok(None)
    }
}

/// Takes out of a checkpoint what is meant; says whether there was any.
fn strip(plan: &Plan, it: &mut Checkpoint) -> bool {
    let count = |it: &Checkpoint| it.open.len() + it.pending.len() + it.summaries.len();
    let before = count(it);
    it.open
        .retain(|admission| !plan.going.contains(&admission.id));
    let (going, staying) = std::mem::take(&mut it.pending)
        .into_iter()
        .partition(|(admission, _)| plan.going.contains(&admission.id));
    it.pending = staying;
    correct(plan, it, going);
    let mut changed = false;
    for (key, summary) in &mut it.summaries {
        let told = |run: &Label| !plan.forgets(run, summary.last_at);
        if let Key::Child(parent, run) = key
            && !told(parent)
            && let Some(above) = plan.above(run, told)
        {
            *parent = above;
            changed = true;
        }
    }
    it.summaries.retain(|(key, summary)| {
        let parent = match key {
            Key::Child(parent, _) => Some(parent),
            _ => None,
        };
        let mut runs = key.run().into_iter().chain(parent);
        !runs.any(|run| plan.forgets(run, summary.last_at))
    });
    changed |= before != count(it);
    for (key, summary) in &mut it.summaries {
        changed |= undescribe(plan, key, summary);
    }
    for (_, account) in &mut it.accounts {
        let names = account.name.as_ref();
        if names.is_some_and(|it| plan.names(&it.key, account.last_at)) {
            account.name = None;
            changed = true;
        }
    }
    changed
}

/// Takes out what calls that go said of a run that stays.
fn undescribe(plan: &Plan, key: &Key, summary: &mut Summary) -> bool {
    let Key::Run(run) = key else { return false };
    let before = summary.clone();
    let parent = summary.parent.as_ref();
    if parent.is_some_and(|parent| plan.forgets(parent, summary.last_at)) {
        summary.parent = plan.above(run, |it| !plan.forgets(it, summary.last_at));
    }
    let said = plan.said.get(run);
    let is_gone = |name: &str, value: &Label| {
        said.is_some_and(|said| said.contains(&(name.to_owned(), value.clone())))
    };
    summary.tags.retain(|name, value| !is_gone(name, value));
    summary.variant.take_if(|variant| is_gone("", variant));
    if let Scope::Before(at) = plan.scope
        && summary.last_at < at
        && plan.holds(run)
    {
        summary.tags.clear();
        summary.variant = None;
    }
    *summary != before
}

/// Sums that hold the estimate of a call get what it really used: what says so later goes.
fn correct(plan: &Plan, it: &mut Checkpoint, going: Vec<(Admission, Settlement)>) {
    let parents: HashMap<&Key, &Label> = it
        .summaries
        .iter()
        .filter_map(|(key, summary)| Some((key, summary.parent.as_ref()?)))
        .collect();
    let mut exchanged: HashMap<Key, Vec<(Totals, Totals)>> = HashMap::new();
    let mut days = HashMap::new();
    let mut charges: HashMap<AccountId, Vec<(Charge, &LateUsage)>> = HashMap::new();
    for (admission, settlement) in going {
        let Some(late) = plan.late.get(&admission.id) else {
            continue;
        };
        let mut row = CallRow::admitted(admission);
        row.settle(&settlement);
        let Some(estimate) = Totals::of_row(&row).filter(|_| row.is_pending) else {
            continue;
        };
        row.settle_late(late);
        let exchange = (estimate, Totals::of_row(&row).unwrap_or_default());
        let parent = row.run.clone().and_then(|run| parents.get(&Key::Run(run)));
        for key in keys_of_row(&row, parent.copied()) {
            exchanged.entry(key).or_default().push(exchange);
        }
        let day = Grain::Day.floor(row.started_at);
        for of in Of::edge(&row).into_iter().chain([Of::work(&row)]) {
            let day = days.entry((day, of));
            day.or_insert_with(Vec::new).push(exchange);
        }
        for charge in &late.charges {
            let charges = charges.entry(charge.account).or_default();
            charges.push((*charge, late));
        }
    }
    for (key, summary) in &mut it.summaries {
        for (estimate, used) in exchanged.get(key).into_iter().flatten() {
            summary.totals.exchange(estimate, used);
        }
    }
    for (start, of, slice) in &mut it.days {
        for (estimate, used) in days.get(&(*start, of.clone())).into_iter().flatten() {
            slice.totals.exchange(estimate, used);
        }
    }
    charge(it, charges);
}

fn charge(it: &mut Checkpoint, mut charges: HashMap<AccountId, Vec<(Charge, &LateUsage)>>) {
    let correct = |account: &mut StoredAccount, charges: Vec<(Charge, &LateUsage)>| {
        for (charge, late) in charges {
            account.correct(&charge, late.charged_at, late.at);
        }
    };
    for (id, account) in &mut it.accounts {
        correct(account, charges.remove(id).unwrap_or_default());
    }
    for (id, charges) in charges {
        let mut account = StoredAccount::new(None);
        correct(&mut account, charges);
        it.accounts.push((id, account));
    }
}

fn encoded(value: &impl minicbor::Encode<()>) -> io::Result<Vec<u8>> {
    minicbor::to_vec(value).map_err(io::Error::other)
}

fn pack(checkpoint: Checkpoint) -> io::Result<Residue> {
    let mut packing = Packing::begin(Calls {
        before: checkpoint.before,
        at: checkpoint.at,
        open: checkpoint.open,
        pending: checkpoint.pending,
    })?;
    for (key, summary) in &checkpoint.summaries {
        packing.summary(key, &encoded(summary)?)?;
    }
    packing.end_of_summaries()?;
    for (start, of, slice) in &checkpoint.days {
        packing.slice(*start, of, &encoded(slice)?)?;
    }
    packing.end_of_slices()?;
    for (id, account) in &checkpoint.accounts {
        packing.account(*id, &encoded(account)?)?;
    }
    let packed = packing.finish()?;
    let packed = packed.ok_or_else(|| io::Error::other("a checkpoint is too large"))?;
    Residue::of(kind::CHECKPOINT, &packed)
}
