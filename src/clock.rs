//! The one place that reads the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use uuid::Uuid;

use crate::core::id::CallId;
use crate::core::time::Timestamp;

/// Wall-clock time, from the system or set by a test. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    #[default]
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `at` until it is [advanced](Self::advance_micros).
    pub fn manual(at: Timestamp) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(at.micros())))
    }

    /// Moves a manual clock; does nothing to the system's.
    pub fn advance_micros(&self, micros: i64) {
        if let Self::Manual(now) = self {
            now.fetch_add(micros, Ordering::SeqCst);
        }
    }

    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
                Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
            }
            Self::Manual(now) => Timestamp::from_micros(now.load(Ordering::SeqCst)),
        }
    }

    /// A fresh id. Ids sort by the time they were made.
    pub fn call_id(&self) -> CallId {
        match self {
            Self::System => CallId::from_uuid(Uuid::now_v7()),
            Self::Manual(_) => {
                let micros = u64::try_from(self.now().micros()).unwrap_or(0);
                let time = uuid::Timestamp::from_unix(
                    uuid::timestamp::context::NoContext,
                    micros / 1_000_000,
                    u32::try_from(micros % 1_000_000).unwrap_or(0) * 1000,
                );
                CallId::from_uuid(Uuid::new_v7(time))
            }
        }
    }
}
