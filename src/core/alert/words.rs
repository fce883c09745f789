//! What alerts say, made safe to show: names and errors in them come from clients and models.

use super::{About, Rule, Scope};

/// Characters of one text of an alert.
const MOST: usize = 1024;

/// One line without characters that a terminal or a chat would obey instead of showing them:
/// control characters, marks of direction, invisible ones.
pub fn clean(text: &str) -> String {
    let shown = |c: char| match c {
        c if c.is_control() => ' ',
        '\u{2028}' | '\u{2029}' => ' ',
        '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{61c}'
        | '\u{ad}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => '\u{fffd}',
        c => c,
    };
    text.chars().take(MOST).map(shown).collect()
}

/// What happened and what can be done about it.
pub fn text(rule: Rule, scope: &Scope, details: &str) -> String {
    let what = match rule {
        Rule::BudgetWarning => "a budget is almost used",
        Rule::BudgetSlowed => "calls are delayed by a budget",
        Rule::BudgetSpent => "a budget is spent and calls are refused",
        Rule::LoopWarning => "calls repeat without anything new",
        Rule::LoopSlowed => "calls are delayed because they repeat without anything new",
        Rule::LoopTripped => "a loop was stopped",
        Rule::UpstreamFailing => "an upstream fails",
        Rule::LedgerFailed => "the ledger cannot be written",
        Rule::IndexFailed => "the index of the ledger does not work",
        Rule::DiskLow => "the disk of the ledger is almost full",
        Rule::ConfigRefused => "the changed configuration is refused, the old one stays",
        Rule::UnpricedModel => "a model has no price",
        Rule::AlertFailed => "a webhook did not take an alert",
        Rule::AlertTest => "this is a test",
        Rule::MetricOff => "a custom metric is off",
        Rule::SinkFailing => "a sink fails, what is recorded waits in the ledger",
        Rule::SinkIncomplete => "something recorded did not come to a sink",
    };
    // What stands in a wrong file may be a secret in the wrong place.
    let details = if rule == Rule::ConfigRefused {
        ""
    } else {
        details
    };
    let hint = hint(rule, scope).map_or_else(String::new, |hint| format!(". {hint}"));
    let colon = if details.is_empty() { "" } else { ": " };
    clean(&format!("{what}{colon}{details}{hint}"))
}

fn hint(rule: Rule, scope: &Scope) -> Option<String> {
    let hint = match rule {
        Rule::BudgetWarning | Rule::BudgetSlowed | Rule::BudgetSpent => {
            "To see and raise it: open-aiops budgets, open-aiops budgets raise".to_owned()
        }
        Rule::LoopTripped if scope.about == About::Loop => {
            format!("To let it go on: open-aiops loops reset {}", scope.name)
        }
        Rule::LedgerFailed => {
            "Calls go on as [ledger] on_failure says; free the disk or mend it".to_owned()
        }
        Rule::DiskLow => "Free it, or keep less: [ledger] keep_for, keep_size".to_owned(),
        Rule::UnpricedModel => "Give it one in [[price]]".to_owned(),
        Rule::ConfigRefused => "To see all problems: open-aiops check-config".to_owned(),
        Rule::AlertFailed => "To try it: open-aiops alerts test".to_owned(),
        Rule::MetricOff => "To see its values: open-aiops metric list".to_owned(),
        Rule::SinkFailing | Rule::SinkIncomplete => {
            "To see how it does: open-aiops sinks".to_owned()
        }
        _ => return None,
    };
    Some(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_obeyed() {
        let evil = "run \u{1b}[31mred\u{1b}]0;x\u{7}\n\u{202e}txt.exe\u{200b}\u{9b}1m";
        let text = text(Rule::LoopWarning, &Scope::new(About::Run, "x"), evil);
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(!text.contains(['\u{202e}', '\u{200b}']), "{text:?}");
        assert!(text.contains("txt.exe"), "{text:?}");
    }

    #[test]
    fn text_is_bounded() {
        assert_eq!(clean(&"\u{e9}".repeat(5000)).chars().count(), MOST);
    }
}
