//! Which forms were carried out, so that none is carried out twice, and what to tell of each.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::admin::problem::Problem;
use crate::core::id::CallId;

/// Forms that are remembered; forms are told to be too old long before as many were sent.
const MOST: usize = 4096;

/// The last forms, by the numbers they carry.
#[derive(Debug, Default)]
pub(in crate::dashboard) struct Memory(Mutex<VecDeque<Carried>>);

#[derive(Debug)]
struct Carried {
    once: CallId,
    result: watch::Sender<Outcome>,
}

/// What came of a form, in words; none while it is being carried out.
type Outcome = Option<Result<String, Problem>>;

/// Whether a form is carried out now.
pub(super) enum Begun<'m> {
    First(Doing<'m>),
    Again(Told),
}

/// Whoever carries a form out. Dropped without an end, it was not done.
pub(super) struct Doing<'m> {
    memory: &'m Memory,
    once: CallId,
}

/// Whoever sent a form once more.
pub(super) struct Told(watch::Receiver<Outcome>);

impl Memory {
    /// Begins a form, unless it was begun before.
    pub(super) fn begin(&self, once: CallId) -> Begun<'_> {
        let mut carried = self.lock();
        if let Some(it) = carried.iter().find(|it| it.once == once) {
            return Begun::Again(Told(it.result.subscribe()));
        }
        if carried.len() >= MOST {
            carried.pop_front();
        }
        let result = watch::Sender::new(None);
        carried.push_back(Carried { once, result });
        Begun::First(Doing { memory: self, once })
    }

    /// What was done.
    pub(super) fn words(&self, once: CallId) -> Option<String> {
        let carried = self.lock();
        let found = carried.iter().find(|it| it.once == once)?;
        let result = found.result.borrow();
        result.as_ref()?.as_ref().ok().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Carried>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doing<'_> {
    /// Tells all who wait what came of it. What was not done may be sent again.
    pub(super) fn end(self, result: Result<String, Problem>) -> Result<(), Problem> {
        let carried = self.memory.lock();
        if let Some(it) = carried.iter().find(|it| it.once == self.once) {
            it.result.send_replace(Some(result.clone()));
        }
        drop(carried);
        result.map(drop)
    }
}

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        let is_done = |it: &Carried| matches!(*it.result.borrow(), Some(Ok(_)));
        let once = self.once;
        self.memory
            .lock()
            .retain(|it| it.once != once || is_done(it));
    }
}

impl Told {
    /// Waits for the end of the form that was sent first.
    pub(super) async fn result(mut self) -> Result<(), Problem> {
        let lost = || {
            Problem::unavailable("it is not known what became of it: look before you send it again")
        };
        let ended = self.0.wait_for(Option::is_some).await;
        let result = ended.map_or_else(|_| None, |result| (*result).clone());
        result.ok_or_else(lost)?.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> CallId {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&(n as u64).to_be_bytes());
        CallId::from_bytes(bytes)
    }

    fn first(memory: &Memory, n: usize) -> Option<Doing<'_>> {
        match memory.begin(id(n)) {
            Begun::First(doing) => Some(doing),
            Begun::Again(_) => None,
        }
    }

    #[test]
    fn a_form_begins_once_unless_it_came_to_nothing() {
        let memory = Memory::default();
        let doing = first(&memory, 1).unwrap();
        assert!(first(&memory, 1).is_none());
        assert_eq!(memory.words(id(1)), None);
        doing.end(Ok("raised".to_owned())).unwrap();
        assert_eq!(memory.words(id(1)).as_deref(), Some("raised"));
        assert!(first(&memory, 1).is_none());
        let failed = first(&memory, 2).unwrap();
        failed.end(Err(Problem::not_found("gone"))).unwrap_err();
        drop(first(&memory, 2).unwrap());
        assert!(first(&memory, 2).is_some(), "who was dropped did nothing");
    }

    #[tokio::test]
    async fn the_second_of_a_double_click_is_told_what_came_of_the_first() {
        let memory = Memory::default();
        for (n, result) in [
            (1, Ok("raised".to_owned())),
            (2, Err(Problem::not_found("gone"))),
        ] {
            let doing = first(&memory, n).unwrap();
            let Begun::Again(told) = memory.begin(id(n)) else {
                panic!("begun twice");
            };
            let end = async { doing.end(result.clone()) };
            let (second, first) = tokio::join!(told.result(), end);
            assert_eq!((&second, &second), (&first, &result.map(drop)));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let memory = Memory::default();
        for n in 0..MOST + 10 {
            let doing = first(&memory, n).unwrap();
            doing.end(Ok(String::new())).unwrap();
        }
        assert_eq!(memory.lock().len(), MOST);
    }
}
