//! What a call used, in one shape for every dialect.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;
use utoipa::ToSchema;

/// Token counts of one call.
///
/// `input_tokens` and `output_tokens` are the totals that are billed; every other token field is
/// a subset of one of them (cache reads and writes, audio and images inside input; reasoning,
/// audio and images inside output). Names follow the OpenTelemetry GenAI conventions.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, ToSchema,
)]
#[serde(default)]
#[cbor(map)]
pub struct Usage {
    #[cbor(n(0), default, skip_if = "is_zero")]
    pub input_tokens: u64,
    #[cbor(n(1), default, skip_if = "is_zero")]
    pub output_tokens: u64,
    #[cbor(n(2), default, skip_if = "is_zero")]
    pub cache_read_input_tokens: u64,
    /// All cache writes, whatever their lifetime.
    #[cbor(n(3), default, skip_if = "is_zero")]
    pub cache_write_input_tokens: u64,
    /// The part of the cache writes kept for one hour.
    #[cbor(n(4), default, skip_if = "is_zero")]
    pub cache_write_1h_input_tokens: u64,
    /// The part of the cache writes kept for twelve hours.
    #[cbor(n(5), default, skip_if = "is_zero")]
    pub cache_write_12h_input_tokens: u64,
    #[cbor(n(6), default, skip_if = "is_zero")]
    pub reasoning_output_tokens: u64,
    #[cbor(n(7), default, skip_if = "is_zero")]
    pub audio_input_tokens: u64,
    #[cbor(n(8), default, skip_if = "is_zero")]
    pub audio_output_tokens: u64,
    #[cbor(n(9), default, skip_if = "is_zero")]
    pub image_input_tokens: u64,
    #[cbor(n(10), default, skip_if = "is_zero")]
    pub image_output_tokens: u64,
    /// Audio billed by time instead of by token, in milliseconds.
    #[cbor(n(11), default, skip_if = "is_zero")]
    pub audio_input_ms: u64,
    /// Text billed by length (speech), in characters.
    #[cbor(n(12), default, skip_if = "is_zero")]
    pub input_characters: u64,
    /// Images billed by piece.
    #[cbor(n(13), default, skip_if = "is_zero")]
    pub images: u64,
    /// Hosted web searches, billed by piece.
    #[cbor(n(14), default, skip_if = "is_zero")]
    pub web_searches: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the derive macro passes a reference"
)]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// How a [`Usage`] is known.
#[derive(IntoStaticStr, ToSchema)]
#[strum(serialize_all = "snake_case")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// The upstream said so.
    #[n(0)]
    Reported,
    /// Counted here with the model's own tokenizer.
    #[n(1)]
    Counted,
    /// Counted here with another tokenizer, or guessed from sizes.
    #[n(2)]
    Estimated,
}
