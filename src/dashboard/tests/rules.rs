//! What every page keeps to, in every state: found by following the links from the overview, so that
//! a new page is looked at as soon as something leads to it.

use std::collections::{BTreeSet, VecDeque};

use http::StatusCode;

use super::{Shown, Site};
use crate::admin::sample::{Call, PLANNER, rules};

/// Bytes of a page, at most.
const LARGEST: usize = 400_000;
/// Addresses that are visited of one site: queries make them many.
const VISITED: usize = 400;
/// Addresses of one path that are visited.
const OF_ONE_PATH: usize = 12;

const HOSTILE: &str =
    "\"><img src=x onerror=alert(1)></script><script>alert(1)</script>\u{202e}&amp;'";

/// One tag of a page: its name, and its attributes with their values decoded.
struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
    /// The text up to the next tag.
    text: String,
}

impl Tag {
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// The tags of a page. It reads what we write: attributes in double quotes, no comments, no text of
/// scripts.
fn tags(html: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    for piece in html.split('<').skip(1) {
        let end = end_of_tag(piece).unwrap_or_else(|| panic!("a tag without an end: {piece}"));
        let (tag, text) = (&piece[..end], &piece[end + 1..]);
        let (name, rest) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
        tags.push(Tag {
            name: name.to_owned(),
            attributes: attributes(rest),
            text: decoded(text),
        });
    }
    tags
}

fn end_of_tag(piece: &str) -> Option<usize> {
    let mut is_quoted = false;
    piece.char_indices().find_map(|(at, c)| {
        is_quoted ^= c == '"';
        (c == '>' && !is_quoted).then_some(at)
    })
}

fn attributes(mut rest: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start();
        let end = rest
            .find(|c: char| c == '=' || c.is_whitespace())
            .unwrap_or(rest.len());
        if end == 0 {
            return found;
        }
        let (name, after) = rest.split_at(end);
        if let Some(value) = after.strip_prefix("=\"") {
            let (value, after) = value.split_once('"').expect("a closing quote");
            found.push((name.to_owned(), decoded(value)));
            rest = after;
        } else {
            assert!(
                !after.starts_with('='),
                "an attribute without quotes: {after}"
            );
            found.push((name.to_owned(), String::new()));
            rest = after;
        }
    }
}

fn decoded(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    text.replace("&quot;", "\"").replace("&amp;", "&")
}

#[test]
fn tags_are_read_as_they_are_written() {
    let tags = tags("<p class=\"a\" hidden>1 &lt; 2</p><a href=\"/?a=1&amp;b=&gt;\">x");
    assert_eq!(
        (tags[0].name.as_str(), tags[0].text.as_str()),
        ("p", "1 < 2")
    );
    assert_eq!(
        (tags[0].get("class"), tags[0].get("hidden")),
        (Some("a"), Some(""))
    );
    assert_eq!(tags[2].get("href"), Some("/?a=1&b=>"));
}

/// What is wrong with a page.
pub(super) fn complaints(path: &str, shown: &Shown) -> Vec<String> {
    let mut wrong: Vec<String> = Vec::new();
    let tags = tags(&shown.html);
    let mut ids = BTreeSet::new();
    let labelled = labelled(&tags);
    for (number, tag) in tags.iter().enumerate() {
        if let Some(id) = tag.get("id")
            && !ids.insert(id)
        {
            wrong.push(format!("the id {id} is there twice"));
        }
        for (name, value) in &tag.attributes {
            if name == "style" || name.starts_with("on") {
                wrong.push(format!("<{}> has {name}=", tag.name));
            }
            let is_address = ["href", "src", "action"].contains(&name.as_str());
            if is_address && !value.starts_with(['/', '#']) {
                wrong.push(format!("<{} {name}> leads to {value}", tag.name));
            }
        }
        if tag.name == "script" && tag.get("src").is_none() {
            wrong.push("a script is written into the page".to_owned());
        }
        if ["img", "iframe", "object", "embed", "style", "base"].contains(&tag.name.as_str())
            && tag.get("alt").is_none()
        {
            wrong.push(format!("there is <{}>", tag.name));
        }
        if tag.name == "svg" && tag.get("role") == Some("img") {
            let title = tags.get(number + 1).filter(|next| next.name == "title");
            if title.is_none_or(|title| title.text.trim().is_empty()) {
                wrong.push(format!(
                    "an image has no title, its class is {:?}",
                    tag.get("class")
                ));
            }
        }
        let is_field = ["input", "select", "textarea"].contains(&tag.name.as_str());
        let is_hidden = tag.get("type") == Some("hidden");
        if is_field && !is_hidden && tag.get("aria-label").is_none() && !labelled.contains(&number)
        {
            wrong.push(format!("<{}> {:?} has no label", tag.name, tag.get("name")));
        }
    }
    let heads = tags.iter().filter(|tag| tag.name == "h1").count();
    if heads != 1 {
        wrong.push(format!("there are {heads} first headings"));
    }
    if shown.html.len() > LARGEST {
        wrong.push(format!("it has {} bytes", shown.html.len()));
    }
    let policy = shown.headers.get("content-security-policy");
    let policy = policy
        .and_then(|policy| policy.to_str().ok())
        .unwrap_or_default();
    for directive in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
    ] {
        if !policy.contains(directive) {
            wrong.push(format!("its policy has no {directive}: {policy}"));
        }
    }
    if policy.contains("unsafe") {
        wrong.push(format!("its policy is {policy}"));
    }
    wrong
        .into_iter()
        .map(|wrong| format!("{path}: {wrong}"))
        .collect()
}

