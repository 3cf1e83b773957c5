//! Clients that can check and pay, at a running node on a dev chain: the JavaScript client beside the Rust one, a host that meters
//! and claims more than it delivers, a client that acknowledges nothing. Amounts are read from the chain.

mod commands;
#[path = "../common/mod.rs"]
mod common;
mod javascript;
mod overclaiming;
mod silent;
mod skimmer;

use std::path::Path;

use milepost_client::{Amount, ChatRequest, OpenRequest, Session, Wallet};
use milepost_statement::{Address, Digest, TokenCount};

use common::ground::{DEPOSITOR, Ground};

/// Price of a token in 10⁻⁶ USDC, as the deployment sets it.
pub(crate) const PRICE: u64 = 2_000;

/// Funds a session of 2 USDC with vouchers and this allowance, at a host that is reached by `url`.
pub(crate) async fn open_vouched(ground: &Ground, url: &str, allowance: u64, file: &Path) -> Session {
    let mut request = OpenRequest::new(
        ground.chain.url(),
        Address(ground.contracts.marketplace.into()),
        Address(ground.contracts.actors.host.address.into()),
        Address(ground.contracts.usdc.into()),
        Amount(2_000_000),
        Digest(milepost_inference::scripted::digest()),
        file.to_owned(),
    );
    request.host_url = Some(url.to_owned());
    request.voucher_allowance = Some(TokenCount(allowance));
    let mut session = Session::open(Wallet::development(DEPOSITOR).expect("a key"), request).await.expect("funded");
    session.authenticate(None).await.expect("the depositor may open");
    session
}

pub(crate) fn ask(tokens: u32) -> ChatRequest {
    ChatRequest { max_tokens: tokens, temperature: 0.0, ..ChatRequest::new("scripted", "count as far as you can") }
}
