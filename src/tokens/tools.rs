//! Tool definitions as the model sees them: TypeScript-like declarations in one namespace.

use std::fmt::Write;

use serde_json::{Map, Value};

/// Reads tools as chat, responses, messages and Gemini write them.
///
/// Hosted tools bring a prompt of their own that nobody outside knows: they are written as the
/// JSON they are.
pub(super) fn render(tools: &Value) -> String {
    let mut text = "namespace functions {\n\n".to_owned();
    tools
        .as_array()
        .into_iter()
        .flatten()
        .for_each(|tool| write_tool(&mut text, tool));
    text.push_str("} // namespace functions");
    text
}

fn write_tool(text: &mut String, tool: &Value) {
    let declarations = tool
        .get("functionDeclarations")
        .or_else(|| tool.get("function_declarations"));
    if let Some(Value::Array(declarations)) = declarations {
        for declaration in declarations {
            write_function(text, declaration);
        }
        return;
    }
    let kind = tool.get("type").and_then(Value::as_str);
    let function = tool
        .get("function")
        .or_else(|| tool.get("custom"))
        .unwrap_or(tool);
    match kind {
        None | Some("function" | "custom") => write_function(text, function),
        Some(_) => line(text, format_args!("{tool}")),
    }
}

fn write_function(text: &mut String, function: &Value) {
    let field = |key| function.get(key).and_then(Value::as_str);
    if let Some(description) = field("description") {
        comment(text, description, 0);
    }
    let name = field("name").unwrap_or_default();
    let schema = function
        .get("parameters")
        .or_else(|| function.get("input_schema"));
    match schema
        .and_then(|schema| schema.get("properties"))
        .and_then(Value::as_object)
    {
        Some(properties) if !properties.is_empty() => {
            line(text, format_args!("type {name} = (_: {{"));
            members(text, properties, required(schema), 0);
            text.push_str("}) => any;\n\n");
        }
        _ => line(text, format_args!("type {name} = () => any;\n")),
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{content}");
}

fn comment(text: &mut String, description: &str, indent: usize) {
    for part in description.lines() {
        line(text, format_args!("{:indent$}// {part}", ""));
    }
}

fn required(schema: Option<&Value>) -> &[Value] {
    schema
        .and_then(|schema| schema.get("required"))
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn members(text: &mut String, properties: &Map<String, Value>, required: &[Value], indent: usize) {
    for (key, schema) in properties {
        if let Some(description) = schema.get("description").and_then(Value::as_str) {
            comment(text, description, indent);
        }
        let mark = if required.iter().any(|name| name == key) {
            ""
        } else {
            "?"
        };
        let kind = type_of(schema, indent);
        line(text, format_args!("{:indent$}{key}{mark}: {kind},", ""));
    }
}

fn type_of(schema: &Value, indent: usize) -> String {
    let alternatives = |values: &[Value], one: &dyn Fn(&Value) -> String| -> String {
        values.iter().map(one).collect::<Vec<_>>().join(" | ")
    };
    if let Some(Value::Array(values)) = schema.get("enum") {
        return alternatives(values, &Value::to_string);
    }
    if let Some(Value::Array(schemas)) = schema.get("anyOf") {
        return alternatives(schemas, &|one| type_of(one, indent));
    }
    match schema.get("type") {
        Some(Value::Array(kinds)) => alternatives(kinds, &|kind| named_type(kind, schema, indent)),
        Some(kind) => named_type(kind, schema, indent),
        None => "any".to_owned(),
    }
}

fn named_type(kind: &Value, schema: &Value, indent: usize) -> String {
    match kind
        .as_str()
        .unwrap_or_default()
        .to_ascii_lowercase()
        .as_str()
    {
        "number" | "integer" => "number".to_owned(),
        "array" => match schema.get("items") {
            Some(items) => format!("{}[]", type_of(items, indent)),
            None => "any[]".to_owned(),
        },
        "object" => match schema.get("properties").and_then(Value::as_object) {
            Some(properties) => {
                let mut text = "{\n".to_owned();
                members(&mut text, properties, required(Some(schema)), indent + 2);
                let _ = write!(text, "{:indent$}}}", "");
                text
            }
            None => "object".to_owned(),
        },
        "" => "any".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn function_is_written_as_a_typescript_declaration() {
        let tools = json!([{"type": "function", "function": {
            "name": "get_weather", "description": "Weather now.", "parameters": {
                "type": "object", "required": ["city"], "properties": {
                    "city": {"type": "string", "description": "Its name"},
                    "unit": {"type": "string", "enum": ["C", "F"]},
                    "days": {"type": "array", "items": {"type": "integer"}}}}}}]);
        let rendered = render(&tools);
        assert_eq!(
            rendered,
            "namespace functions {\n\n// Weather now.\ntype get_weather = (_: {\n\
             // Its name\ncity: string,\ndays?: number[],\nunit?: \"C\" | \"F\",\n}) => any;\n\n\
             } // namespace functions"
        );
    }

    #[test]
    fn all_dialects_of_one_tool_read_the_same() {
        let schema = json!({"type": "object", "properties": {"q": {"type": "string"}}});
        let dialects = [
            json!([{"type": "function", "function": {"name": "find", "parameters": schema}}]),
            json!([{"type": "function", "name": "find", "parameters": schema}]),
            json!([{"name": "find", "input_schema": schema}]),
            json!([{"functionDeclarations": [{"name": "find", "parameters": schema}]}]),
        ];
        let texts: Vec<String> = dialects.iter().map(render).collect();
        assert!(texts[0].contains("type find = (_: {\nq?: string,\n}) => any;"));
        assert!(texts.iter().all(|text| *text == texts[0]));
    }

    #[test]
    fn hosted_tool_is_written_as_json() {
        let rendered = render(&json!([{"type": "web_search", "search_context_size": "low"}]));
        assert!(rendered.contains(r#"{"search_context_size":"low","type":"web_search"}"#));
    }
}
