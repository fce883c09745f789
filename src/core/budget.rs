//! Budgets: which calls a rule is about, what it counts, how much there is, and what that means for
//! the next call.
//!
//! A [`rule`] opens an account for every key it tells apart. An account knows what was [`spent`]
//! within its [`window`] and what running calls hold. [`decide`] looks at all accounts of a call
//! and says: hold this much, wait, or refuse.

pub mod account;
pub mod act;
pub mod amounts;
pub mod decide;
pub mod fill;
pub mod rule;
pub mod spent;
pub mod usual;
pub mod window;

pub use self::account::{AccountId, AccountName, Charge, Charged, Raise, StoredAccount};
pub use self::act::{Act, Control, Deed, MAX_ANCESTORS, RunState};
pub use self::amounts::{Amounts, Limits, Measure};
pub use self::rule::{Action, Dimension, OnUnpriced, Rule, Slow};
pub use self::spent::Spent;
pub use self::window::{Unit, Window};
