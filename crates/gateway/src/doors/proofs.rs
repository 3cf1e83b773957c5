//! A claim's proof bundle (`docs/bundle.md`), put together out of the ledger's records.
//!
//! Anybody gets the statement, the receipt, the checkpoints' heads, the transaction and its event: all of it is public, or worth
//! nothing without what is not. Token ids, turns and their digests are added for the depositor's session alone, the salt only where
//! it is asked for.

use std::collections::HashMap;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use milepost_bundle::{Bundle, Checkpoint, Inclusion, Landing, OpenTurn, Opening};
use milepost_ledger::{AccountId, AccountRecord, BlockRef, CheckpointRecord, Claim, ClaimId, ClaimState, Digest, TurnRecord, Tx, TxState};
use milepost_ledger_db::Blob;
use milepost_statement::request_digest;

use super::{Failure, Shared};
use crate::error::Error;
use crate::host::Host;

/// Largest inclusion that is kept, in bytes. A receipt and its proof are a few kilobytes; one of a very large batch is asked for anew.
const MAX_KEPT_BYTES: usize = 256 << 10;

/// The bundle of a claim.
pub(crate) async fn bundle(
    State(host): Shared,
    headers: HeaderMap,
    Path(claim): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, Failure> {
    let made = async {
        let claim = find(&host, &claim)?;
        let opened = host.opens_to(&headers, claim.id.job)?;
        let salt = match query.get("salt").map(String::as_str) {
            None => false,
            Some("include") if opened => true,
            Some("include") => return Err(Error::Unauthorized { reason: "the salt is for the session of the job's depositor".into() }),
            Some(other) => {
                return Err(Error::BadField {
                    field: "salt".into(),
                    found: format!("{:?}", other.chars().take(80).collect::<String>()),
                    expected: "\"include\", or left out".into(),
                });
            }
        };
        make(&host, &claim, opened, salt).await
    };
    let bundle = made.await.map_err(Failure::native)?;
    let bytes = bundle.encode().map_err(|why| Failure::native(Error::Internal { reason: why.to_string() }))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

/// The receipt of a claim's proof alone, as the prover made it.
pub(crate) async fn receipt(State(host): Shared, Path(claim): Path<String>) -> Result<Response, Failure> {
    let bytes = find(&host, &claim).and_then(|claim| stored_receipt(&host, claim.id)).map_err(Failure::native)?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

fn find(host: &Host, text: &str) -> Result<Claim, Error> {
    let id: ClaimId = text.parse().map_err(|reason: &str| Error::BadField {
        field: "claim".into(),
        found: format!("{:?}", text.chars().take(80).collect::<String>()),
        expected: reason.to_owned(),
    })?;
    host.db.claim(id)?.ok_or_else(|| missing(id))
}

fn missing(id: ClaimId) -> Error {
    Error::NotFound { what: format!("proof of claim {id}") }
}

fn stored_receipt(host: &Host, id: ClaimId) -> Result<Vec<u8>, Error> {
    host.db.receipt(id)?.ok_or_else(|| missing(id))
}

async fn make(host: &Host, claim: &Claim, opened: bool, with_salt: bool) -> Result<Bundle, Error> {
    let receipt = stored_receipt(host, claim.id)?;
    let account = host.account(AccountId::Job(claim.id.job))?;
    let checkpoints = host.db.checkpoints(account.id, claim.first_checkpoint, claim.checkpoints as usize)?;
    if checkpoints.len() != claim.checkpoints as usize {
        return Err(Error::Storage {
            reason: format!("claim {} has {} checkpoints, {} are stored", claim.id, claim.checkpoints, checkpoints.len()),
        });
    }
    Ok(Bundle {
        // The node proves with the program that it was built with, and verified each receipt against it before storing it.
        image_id: milepost_bundle::Options::default().image_id,
        salt_commitment: account.terms.as_ref().map_or(Digest::ZERO, |terms| terms.salt_commitment),
        statement: claim.statement,
        receipt,
        checkpoints: checkpoints.iter().map(|it| Checkpoint { count: it.count, head: it.head_after }).collect(),
        opening: if opened { Some(open(host, &account, claim, &checkpoints, with_salt)?) } else { None },
        landing: landing(host, claim).await?,
        certificate: None,
    })
}

/// What was said in the claim.
fn open(host: &Host, account: &AccountRecord, claim: &Claim, checkpoints: &[CheckpointRecord], with_salt: bool) -> Result<Opening, Error> {
    let mut turns = Vec::new();
    let mut number = first_turn(host, account, claim)?;
    for turn in checkpoints.iter().flat_map(|checkpoint| &checkpoint.turns) {
        // Turns without tokens are recorded, but stand in no checkpoint.
        let record = loop {
            let record = host.db.turn(account.id, number)?.ok_or_else(|| gone(claim, number))?;
            number += 1;
            if record.start == turn.start && request_digest(&record.request) == turn.request {
                break record;
            }
            if record.start > turn.start {
                return Err(gone(claim, number));
            }
        };
        turns.push(OpenTurn { turn: *turn, sampler: record.sampler });
    }
    Ok(Opening {
        turns_digests: checkpoints.iter().map(|checkpoint| checkpoint.turns_digest).collect(),
        ids: host.db.tokens(account.id, claim.statement.first_seq..claim.statement.end())?,
        turns,
        salt: with_salt.then_some(account.salt),
    })
}

fn gone(claim: &Claim, number: u32) -> Error {
    Error::Storage { reason: format!("turn {number} of job {} is not where its checkpoint has it", claim.id.job) }
}

/// Number of the first turn that begins in the claim or behind it. Turns are numbered as they begin.
fn first_turn(host: &Host, account: &AccountRecord, claim: &Claim) -> Result<u32, Error> {
    let (mut low, mut high) = (0, account.turns);
    while low < high {
        let middle = low + (high - low) / 2;
        let record: TurnRecord = host.db.turn(account.id, middle)?.ok_or_else(|| gone(claim, middle))?;
        if record.start < claim.statement.first_seq { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

/// The claim's transaction and the block it is in, once it landed.
async fn landing(host: &Host, claim: &Claim) -> Result<Option<Landing>, Error> {
    let (ClaimState::Submitted(id) | ClaimState::Final(id)) = claim.state else { return Ok(None) };
    let Some(tx) = host.db.tx(id)? else { return Ok(None) };
    let Some((hash, block, is_final)) = landed(&tx, claim.id) else { return Ok(None) };
    let Some(attempt) = tx.attempts.iter().find(|attempt| attempt.hash == hash) else { return Ok(None) };
    let sent = Landing { transaction: attempt.raw.clone(), inclusion: None };
    let Some(kind) = claim.proof.as_ref().map(|proof| proof.kind) else { return Ok(None) };
    // Marketplaces of other generations take claims in other forms, which a check would take for another claim: it is shown nothing.
    if let Err(error) = sent.check_transaction(&claim.statement, kind) {
        tracing::debug!(event = "transaction_not_shown", claim = %claim.id, %error, "a bundle is served without its transaction");
        return Ok(None);
    }
    Ok(Some(Landing { inclusion: inclusion(host, claim, hash, block, is_final).await?, ..sent }))
}

/// Hash and block of a transaction in which the claim landed.
fn landed(tx: &Tx, claim: ClaimId) -> Option<(Digest, BlockRef, bool)> {
    let (block, hash, outcome, is_final) = match &tx.state {
        TxState::Included { block, hash, outcome } => (block, hash, outcome, false),
        TxState::Final { block, hash, outcome } => (block, hash, outcome, true),
        TxState::Signed | TxState::Sent | TxState::Replaced => return None,
    };
    outcome.refusal_of(claim).is_none().then_some((*hash, *block, is_final))
}

/// The event with its block: from the chain, and kept once the block is final, so that it is there when the chain's endpoint has
/// forgotten it.
async fn inclusion(host: &Host, claim: &Claim, hash: Digest, block: BlockRef, is_final: bool) -> Result<Option<Inclusion>, Error> {
    let name = format!("bundle/inclusion/{}", claim.id);
    if is_final && let Some(bytes) = host.db.meta(&name)? {
        let kept = Inclusion::from_bytes(&bytes).map_err(|why| Error::Storage { reason: format!("{name}: {why}") })?;
        return Ok(Some(kept));
    }
    let Some(jobs) = &host.jobs else { return Ok(None) };
    // Anybody may ask: what that costs the chain's endpoint is bounded here.
    let _permit = host
        .inclusions
        .try_acquire()
        .map_err(|_| Error::RateLimited { reason: "the chain is being asked for as many other claims as may".into(), retry_after: 1 })?;
    let found = match jobs.inclusion(hash, block, claim.statement).await {
        Ok(found) => found,
        Err(error) => {
            // The bundle says less then, and its check says so.
            tracing::debug!(event = "inclusion_unknown", claim = %claim.id, code = error.code, %error, "a bundle is served without its block");
            None
        }
    };
    if is_final && let Some(inclusion) = &found {
        let bytes = inclusion.to_bytes();
        if bytes.len() <= MAX_KEPT_BYTES {
            let blob = Blob::Meta { name, bytes };
            host.db.apply_with(Vec::new(), vec![blob]).await.map_err(|error| host.storage_failed(error))?;
        }
    }
    Ok(found)
}