/// Fields that stand in a label, or that one names.
fn labelled(tags: &[Tag]) -> BTreeSet<usize> {
    let named: BTreeSet<&str> = tags.iter().filter_map(|tag| tag.get("for")).collect();
    let mut within = false;
    let mut found = BTreeSet::new();
    for (number, tag) in tags.iter().enumerate() {
        match tag.name.as_str() {
            "label" => within = true,
            "/label" => within = false,
            _ if within || tag.get("id").is_some_and(|id| named.contains(id)) => {
                found.insert(number);
            }
            _ => {}
        }
    }
    found
}

/// Addresses of this site that a page leads to, without what is behind `#`.
fn links(html: &str) -> BTreeSet<String> {
    let tags = tags(html);
    let all = tags
        .iter()
        .flat_map(|tag| tag.get("href").into_iter().chain(tag.get("src")));
    let own = all.filter(|address| address.starts_with('/'));
    own.map(|address| address.split('#').next().unwrap_or_default().to_owned())
        .collect()
}

/// Visits all pages that a site leads to and says what is wrong with them.
async fn crawl(site: &Site) -> (BTreeSet<String>, Vec<String>) {
    let mut found: BTreeSet<String> = ["/".to_owned()].into();
    let mut queue: VecDeque<(String, String)> = [(String::new(), "/".to_owned())].into();
    let mut of_path = std::collections::BTreeMap::<String, usize>::new();
    let mut wrong = Vec::new();
    let mut visited = BTreeSet::new();
    while let Some((from, path)) = queue.pop_front() {
        let bare = path.split('?').next().unwrap_or_default().to_owned();
        // Streams do not end, and sign-outs are for those who signed in.
        let count = of_path.entry(bare.clone()).or_default();
        *count += 1;
        if *count > OF_ONE_PATH || visited.len() >= VISITED || bare == "/live" {
            continue;
        }
        let shown = site.get(&path).await;
        if !matches!(shown.status, StatusCode::OK | StatusCode::SEE_OTHER) {
            wrong.push(format!(
                "{from} leads to {path}, which answers {}",
                shown.status
            ));
            continue;
        }
        visited.insert(bare);
        let kind = shown
            .headers
            .get("content-type")
            .and_then(|kind| kind.to_str().ok());
        let is_page = kind.is_some_and(|kind| kind.starts_with("text/html"))
            && !shown.headers.contains_key("content-disposition");
        if shown.status != StatusCode::OK || !is_page {
            continue;
        }
        wrong.extend(complaints(&path, &shown));
        for link in links(&shown.html) {
            if found.insert(link.clone()) {
                queue.push_back((path.clone(), link));
            }
        }
    }
    (visited, wrong)
}

async fn check(site: &Site) -> BTreeSet<String> {
    let (visited, wrong) = crawl(site).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for page in super::PAGES {
        assert!(visited.contains(page), "nothing leads to {page}");
    }
    visited
}

#[tokio::test]
async fn pages_without_data_keep_the_rules() {
    check(&Site::new(&rules())).await;
}

#[tokio::test]
async fn pages_with_data_keep_the_rules() {
    let site = Site::with_calls();
    site.record(Call {
        outcome: None,
        ..PLANNER
    });
    let visited = check(&site).await;
    assert!(visited.contains("/runs/night%2F1"), "{visited:?}");
}

#[tokio::test]
async fn pages_with_hostile_data_keep_the_rules() {
    let site = Site::new(&[]);
    let hostile = Call {
        run: HOSTILE,
        agent: HOSTILE,
        caller: Some("</title><svg onload=alert(1)>"),
        model: HOSTILE,
        ..PLANNER
    };
    for _ in 0..3 {
        site.record(hostile);
    }
    site.record(Call {
        outcome: None,
        ..hostile
    });
    let visited = check(&site).await;
    let run = visited
        .iter()
        .any(|path| path.starts_with("/runs/%22%3E%3Cimg"));
    assert!(run, "{visited:?}");
}
