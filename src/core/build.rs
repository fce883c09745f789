//! Which build this is.

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, in 12 digits; `unknown` outside of a git checkout.
pub const COMMIT: &str = env!("OPEN_AIOPS_COMMIT");

/// Both, as in `0.1.0 (0123456789ab)`.
pub const DESCRIPTION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("OPEN_AIOPS_COMMIT"),
    ")"
);
