use proptest::prelude::*;

use super::*;

type Owned = (Option<String>, String);

fn owned(event: Event<'_>) -> Owned {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (event.name.map(text), text(event.data))
}

fn decode<'a>(decoder: &mut SseDecoder, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Owned> {
    let mut events = Vec::new();
    for piece in pieces {
        decoder.push(piece, |event| events.push(owned(event)));
    }
    decoder.finish(|event| events.push(owned(event)));
    events
}

#[track_caller]
fn check(stream: &str, expected: &[(Option<&str>, &str)]) {
    let expected: Vec<Owned> = expected
        .iter()
        .map(|(name, data)| (name.map(str::to_owned), (*data).to_owned()))
        .collect();
    let bytes = stream.as_bytes();
    assert_eq!(
        decode(&mut SseDecoder::default(), [bytes]),
        expected,
        "whole"
    );
    assert_eq!(
        decode(&mut SseDecoder::default(), bytes.chunks(1)),
        expected,
        "byte by byte"
    );
    for at in 0..bytes.len() {
        let (head, tail) = bytes.split_at(at);
        assert_eq!(
            decode(&mut SseDecoder::default(), [head, tail]),
            expected,
            "cut at {at}"
        );
    }
}

#[test]
fn every_line_end_separates_events() {
    let expected = [(None, "one"), (Some("x"), "two"), (None, "three")];
    for end in ["\n", "\r", "\r\n"] {
        let lines = [
            "data: one",
            "",
            "event: x",
            "data:two",
            "",
            "data: three",
            "",
            "",
        ];
        check(&lines.join(end), &expected);
    }
    check(
        "data: one\r\n\ndata: two\n\r\ndata: three\r\n\r\n",
        &[(None, "one"), (None, "two"), (None, "three")],
    );
}

#[test]
fn data_lines_are_joined() {
    check(
        "data: {\ndata: \"a\": 1\ndata: }\n\n",
        &[(None, "{\n\"a\": 1\n}")],
    );
    check("data\ndata:\n\n", &[(None, "\n")]);
}

#[test]
fn comments_and_unknown_fields_are_passed_over() {
    check(
        ": ping\n\n: PROCESSING\n\nid: 1\nretry: 5\ndata: x\nfoo: y\n\n",
        &[(None, "x")],
    );
    check("\n\n\r\n\r\n", &[]);
}

#[test]
fn a_byte_order_mark_opens_the_stream_only() {
    check(
        "\u{feff}data: x\n\ndata: \u{feff}y\n\n",
        &[(None, "x"), (None, "\u{feff}y")],
    );
    check("\u{feff}\ndata: x\n\n", &[(None, "x")]);
}

#[test]
fn only_one_space_is_taken_off() {
    check("data:  x \n\n", &[(None, " x ")]);
}

#[test]
fn an_event_without_its_empty_line_counts_at_the_end() {
    check(
        "data: one\n\ndata: [DONE]",
        &[(None, "one"), (None, "[DONE]")],
    );
}

#[test]
fn an_event_over_the_limit_is_skipped_and_counted() {
    let stream = format!("data: a\n\ndata: {}\n\ndata: b\n\n", "x".repeat(50));
    for size in [1, 7, 40, 1000] {
        let mut decoder = SseDecoder::with_limit(32);
        let events = decode(&mut decoder, stream.as_bytes().chunks(size));
        assert_eq!(events, [(None, "a".to_owned()), (None, "b".to_owned())]);
        assert_eq!(decoder.skipped(), 1);
        assert!(decoder.pending.capacity() <= 64);
    }
}

#[test]
fn pieces_between_boundaries_make_up_the_stream() {
    let stream = b"data: a\r\n\r\ndata: b\r\rdata: c\n\ntail";
    for cut in 0..stream.len() {
        let (head, tail) = stream.split_at(cut);
        let mut boundary = EventBoundary::default();
        let mut events = vec![Vec::new()];
        for piece in [head, tail] {
            let after = boundary.rest_of_last(piece);
            if let Some(ended) = events.iter_mut().rev().nth(1) {
                ended.extend_from_slice(&piece[..after]);
            }
            let mut rest = &piece[after..];
            while let Some(end) = boundary.find(rest) {
                events.last_mut().unwrap().extend_from_slice(&rest[..end]);
                events.push(Vec::new());
                rest = &rest[end..];
            }
            events.last_mut().unwrap().extend_from_slice(rest);
        }
        let expected = ["data: a\r\n\r\n", "data: b\r\r", "data: c\n\n", "tail"];
        assert_eq!(
            events,
            expected.map(|event| event.as_bytes().to_vec()),
            "cut at {cut}"
        );
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events(
        stream in "(data: ?[ab]{0,3}|event: x|:|\u{feff}|[\r\n]|\r\n|\n\n){0,30}",
        cuts in proptest::collection::vec(1..8_usize, 0..40),
    ) {
        let whole = decode(&mut SseDecoder::with_limit(24), [stream.as_bytes()]);
        let mut pieces = Vec::new();
        let mut rest = stream.as_bytes();
        for cut in cuts {
            let (head, tail) = rest.split_at(cut.min(rest.len()));
            pieces.push(head);
            rest = tail;
        }
        pieces.push(rest);
        prop_assert_eq!(decode(&mut SseDecoder::with_limit(24), pieces), whole);
    }
}
