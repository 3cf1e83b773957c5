//! How payment tokens are shown.

use std::collections::BTreeMap;

use milepost_settlement::{Chain, TokenInfo};
use milepost_statement::Address;

use crate::output::money;

/// Symbols and decimals, asked once for each token. Without a chain amounts stay in smallest units.
#[derive(Default)]
pub(super) struct Tokens(BTreeMap<Address, TokenInfo>);

impl Tokens {
    pub(super) async fn of(chain: Option<&Chain>, tokens: impl IntoIterator<Item = Address>) -> Self {
        let mut known = BTreeMap::new();
        let Some(chain) = chain else { return Self(known) };
        let mut wanted: Vec<_> = tokens.into_iter().collect();
        wanted.sort_unstable();
        wanted.dedup();
        for token in wanted {
            match chain.token_info(token).await {
                Ok(Some(info)) => {
                    known.insert(token, info);
                }
                Ok(None) => {}
                // What does not answer now will not answer for the next either; figures without a point are right all the same.
                Err(_) => break,
            }
        }
        Self(known)
    }

    pub(super) fn decimals(&self, token: Address) -> Option<u8> {
        self.0.get(&token).map(|info| info.decimals)
    }

    /// The symbol, else the address.
    pub(super) fn name(&self, token: Address) -> String {
        self.0.get(&token).map(|info| info.symbol.clone()).filter(|symbol| !symbol.is_empty()).unwrap_or_else(|| token.to_string())
    }

    /// An amount with its point and name.
    pub(super) fn show(&self, amount: u128, token: Address) -> String {
        format!("{} {}", money(amount, self.decimals(token)), self.name(token))
    }
}
