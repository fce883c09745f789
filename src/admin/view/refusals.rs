//! What was refused to a run.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::budgets::refused::Refused;
use crate::core::id::Label;
use crate::core::time::Timestamp;

/// What was refused to a run and to those it began, as long as the run is in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusalList {
    pub run: Label,
    pub refusals: Vec<RefusalView>,
}

/// Calls that were refused, or ended while they ran, for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusalView {
    /// As `x-aiops-reason` has it: `budget_spent`, `loop_repeat`, `run_stopped`, ...
    pub kind: String,
    /// The budget that was in the way.
    pub budget: Option<Label>,
    /// A breaker: it does not pass by waiting.
    pub is_break: bool,
    pub calls: u64,
    pub last_at: Timestamp,
    /// What the last of them was told: what tripped, the evidence, and how to go on.
    pub message: String,
}

/// A run that was made known before its first call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunBegun {
    pub run: Label,
}

impl From<Refused> for RefusalView {
    fn from(refused: Refused) -> Self {
        Self {
            kind: refused.kind.to_owned(),
            budget: refused.rule,
            is_break: refused.is_break,
            calls: refused.calls,
            last_at: refused.last_at,
            message: refused.message,
        }
    }
}
