//! Which of two instances has the last word on a run that both pause, resume or stop at once: the one
//! whose deed comes later in the stream, which is the same for all.

use std::collections::HashMap;
use std::sync::Mutex;

use super::lock;
use super::reader::DeedId;
use crate::core::id::Label;

/// Runs that are remembered, beside those whose deed was not told yet.
const MOST: usize = 1024;

/// What this instance did to runs.
#[derive(Debug, Default)]
pub(super) struct Controls(Mutex<HashMap<Label, Own>>);

#[derive(Debug, Default)]
struct Own {
    /// Deeds that are not in the stream yet.
    untold: usize,
    /// The last one that is.
    told: DeedId,
}

impl Controls {
    /// Something is done to a run, and will be told.
    pub(super) fn begin(&self, run: &Label) {
        let mut all = lock(&self.0);
        if all.len() >= MOST
            && let Some(oldest) = oldest(&all)
        {
            all.remove(&oldest);
        }
        all.entry(run.clone()).or_default().untold += 1;
    }

    /// It is in the stream there. Whoever learns that second changes nothing.
    pub(super) fn told(&self, run: &Label, deed: DeedId) {
        if let Some(own) = lock(&self.0).get_mut(run)
            && own.told < deed
        {
            own.told = deed;
            own.untold = own.untold.saturating_sub(1);
        }
    }

    /// It cannot be told any more.
    pub(super) fn give_up(&self, run: &Label) {
        if let Some(own) = lock(&self.0).get_mut(run) {
            own.untold = own.untold.saturating_sub(1);
        }
    }

    /// The stream begins anew: what was told is not in it.
    pub(super) fn forget_told(&self) {
        for own in lock(&self.0).values_mut() {
            own.told = DeedId::default();
        }
    }

    /// What this instance did to the run comes after that deed of another one.
    pub(super) fn are_later(&self, run: &Label, deed: DeedId) -> bool {
        let all = lock(&self.0);
        all.get(run)
            .is_some_and(|own| own.untold > 0 || deed < own.told)
    }
}

fn oldest(all: &HashMap<Label, Own>) -> Option<Label> {
    let told = all.iter().filter(|(_, own)| own.untold == 0);
    told.min_by_key(|(_, own)| own.told)
        .map(|(run, _)| run.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Label {
        Label::parse("run").unwrap()
    }

    fn deed(number: u64) -> DeedId {
        DeedId::parse(&format!("1-{number}")).unwrap()
    }

    #[test]
    fn what_is_not_told_yet_comes_after_all_that_is() {
        let controls = Controls::default();
        assert!(!controls.are_later(&run(), deed(1)));
        controls.begin(&run());
        assert!(controls.are_later(&run(), deed(1)));
    }

    #[test]
    fn what_was_told_comes_before_what_is_told_later() {
        let controls = Controls::default();
        controls.begin(&run());
        controls.told(&run(), deed(5));
        assert!(controls.are_later(&run(), deed(4)));
        assert!(!controls.are_later(&run(), deed(6)));
    }

    #[test]
    fn one_of_two_that_is_not_told_is_enough() {
        let controls = Controls::default();
        controls.begin(&run());
        controls.begin(&run());
        controls.told(&run(), deed(5));
        assert!(controls.are_later(&run(), deed(6)));
        controls.give_up(&run());
        assert!(!controls.are_later(&run(), deed(6)));
    }

    #[test]
    fn deed_that_is_heard_of_before_redis_answered_is_told_once() {
        let controls = Controls::default();
        controls.begin(&run());
        controls.begin(&run());
        controls.told(&run(), deed(5));
        controls.told(&run(), deed(5));
        assert!(controls.are_later(&run(), deed(9)), "one is not told yet");
        controls.told(&run(), deed(7));
        assert!(!controls.are_later(&run(), deed(9)));
        assert!(controls.are_later(&run(), deed(6)));
    }

    #[test]
    fn there_are_never_more_than_a_number_and_the_untold() {
        let controls = Controls::default();
        controls.begin(&run());
        for number in 1..5000 {
            let run = Label::parse(&format!("run-{number}")).unwrap();
            controls.begin(&run);
            controls.told(&run, deed(number));
        }
        assert!(lock(&controls.0).len() <= MOST);
        assert!(controls.are_later(&run(), deed(9)), "it was not told yet");
    }
}
