//! What a ledger is called where it meets others.

use super::Ledger;

impl Ledger {
    /// Twelve hexadecimal digits, the same for as long as its directory lives, that give nothing of
    /// its secret away.
    pub fn name(&self) -> String {
        let secret = self.seed().0.to_le_bytes();
        let name = blake3::derive_key("open-aiops 2026 name of a ledger in sinks", &secret);
        let front = name.iter().take(6);
        front.fold(String::new(), |name, byte| format!("{name}{byte:02x}"))
    }
}
