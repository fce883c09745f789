//! W3C trace context: reading what a call came with, and the place of the call in its trace.
//!
//! Ids follow from what is recorded: the same call has the same span whenever it is asked, so that
//! the request that goes upstream can name a span which is made much later, and made twice is the
//! same span.

use std::fmt::{self, Write};

use minicbor::{Decode, Encode};

use super::attribution::Attribution;
use super::digest::DigestSeed;
use super::id::{CallId, Label};

/// Bit 0 of the flags: whoever began the trace keeps it.
pub const SAMPLED: u8 = 1;
/// What the standard allows at most.
const MAX_MEMBERS: usize = 32;
/// What the standard asks everybody to pass on; longer lists lose members.
const MAX_STATE: usize = 512;
/// Members longer than this are the first to go.
const LONG_MEMBER: usize = 128;

/// The id of a trace; never all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct TraceId(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

/// The id of a span within a trace; never all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SpanId(#[cbor(n(0), with = "minicbor::bytes")] [u8; 8]);

/// What a call said about the trace that it is part of.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TraceContext {
    #[n(0)]
    pub trace: TraceId,
    /// The span of the client that the call was made in.
    #[n(1)]
    pub parent: SpanId,
    #[n(2)]
    pub flags: u8,
    /// `tracestate`, its members in order; none where there was none, or it was malformed.
    #[n(3)]
    pub state: Option<String>,
}

impl TraceContext {
    /// Of the values of the headers `traceparent`, of which there must be one, and `tracestate`.
    pub fn parse<'a>(
        parents: impl IntoIterator<Item = &'a [u8]>,
        states: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Self> {
        let mut parents = parents.into_iter();
        let (parent, None) = (parents.next()?, parents.next()) else {
            return None;
        };
        let (trace, parent, flags) = traceparent(parent)?;
        Some(Self {
            trace,
            parent,
            flags,
            state: tracestate(states),
        })
    }

    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// `00-<trace id>-<span id>-<flags>` in lower case. Of later versions more may follow.
fn traceparent(value: &[u8]) -> Option<(TraceId, SpanId, u8)> {
    let value = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    let (head, rest) = value.split_at_checked(55)?;
    let mut parts = head.split('-');
    let mut part = || parts.next();
    let [version] = hex::<1>(part()?)?;
    let trace = hex::<16>(part()?)?;
    let parent = hex::<8>(part()?)?;
    let [flags] = hex::<1>(part()?)?;
    // Of those of later versions only one is known.
    let flags = if version == 0 { flags } else { flags & SAMPLED };
    let is_whole = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest.starts_with('-'),
    };
    let is_there = trace != [0; 16] && parent != [0; 8];
    (is_whole && is_there).then_some((TraceId(trace), SpanId(parent), flags))
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// One list of all lines; none where any of it is malformed, for then none of it can be trusted.
fn tracestate<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let mut members: Vec<&str> = Vec::new();
    for line in lines {
        for member in std::str::from_utf8(line).ok()?.split(',') {
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            let is_known = members.iter().any(|it| it.split('=').next() == Some(key));
            if is_known || !is_key(key) || !is_value(value) {
                return None;
            }
            members.push(member);
        }
    }
    members.truncate(MAX_MEMBERS);
    let length = |members: &[&str]| members.iter().map(|it| it.len() + 1).sum::<usize>();
    while length(&members) > MAX_STATE + 1 {
        let long = members.iter().rposition(|it| it.len() > LONG_MEMBER);
        members.remove(long.unwrap_or(members.len().checked_sub(1)?));
    }
    Some(members.join(",")).filter(|state| !state.is_empty())
}

fn is_key(key: &str) -> bool {
    let is_first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_rest = |byte: u8| is_first(&byte) || b"_-*/@".contains(&byte);
    key.len() <= 256 && key.as_bytes().first().is_some_and(is_first) && key.bytes().all(is_rest)
}

fn is_value(value: &str) -> bool {
    let fits = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(fits)
}

