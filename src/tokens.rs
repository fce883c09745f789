//! Counting tokens here, where the upstream does not say or has not said yet.
//!
//! Counts are exact for models whose tokenizer is built in, estimates for all others; every count
//! says which. A message is tokenised once, however often its conversation repeats it.

mod content;
pub mod encoding;
pub mod image;
pub mod prompt;
mod tools;

pub use self::encoding::{Encoding, ModelEncoding, count, encoding_for};
pub use self::prompt::{Counted, Counter};
