//! What is counted of the key's transactions, for dashboards and alerts. Taken from the very events that are recorded, so that
//! nothing is counted that is not durable; counters begin at nothing with each process.
//!
//! | metric | what it says |
//! |---|---|
//! | `milepost_tx_pending` | transactions without a final fate |
//! | `milepost_tx_next_nonce` | the nonce that the chain takes next, as last seen while something waited |
//! | `milepost_tx_stuck`, `milepost_tx_stuck_seconds` | 1 while a transaction holds up the key, and for how long it has |
//! | `milepost_tx_offered_wei` | `maxFeePerGas` of the form signed last |
//! | `milepost_tx_signed_total{purpose}`, `milepost_tx_bumped_total{purpose}` | first forms, and further ones with higher fees |
//! | `milepost_tx_included_total{outcome}` | inclusions: `done`, `partly` (some of its claims refused) or `reverted`; one that is reorganised away and included again counts twice |
//! | `milepost_tx_reorged_total`, `milepost_tx_replaced_total` | inclusions taken back; nonces used up by something else |
//! | `milepost_tx_inclusion_seconds`, `milepost_tx_finality_seconds` | from the first signature to the block, and to finality |
//! | `milepost_tx_gas_total` | gas of transactions that are final |
//! | `milepost_tx_claims` | claims of a transaction when it is first signed, where it carries any |
//! | `milepost_gas_wei`, `milepost_key_ahead` | what the key holds for gas; 1 while nothing is signed because the chain is ahead |
//! | `milepost_jobs_open`, `milepost_jobs_halted`, `milepost_claims_proving` | jobs not paid yet, of those stopped ones, proofs under way |

use milepost_ledger::{Event, Outcome, Purpose, Tx, TxId};
use milepost_ledger_db::LedgerDb;

use crate::{Clock, Status};

/// What is to be counted once the events that it was made from are durable.
pub(crate) struct Counts(Vec<Count>);

enum Count {
    Signed { purpose: &'static str, raised: bool, max_fee: u128, claims: usize },
    Included { outcome: &'static str, seconds: u64 },
    Reorged,
    Replaced,
    Final { gas: u64, seconds: u64 },
}

impl Counts {
    /// Reads what the events will change, before they do.
    pub(crate) async fn of(db: &LedgerDb, events: &[Event]) -> Self {
        let mut counts = Vec::new();
        for event in events {
            counts.extend(match event {
                Event::TxSigned { id, purpose, attempt } => Some(Count::Signed {
                    purpose: name(purpose),
                    raised: find(db, *id).await.is_some(),
                    max_fee: attempt.max_fee,
                    claims: purpose.claims().len(),
                }),
                Event::TxIncluded { id, outcome, .. } => {
                    let outcome = match outcome {
                        Outcome::Done { .. } => "done",
                        Outcome::Partly { .. } => "partly",
                        Outcome::Reverted { .. } => "reverted",
                    };
                    find(db, *id).await.map(|tx| Count::Included { outcome, seconds: since_signed(&tx) })
                }
                Event::TxReorged { .. } => Some(Count::Reorged),
                Event::TxReplaced { .. } => Some(Count::Replaced),
                Event::TxFinal { id } => find(db, *id)
                    .await
                    .and_then(|tx| tx.outcome().map(|outcome| Count::Final { gas: outcome.gas(), seconds: since_signed(&tx) })),
                _ => None,
            });
        }
        Self(counts)
    }

    /// The events are durable.
    pub(crate) fn count(self) {
        for count in self.0 {
            match count {
                Count::Signed { purpose, raised, max_fee, claims } => {
                    if !raised && claims > 0 {
                        histogram("milepost_tx_claims", claims as u64);
                    }
                    gauge("milepost_tx_offered_wei", max_fee);
                    let name = if raised { "milepost_tx_bumped_total" } else { "milepost_tx_signed_total" };
                    metrics::counter!(name, "purpose" => purpose).increment(1);
                }
                Count::Included { outcome, seconds } => {
                    metrics::counter!("milepost_tx_included_total", "outcome" => outcome).increment(1);
                    histogram("milepost_tx_inclusion_seconds", seconds);
                }
                Count::Reorged => metrics::counter!("milepost_tx_reorged_total").increment(1),
                Count::Replaced => metrics::counter!("milepost_tx_replaced_total").increment(1),
                Count::Final { gas, seconds } => {
                    metrics::counter!("milepost_tx_gas_total").increment(gas);
                    histogram("milepost_tx_finality_seconds", seconds);
                }
            }
        }
    }
}

/// Shows how settlement stands.
pub(crate) fn show(status: &Status) {
    gauge("milepost_tx_pending", status.unresolved_transactions as u128);
    gauge("milepost_tx_stuck", u128::from(status.stuck.is_some()));
    gauge("milepost_tx_stuck_seconds", status.stuck.as_ref().map_or(0, |stuck| u128::from(stuck.seconds)));
    gauge("milepost_key_ahead", u128::from(status.key_ahead.is_some()));
    gauge("milepost_jobs_open", status.open_jobs as u128);
    gauge("milepost_jobs_halted", status.halted_jobs as u128);
    gauge("milepost_claims_proving", status.proving as u128);
    if let Some(wei) = status.gas_wei {
        gauge("milepost_gas_wei", wei);
    }
}

/// Shows the nonce that the chain takes next.
pub(crate) fn next_nonce(nonce: u64) {
    gauge("milepost_tx_next_nonce", nonce.into());
}

fn name(purpose: &Purpose) -> &'static str {
    match purpose {
        Purpose::Claim(_) => "claim",
        Purpose::Claims(_) => "claims",
        Purpose::RequestClose(_) => "request_close",
        Purpose::Finalize(_) => "finalize",
        Purpose::Fill(_) => "fill",
    }
}

fn since_signed(tx: &Tx) -> u64 {
    tx.attempts.first().map_or(0, |first| Clock::system().now().since(first.at))
}

/// A transaction's record; one that cannot be read is not counted, and whoever needs it will say so.
async fn find(db: &LedgerDb, id: TxId) -> Option<Tx> {
    db.query(move |ledger| ledger.tx(id).cloned()).await.ok().flatten()
}

#[allow(clippy::cast_precision_loss)] // a gauge
fn gauge(name: &'static str, value: u128) {
    metrics::gauge!(name).set(value as f64);
}

#[allow(clippy::cast_precision_loss)] // seconds of a transaction's life
fn histogram(name: &'static str, seconds: u64) {
    metrics::histogram!(name).record(seconds as f64);
}
