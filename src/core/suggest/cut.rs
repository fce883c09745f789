//! Outputs that ended at their limit, and the same asked once more.

use super::facts::CallFacts;
use super::timeouts::asked_again;
use super::{Draft, Rule, cost};
use crate::core::text::grouped;

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    let drafts = asked_again(calls, Rule::CutOutput, |call| call.is_cut, cost);
    drafts.into_iter().map(words).collect()
}

fn words(mut draft: Draft) -> Draft {
    let count = grouped(draft.claims.len() as u64);
    draft.sentence = format!(
        "{} had {count} outputs cut by their limit and asked the same again.",
        draft.agent
    );
    draft.evidence("outputs cut and asked for again", &count);
    draft.assumption = "With a limit high enough the first of each pair would have been the answer: counted \
                        is what the cut call cost.";
    draft.fix("Raise the output limit of these calls, or ask for less at once.");
    draft
}
