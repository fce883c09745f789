//! The texts that one file of a run has room and time for.

use std::collections::HashMap;

use super::super::said::fitting;
use crate::admin::step::StepView;
use crate::core::id::CallId;
use crate::ledger::IndexError;
use crate::wire::readable::{Excerpt, Message, Piece};

/// Bytes of texts in one file.
pub(super) const TEXTS: usize = 24 << 20;
/// Of each call.
pub(super) const TEXTS_OF_CALL: usize = 256 << 10;
/// What the frame of a message or a part of it takes.
const FRAME: usize = 256;

/// What was said in some of the calls of a run.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) steps: HashMap<CallId, StepView>,
    /// Reading them ended because it took too long.
    pub(super) is_late: bool,
}

/// Reads calls one by one as long as there is room and it is not late.
pub(super) fn texts(
    calls: impl Iterator<Item = CallId>,
    mut read: impl FnMut(CallId) -> Result<Option<StepView>, IndexError>,
    is_late: impl Fn() -> bool,
) -> Result<Texts, IndexError> {
    let mut texts = Texts::default();
    let mut left = TEXTS;
    for call in calls {
        if is_late() {
            texts.is_late = true;
            break;
        }
        let Some(mut step) = read(call)? else {
            continue;
        };
        let size = fit(&mut step, TEXTS_OF_CALL);
        if size > left {
            break;
        }
        left -= size;
        texts.steps.insert(call, step);
    }
    Ok(texts)
}

/// Cuts what was said to `room` bytes, and tells how many the step takes.
fn fit(step: &mut StepView, room: usize) -> usize {
    let mut left = room;
    let sent = step.sent.messages.iter_mut().map(|it| &mut it.message);
    let messages = sent
        .chain(&mut step.sent.dropped)
        .chain(&mut step.answered.messages);
    let mut frames = 0;
    for message in messages {
        frames += FRAME;
        fit_message(message, &mut left);
    }
    let tools: usize = step.sent.tools.names.iter().map(String::len).sum();
    room - left + frames + tools
}

/// Parts that there is no room for are counted only.
fn fit_message(message: &mut Message, left: &mut usize) {
    let fits = |piece: &mut Piece| fit_piece(piece, left);
    let kept = message.pieces.iter_mut().map(fits).take_while(|fits| *fits);
    let kept = kept.count();
    message.left_out += (message.pieces.len() - kept) as u64;
    message.pieces.truncate(kept);
    message.pieces.shrink_to_fit();
}

fn fit_piece(piece: &mut Piece, left: &mut usize) -> bool {
    let named = [&piece.id, &piece.name, &piece.media_type];
    let frame = FRAME + named.into_iter().flatten().map(String::len).sum::<usize>();
    if frame > *left {
        *left = 0;
        return false;
    }
    *left -= frame;
    fit_text(&mut piece.said, left);
    if let Some(asked) = &mut piece.asked {
        fit_text(asked, left);
    }
    true
}

fn fit_text(said: &mut Excerpt, left: &mut usize) {
    let (front, cost) = fitting(&said.text, *left);
    let kept = front.len();
    said.cut(kept);
    said.text.shrink_to_fit();
    *left -= cost;
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::admin::sample::{PLANNER, Sample};
    use crate::admin::step::{Options, step};
    use crate::wire::readable::{Kind, Role};

    /// What a tool was told and gave, of so many bytes each.
    fn piece(bytes: usize) -> Piece {
        let text = Excerpt::of(&"x".repeat(bytes), bytes);
        Piece {
            kind: Kind::ToolResult,
            said: text.clone(),
            asked: Some(text),
            ..Piece::default()
        }
    }

    /// A call that was answered with these parts.
    fn said(pieces: &[Piece]) -> StepView {
        let sample = Sample::new();
        let id = sample.record(PLANNER);
        let step = step(sample.ledger.view(), id, Options::default());
        let mut step = step.unwrap().unwrap();
        step.answered.messages = vec![Message {
            role: Role::Assistant,
            name: None,
            pieces: pieces.to_vec(),
            left_out: 0,
            bytes: 0,
            place: None,
            digest: None,
        }];
        step
    }

    fn ids() -> impl Iterator<Item = CallId> {
        (0..=255).map(|byte| CallId::from_bytes([byte; 16]))
    }

    #[test]
    fn a_step_is_kept_as_far_as_there_is_room_and_no_further() {
        for (count, bytes) in [(1, 1 << 20), (40, 64 << 10), (5000, 0), (3, 10)] {
            let mut step = said(&vec![piece(bytes); count]);
            let size = fit(&mut step, TEXTS_OF_CALL);
            let message = &step.answered.messages[0];
            assert_eq!(message.pieces.len() as u64 + message.left_out, count as u64);
            let json = serde_json::to_string(&step.answered).unwrap();
            assert!(json.len() <= size + FRAME, "{} in {size}", json.len());
            assert!(size <= TEXTS_OF_CALL + 2 * FRAME, "{size}");
        }
    }

    #[test]
    fn a_file_takes_as_many_steps_as_there_is_room_for() {
        let large = said(&[piece(1 << 20)]);
        let read = Cell::new(0);
        let texts = texts(
            ids(),
            |_| {
                read.set(read.get() + 1);
                Ok(Some(large.clone()))
            },
            || false,
        )
        .unwrap();
        assert!(texts.steps.len() > 90 && !texts.is_late);
        assert_eq!(read.get(), texts.steps.len() + 1);
        let json = |step: &StepView| serde_json::to_string(step).unwrap().len();
        let written: usize = texts.steps.values().map(json).sum();
        assert!(written < TEXTS + texts.steps.len() * 4096, "{written}");
    }

    #[test]
    fn nothing_more_is_read_when_it_is_late() {
        let small = said(&[piece(1)]);
        let read = Cell::new(0);
        let texts = texts(
            ids(),
            |_| {
                read.set(read.get() + 1);
                Ok(Some(small.clone()))
            },
            || read.get() == 3,
        )
        .unwrap();
        assert_eq!((texts.steps.len(), texts.is_late, read.get()), (3, true, 3));
    }
}
