//! Sessions over HTTP, and the proof of the host's key that the known node's clients ask for.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Failure, Shared, bearer, check_chain, read_object};
use crate::auth::Grant;
use crate::error::Error;
use crate::fields;
use crate::host::Host;
use crate::opening::{Opening, required_job};
use milepost_ledger::Digest;

/// Longest text of which the host proves its key.
const MAX_CHALLENGE_BYTES: usize = 1_024;

pub(crate) async fn challenge(State(host): Shared, body: Body) -> Result<Json<Value>, Failure> {
    let ask = async {
        let object = read_object(&host, body).await?;
        check_chain(&host, &object)?;
        let job = required_job(&object)?;
        host.bring_quote(job, &object).await?;
        host.challenge(job).await
    };
    ask.await.map(Json).map_err(Failure::native)
}

pub(crate) async fn open(State(host): Shared, body: Body) -> Result<Json<Value>, Failure> {
    let open = async {
        let object = read_object(&host, body).await?;
        check_chain(&host, &object)?;
        let opened = host.open_session(&Opening::read(&object)?).await?;
        let mut facts = host.session_facts(&opened.record);
        facts["token"] = json!(opened.token);
        facts["token_expires_at"] = json!(opened.expires);
        facts["job_id"] = json!(opened.job.to_string());
        Ok(facts)
    };
    open.await.map(Json).map_err(Failure::native)
}

pub(crate) async fn voucher(State(host): Shared, headers: HeaderMap, body: Body) -> Result<Json<Value>, Failure> {
    let take = async {
        let object = read_object(&host, body).await?;
        host.voucher(granted(&host, &headers)?.job, &object).await
    };
    take.await.map(Json).map_err(Failure::native)
}

pub(crate) async fn close(State(host): Shared, headers: HeaderMap, body: Body) -> Result<Json<Value>, Failure> {
    let close = async {
        let object = read_object(&host, body).await?;
        let grant = granted(&host, &headers)?;
        if let Some(value) = fields::get(&object, "job_id") {
            let asked = crate::session_id::job_number("job_id", value)?;
            if asked != grant.job {
                return Err(Error::NotYourJob { token_job: grant.job, asked });
            }
        }
        host.close_session(&grant).await
    };
    close.await.map(Json).map_err(Failure::native)
}

/// The grant of the request's session token; nothing else will do.
fn granted(host: &Host, headers: &HeaderMap) -> Result<Grant, Error> {
    let missing = || Error::Unauthorized {
        reason: "this needs the session's token (Authorization: Bearer), which POST /v1/session gives: naming a job is not enough".into(),
    };
    let token = bearer(headers).ok_or_else(missing)?;
    host.keys.grant(&token, host.now())?.ok_or_else(missing)
}

/// `POST /v1/auth/challenge {challenge} → {signature, recid}`: shows that this host holds its key. What is signed is a SHA-256
/// digest of the text, so that nobody can have a transaction or a receipt signed here.
pub(crate) async fn prove_host_key(State(host): Shared, body: Body) -> Result<Json<Value>, Failure> {
    let prove = async {
        let object = read_object(&host, body).await?;
        let text = fields::required_string(&object, "challenge")?;
        if text.is_empty() || text.len() > MAX_CHALLENGE_BYTES {
            return Err(Error::BadField {
                field: "challenge".into(),
                found: format!("a text of {} bytes", text.len()),
                expected: format!("a text of 1 to {MAX_CHALLENGE_BYTES} bytes"),
            });
        }
        let key = host.signer.as_ref().ok_or_else(|| Error::NotFound { what: "key of this host: it runs in log mode".into() })?;
        let signature = key.sign(&Digest(Sha256::digest(text.as_bytes()).into()));
        Ok(json!({ "signature": format!("0x{}", hex::encode(&signature[..64])), "recid": signature[64] - 27, "address": key.address() }))
    };
    prove.await.map(Json).map_err(Failure::native)
}
