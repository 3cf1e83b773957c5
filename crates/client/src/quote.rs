//! What a host promises before anybody pays: asked for, and held against the registry and the terms.

use milepost_statement::{Address, Digest, Domain, SignedQuote, TokenCount};
use serde_json::json;

use crate::chain::{Chain, Offer};
use crate::host::Host;
use crate::{Amount, Error};

/// Seconds that a quote must still hold when it is taken: a transaction needs its block before that.
const LEAST_SECONDS: u64 = 60;

/// What to ask a quote for.
#[derive(Clone, Copy, Debug)]
pub struct QuoteRequest {
    /// SHA-256 of the model file.
    pub model_digest: Digest,
    /// Payment token; zero for the chain's coin.
    pub token: Address,
    /// Expected tokens per second; 0 for the contract's default.
    pub expected_rate: u32,
    /// Tokens that the client would let be claimed beyond its last voucher.
    pub voucher_allowance: TokenCount,
}

impl Host {
    /// Asks for a quote. What is answered is not checked yet: see [`Chain::check_quote`].
    pub async fn quote(&self, request: &QuoteRequest) -> Result<SignedQuote, Error> {
        let body = json!({
            "model_digest": request.model_digest, "token": request.token, "expected_rate": request.expected_rate,
            "voucher_allowance": request.voucher_allowance,
        });
        self.post("v1/quote", None, body).await
    }
}

impl Chain {
    /// Holds a quote against what was asked, what the host published, and the chain's clock. Answers the price that it promises.
    ///
    /// # Errors
    ///
    /// [`Error::Quote`] says which part does not fit: another host, model, token or rate, a price above the registry's, an allowance above
    /// `most_allowance`, a quote that is about to expire, a signer who may not sign for the host.
    pub async fn check_quote(
        &self,
        signed: &SignedQuote,
        request: &QuoteRequest,
        offer: &Offer,
        most_allowance: TokenCount,
    ) -> Result<Amount, Error> {
        let quote = &signed.quote;
        let domain = Domain { chain_id: self.id(), marketplace: self.marketplace() };
        let wrong = |what, reason: String| Error::Quote { what, reason };
        for (what, found, expected) in [
            ("host", quote.host.to_string(), offer.host.to_string()),
            ("model", quote.model_digest.to_string(), request.model_digest.to_string()),
            ("token", quote.token.to_string(), request.token.to_string()),
            ("rate", quote.expected_rate.to_string(), request.expected_rate.to_string()),
        ] {
            if found != expected {
                return Err(wrong(what, format!("{found}, where {expected} was asked for")));
            }
        }
        if quote.price == 0 || quote.price > offer.price.0 {
            return Err(wrong("price", format!("{}, where the registry says {}", quote.price, offer.price)));
        }
        if quote.voucher_allowance > most_allowance {
            return Err(wrong("allowance", format!("{} tokens, more than the {most_allowance} that you allow", quote.voucher_allowance)));
        }
        let now = self.now().await?;
        if quote.expires_at < now.saturating_add(LEAST_SECONDS) {
            return Err(wrong("expiry", format!("{}, and it is {now} on the chain", quote.expires_at)));
        }
        let by = signed.signer(&domain).map_err(|error| wrong("signature", error.to_string()))?;
        if by != offer.host && !offer.submitters.contains(&by) {
            return Err(wrong("signer", format!("{by}, which is neither the host nor one of its submitter keys")));
        }
        Ok(Amount(quote.price))
    }
}

#[cfg(test)]
mod tests {
    use milepost_statement::{ChainId, Quote, SigningKey};

    use super::*;

    #[test]
    fn a_quote_is_read_as_the_door_writes_it() {
        let key = SigningKey::from_bytes(&[7; 32]).expect("a key");
        let quote = Quote {
            host: key.address(),
            model_digest: Digest([2; 32]),
            token: Address::ZERO,
            price: 2_000,
            expected_rate: 0,
            voucher_allowance: TokenCount(64),
            expires_at: 1_800_000_000,
        };
        let domain = Domain { chain_id: ChainId(31_337), marketplace: Address([1; 20]) };
        let mut answer = json!(quote.signed(&key, &domain));
        answer["signer"] = json!(Address([9; 20])); // not believed, and so not read
        answer["chain_id"] = json!(1);
        let read: SignedQuote = serde_json::from_value(answer).expect("a quote");
        assert_eq!((read.quote, read.signer(&domain)), (quote, Ok(key.address())));
    }
}
