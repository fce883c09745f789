//! Why Redis cannot be used now.

use std::io;
use std::path::PathBuf;

use redis::{ErrorKind, RedisError};

/// What all instances have is not known now.
#[derive(Debug, thiserror::Error)]
pub enum Away {
    #[error("there is no connection to Redis")]
    Absent,
    #[error("Redis: {0}")]
    Redis(RedisError),
    /// Its lease ended, or Redis lost its memory.
    #[error("Redis does not know this instance")]
    Unknown,
    #[error("Redis gave an answer that is not understood: {0:?}")]
    Answer(String),
    #[error(
        "another instance with the same ledger is at this Redis: two programs on copies of one directory"
    )]
    Twice,
    #[error("the instances of this namespace have another secret ([shared] secret_env)")]
    Secret,
}

impl Away {
    /// It may have been one slow answer.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self, Self::Redis(error) if error.is_timeout())
    }

    /// Trying again does not help: somebody has to do something.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Twice | Self::Secret => true,
            Self::Redis(error) => error.kind() == ErrorKind::AuthenticationFailed,
            Self::Absent | Self::Unknown | Self::Answer(_) => false,
        }
    }
}

impl From<RedisError> for Away {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

/// Why there can be no connection at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("[shared] extra_ca_file {}: {}", .0.display(), .1)]
    Certificates(PathBuf, io::Error),
    #[error("[shared] url: {0}")]
    Url(#[from] RedisError),
    #[error("[shared] secret_env: no key can be made of it")]
    Seal,
}
