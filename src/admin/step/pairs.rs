//! Which call of a tool a result belongs to.

use std::collections::HashMap;

use super::shape::SentMessage;
use super::{Before, MAX_NEW, PREVIEW, Request};
use crate::wire::readable::{Kind, Piece};

/// Tells results by which call they were asked for: the last before them that has their id, in this
/// request or in the answer before.
pub(super) fn pair(messages: &mut [SentMessage], request: &Request, before: Option<&Before>) {
    let last = messages.last().map_or(0, |message| message.index);
    let mut shown = messages.iter_mut().rev().peekable();
    let mut waiting = Waiting::default();
    let mut unread = MAX_NEW;
    // From the end, as calls stand a little before their results.
    let entries = request.transcript.entries().iter().enumerate().rev();
    for (index, entry) in entries.skip_while(|(index, _)| *index as u64 > last) {
        if let Some(sent) = shown.next_if(|sent| sent.index == index as u64) {
            let pieces = sent.message.pieces.iter_mut().rev();
            pieces.for_each(|piece| waiting.meet(piece));
        } else if unread > 0 && !waiting.0.is_empty() {
            unread -= 1;
            let message = entry.read(&request.bytes, PREVIEW);
            let pieces = message.pieces.iter().rev();
            pieces.for_each(|piece| waiting.answer(piece));
        }
    }
    let answered = before.iter().flat_map(|before| before.answer.iter().rev());
    let pieces = answered.flat_map(|message| message.pieces.iter().rev());
    pieces.for_each(|piece| waiting.answer(piece));
}

/// Results, the last first, whose calls are not found yet; by the id that both have.
#[derive(Default)]
struct Waiting<'p>(HashMap<String, Vec<&'p mut Piece>>);

impl<'p> Waiting<'p> {
    fn meet(&mut self, piece: &'p mut Piece) {
        match (piece.kind, &piece.id) {
            (Kind::ToolResult, Some(id)) => self.0.entry(id.clone()).or_default().push(piece),
            (Kind::ToolCall, Some(_)) => self.answer(piece),
            _ => {}
        }
    }

    /// Of several results of one call only the first tells its arguments: together they say no more
    /// than the client sent.
    fn answer(&mut self, call: &Piece) {
        let id = call.id.as_ref().filter(|_| call.kind == Kind::ToolCall);
        let Some(mut results) = id.and_then(|id| self.0.remove(id)) else {
            return;
        };
        if let Some(first) = results.last_mut() {
            let mut asked = call.said.clone();
            asked.cut(PREVIEW);
            first.asked = Some(asked);
        }
        for result in results {
            result.name = result.name.take().or_else(|| call.name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::core::call::Operation;
    use crate::wire::readable::Transcript;
    use crate::wire::route::Dialect;

    fn call(id: &str, name: &str) -> Value {
        json!({"id": id, "type": "function", "function": {"name": name, "arguments": name}})
    }

    fn calls(calls: &[Value]) -> Value {
        json!({"role": "assistant", "tool_calls": calls})
    }

    fn result(id: &str) -> Value {
        json!({"role": "tool", "tool_call_id": id, "content": "done"})
    }

    /// Which tool gave each of the results, and the arguments it was told to have, where only the
    /// messages from `from` on are shown.
    fn paired(messages: &[Value], from: usize) -> Vec<(Option<String>, Option<String>)> {
        let bytes = json!({ "messages": messages }).to_string().into_bytes();
        let request = Request {
            transcript: Transcript::of(Operation::Chat, Dialect::Chat, &bytes),
            bytes,
            missing: None,
        };
        let entries = request.transcript.entries().iter().enumerate().skip(from);
        let sent = |(index, entry): (usize, &crate::wire::readable::Entry)| SentMessage {
            index: index as u64,
            is_new: true,
            is_echo: false,
            message: entry.read(&request.bytes, 99),
        };
        let mut sent: Vec<SentMessage> = entries.map(sent).collect();
        pair(&mut sent, &request, None);
        let pieces = sent.into_iter().flat_map(|it| it.message.pieces);
        let results = pieces.filter(|piece| piece.kind == Kind::ToolResult);
        let told = |piece: Piece| (piece.name, piece.asked.map(|asked| asked.text));
        results.map(told).collect()
    }

    fn told(name: &str) -> (Option<String>, Option<String>) {
        (Some(name.to_owned()), Some(name.to_owned()))
    }

    #[test]
    fn an_id_that_many_calls_have_hides_no_other_call() {
        let twice = calls(&[call("a", "look"), call("a", "look"), call("a", "look")]);
        let messages = [calls(&[call("b", "find")]), twice, result("a"), result("b")];
        for from in 0..=2 {
            assert_eq!(paired(&messages, from), [told("look"), told("find")]);
        }
    }

    #[test]
    fn where_ids_come_again_each_result_has_the_last_call_before_it() {
        let messages = [
            calls(&[call("0", "look")]),
            result("0"),
            calls(&[call("0", "find")]),
            result("0"),
        ];
        assert_eq!(paired(&messages, 0), [told("look"), told("find")]);
        assert_eq!(paired(&messages, 3), [told("find")]);
    }

    #[test]
    fn of_many_results_of_one_call_the_first_tells_its_arguments() {
        let messages = [calls(&[call("a", "look")]), result("a"), result("a")];
        let second = (Some("look".to_owned()), None);
        assert_eq!(paired(&messages, 1), [told("look"), second]);
    }

    #[test]
    fn a_result_that_nobody_asked_for_stands_alone() {
        let messages = [result("a"), calls(&[call("a", "look")])];
        assert_eq!(paired(&messages, 0), [(None, None)]);
    }
}