impl fmt::Display for TraceContext {
    /// The `traceparent` that says this.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.parent, self.flags)
    }
}

/// Where a call stands in its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub trace: TraceId,
    /// The span of the call.
    pub span: SpanId,
    /// None for the root of a trace.
    pub parent: Option<SpanId>,
    pub flags: u8,
    /// The client began the trace, and traces its agents itself.
    pub is_clients: bool,
}

impl Place {
    /// In the trace of the client where it has one, else in that of the run, below the span of its
    /// agent; else in one of its own.
    pub fn of(
        seed: DigestSeed,
        id: CallId,
        attribution: &Attribution,
        context: Option<&TraceContext>,
    ) -> Self {
        let span = SpanId::of_call(seed, id);
        if let Some(context) = context {
            return Self {
                trace: context.trace,
                span,
                parent: Some(context.parent),
                flags: context.flags,
                is_clients: true,
            };
        }
        let run = attribution.run.as_ref();
        Self {
            trace: run.map_or_else(
                || TraceId::of_call(seed, id),
                |run| TraceId::of_run(seed, run),
            ),
            span,
            parent: run.map(|run| SpanId::of_agent(seed, run, &chain(attribution))),
            flags: SAMPLED,
            is_clients: false,
        }
    }

    /// What the upstream is told: that the call is its parent.
    pub fn onward(&self) -> TraceContext {
        TraceContext {
            trace: self.trace,
            parent: self.span,
            flags: self.flags,
            state: None,
        }
    }
}

/// The agents that lead to a call, its own last.
pub fn chain(attribution: &Attribution) -> Vec<Label> {
    if attribution.path.is_empty() {
        let caller = attribution.caller.iter();
        caller.chain([&attribution.agent]).cloned().collect()
    } else {
        attribution.path.clone()
    }
}

impl TraceId {
    pub fn of_run(seed: DigestSeed, run: &Label) -> Self {
        Self::made_of(seed, b"run", [run.as_str()])
    }

    pub fn of_call(seed: DigestSeed, id: CallId) -> Self {
        Self::made_of(seed, b"call", [&*id.to_string()])
    }

    fn made_of<'a>(
        seed: DigestSeed,
        kind: &[u8],
        names: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let id = hashed(seed, (b"trace", kind), names);
        Self(if id == [0; 16] { [1; 16] } else { id })
    }

    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl SpanId {
    pub fn of_call(seed: DigestSeed, id: CallId) -> Self {
        Self::made_of(seed, b"call", [&*id.to_string()])
    }

    /// The span of a whole run.
    pub fn of_run(seed: DigestSeed, run: &Label) -> Self {
        Self::made_of(seed, b"run", [run.as_str()])
    }

    /// The span of what an agent did for those before it in `chain`.
    pub fn of_agent(seed: DigestSeed, run: &Label, chain: &[Label]) -> Self {
        let names = [run].into_iter().chain(chain).map(Label::as_str);
        Self::made_of(seed, b"agent", names)
    }

    fn made_of<'a>(
        seed: DigestSeed,
        kind: &[u8],
        names: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let whole = hashed(seed, (b"span", kind), names);
        let mut id = [0; 8];
        id.copy_from_slice(whole.split_at(8).0);
        Self(if id == [0; 8] { [1; 8] } else { id })
    }

    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

/// No two lists of names are written alike: no label has a control character.
fn hashed<'a>(
    seed: DigestSeed,
    (of, kind): (&[u8], &[u8]),
    names: impl IntoIterator<Item = &'a str>,
) -> [u8; 16] {
    let mut text = [of, kind].join(&0);
    for name in names {
        text.push(0);
        text.extend_from_slice(name.as_bytes());
    }
    seed.digest(&text).to_bytes()
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| {
        for half in [byte >> 4, byte & 15] {
            f.write_char(char::from_digit(u32::from(half), 16).unwrap_or('0'))?;
        }
        Ok(())
    })
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

#[cfg(test)]
mod tests;
