//! The key that pays and signs.

use alloy::primitives::B256;
use alloy::signers::local::coins_bip39::English;
use alloy::signers::local::{MnemonicBuilder, PrivateKeySigner};
use milepost_statement::{Address, Digest, Domain, SessionOpen, Signature, SigningKey, TokenCount, Voucher};

use crate::Error;
use crate::transcript::JobIdentity;

/// The mnemonic that every development chain funds. Worthless anywhere else.
const DEVELOPMENT_MNEMONIC: &str = "test test test test test test test test test test test junk";

/// A secp256k1 key: the depositor's. Never printed.
#[derive(Clone, Debug)]
pub struct Wallet {
    key: SigningKey,
    signer: PrivateKeySigner,
}

impl Wallet {
    /// From the key's 32 bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        let key = SigningKey::from_bytes(bytes).ok_or(Error::Key)?;
        let signer = PrivateKeySigner::from_bytes(&B256::from(bytes)).map_err(|_| Error::Key)?;
        Ok(Self { key, signer })
    }

    /// Account `index` of a BIP-39 mnemonic at the usual path `m/44'/60'/0'/0/index`.
    pub fn from_mnemonic(phrase: &str, index: u32) -> Result<Self, Error> {
        let signer = MnemonicBuilder::<English>::default()
            .phrase(phrase)
            .index(index)
            .and_then(|builder| builder.build())
            .map_err(|error| Error::Mnemonic(error.to_string()))?;
        Self::from_bytes(&signer.to_bytes().0)
    }

    /// Account `index` of the well-known development mnemonic. For chains that hold no value.
    pub fn development(index: u32) -> Result<Self, Error> {
        Self::from_mnemonic(DEVELOPMENT_MNEMONIC, index)
    }

    /// Its address.
    pub fn address(&self) -> Address {
        self.key.address()
    }

    /// The signer of its transactions.
    pub(crate) fn signer(&self) -> &PrivateKeySigner {
        &self.signer
    }

    /// Answers a host's challenge.
    pub fn sign_open(&self, job: &JobIdentity, challenge: Digest, expires_at: u64) -> Signature {
        let open = SessionOpen { job_id: job.job_id, challenge, expires_at };
        self.key.sign(&open.digest(&job.domain()))
    }

    /// Countersigns the running total of a job. The caller has checked that it holds that many tokens.
    pub(crate) fn sign_voucher(&self, job: &JobIdentity, tokens: TokenCount) -> Signature {
        let domain = Domain { chain_id: job.chain_id, marketplace: job.marketplace };
        self.key.sign(&Voucher { job_id: job.job_id, tokens }.digest(&domain))
    }
}

#[cfg(test)]
mod tests {
    use super::Wallet;

    #[test]
    fn development_wallets_are_the_accounts_that_development_chains_fund() {
        let addresses = [0, 1, 9].map(|index| Wallet::development(index).expect("an account").address().to_string());
        assert_eq!(
            addresses,
            [
                "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266",
                "0x70997970c51812dc3a010c7d01b50e0d17dc79c8",
                "0xa0ee7a142d267c1f36714e4a8f75612f20a79720",
            ]
        );
    }

    #[test]
    fn zero_is_no_key_and_no_key_is_printed() {
        assert!(Wallet::from_bytes(&[0; 32]).is_err());
        let wallet = Wallet::from_bytes(&[0x42; 32]).expect("a key");
        assert!(!format!("{wallet:?}").contains("4242"), "a wallet's debug form must not show its key");
    }
}
