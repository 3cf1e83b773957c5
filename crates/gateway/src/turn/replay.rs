//! An ended turn from its records.

use std::sync::Arc;

use milepost_inference::Engine;
use milepost_ledger::{AccountId, CheckpointRecord, EndReason, TurnRecord, TurnState};

use super::ending::receipt_name;
use super::live::{LiveTurn, Log, Outcome, Sealed, Token};
use super::run::seal_after;
use super::{Ended, Started};
use crate::error::Error;
use crate::host::Host;
use crate::receipt::Receipt;

/// Checkpoints read at a time.
const PAGE: usize = 64;

/// The turn as its records tell it, ready to be read.
pub(crate) async fn replay(host: &Host, record: &TurnRecord, unbilled: Option<String>) -> Result<Arc<LiveTurn>, Error> {
    let log = recorded(host, record, unbilled).await?;
    tracing::info!(event = "turn_replayed", account = %record.account, turn = record.number, request = %record.request, "stored answer replayed, nothing billed");
    Ok(LiveTurn::with_log(record.account, record.request.clone(), record.body, log))
}

/// All that the records tell of an ended turn.
pub(super) async fn recorded(host: &Host, record: &TurnRecord, unbilled: Option<String>) -> Result<Log, Error> {
    let account =
        host.db.account(record.account)?.ok_or_else(|| Error::Internal { reason: format!("account {} vanished", record.account) })?;
    let engine = host.engine_by_digest(&account.model);
    let ids = host.db.tokens(record.account, record.start..record.end)?;
    let tokens = ids
        .into_iter()
        .map(|id| Token { id, piece: engine.as_ref().and_then(|engine| engine.piece(id)).unwrap_or_default() })
        .collect::<Vec<_>>();
    let seals = seals_within(host, record, account.threshold)?
        .into_iter()
        .map(|seal| Sealed { after: seal_after(&seal, record.start), record: Arc::new(seal) })
        .collect();
    let reason = match record.state {
        TurnState::Ended(reason) => reason,
        TurnState::Active => EndReason::Interrupted,
    };
    let receipt = receipt(host, record).await?;
    let admission = account.admissible(host.now(), &host.limits(account.id));
    let started = Started {
        request_id: record.request.clone(),
        job: record.account.job(),
        session: record.account.to_string(),
        model: engine.as_ref().map_or_else(String::new, |engine| engine.model().name.clone()),
        context: engine.as_ref().map_or(0, |engine| engine.model().context_tokens),
        start: record.start,
        prompt_tokens: record.prompt_tokens,
        unbilled,
        chain_id: host.chain_of(&account),
    };
    let ended =
        Ended { reason, error: None, end: record.end, cached: 0, left: account.terms.is_some().then_some(admission.tokens.0), receipt };
    Ok(Log { started: Some(Arc::new(started)), tokens, seals, outcome: Some(Outcome::Ended(Arc::new(ended))) })
}

/// Checkpoints whose last token is one of the turn's. All but the last of an account hold exactly `threshold` tokens, which tells
/// where to begin.
fn seals_within(host: &Host, record: &TurnRecord, threshold: u32) -> Result<Vec<CheckpointRecord>, Error> {
    let mut found = Vec::new();
    let mut from = record.start.0 / u64::from(threshold.max(1));
    loop {
        let page = host.db.checkpoints(record.account, from, PAGE)?;
        from += page.len() as u64;
        let last = page.len() < PAGE;
        for checkpoint in page {
            let end = checkpoint.first + checkpoint.count;
            if end > record.end {
                return Ok(found);
            }
            if end > record.start {
                found.push(checkpoint);
            }
        }
        if last {
            return Ok(found);
        }
    }
}

/// The receipt that was given at the turn's end; for a turn that a crash cut, one for the account as it stands.
async fn receipt(host: &Host, record: &TurnRecord) -> Result<Option<Receipt>, Error> {
    let name = receipt_name(record.account, record.number);
    if let Some(bytes) = host.db.meta(&name)? {
        return serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::Storage { reason: format!("{name}: {error}") });
    }
    let (id, request, signer): (AccountId, String, _) = (record.account, record.request.clone(), host.signer.clone());
    Ok(host.db.query(move |ledger| ledger.account(id).map(|account| Receipt::of(account, &request, signer.as_ref()))).await?)
}

/// The engine that can turn an account's ids into text.
pub(crate) fn engine_by_digest(engines: &[Arc<dyn Engine>], digest: &milepost_ledger::Digest) -> Option<Arc<dyn Engine>> {
    engines.iter().find(|engine| engine.model().digest == digest.0).cloned()
}
