//! What a request asks of the model besides what it says, in the words of any dialect.

use serde_json::value::RawValue;

use super::fields::Fields;

/// Stop sequences and encodings that are told, and bytes of a short text.
const MAX_LISTED: usize = 16;
const MAX_TEXT: usize = 128;

/// What a body says of how to answer; none for what it does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    pub max_tokens: Option<i64>,
    pub choices: Option<i64>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<i64>,
    pub frequency_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub seed: Option<i64>,
    pub stop: Vec<String>,
    /// `text`, `json` or `image`.
    pub output: Option<&'static str>,
    pub reasoning: Option<String>,
    pub service_tier: Option<String>,
    pub dimensions: Option<i64>,
    pub encoding: Option<String>,
}

impl Parameters {
    /// Of a whole body; nothing where it is no JSON object.
    pub fn of(body: &[u8]) -> Self {
        let Some(top) = Fields::parse(body) else {
            return Self::default();
        };
        let nested = ["generationConfig", "generation_config", "inferenceConfig"]
            .into_iter()
            .find_map(|key| top.object(key));
        let from = Source {
            top: &top,
            nested: nested.as_ref(),
        };
        Self {
            max_tokens: from.whole(&[
                "max_completion_tokens",
                "max_output_tokens",
                "max_tokens",
                "maxOutputTokens",
                "maxTokens",
            ]),
            choices: from.whole(&["n", "candidateCount", "candidate_count"]),
            temperature: from.number(&["temperature"]),
            top_p: from.number(&["top_p", "topP"]),
            top_k: from.whole(&["top_k", "topK"]),
            frequency_penalty: from.number(&["frequency_penalty", "frequencyPenalty"]),
            presence_penalty: from.number(&["presence_penalty", "presencePenalty"]),
            seed: from.whole(&["seed"]),
            stop: from.texts(&["stop", "stop_sequences", "stopSequences"]),
            output: from.output(),
            reasoning: from.reasoning(),
            service_tier: from.text(&["service_tier"]),
            dimensions: from.whole(&["dimensions", "outputDimensionality"]),
            encoding: from.text(&["encoding_format"]),
        }
    }
}

/// Where a parameter may stand.
struct Source<'f, 'a> {
    top: &'f Fields<'a>,
    /// Gemini keeps them apart.
    nested: Option<&'f Fields<'a>>,
}

impl<'a> Source<'_, 'a> {
    fn raw(&self, keys: &[&str]) -> Option<&'a str> {
        let places = [Some(self.top), self.nested];
        let mut places = places.into_iter().flatten();
        places.find_map(|place| keys.iter().find_map(|key| place.raw(key)))
    }

    fn number(&self, keys: &[&str]) -> Option<f64> {
        let number: f64 = self.raw(keys)?.parse().ok()?;
        number.is_finite().then_some(number)
    }

    fn whole(&self, keys: &[&str]) -> Option<i64> {
        let text = self.raw(keys)?;
        text.parse()
            .ok()
            .or_else(|| text.strip_suffix(".0")?.parse().ok())
    }

    fn text(&self, keys: &[&str]) -> Option<String> {
        text(self.raw(keys)?)
    }

    fn texts(&self, keys: &[&str]) -> Vec<String> {
        let Some(raw) = self.raw(keys) else {
            return Vec::new();
        };
        if let Some(one) = text(raw) {
            return vec![one];
        }
        let items: Vec<&RawValue> = serde_json::from_str(raw).unwrap_or_default();
        let texts = items.into_iter().filter_map(|item| text(item.get()));
        texts.take(MAX_LISTED).collect()
    }

    fn output(&self) -> Option<&'static str> {
        let format = self.top.object("response_format");
        let text = self.top.object("text");
        let format = format.or_else(|| text?.object("format"));
        let kind = format
            .and_then(|it| it.string("type"))
            .or_else(|| self.text(&["responseMimeType", "response_mime_type"]))?;
        match &*kind {
            "json_object" | "json_schema" | "application/json" => Some("json"),
            "text" | "text/plain" => Some("text"),
            _ => None,
        }
    }

    fn reasoning(&self) -> Option<String> {
        let within = |key: &str| self.top.object(key)?.string("effort");
        self.text(&["reasoning_effort"])
            .or_else(|| within("reasoning"))
            .or_else(|| within("output_config"))
            .filter(|it| it.len() <= MAX_TEXT)
    }
}

/// A short text.
fn text(raw: &str) -> Option<String> {
    let text: String = serde_json::from_str(raw).ok()?;
    (!text.is_empty() && text.len() <= MAX_TEXT).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_dialect_says_the_same_in_its_own_words() {
        let chat =
            br#"{"model":"m","messages":[],"max_completion_tokens":100,"n":2,"temperature":0.5,
            "top_p":1,"seed":7,"stop":"END","response_format":{"type":"json_schema"},
            "reasoning_effort":"low","service_tier":"flex"}"#;
        let chat = Parameters::of(chat);
        assert_eq!((chat.max_tokens, chat.choices), (Some(100), Some(2)));
        assert_eq!((chat.temperature, chat.top_p), (Some(0.5), Some(1.0)));
        assert_eq!(chat.stop, ["END"]);
        assert_eq!((chat.output, chat.seed), (Some("json"), Some(7)));
        assert_eq!(chat.reasoning.as_deref(), Some("low"));
        assert_eq!(chat.service_tier.as_deref(), Some("flex"));
        let responses = br#"{"input":"x","max_output_tokens":9,"reasoning":{"effort":"high"},
            "text":{"format":{"type":"text"}}}"#;
        let responses = Parameters::of(responses);
        assert_eq!(responses.max_tokens, Some(9));
        assert_eq!(responses.reasoning.as_deref(), Some("high"));
        assert_eq!(responses.output, Some("text"));
        let messages = Parameters::of(br#"{"max_tokens":5,"top_k":40,"stop_sequences":["a","b"]}"#);
        assert_eq!((messages.max_tokens, messages.top_k), (Some(5), Some(40)));
        assert_eq!(messages.stop, ["a", "b"]);
        let gemini = br#"{"contents":[],"generationConfig":{"maxOutputTokens":6,"topK":3.0,
            "stopSequences":["z"],"responseMimeType":"application/json","candidateCount":1}}"#;
        let gemini = Parameters::of(gemini);
        assert_eq!((gemini.max_tokens, gemini.top_k), (Some(6), Some(3)));
        assert_eq!((gemini.output, gemini.choices), (Some("json"), Some(1)));
    }

    #[test]
    fn what_is_of_another_type_is_not_said() {
        let odd = br#"{"max_tokens":"many","temperature":null,"stop":{"a":1},"seed":1.5,"n":[]}"#;
        assert_eq!(Parameters::of(odd), Parameters::default());
        assert_eq!(Parameters::of(b"[1]"), Parameters::default());
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            Parameters::of(&body);
        }
    }
}
