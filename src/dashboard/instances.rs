//! The instances that share budgets with this one.

use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::{figure, text};
use crate::admin::instances::{InstanceList, InstanceView};

/// Nothing where nothing is shared.
pub(super) fn section(list: &InstanceList, zone: &TimeZone) -> Markup {
    html! {
        @if !list.instances.is_empty() { section {
            h2 { "Instances" }
            @if list.standing == "away" {
                p { (figure::state("bad", "away"))
                    " Redis cannot be used: what others spend is not known."
                    @if let Some(on_failure) = &list.on_failure {
                        " Calls with budgets go by " code { "on_failure = \"" (on_failure) "\"" } "."
                    }
                }
            }
            div.scroll tabindex="0" role="region" aria-label="Instances" {
                table {
                    thead { tr {
                        th scope="col" { "Instance" }
                        th scope="col" { "State" }
                        th scope="col" { "Started" }
                        th scope="col" { "Last heard of" }
                        th scope="col" { "Version and dashboard" }
                        th scope="col" { "Id" }
                    } }
                    tbody { @for instance in &list.instances { (row(instance, zone)) } }
                }
            }
        } }
    }
}

fn row(instance: &InstanceView, zone: &TimeZone) -> Markup {
    let (kind, word) = match (instance.is_self, instance.lives) {
        (true, _) => ("ok", "this one"),
        (false, true) => ("ok", "lives"),
        (false, false) => ("bad", "gone"),
    };
    html! {
        tr {
            th scope="row" { (text::name(&instance.name)) }
            td { (figure::state(kind, word)) }
            td { (figure::time(instance.started_at, zone)) }
            td { (figure::time(instance.seen_at, zone)) }
            td { (text::name(&instance.about)) }
            td { (text::name(&instance.id)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Timestamp;

    fn instance(name: &str, is_self: bool, lives: bool) -> InstanceView {
        InstanceView {
            id: format!("id-of-{name}"),
            name: name.to_owned(),
            is_self,
            lives,
            started_at: Timestamp::from_micros(1_700_000_000_000_000),
            seen_at: Timestamp::from_micros(1_700_000_060_000_000),
            about: "1.0 at 127.0.0.1:8788".to_owned(),
        }
    }

    fn list(standing: &str, instances: Vec<InstanceView>) -> InstanceList {
        InstanceList {
            standing: standing.to_owned(),
            on_failure: Some("refuse".to_owned()),
            living: 1,
            instances,
        }
    }

    fn drawn(list: &InstanceList) -> String {
        section(list, &TimeZone::UTC).into_string()
    }

    #[test]
    fn each_instance_is_listed_with_whether_it_lives() {
        let instances = vec![
            instance("east", true, true),
            instance("<west>", false, true),
            instance("north", false, false),
        ];
        let html = drawn(&list("joined", instances));
        for text in ["east", "&lt;west&gt;", "this one", "lives", "gone"] {
            assert!(html.contains(text), "{text} in {html}");
        }
        assert!(!html.contains("<west>") && !html.contains("on_failure"));
    }

    #[test]
    fn page_says_what_calls_go_by_while_redis_is_away() {
        let html = drawn(&list("away", vec![instance("east", true, true)]));
        assert!(html.contains("away") && html.contains("refuse"));
    }

    #[test]
    fn there_is_nothing_where_nothing_is_shared() {
        assert_eq!(drawn(&list("alone", Vec::new())), "");
    }
}
