//! A page as its maker hands it over, before it is framed.

use http::StatusCode;
use maud::{Markup, html};

use super::table::Table;

/// What of the navigation a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Overview,
    Graph,
    Runs,
    Budgets,
    Loops,
    Compare,
    Suggestions,
    Alerts,
    /// None of them.
    Elsewhere,
}

impl Place {
    /// Those in the navigation: where, how they are called, where they lead.
    pub(super) const ALL: [(Self, &'static str, &'static str); 8] = [
        (Self::Overview, "Overview", "/"),
        (Self::Graph, "Graph", "/graph"),
        (Self::Runs, "Runs", "/runs"),
        (Self::Budgets, "Budgets", "/budgets"),
        (Self::Loops, "Loops", "/loops"),
        (Self::Compare, "Compare", "/compare"),
        (Self::Suggestions, "Suggestions", "/suggestions"),
        (Self::Alerts, "Alerts", "/alerts"),
    ];
}

/// What stands in the frame.
pub(super) struct Page {
    pub(super) title: String,
    pub(super) place: Place,
    /// OK, or what is wrong with how it was asked for.
    pub(super) status: StatusCode,
    /// It shows a range that the reader chooses.
    pub(super) ranged: bool,
    /// It changes while it is looked at.
    pub(super) live: bool,
    pub(super) main: Markup,
    /// What `?export=` may name.
    pub(super) tables: Vec<Table>,
}

impl Page {
    /// A page that stays as it is.
    pub(super) fn fixed(title: impl Into<String>, place: Place, main: Markup) -> Self {
        Self {
            title: title.into(),
            place,
            status: StatusCode::OK,
            ranged: false,
            live: false,
            main,
            tables: Vec::new(),
        }
    }

    /// A page that is drawn again when something happens.
    pub(super) fn live(title: impl Into<String>, place: Place, main: Markup) -> Self {
        Self {
            live: true,
            ..Self::fixed(title, place, main)
        }
    }

    /// Offers the range picker.
    pub(super) fn ranged(self) -> Self {
        Self {
            ranged: true,
            ..self
        }
    }

    /// Lets these tables be exported; `main` shows them by [`Table::draw`].
    pub(super) fn tables(self, tables: Vec<Table>) -> Self {
        Self { tables, ..self }
    }
}

/// A piece of a page that is exchanged as a whole when it changed. `id` is unique on the page.
pub(super) fn part(id: &str, content: &Markup) -> Markup {
    html! { div id=(id) data-part { (content) } }
}

/// A piece under the reader's eyes: what is new in it waits behind a pill until it is asked for.
/// Its rows have `data-key`.
pub(super) fn held(id: &str, what: &str, content: &Markup) -> Markup {
    html! { div id=(id) data-part data-held=(what) { (content) } }
}

/// Says that there is nothing, and what to do about it.
pub(super) fn empty(head: &str, advice: &Markup) -> Markup {
    html! { div.empty { p.empty-head { (head) } (advice) } }
}
