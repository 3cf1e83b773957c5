//! `report.json`: what a demo claims happened. The checker believes none of it without recomputing it.

use std::path::PathBuf;

use alloy::network::ReceiptResponse as _;
use alloy::providers::Provider;
use milepost_test_support::bindings::JobMarketplace::JobMarketplaceEvents;
use serde_json::{Value, json};

use super::Error;
use super::play::{self, Played};
use super::show::Show;
use super::stage::Stage;
use crate::build_info::build_info;

/// Writes the report, the client's capture and the receipts; answers where the report is.
pub(super) async fn write(stage: &Stage, played: &Played) -> Result<PathBuf, Error> {
    let job = stage.session.job_id();
    let books = fetch(stage, &format!("/v1/jobs/{job}")).await?;
    let capture = stage.out.join("client-capture.json");
    stage.session.write_capture(&capture)?;

    let mut claims = Vec::new();
    let mut payments = Vec::new();
    for claim in books["claims"].as_array().into_iter().flatten() {
        let name = claim["claim"].as_str().unwrap_or_default().to_owned();
        let receipt = format!("receipt-{name}.bin");
        keep(stage, &receipt, &fetch_bytes(stage, &format!("/v1/proofs/{name}/receipt")).await?)?;
        // For anybody, and for whom the depositor lets see what was said: `milepost verify`.
        keep(stage, &format!("{name}.bundle"), &fetch_page(stage, &format!("/v1/proofs/{name}"), None).await?)?;
        let opened = format!("{name}-opened.bundle");
        keep(stage, &opened, &fetch_bytes(stage, &format!("/v1/proofs/{name}?salt=include")).await?)?;
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        let kept = std::fs::set_permissions(stage.out.join(&opened), owner_only);
        kept.map_err(|source| Error::Io { what: format!("keep {opened} from others"), source })?;
        let (tx, gas) =
            landing(stage, claim["first_seq"].as_u64().unwrap_or_default(), claim["count"].as_u64().unwrap_or_default()).await?;
        payments.push((format!("claim {name}"), tx.clone(), block_of(stage, &tx).await?));
        claims.push(json!({
            "claim": name,
            "first_seq": claim["first_seq"],
            "count": claim["count"],
            "proof_kind": claim["proof"]["kind"],
            "prove_seconds": claim["proof"]["seconds"],
            "receipt_bytes": claim["proof"]["receipt_bytes"],
            "receipt": receipt,
            "tx": tx,
            "gas": gas,
        }));
    }

    let paid = played.paid.tx.to_string();
    payments.push(("payout".to_owned(), paid.clone(), block_of(stage, &paid).await?));
    let finality = stage.validators.as_ref().map(|validators| validators.report(&stage.out.join("data"), &payments)).transpose()?;
    let prompts: Vec<_> = (1..)
        .zip(&stage.asked)
        .map(|(number, prompt)| json!({ "request_id": play::request_id(number), "messages": [{ "role": "user", "content": prompt }] }))
        .collect();
    keep(stage, "prompts.json", Value::Array(prompts).to_string().as_bytes())?;

    let build = build_info();
    let record = stage.session.capture();
    let report = json!({
        "tour": stage.tour,
        "chain_id": 31337,
        "rpc_url": stage.chain.url(),
        "marketplace": stage.contracts.marketplace,
        "contracts": { "host_earnings": stage.contracts.earnings, "host_registry": stage.contracts.registry, "usdc": stage.contracts.usdc },
        "host": stage.contracts.actors.host.address,
        "depositor": stage.contracts.actors.depositor.address,
        "job_id": job.0,
        "model": { "name": stage.model.name, "sha256": stage.model.digest },
        "image_id": build.image_id,
        "positions": books["positions"],
        "client": { "captured_ids": record.ids, "last_receipt": record.last_receipt, "capture": "client-capture.json" },
        "claims": claims,
        "payout": {
            "fee_bps": books["terms"]["fee_bps"],
            "host": played.paid.host.0.to_string(),
            "treasury": played.paid.treasury.0.to_string(),
            "refund": played.paid.refund.0.to_string(),
        },
        "finality": finality,
        "kills": played.kills,
        "reconnects": played.reconnects,
        "versions": { "milepost": build.version, "commit": build.commit, "built": build.built, "features": build.features },
    });
    if let Some(finality) = &finality {
        Show::final_by(&super::validators::lines(finality));
    }
    let path = stage.out.join("report.json");
    std::fs::write(&path, format!("{report:#}\n")).map_err(|source| Error::Io { what: "write the report".to_owned(), source })?;
    Ok(path)
}

/// A JSON page of the host, asked with the session's token.
pub(super) async fn fetch(stage: &Stage, page: &str) -> Result<Value, Error> {
    let bytes = fetch_bytes(stage, page).await?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Answer { page: page.to_owned(), found: error.to_string() })
}

fn keep(stage: &Stage, name: &str, bytes: &[u8]) -> Result<(), Error> {
    std::fs::write(stage.out.join(name), bytes).map_err(|source| Error::Io { what: format!("write {name}"), source })
}

async fn fetch_bytes(stage: &Stage, page: &str) -> Result<Vec<u8>, Error> {
    fetch_page(stage, page, stage.session.access_token()).await
}

async fn fetch_page(stage: &Stage, page: &str, token: Option<&str>) -> Result<Vec<u8>, Error> {
    let wrong = |found: String| Error::Answer { page: page.to_owned(), found };
    let url = stage.node.as_ref().map(|node| node.url.clone()).ok_or_else(|| wrong("nothing: the host is not running".to_owned()))?;
    let mut request = reqwest::Client::new().get(format!("{url}{page}"));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.map_err(|error| wrong(error.to_string()))?;
    if !answer.status().is_success() {
        return Err(wrong(answer.status().to_string()));
    }
    Ok(answer.bytes().await.map_err(|error| wrong(error.to_string()))?.to_vec())
}

/// Transaction and gas of the claim that begins at `first`, as the chain's logs say.
async fn landing(stage: &Stage, first: u64, count: u64) -> Result<(String, u64), Error> {
    let job = stage.session.job_id().0;
    for event in stage.contracts.events(&stage.chain, job).await? {
        if let JobMarketplaceEvents::ProofOfWork(landed) = &event.event
            && landed.tokensUsed == alloy::primitives::U256::from(first + count)
        {
            let receipt = stage.chain.provider().get_transaction_receipt(event.transaction).await.ok().flatten();
            return Ok((event.transaction.to_string(), receipt.map(|receipt| receipt.gas_used()).unwrap_or_default()));
        }
    }
    Err(Error::Answer { page: "chain logs".to_owned(), found: format!("no claim of tokens {first} to {}", first + count) })
}

/// Height of the block that a transaction is in.
async fn block_of(stage: &Stage, tx: &str) -> Result<u64, Error> {
    let unknown = || Error::Answer { page: "transaction receipt".to_owned(), found: format!("none of {tx}") };
    let hash = tx.parse().map_err(|_| unknown())?;
    let receipt = stage.chain.provider().get_transaction_receipt(hash).await.ok().flatten();
    receipt.and_then(|receipt| receipt.block_number()).ok_or_else(unknown)
}
