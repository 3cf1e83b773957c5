//! A host's signed offer, given before a session is funded.
//!
//! **Guarantees.** The host serves a job that was created by `expires_at` at this price, whatever its registered price is by then.
//! **Does not** reserve anything: a host may be busy, or stop to serve for everybody.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::eip712::{address_word, word};
use crate::{Address, Digest, Domain, SignatureError, SigningKey, TokenCount, recover};

/// What a host offers. Signed as EIP-712 `Quote` under the marketplace's domain by the host or one of its submitter keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// The host.
    pub host: Address,
    /// SHA-256 of the model file.
    pub model_digest: Digest,
    /// Payment token; zero for the chain's coin.
    pub token: Address,
    /// Price of a token in the payment token's smallest unit. Decimal text in JSON.
    #[serde(with = "as_text")]
    pub price: u128,
    /// Expected tokens per second; 0 for the contract's default.
    pub expected_rate: u32,
    /// Tokens that the host wants to be able to claim beyond the last voucher.
    pub voucher_allowance: TokenCount,
    /// Unix seconds until which a job may be created on these terms.
    pub expires_at: u64,
}

/// A quote with the signature that makes it one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedQuote {
    /// What is offered.
    #[serde(flatten)]
    pub quote: Quote,
    /// `r ‖ s ‖ v` as `0x…`.
    #[serde(with = "as_hex")]
    pub signature: Vec<u8>,
}

impl Quote {
    /// What the host signs.
    pub fn digest(&self, domain: &Domain) -> Digest {
        let mut price = [0; 32];
        price[16..].copy_from_slice(&self.price.to_be_bytes());
        domain.digest(
            b"Quote(address host,bytes32 modelDigest,address token,uint256 pricePerToken,uint256 expectedRate,uint256 voucherAllowance,uint256 expiresAt)",
            &[
                address_word(self.host),
                self.model_digest.0,
                address_word(self.token),
                price,
                word(self.expected_rate.into()),
                word(self.voucher_allowance.0),
                word(self.expires_at),
            ],
        )
    }

    /// The quote with a key's signature.
    pub fn signed(self, key: &SigningKey, domain: &Domain) -> SignedQuote {
        SignedQuote { quote: self, signature: key.sign(&self.digest(domain)).to_vec() }
    }
}

impl SignedQuote {
    /// Who signed it.
    pub fn signer(&self, domain: &Domain) -> Result<Address, SignatureError> {
        recover(&self.quote.digest(domain), &self.signature)
    }
}

/// JavaScript's numbers end at 2^53.
mod as_text {
    use super::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's `with` hands the field by reference
    pub(super) fn serialize<S: Serializer>(price: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(price)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

mod as_hex {
    use super::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("0x{}", hex::encode(bytes)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(text.strip_prefix("0x").unwrap_or(&text)).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChainId;

    const DOMAIN: Domain = Domain { chain_id: ChainId(31_337), marketplace: Address([0x11; 20]) };

    fn quote() -> Quote {
        Quote {
            host: Address([1; 20]),
            model_digest: Digest([2; 32]),
            token: Address([3; 20]),
            price: 2_000,
            expected_rate: 10,
            voucher_allowance: TokenCount(64),
            expires_at: 1_800_000_000,
        }
    }

    #[test]
    fn a_quote_names_its_signer_and_any_change_names_another() {
        let key = SigningKey::from_bytes(&[7; 32]).expect("a key");
        let signed = quote().signed(&key, &DOMAIN);
        assert_eq!(signed.signer(&DOMAIN), Ok(key.address()));
        let changes: [fn(&mut Quote); 7] = [
            |quote| quote.host.0[0] ^= 1,
            |quote| quote.model_digest.0[0] ^= 1,
            |quote| quote.token.0[0] ^= 1,
            |quote| quote.price -= 1,
            |quote| quote.expected_rate += 1,
            |quote| quote.voucher_allowance.0 += 1,
            |quote| quote.expires_at += 1,
        ];
        for change in changes {
            let mut other = signed.clone();
            change(&mut other.quote);
            assert_ne!(other.signer(&DOMAIN), Ok(key.address()), "{other:?}");
        }
        let elsewhere = Domain { chain_id: ChainId(1), ..DOMAIN };
        assert_ne!(signed.signer(&elsewhere), Ok(key.address()));
    }

    #[test]
    fn a_quote_is_the_same_after_json() {
        let signed = Quote { price: 1 << 90, ..quote() }.signed(&SigningKey::from_bytes(&[7; 32]).expect("a key"), &DOMAIN);
        let text = serde_json::to_string(&signed).expect("text");
        assert!(text.contains(r#""price":"1237940039285380274899124224""#), "{text}");
        assert_eq!(serde_json::from_str::<SignedQuote>(&text).expect("a quote"), signed);
    }
}
