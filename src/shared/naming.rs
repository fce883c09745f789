//! What things are called in Redis: keyed hashes, so that it learns no names, and equal ones on all
//! instances.

use crate::config::SharedConfig;
use crate::core::budget::AccountName;
use crate::core::digest::Digest;
use crate::core::id::Label;
use crate::core::time::Timestamp;

const CONTEXT: &str = "open-aiops 2026 shared budgets";

/// The names that this instance uses.
pub struct Naming {
    secret: [u8; 32],
    namespace: String,
    id: String,
    title: String,
    incarnation: u64,
}

/// The name of an account on all instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account(String);

impl Naming {
    /// `began` tells this start from the ones before.
    pub fn new(config: &SharedConfig, seed: u64, began: Timestamp) -> Self {
        let mut secret = blake3::Hasher::new_derive_key(CONTEXT);
        secret.update(config.namespace.as_str().as_bytes());
        secret.update(&[0]);
        secret.update(config.secret.expose().as_bytes());
        let secret = *secret.finalize().as_bytes();
        let id = short(&secret, "instance", &seed.to_le_bytes(), 6);
        Self {
            title: config
                .instance
                .as_ref()
                .map_or_else(|| id.clone(), Label::to_string),
            namespace: config.namespace.to_string(),
            secret,
            id,
            incarnation: u64::try_from(began.micros()).unwrap_or(0),
        }
    }

    /// Of this instance: the same at each start on the same ledger.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What people call it.
    pub fn title(&self) -> &str {
        &self.title
    }

    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// What is told to other instances is sealed with it.
    pub(super) fn seal_key(&self) -> [u8; 32] {
        *blake3::keyed_hash(&self.secret, b"seal\0").as_bytes()
    }

    /// Equal where the secret is.
    pub(super) fn mark(&self) -> String {
        short(&self.secret, "mark", &[], 16)
    }

    /// Braces keep all keys of a namespace together where keys are spread.
    pub fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.namespace)
    }

    pub fn account_key(&self, account: &Account) -> String {
        format!("{{{}}}:a:{}", self.namespace, account.0)
    }

    pub fn account(&self, name: &AccountName) -> Account {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(name.rule.as_str().as_bytes());
        for (dimension, value) in &name.key {
            // Labels hold no control characters.
            bytes.push(0);
            bytes.extend_from_slice(dimension.to_string().as_bytes());
            if let Some(value) = value {
                bytes.push(1);
                bytes.extend_from_slice(value.as_str().as_bytes());
            }
        }
        Account(short(&self.secret, "account", &bytes, 16))
    }

    /// Of a client's key: the same on all instances, and not to be got back.
    pub fn client_key(&self, key: &[u8]) -> Digest {
        let mut bytes = [0; 16];
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(b"client key\0").update(key);
        hasher.finalize_xof().fill(&mut bytes);
        Digest::from_bytes(bytes)
    }
}

/// A keyed hash of so many bytes, as hexadecimal digits.
fn short(secret: &[u8; 32], what: &str, bytes: &[u8], len: usize) -> String {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(what.as_bytes()).update(&[0]).update(bytes);
    let hex = hasher.finalize().to_hex();
    hex.chars().take(len * 2).collect()
}
