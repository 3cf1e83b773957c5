//! `milepost keys accept-nonces`: an operator has looked at what a key did beside the ledger, and says that it is explained.
//!
//! The chain counts more transactions of the key than the ledger explains (`MP-S-030`), and nothing is signed. Whether that is harm (an
//! old backup, a copy of this host, a thief) or an errand (a transfer by hand) nobody but the operator can tell; so the command shows
//! each transaction that it would write off, and does it only when told up to which.
//!
//! Guarantees: nothing beyond the nonces that were shown is accepted; it is done with the node stopped and the key's lock held, on the
//! chain that the database belongs to.
//! Does not: make good what those transactions did. Jobs whose tokens were claimed by them stay stopped (`MP-S-016`).

use std::process::ExitCode;

use alloy::consensus::Transaction as _;
use alloy::network::TransactionResponse as _;
use alloy::providers::Provider;
use milepost_settlement::{Chain, KeyLock, accept_nonces_below, check_belongs, key_use};
use milepost_statement::{Address, Digest};
use serde::Serialize;

use crate::books;
use crate::cli::AcceptArgs;
use crate::config::Config;
use crate::output::{Output, table};

/// It was shown, and nothing was done.
const SHOWN: u8 = 3;
/// Transactions that are looked up and shown; the count of the rest is told.
const MAX_SHOWN: usize = 32;

/// A transaction that nothing here explains.
#[derive(Debug, Serialize)]
struct Unexplained {
    nonce: u64,
    /// Unknown where the endpoint keeps no old states, by which it is found.
    tx: Option<Digest>,
    block: Option<u64>,
    to: Option<Address>,
    /// Wei.
    value: Option<String>,
    /// First four bytes of the call.
    selector: Option<String>,
}

#[derive(Debug, Serialize)]
struct Shown {
    key: Address,
    /// Transactions that the chain counts.
    count: u64,
    /// Transactions that the ledger explains.
    known: u64,
    unexplained: Vec<Unexplained>,
    /// Of those, how many are not listed.
    further: u64,
    /// Whether they are explained from now on.
    accepted: bool,
}

pub(super) async fn run(args: &AcceptArgs, config: &Config, output: Output) -> Result<ExitCode, String> {
    let settlement = config.chain.as_ref().ok_or("no chain is configured: set chain.rpc_url")?;
    let told = |error: milepost_settlement::Error| format!("{error}; {}", error.advice());
    books::refuse_if_running(config)?;
    let _lock = KeyLock::of(settlement, args.key).map_err(told)?;
    let chain = Chain::new(settlement).map_err(told)?;
    let read_only = books::ledger(config)?;
    let host = settlement.host.unwrap_or(args.key);
    let found = chain.preflight(host, host).await.map_err(told)?;
    check_belongs(&read_only, &chain, &found).map_err(told)?;
    let used = key_use(&read_only, &chain, args.key).await.map_err(told)?;
    drop(read_only);
    let range = used.unexplained();
    let mut shown = Shown { key: args.key, count: used.count, known: used.known, unexplained: Vec::new(), further: 0, accepted: false };
    for nonce in range.clone().take(MAX_SHOWN) {
        shown.unexplained.push(look_up(&chain, args.key, nonce).await);
    }
    shown.further = (range.end - range.start).saturating_sub(shown.unexplained.len() as u64);
    let mut code = ExitCode::SUCCESS;
    if range.is_empty() {
        shown.accepted = args.yes;
    } else if !args.yes {
        code = ExitCode::from(SHOWN);
    } else {
        match args.below {
            None => return Err(format!("--yes needs --below: up to which have you looked? The chain counts {}", used.count)),
            Some(below) if below != used.count => {
                return Err(format!("the chain counts {}, not {below}: look at what came since, and accept that", used.count));
            }
            Some(below) => {
                let db = crate::host::open_ledger(config).map_err(|error| error.to_string())?;
                let done = accept_nonces_below(&db, &chain, args.key, below).await.map_err(told);
                db.close().await;
                done?;
                shown.accepted = true;
            }
        }
    }
    output.show(|| &shown, || text(&shown))?;
    Ok(code)
}

/// The transaction of a nonce: in the first block after which the key's count is above it.
async fn look_up(chain: &Chain, key: Address, nonce: u64) -> Unexplained {
    let mut found = Unexplained { nonce, tx: None, block: None, to: None, value: None, selector: None };
    let Some(number) = block_of(chain, key, nonce).await else { return found };
    found.block = Some(number);
    let Ok(Some(block)) = chain.provider().get_block_by_number(number.into()).full().await else { return found };
    let is_it = |tx: &alloy::rpc::types::Transaction| tx.from().into_array() == key.0 && tx.nonce() == nonce;
    if let Some(tx) = block.transactions.into_transactions().find(is_it) {
        found.tx = Some(Digest(tx.tx_hash().0));
        found.to = alloy::consensus::Transaction::to(&tx).map(|to| Address(to.into_array()));
        found.value = Some(alloy::consensus::Transaction::value(&tx).to_string());
        found.selector = tx.input().get(..4).map(|bytes| format!("0x{}", hex::encode(bytes)));
    }
    found
}

/// By halving; `None` where the endpoint does not know the states of old blocks.
async fn block_of(chain: &Chain, key: Address, nonce: u64) -> Option<u64> {
    let provider = chain.provider();
    let (mut below, mut above) = (0, provider.get_block_number().await.ok()?);
    while below < above {
        let middle = below + (above - below) / 2;
        let count = provider.get_transaction_count(key.0.into()).number(middle).await.ok()?;
        if count > nonce {
            above = middle;
        } else {
            below = middle + 1;
        }
    }
    Some(above)
}

fn text(shown: &Shown) -> String {
    let Shown { key, count, known, .. } = shown;
    let head = format!("key {key}: the chain counts {count} transactions, this ledger explains {known}");
    if shown.unexplained.is_empty() {
        return format!("{head}: there is nothing to accept");
    }
    let or = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows = shown.unexplained.iter().map(|one| {
        [
            one.nonce.to_string(),
            or(one.block.map(|block| block.to_string())),
            or(one.to.map(|to| to.to_string())),
            or(one.value.clone()),
            or(one.selector.clone()),
            or(one.tx.map(|tx| tx.to_string())),
        ]
    });
    let mut lines = vec![head, table(["NONCE", "BLOCK", "TO", "WEI", "CALL", "TRANSACTION"], rows)];
    if shown.further > 0 {
        lines.push(format!("and {} more", shown.further));
    }
    lines.push(if shown.accepted {
        "accepted: the node signs again when it is started".to_owned()
    } else {
        format!("nothing was written. If you know what these were: milepost keys accept-nonces {key} --below {count} --yes")
    });
    lines.join("\n")
}
