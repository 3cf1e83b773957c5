//! `milepost earnings [withdraw]`: what the host can withdraw, what is on its way, and the withdrawal to the payout address.
//!
//! Earnings wait in `HostEarnings` and move by the host's own key alone, to the payout address in the registry alone. What could not
//! be credited there (a token that did not move) waits as a credit in the marketplace, and is withdrawn to the same address. Marketplaces
//! of other generations know neither payout addresses nor credits: there the host's own account is paid.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address as EvmAddress, U256};
use milepost_ledger::{AccountRecord, Phase, TokenAmount};
use milepost_settlement::bindings::{HostEarnings, JobMarketplace};
use milepost_settlement::{Chain, Constants};
use milepost_statement::{Address, Digest};
use serde::Serialize;

use super::jobs::{at_risk, now};
use super::tokens::Tokens;
use crate::books;
use crate::cli::WithdrawArgs;
use crate::config::Config;
use crate::keys;
use crate::output::{Output, span, table};
use crate::send::{HostAccount, Sent};

alloy::sol! {
    /// EIP-20.
    event Transfer(address indexed from, address indexed to, uint256 value);
}

/// Whom the contracts pay.
struct Payee {
    constants: Constants,
    /// Where withdrawals go.
    payout: Address,
    /// Models on offer: jobs may come in any of their tokens.
    models: Vec<Digest>,
    /// Whether the marketplace is of our generation, with a registry and credits.
    is_ours: bool,
}

