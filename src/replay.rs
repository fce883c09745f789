//! An upstream that answers from the record of a run: the same bytes, in the same pieces, at the same
//! times or faster.
//!
//! [`tape`] is what was recorded, [`asked`] reads requests, recorded and new, and says in words where
//! they differ; [`server`] answers. Which call answers which request is decided in
//! [`crate::core::replay`]. What is not on the record can go on live through a proxy, if that is wanted.

pub mod asked;
mod given;
mod live;
mod model;
mod play;
mod progress;
pub mod server;
pub mod tape;

pub use given::as_given;
pub use live::Live;
pub use play::Speed;

/// A longer request is refused.
const MAX_BODY: usize = 64 << 20;
