//! The tools that a request offers.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::contents::SEED;
use crate::core::digest::Digest;
use crate::core::suggest::facts::Tool;

/// One element of the list, in the words of any dialect.
#[derive(Deserialize)]
struct Element<'a> {
    #[serde(borrow)]
    function: Option<&'a RawValue>,
    #[serde(
        borrow,
        alias = "functionDeclarations",
        alias = "function_declarations",
        default
    )]
    declarations: Vec<&'a RawValue>,
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// The same for the same tools in another order.
pub(super) fn shape(raw: &[u8]) -> Digest {
    let mut texts: Vec<&str> = elements(raw).into_iter().map(RawValue::get).collect();
    texts.sort_unstable();
    SEED.digest(texts.join("\n").as_bytes())
}

/// Each tool that the client runs, with the bytes of its definition. What the provider runs is
/// called by other names, if its calls are told at all.
pub(super) fn tools(raw: &[u8]) -> Vec<Tool> {
    elements(raw).into_iter().flat_map(declared).collect()
}

fn elements(raw: &[u8]) -> Vec<&RawValue> {
    serde_json::from_slice(raw).unwrap_or_default()
}

fn declared(raw: &RawValue) -> Vec<Tool> {
    let Ok(element) = serde_json::from_str::<Element<'_>>(raw.get()) else {
        return Vec::new();
    };
    let is_own = matches!(element.kind.as_deref(), None | Some("function" | "custom"));
    if !element.declarations.is_empty() {
        let its = element.declarations.iter();
        return its
            .filter_map(|it| tool(name_of(it)?, it.get().len()))
            .collect();
    }
    let name = element.function.map_or(element.name, name_of);
    let own = name.filter(|_| is_own);
    own.and_then(|name| tool(name, raw.get().len()))
        .into_iter()
        .collect()
}

fn name_of(raw: &RawValue) -> Option<String> {
    let named: Named = serde_json::from_str(raw.get()).ok()?;
    Some(named.name)
}

fn tool(name: String, len: usize) -> Option<Tool> {
    let bytes = u32::try_from(len).ok()?;
    Some(Tool { name, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(raw: &str) -> Vec<String> {
        let tools = tools(raw.as_bytes()).into_iter();
        tools.map(|tool| tool.name).collect()
    }

    #[test]
    fn tools_are_read_in_every_dialect() {
        let chat = r#"[{"type":"function","function":{"name":"a","parameters":{}}}]"#;
        let responses = r#"[{"type":"function","name":"a"},{"type":"custom","name":"b"}]"#;
        let messages = r#"[{"name":"a","input_schema":{}}]"#;
        let gemini =
            r#"[{"functionDeclarations":[{"name":"a"},{"name":"b"}]},{"googleSearch":{}}]"#;
        assert_eq!(named(chat), ["a"]);
        assert_eq!(named(responses), ["a", "b"]);
        assert_eq!(named(messages), ["a"]);
        assert_eq!(named(gemini), ["a", "b"]);
        let declared = tools(gemini.as_bytes());
        assert_eq!(declared[0].bytes as usize, r#"{"name":"a"}"#.len());
    }

    #[test]
    fn tools_of_the_provider_are_not_judged() {
        let hosted = r#"[{"type":"web_search_preview"},{"type":"mcp","server_label":"x"},
            {"type":"web_search_20250305","name":"web_search"},{"type":"computer_use_preview"}]"#;
        assert_eq!(named(hosted), [""; 0]);
    }
}
