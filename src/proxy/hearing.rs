//! What an answer says, heard while it passes: for the conversation it belongs to, and to end it when
//! it says one piece over and over.

use super::call::EndedCall;
use crate::core::call::Outcome;
use crate::core::loops::chant::{Chant, SHORTEST};
use crate::loops::{Ended, Loops};
use crate::wire::response::ResponseReader;

/// Progress of the output, in tokens, before it is listened to at all, and between two times.
const FIRST: u64 = 192;
const STEP: u64 = 64;

#[derive(Debug, Default)]
pub(super) struct Hearing {
    chant: Chant,
    chants: bool,
    /// Bytes of text that were listened to.
    heard: usize,
    next: u64,
}

impl Hearing {
    /// Listens to what is new of a running answer; whether it says one piece over and over.
    pub(super) fn listen(&mut self, reader: &mut ResponseReader) -> bool {
        let progress = reader.output_progress();
        if self.chants || progress < self.next.max(FIRST) {
            return self.chants;
        }
        self.next = progress + STEP;
        self.hear(reader);
        self.chants
    }

    fn hear(&mut self, reader: &mut ResponseReader) {
        let text = reader.said().text();
        if self.heard == 0 && text.len() < SHORTEST {
            return;
        }
        let new = text.get(self.heard..).unwrap_or_default();
        self.chants |= self.chant.push(new);
        self.heard = text.len();
    }

    /// The call ended: its conversation learns of the answer.
    pub(super) fn end(mut self, loops: &Loops, call: &mut EndedCall) {
        let Some(turn) = call.origin.turn.clone() else {
            return;
        };
        let run = call.origin.attribution.run.clone();
        let run = run.as_ref();
        let Some(observed) = &mut call.observed else {
            return loops.failed(&turn, run);
        };
        self.hear(&mut observed.reader);
        let is_good = call.status.is_some_and(|status| status.as_u16() < 400);
        let is_whole = matches!(call.outcome, Outcome::Completed) || self.chants;
        let response_id = observed.reader.response_id();
        let ended = Ended {
            response_id: response_id.as_deref(),
            said: observed.reader.said(),
            is_answered: is_good && is_whole,
            chants: self.chants,
        };
        loops.ended(&turn, run, &ended);
    }
}
