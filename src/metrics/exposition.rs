//! How metrics are written down: `OpenMetrics`, or the text format before it for who asks for no other.

use std::fmt::Write;

/// One of the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    OpenMetrics,
    /// Text format 0.0.4.
    Text,
}

impl Exposition {
    /// What a scraper takes, by its `Accept` header.
    pub fn accepted(accept: Option<&str>) -> Self {
        let takes = |accept: &str| accept.contains("application/openmetrics-text");
        if accept.is_some_and(takes) {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// A page of `OpenMetrics` in the older format, where a counter's name has its suffix in the
/// descriptions too, and what describes the build is a gauge.
pub(super) fn older(page: &str) -> String {
    let mut older = String::with_capacity(page.len() + page.len() / 32);
    let mut help = None;
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                _ => ("", kind),
            };
            let told = help.take().filter(|(of, _)| *of == name);
            if let Some((_, text)) = told {
                let _ = writeln!(older, "# HELP {name}{suffix} {text}");
            }
            let _ = writeln!(older, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            older.push_str(line);
            older.push('\n');
        }
    }
    older
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_written_in_the_older_format_with_full_names() {
        let page = "# HELP a_calls Calls.\n# TYPE a_calls counter\na_calls_total{x=\"# HELP\"} 1\n\
                    # HELP a_build What runs.\n# TYPE a_build info\na_build_info{v=\"1\"} 1\n\
                    # HELP a_wait_seconds Waits.\n# TYPE a_wait_seconds histogram\n\
                    # UNIT a_wait_seconds seconds\na_wait_seconds_bucket{le=\"+Inf\"} 2\n# EOF\n";
        assert_eq!(
            older(page),
            "# HELP a_calls_total Calls.\n# TYPE a_calls_total counter\na_calls_total{x=\"# HELP\"} 1\n\
             # HELP a_build_info What runs.\n# TYPE a_build_info gauge\na_build_info{v=\"1\"} 1\n\
             # HELP a_wait_seconds Waits.\n# TYPE a_wait_seconds histogram\n\
             a_wait_seconds_bucket{le=\"+Inf\"} 2\n"
        );
    }

    #[test]
    fn openmetrics_is_for_who_asks_for_it() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
        for (accept, format) in [
            (Some(prometheus), Exposition::OpenMetrics),
            (Some("*/*"), Exposition::Text),
            (Some("text/plain;version=0.0.4"), Exposition::Text),
            (None, Exposition::Text),
        ] {
            assert_eq!(Exposition::accepted(accept), format, "{accept:?}");
        }
    }
}
