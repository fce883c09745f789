//! Runs in the order of what a custom metric comes to in each: `?sort=score`, or `-score` upward.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use maud::{Markup, html};

use super::super::figure;
use super::super::here::Here;
use super::super::table::sort;
use super::super::text;
use crate::admin::problem::Problem;
use crate::core::id::Label;
use crate::core::metric::{Summary, parse_name};
use crate::core::time::Timestamp;
use crate::ledger::{IndexError, MetricFilter, MetricScope, Page, RunFilter, RunRow, View};

/// Metrics that one may sort by with a click.
const OFFERED: usize = 8;

/// By which metric, and whether the least comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sorted {
    pub(super) name: String,
    upward: bool,
}

/// What is listed, and what was left out of it.
pub(super) struct Found {
    pub(super) page: Page<RunRow, Timestamp>,
    /// Why the order may not be that of all that match.
    pub(super) left_out: Option<String>,
}

impl Sorted {
    pub(super) fn read(here: &Here) -> Result<Option<Self>, Problem> {
        let Some((said, upward)) = sort(here) else {
            return Ok(None);
        };
        let name = parse_name(said).ok_or_else(|| {
            let found: String = said.chars().take(64).collect();
            Problem::bad_request(format!(
                "sort: found `{found}`, expected the name of a custom metric such as score, or -score for the \
                 least first"
            ))
        })?;
        Ok(Some(Self { name, upward }))
    }

    /// Those that were active last, as many as are looked at, in this order; those without a value of
    /// it come last.
    fn order(&self, view: &View, filter: RunFilter, rows: usize) -> Result<Found, IndexError> {
        let mut filter = filter;
        filter.span.before = None;
        // As many as there may be at once.
        filter.span.limit = 0;
        let mut page = view.runs(&filter)?;
        let of = |row: &RunRow| MetricFilter {
            name: Some(self.name.clone()),
            ..MetricFilter::of(MetricScope::Run(row.run.clone()))
        };
        let filters: Vec<MetricFilter> = page.items.iter().map(of).collect();
        let sums = view.metrics_of(&filters)?;
        let is_cut = sums.iter().any(|sums| sums.is_cut);
        let mean = |sums: &BTreeMap<String, Summary>| sums.get(&self.name).and_then(Summary::mean);
        let means = sums.iter().map(|sums| mean(&sums.by_name));
        let mut all: Vec<(Option<f64>, RunRow)> = means.zip(page.items).collect();
        all.sort_by(|(a, _), (b, _)| self.compare(*a, *b));
        let left_out = left_out(&self.name, (all.len(), rows), page.next.is_some(), is_cut);
        all.truncate(rows);
        page.items = all.into_iter().map(|(_, row)| row).collect();
        (page.next, page.partial) = (None, false);
        Ok(Found { page, left_out })
    }

    fn compare(&self, a: Option<f64>, b: Option<f64>) -> Ordering {
        match (a, b) {
            (Some(a), Some(b)) if self.upward => a.total_cmp(&b),
            (Some(a), Some(b)) => b.total_cmp(&a),
            (a, b) => b.is_some().cmp(&a.is_some()),
        }
    }
}

/// The runs that match, as they were active last or as they are sorted.
pub(super) fn find(
    view: &View,
    filter: RunFilter,
    (sorted, rows): (Option<&Sorted>, usize),
) -> Result<Found, IndexError> {
    match sorted {
        Some(sorted) => sorted.order(view, filter, rows),
        None => Ok(Found {
            page: view.runs(&filter)?,
            left_out: None,
        }),
    }
}

fn left_out(
    name: &str,
    (found, rows): (usize, usize),
    has_more: bool,
    is_cut: bool,
) -> Option<String> {
    let mut words = Vec::new();
    if found > rows {
        words.push(format!(
            "These are the first {rows} of {}.",
            figure::count(found as u64)
        ));
    }
    if has_more {
        words.push("Only the runs that were active last were sorted: more match.".to_owned());
    }
    if is_cut {
        words.push(format!(
            "Not all values of {name} were read: of a run that has very many only the newest count."
        ));
    }
    (!words.is_empty()).then(|| words.join(" "))
}

/// Links that sort: by those that are chosen, or by what these runs have.
pub(super) fn links(
    here: &Here,
    sorted: Option<&Sorted>,
    chosen: &[String],
    metrics: &HashMap<Label, BTreeMap<String, Summary>>,
) -> Markup {
    let mut names: BTreeSet<&str> = chosen.iter().map(String::as_str).collect();
    if names.is_empty() {
        names.extend(
            metrics
                .values()
                .flat_map(BTreeMap::keys)
                .map(String::as_str),
        );
    }
    let mut names: Vec<&str> = names.into_iter().take(OFFERED).collect();
    if let Some(sorted) = sorted
        && !names.contains(&sorted.name.as_str())
    {
        names.push(&sorted.name);
    }
    let to = |sort: Option<&str>| here.with(&[("sort", sort), ("before", None)]);
    html! {
        @if !names.is_empty() {
            nav.chips aria-label="How the runs are sorted" {
                span.muted { "Sort by" }
                a.chip href=(to(None)) aria-current=[sorted.is_none().then_some("true")] { "last active" }
                @for name in names {
                    @match sorted.filter(|sorted| sorted.name == name) {
                        None => a.chip href=(to(Some(name))) { (text::name(name)) },
                        Some(Sorted { upward: true, .. }) => {
                            a.chip href=(to(Some(name))) aria-current="true" { (text::name(name)) ", least first" }
                        },
                        Some(Sorted { upward: false, .. }) => {
                            a.chip href=(to(Some(&format!("-{name}")))) aria-current="true" { (text::name(name)) ", most first" }
                        },
                    }
                }
            }
        }
    }
}
