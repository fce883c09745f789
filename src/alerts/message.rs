//! What a webhook is sent. Texts are bounded and clean already; here they are put into a form.

use serde::Serialize;

use crate::config::Format;
use crate::core::alert::book::{News, Told};
use crate::core::alert::{Alert, Rule, Severity};

/// One message.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Alert(Box<Told>),
    /// How many alerts of which rules were held back.
    Summary(Vec<(Rule, u64)>),
}

/// What `format = "json"` sends.
#[derive(Serialize)]
struct Json<'a> {
    source: &'static str,
    version: &'static str,
    /// `begins`, `over`, `test` or `summary`.
    event: &'static str,
    /// The same sentence for whoever reads no more than that.
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<&'a Alert>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_back: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Message {
    /// The alert it is about; none where it sums up.
    pub(super) fn alert(&self) -> Option<&Alert> {
        match self {
            Self::Alert(told) => Some(&told.alert),
            Self::Summary(_) => None,
        }
    }

    pub(super) fn body(&self, format: Format) -> String {
        let text = self.text();
        match format {
            Format::Slack => serde_json::json!({ "text": escaped(&text) }).to_string(),
            Format::Json => {
                let message = Json {
                    source: "open-aiops",
                    version: env!("CARGO_PKG_VERSION"),
                    event: self.event(),
                    text: &text,
                    alert: self.alert(),
                    held_back: self.held_back(),
                };
                // Nothing in it refuses to be written.
                serde_json::to_string(&message).unwrap_or_default()
            }
        }
    }

    fn event(&self) -> &'static str {
        match self {
            Self::Alert(told) if told.alert.rule == Rule::AlertTest => "test",
            Self::Alert(told) if told.news == News::Over => "over",
            Self::Alert(_) => "begins",
            Self::Summary(_) => "summary",
        }
    }

    fn held_back(&self) -> Option<serde_json::Map<String, serde_json::Value>> {
        let Self::Summary(counts) = self else {
            return None;
        };
        let count = |(rule, count): &(Rule, u64)| (rule.name().to_owned(), (*count).into());
        Some(counts.iter().map(count).collect())
    }

    fn text(&self) -> String {
        match self {
            Self::Alert(told) => sentence(told),
            Self::Summary(counts) => {
                let all: u64 = counts.iter().map(|(_, count)| count).sum();
                let each: Vec<String> = counts
                    .iter()
                    .map(|(rule, count)| format!("{} {count}", rule.name()))
                    .collect();
                format!(
                    "open-aiops: {all} more alerts were held back: {}",
                    each.join(", ")
                )
            }
        }
    }
}

/// `open-aiops critical: a budget is spent and calls are refused: ... (3 times since ...)`
fn sentence(told: &Told) -> String {
    let alert = &told.alert;
    let severity = match (told.news, alert.severity) {
        (News::Over, _) => "over",
        (_, Severity::Info) => "info",
        (_, Severity::Warning) => "warning",
        (_, Severity::Critical) => "critical",
    };
    let times = if alert.count > 1 {
        format!(" ({} times since {})", alert.count, alert.first_at)
    } else {
        String::new()
    };
    format!("open-aiops {severity}: {}{times}", alert.text)
}

/// The three characters by which Slack knows links and mentions.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::alert::book::{Book, Heard};
    use crate::core::alert::{About, Scope, Signal};
    use crate::core::time::Timestamp;

    fn told(name: &str) -> Message {
        let signal = Signal::of(Scope::new(About::Run, name));
        let heard = Heard {
            at: Timestamp::from_micros(1_700_000_000_000_000),
            what: "loop_warning",
            details: name,
            signal: Some(&signal),
            trip: None,
        };
        let mut told = Book::new(1).take(&heard);
        Message::Alert(Box::new(told.remove(0)))
    }

    #[test]
    fn slack_gets_one_text_in_which_nothing_is_a_link_or_a_mention() {
        let body = told("<!channel> & <http://evil|x>\u{202e}").body(Format::Slack);
        let read: serde_json::Value = serde_json::from_str(&body).unwrap();
        let text = read["text"].as_str().unwrap();
        assert!(!text.contains(['<', '>', '\u{202e}']), "{text}");
        assert!(
            text.contains("&lt;!channel&gt; &amp; &lt;http://evil|x&gt;"),
            "{text}"
        );
        assert_eq!(read.as_object().unwrap().len(), 1);
    }

    #[test]
    fn json_says_what_it_is_about() {
        let body = told("nightly").body(Format::Json);
        let read: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(read["event"], "begins");
        assert_eq!(read["alert"]["rule"], "loop_warning");
        assert_eq!(read["alert"]["scope"]["about"], "run");
        assert_eq!(read["alert"]["scope"]["name"], "nightly");
        assert_eq!(read["alert"]["first_at"], "2023-11-14T22:13:20.000000Z");
    }

    #[test]
    fn summary_counts_by_rule() {
        let summary = Message::Summary(vec![(Rule::BudgetSpent, 3), (Rule::LoopTripped, 2)]);
        let read: serde_json::Value = serde_json::from_str(&summary.body(Format::Json)).unwrap();
        assert_eq!(read["event"], "summary");
        assert_eq!(read["held_back"]["budget_spent"], 3);
        assert!(
            read["text"]
                .as_str()
                .unwrap()
                .starts_with("open-aiops: 5 more alerts")
        );
    }
}
