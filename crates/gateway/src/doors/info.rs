//! What anybody may know: models, health, version, positions, checkpoints. None of it tells what was said: heads are blinded by the
//! digests of the turns, which only the depositor's session is shown.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use milepost_ledger::{AccountId, CheckpointRecord, JobId};
use serde_json::{Value, json};

use super::{Failure, Shared};
use crate::error::Error;
use crate::host::Host;
use crate::opening::phase_name;
use crate::receipt::Seal;
use crate::session_id;

/// Checkpoints in one answer.
const MAX_PAGE: usize = 1_000;

pub(crate) async fn models(State(host): Shared) -> Json<Value> {
    let data: Vec<_> = host.engines.iter().map(|engine| describe(&host, engine.model())).collect();
    Json(json!({
        "object": "list", "data": data, "models": data, "chain_id": host.config.chain_id, "chain_name": host.config.chain_name,
    }))
}

pub(crate) async fn model(State(host): Shared, Path(name): Path<String>) -> Result<Json<Value>, Failure> {
    host.engine(&name).map(|engine| Json(describe(&host, engine.model()))).map_err(Failure::openai)
}

fn describe(host: &Host, model: &milepost_inference::ModelInfo) -> Value {
    json!({
        "id": model.name, "name": model.name, "description": model.description, "object": "model", "created": 0, "owned_by": "milepost",
        "digest": milepost_ledger::Digest(model.digest), "context_window_size": model.context_tokens,
        "checkpoint_threshold": host.config.checkpoint_threshold,
    })
}

/// Live: the process answers, and can still write.
pub(crate) async fn health(State(host): Shared) -> Response {
    match host.check_serving() {
        Ok(()) => Json(json!({ "status": "healthy" })).into_response(),
        Err(error @ Error::Draining) => Json(json!({ "status": "degraded", "issues": [error.to_string()] })).into_response(),
        Err(error) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "unhealthy", "issues": [error.to_string()] }))).into_response()
        }
    }
}

/// Can it earn.
pub(crate) async fn ready(State(host): Shared) -> Response {
    let mut checks = host.readiness.checks();
    if let Err(error) = host.check_serving() {
        checks.push(crate::deps::Check { name: "serving".into(), ok: false, message: error.to_string() });
    }
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "checks": checks }))).into_response()
}

/// Which code runs, in the known node's shape and with more.
pub(crate) async fn version(State(host): Shared) -> Json<Value> {
    let build = &host.build;
    let mut out = json!(build);
    out["build"] = json!(build.commit);
    out["date"] = json!(build.built);
    out["breaking_changes"] = json!([]);
    Json(out)
}

pub(crate) async fn metrics(State(host): Shared) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], (host.render_metrics)()).into_response()
}

/// A job by its number, with an optional trailing `n`.
fn job_of(text: &str) -> Result<JobId, Error> {
    Ok(session_id::job_number("job_id", &Value::String(text.to_owned()))?)
}

pub(crate) async fn job(State(host): Shared, Path(job): Path<String>) -> Result<Json<Value>, Failure> {
    show_job(&host, &job).map(Json).map_err(Failure::native)
}

fn show_job(host: &Host, job: &str) -> Result<Value, Error> {
    let job = job_of(job)?;
    let record = host.account(AccountId::Job(job))?;
    let claims: Vec<_> = host
        .db
        .claims(job)?
        .iter()
        .map(|claim| {
            json!({
                "claim": claim.id.to_string(), "first_seq": claim.statement.first_seq, "count": claim.statement.count,
                "state": claim.state, "proof": claim.proof,
            })
        })
        .collect();
    Ok(json!({
        "job_id": job.to_string(),
        "phase": phase_name(&record.phase),
        "end": record.phase,
        "halted": record.halted,
        "positions": record.positions,
        "head": record.head,
        "checkpoints": record.checkpoints,
        "turns": record.turns,
        "generating": record.active.is_some(),
        "threshold": record.threshold,
        "opened_at": record.opened,
        "model_digest": record.model,
        "claim_until": record.claim_until,
        "voucher": record.voucher,
        "write_off": record.write_off,
        "terms": record.terms,
        "billed": record.terms.is_some(),
        "left": host.left(&record),
        "claims": claims,
    }))
}

pub(crate) async fn checkpoints(
    State(host): Shared,
    headers: HeaderMap,
    Path(job): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Json<Value>, Failure> {
    show_checkpoints(&host, &headers, &job, &query).map(Json).map_err(Failure::native)
}

fn show_checkpoints(host: &Host, headers: &HeaderMap, job: &str, query: &HashMap<String, String>) -> Result<Value, Error> {
    let number = |name: &str, default: u64| match query.get(name) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| Error::BadField {
            field: name.to_owned(),
            found: format!("{text:?}"),
            expected: "a whole number".to_owned(),
        }),
    };
    let job = job_of(job)?;
    let id = AccountId::Job(job);
    let record = host.account(id)?;
    let from = number("from", 0)?;
    let limit = usize::try_from(number("limit", MAX_PAGE as u64)?).unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    let opened = host.opens_to(headers, job)?;
    let show = |record: &CheckpointRecord| {
        let mut seal = json!(Seal::from(record));
        // With it, public heads could be searched for short answers (docs/decisions/0001).
        if !opened && let Some(fields) = seal.as_object_mut() {
            fields.remove("turns_digest");
        }
        seal
    };
    let seals: Vec<_> = host.db.checkpoints(id, from, limit)?.iter().map(show).collect();
    let next = from + seals.len() as u64;
    Ok(json!({
        "job_id": job.to_string(),
        "session_id": job.to_string(),
        "total": record.checkpoints,
        "sealed": record.positions.sealed,
        "metered": record.positions.metered,
        "checkpoints": seals,
        "next": (next < record.checkpoints).then_some(next),
    }))
}

/// Letters of a content id of version 1 in base 32: `b`, and 36 bytes.
const CONTENT_ID_LETTERS: usize = 59;

/// What a claim names by content id, under the path that IPFS gateways have: a receipt, or the statement that it proves.
pub(crate) async fn content(State(host): Shared, Path(id): Path<String>) -> Result<Response, Failure> {
    let letters = |id: &str| id.bytes().all(|letter| matches!(letter, b'a'..=b'z' | b'2'..=b'7'));
    let found = if id.len() == CONTENT_ID_LETTERS && id.starts_with('b') && letters(&id) {
        host.db.content(&id).map_err(Error::from).and_then(|found| found.ok_or_else(|| Error::NotFound { what: format!("content {id}") }))
    } else {
        Err(Error::BadField {
            field: "id".into(),
            found: format!("{:?}", id.chars().take(80).collect::<String>()),
            expected: "a content id of version 1 in base 32 (bafkrei…)".into(),
        })
    };
    let bytes = found.map_err(Failure::native)?;
    // What a content id names never changes.
    let headers = [(header::CONTENT_TYPE, "application/vnd.ipld.raw"), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, bytes).into_response())
}