/// A payment token's line.
#[derive(Debug, Default, Serialize)]
struct Line {
    token: Address,
    symbol: String,
    decimals: Option<u8>,
    /// In `HostEarnings`.
    withdrawable: TokenAmount,
    /// In the marketplace, because the token did not move.
    credit: TokenAmount,
    /// Jobs paid, as this ledger knows.
    paid_jobs: usize,
    /// Paid to the host for them.
    paid: TokenAmount,
    /// The host's part of what is final on chain and not paid yet.
    claimed: TokenAmount,
    /// Delivered and in no claim on chain yet, fee included.
    at_risk: TokenAmount,
    /// Seconds until the nearest deadline for that.
    seconds_left: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Shown {
    host: Address,
    payout: Address,
    earnings: Address,
    tokens: Vec<Line>,
}

/// What a withdrawal moved.
#[derive(Debug, Serialize)]
struct Withdrawn {
    token: Address,
    amount: TokenAmount,
    to: Address,
    tx: Digest,
    block: u64,
    /// `HostEarnings`, or the marketplace for a credit.
    from: Address,
}

/// Shows what the host earned.
pub(crate) async fn show(config: &Config, output: Output) -> Result<(), String> {
    let chain = chain(config)?;
    let host = host(config)?;
    let payee = payee(&chain, host).await?;
    let records = records(config)?;
    let mut lines: BTreeMap<Address, Line> = BTreeMap::new();
    for token in tokens_of(&chain, host, &payee, &records).await? {
        let withdrawable = chain.withdrawable(host, token).await.map_err(told)?;
        let credit = credit(&chain, host, &payee, token).await?;
        lines.insert(token, Line { token, withdrawable, credit, ..Line::default() });
    }
    for record in &records {
        let Some(terms) = &record.terms else { continue };
        let Some(line) = lines.get_mut(&terms.token) else { continue };
        if let Phase::Paid(payout) = &record.phase {
            line.paid_jobs += 1;
            line.paid.0 = line.paid.0.saturating_add(payout.host.0);
        } else {
            let tokens = record.positions.finalized - milepost_statement::TokenSeq::ZERO;
            line.claimed.0 = line.claimed.0.saturating_add(terms.payout(tokens).map_or(0, |payout| payout.host.0));
        }
    }
    for risk in at_risk(records.iter(), now(Some(&chain)).await) {
        if let Some(line) = lines.get_mut(&risk.token) {
            (line.at_risk, line.seconds_left) = (risk.amount, Some(risk.seconds_left));
        }
    }
    let tokens = Tokens::of(Some(&chain), lines.keys().copied()).await;
    for line in lines.values_mut() {
        (line.symbol, line.decimals) = (tokens.name(line.token), tokens.decimals(line.token));
    }
    let shown = Shown { host, payout: payee.payout, earnings: payee.constants.earnings, tokens: lines.into_values().collect() };
    output.show(|| &shown, || text(&shown, &tokens))
}

/// Withdraws to the payout address.
pub(crate) async fn withdraw(config: &Config, args: &WithdrawArgs, output: Output) -> Result<(), String> {
    let chain = chain(config)?;
    let account = HostAccount::open(config, &args.host).await?;
    let host = account.address();
    let payee = payee(&chain, host).await?;
    let earnings = payee.constants.earnings;
    let wanted = match args.token {
        Some(token) => vec![token],
        None if args.amount.is_some() => return Err("--amount needs --token: an amount of what?".to_owned()),
        None => tokens_of(&chain, host, &payee, &records(config)?).await?.into_iter().collect(),
    };
    let tokens = Tokens::of(Some(&chain), wanted.iter().copied()).await;
    let mut moved = Vec::new();
    for token in wanted {
        let available = chain.withdrawable(host, token).await.map_err(told)?;
        let amount = args.amount.map_or(available, TokenAmount);
        if amount > available {
            return Err(format!("{} can be withdrawn, not {}", tokens.show(available.0, token), tokens.show(amount.0, token)));
        }
        if amount > TokenAmount::ZERO {
            let call = HostEarnings::withdrawCall { amount: U256::from(amount.0), token: EvmAddress::from(token.0) };
            let sent = account.call("withdraw", earnings, call).await?;
            let (amount, to) =
                if payee.is_ours { withdrawn(&sent, earnings)? } else { (transferred(&sent, earnings, token, amount)?, host) };
            moved.push(Withdrawn { token, amount, to, tx: sent.tx, block: sent.block, from: earnings });
        }
        // A credit is withdrawn whole; an asked-for amount is one of the earnings.
        if args.amount.is_none() && credit(&chain, host, &payee, token).await? > TokenAmount::ZERO {
            let call = JobMarketplace::withdrawCreditToCall { token: EvmAddress::from(token.0), to: EvmAddress::from(payee.payout.0) };
            let sent = account.call("withdrawCreditTo", chain.marketplace(), call).await?;
            let event: JobMarketplace::CreditWithdrawn = sent
                .event(chain.marketplace())
                .ok_or_else(|| format!("transaction {} succeeded without a CreditWithdrawn event: look at it", sent.tx))?;
            moved.push(Withdrawn {
                token,
                amount: TokenAmount(u128::try_from(event.amount).unwrap_or(u128::MAX)),
                to: Address(event.to.into_array()),
                tx: sent.tx,
                block: sent.block,
                from: chain.marketplace(),
            });
        }
    }
    if moved.is_empty() {
        return Err(format!("nothing to withdraw for {host}: `milepost earnings` shows what is on its way"));
    }
    output.show(
        || &moved,
        || {
            let line = |moved: &Withdrawn| {
                format!("{} to {} (transaction {}, block {})\n", tokens.show(moved.amount.0, moved.token), moved.to, moved.tx, moved.block)
            };
            moved.iter().map(line).collect()
        },
    )
}

fn chain(config: &Config) -> Result<Chain, String> {
    let settlement = config.chain.as_ref().ok_or("no chain is configured: nothing is earned in log mode")?;
    Chain::new(settlement).map_err(|error| error.to_string())
}

/// The host of this node.
fn host(config: &Config) -> Result<Address, String> {
    match config.chain.as_ref().and_then(|chain| chain.host) {
        Some(host) => Ok(host),
        None => keys::configured_address(&config.keys).map_err(|why| format!("chain.host is not set, and {why}")),
    }
}

/// What the event of our own `HostEarnings` says was moved, and where to.
fn withdrawn(sent: &Sent, earnings: Address) -> Result<(TokenAmount, Address), String> {
    let event: HostEarnings::EarningsWithdrawn =
        sent.event(earnings).ok_or_else(|| format!("transaction {} succeeded without an EarningsWithdrawn event: look at it", sent.tx))?;
    Ok((TokenAmount(u128::try_from(event.amount).unwrap_or(u128::MAX)), Address(event.to.into_array())))
}

/// What a purse of another generation moved. Its own events differ; the token's do not. Coins have none: there the purse moves what
/// was asked, or the transaction fails.
fn transferred(sent: &Sent, earnings: Address, token: Address, asked: TokenAmount) -> Result<TokenAmount, String> {
    if token == Address::ZERO {
        return Ok(asked);
    }
    let event: Option<Transfer> = sent.event(token);
    let event = event.filter(|event| event.from.into_array() == earnings.0);
    let event = event.ok_or_else(|| format!("transaction {} succeeded and moved no {token}: look at it", sent.tx))?;
    Ok(TokenAmount(u128::try_from(event.value).unwrap_or(u128::MAX)))
}

async fn payee(chain: &Chain, host: Address) -> Result<Payee, String> {
    let constants = chain.preflight_contract().await.map_err(told)?;
    if !chain.generation().await.map_err(told)?.is_ours() {
        return Ok(Payee { constants, payout: host, models: Vec::new(), is_ours: false });
    }
    let record = chain.host_record(host).await.map_err(told)?;
    let record = record.ok_or_else(|| format!("{host} is not registered in {}: is this the host's own key?", constants.registry))?;
    Ok(Payee { constants, payout: record.payout, models: record.models, is_ours: true })
}

async fn credit(chain: &Chain, host: Address, payee: &Payee, token: Address) -> Result<TokenAmount, String> {
    if payee.is_ours { chain.credit(host, token).await.map_err(told) } else { Ok(TokenAmount::ZERO) }
}

/// The ledger's accounts; earnings can be shown and withdrawn where there is no ledger as well.
fn records(config: &Config) -> Result<Vec<AccountRecord>, String> {
    if books::exists(config) { books::ledger(config)?.accounts().map_err(|error| error.to_string()) } else { Ok(Vec::new()) }
}

/// Every token in which the host may hold something: of its jobs, of its prices, and the chain's coin.
async fn tokens_of(chain: &Chain, host: Address, payee: &Payee, records: &[AccountRecord]) -> Result<BTreeSet<Address>, String> {
    let mut tokens: BTreeSet<_> = records.iter().filter_map(|record| record.terms.as_ref()).map(|terms| terms.token).collect();
    tokens.insert(Address::ZERO);
    for model in &payee.models {
        tokens.extend(chain.prices_of(host, *model).await.map_err(told)?.into_iter().map(|(token, _)| token));
    }
    Ok(tokens)
}

#[allow(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn told(error: milepost_settlement::Error) -> String {
    format!("{error}; {}", error.advice())
}

fn text(shown: &Shown, tokens: &Tokens) -> String {
    let rows = shown.tokens.iter().map(|line| {
        let amount = |amount: TokenAmount| tokens.show(amount.0, line.token);
        [
            line.symbol.clone(),
            amount(line.withdrawable),
            amount(line.credit),
            amount(line.claimed),
            amount(line.at_risk),
            line.seconds_left.map_or_else(|| "-".to_owned(), span),
            format!("{} for {} jobs", amount(line.paid), line.paid_jobs),
        ]
    });
    let columns = ["TOKEN", "WITHDRAWABLE", "CREDIT", "CLAIMED", "AT RISK", "LEFT", "PAID SO FAR"];
    format!("host {}, payout address {}\n{}", shown.host, shown.payout, table(columns, rows))
}
