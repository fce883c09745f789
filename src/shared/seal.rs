//! What is told to other instances, sealed: Redis keeps it and cannot read it.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

/// Seals with a key that all instances have.
pub(super) struct Seal {
    key: LessSafeKey,
    random: SystemRandom,
}

impl Seal {
    pub(super) fn new(key: &[u8; 32]) -> Option<Self> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).ok()?;
        Some(Self {
            key: LessSafeKey::new(key),
            random: SystemRandom::new(),
        })
    }

    /// A nonce, then the sealed bytes; none where the system has no random numbers.
    pub(super) fn seal(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut sealed = bytes.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        let done = self
            .key
            .seal_in_place_append_tag(unique, Aad::empty(), &mut sealed);
        done.ok()?;
        Some([nonce.as_slice(), &sealed].concat())
    }

    /// None where it was sealed with another key, or changed.
    pub(super) fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut bytes = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self
            .key
            .open_in_place(nonce, Aad::empty(), &mut bytes)
            .ok()?;
        Some(opened.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_by_the_same_key_alone_and_unchanged_alone() {
        let seal = Seal::new(&[1; 32]).unwrap();
        let sealed = seal.seal(b"agent planner").unwrap();
        assert_eq!(
            seal.open(&sealed).as_deref(),
            Some(b"agent planner".as_slice())
        );
        assert_ne!(seal.seal(b"agent planner").unwrap(), sealed);
        assert!(!sealed.windows(5).any(|part| part == b"agent"));
        assert_eq!(Seal::new(&[2; 32]).unwrap().open(&sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(seal.open(&changed), None, "byte {at}");
            assert_eq!(seal.open(&sealed[..at]), None, "{at} bytes");
        }
    }
}
