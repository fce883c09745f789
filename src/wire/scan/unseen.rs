//! What costs tokens that are not in the text of a request: found by its marks, not by parsing. A mark
//! that only looks like one does no harm: the tokens are counted where a bound would have done.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

/// Types and keys of images, files and sound, in all dialects.
const PARTS: [&str; 13] = [
    "\"image\"",
    "\"images\"",
    "\"image_url\"",
    "\"input_image\"",
    "\"file\"",
    "\"file_id\"",
    "\"fileData\"",
    "\"file_data\"",
    "\"input_file\"",
    "\"document\"",
    "\"input_audio\"",
    "\"inlineData\"",
    "\"inline_data\"",
];
/// Types of tools that run at the upstream, however JSON is spaced; Gemini's keys.
const HOSTED_TOOLS: [&str; 20] = [
    "\"type\":\"web_search",
    "\"type\": \"web_search",
    "\"type\":\"web_fetch",
    "\"type\": \"web_fetch",
    "\"type\":\"file_search",
    "\"type\": \"file_search",
    "\"type\":\"code_interpreter",
    "\"type\": \"code_interpreter",
    "\"type\":\"code_execution",
    "\"type\": \"code_execution",
    "\"type\":\"computer",
    "\"type\": \"computer",
    "\"type\":\"image_generation",
    "\"type\": \"image_generation",
    "\"type\":\"mcp",
    "\"type\": \"mcp",
    "\"googleSearch\"",
    "\"google_search\"",
    "\"urlContext\"",
    "\"url_context\"",
];

static PART_MARKS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| AhoCorasick::new(PARTS).ok());
static TOOL_MARKS: LazyLock<Option<AhoCorasick>> =
    LazyLock::new(|| AhoCorasick::new(HOSTED_TOOLS).ok());

/// Marks of images, files and sound in a message.
pub(super) fn parts(segment: &[u8]) -> u32 {
    count(PART_MARKS.as_ref(), segment)
}

/// Marks of tools that the upstream runs, in the tools of a request.
pub(super) fn hosted_tools(segment: &[u8]) -> u32 {
    count(TOOL_MARKS.as_ref(), segment)
}

fn count(marks: Option<&AhoCorasick>, segment: &[u8]) -> u32 {
    let found = marks.map(|marks| marks.find_iter(segment).count());
    u32::try_from(found.unwrap_or(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_and_text_about_them_is_not() {
        for (message, expected) in [
            (r#"{"role":"user","content":"an image of a file"}"#, 0),
            (r#"{"type":"image_url","image_url":{"url":"https://x"}}"#, 2),
            (r#"{"type": "input_file", "file_id": "file-1"}"#, 2),
            (r#"{"arguments":"{\"file\":\"a\"}"}"#, 0),
        ] {
            assert_eq!(parts(message.as_bytes()), expected, "{message}");
        }
        for (tools, expected) in [
            (
                r#"[{"type":"function","function":{"name":"web_search"}}]"#,
                0,
            ),
            (r#"[{"type":"web_search_preview"},{"type": "mcp"}]"#, 2),
            (r#"[{"googleSearch":{}}]"#, 1),
        ] {
            assert_eq!(hosted_tools(tools.as_bytes()), expected, "{tools}");
        }
    }
}
