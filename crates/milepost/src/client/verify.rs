//! `milepost client verify`: the tokens kept here against the host's bundles and the chain, claim by claim.

use std::path::Path;
use std::process::ExitCode;

use milepost_bundle::{Bundle, Expected, Options};
use milepost_client::abi::Status;
use milepost_client::chain::ChainClaim;
use milepost_client::{Error, Session};
use milepost_statement::{TokenCount, TokenSeq};
use serde::Serialize;
use serde_json::{Value, json};

use super::PENDING;
use super::args::VerifySessionArgs;
use crate::output::Output;
use crate::{CANNOT_LOOK, failed};

/// More or other tokens were claimed than received.
const NOT_RECEIVED: u8 = 1;
/// A proof is missing or does not hold.
const NOT_PROVEN: u8 = 2;

/// A claim that the chain took, and what is known of it here.
#[derive(Debug, Serialize)]
struct Finding {
    first_seq: TokenSeq,
    count: TokenCount,
    transaction: String,
    /// Every token of it is kept here.
    received: bool,
    /// The head after it is the one that these tokens give.
    head: bool,
    /// Countersigned; `None` without vouchers.
    acknowledged: Option<bool>,
    /// The bundle's verdict: `proven`, `test-only`, or what is wrong.
    proof: String,
    proven: bool,
}

pub(super) async fn run(args: &VerifySessionArgs, output: Output) -> ExitCode {
    match verify(args, output).await {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            failed(&message);
            ExitCode::from(CANNOT_LOOK)
        }
    }
}

async fn verify(args: &VerifySessionArgs, output: Output) -> Result<u8, String> {
    let mut session = super::load(&args.of).await?;
    let told = |error: Error| error.to_string();
    let (job, from) = (session.job_id(), session.created_block());
    let chain = session.chain().await.map_err(told)?.clone();
    let state = chain.session(job).await.map_err(told)?;
    let claims = chain.claims(job, from).await.map_err(told)?;
    let mut notes = Vec::new();
    // Seals that were not announced to us are asked for. Where the host is gone, what is kept must do; where it lies, that is a finding.
    match session.sync_checkpoints().await {
        Ok(()) => {}
        Err(Error::Transcript(lie)) => notes.push(format!("the host's checkpoints do not fit: {lie}")),
        Err(other) => notes.push(format!("the host's checkpoints could not be fetched: {other}")),
    }
    // What does not fit, now or earlier, stopped the session.
    let lied = session.record().stopped.is_some();
    if let Some(reason) = &session.record().stopped {
        notes.push(format!("this session was stopped: {reason}"));
    }
    let bundles = match &args.bundles {
        Some(folder) => from_folder(folder)?,
        None => from_host(&session, &mut notes).await,
    };
    let findings: Vec<Finding> = claims.iter().map(|claim| finding(&session, claim, &bundles, args.accept_mock)).collect();
    let received = session.transcript().end().0;
    let code = if lied || findings.iter().any(|finding| !finding.received || !finding.head) || state.tokens_used.0 > received {
        NOT_RECEIVED
    } else if findings.iter().any(|finding| !finding.proven) {
        NOT_PROVEN
    } else if state.tokens_used.0 < received && state.status != Status::Completed {
        PENDING
    } else {
        0
    };
    let proven: u64 = findings.iter().filter(|finding| finding.proven).map(|finding| finding.count.0).sum();
    let given = session.record().voucher.map(|voucher| voucher.given);
    let status = format!("{:?}", state.status).to_lowercase();
    let listed = || {
        json!({
            "job_id": job.to_string(), "exit_code": code, "status": status, "received": received, "acknowledged": given,
            "claimed": state.tokens_used, "proven": proven, "claims": findings, "notes": notes,
        })
    };
    let table = || {
        let mut lines = vec![format!(
            "job {job} ({status}): {received} tokens received, {} countersigned, {} claimed, {proven} proven",
            given.map_or_else(|| "none".to_owned(), |given| given.to_string()),
            state.tokens_used
        )];
        lines.extend(findings.iter().map(|finding| {
            let said = |good: bool, yes: &str, no: &str| if good { yes.to_owned() } else { no.to_owned() };
            format!(
                "tokens {} to {}: {}, {}, {}; {}",
                finding.first_seq,
                finding.first_seq.0 + finding.count.0 - 1,
                said(finding.received, "received", "NOT RECEIVED"),
                said(finding.head, "the chain's head is theirs", "ANOTHER HEAD ON CHAIN"),
                finding.acknowledged.map_or_else(|| "no vouchers".to_owned(), |yes| said(yes, "countersigned", "under the allowance")),
                finding.proof
            )
        }));
        lines.extend(notes.iter().map(|note| format!("note: {note}")));
        lines.push(conclusion(code).to_owned());
        lines.join("\n")
    };
    output.show(listed, table)?;
    Ok(code)
}

fn conclusion(code: u8) -> &'static str {
    match code {
        0 => "everything that was claimed was received and is proven",
        NOT_RECEIVED => "MORE OR OTHER TOKENS WERE CLAIMED THAN RECEIVED: keep the session file, it is your evidence",
        NOT_PROVEN => "a claim's proof is missing or does not hold",
        _ => "what was claimed so far was received and is proven; not everything is claimed yet",
    }
}

fn finding(session: &Session, claim: &ChainClaim, bundles: &[Bundle], accept_mock: bool) -> Finding {
    let transcript = session.transcript();
    let (first, end) = (TokenSeq(claim.tokens_used.0.saturating_sub(claim.count.0)), TokenSeq(claim.tokens_used.0));
    let head = transcript.head_at(end) == Some(claim.head_after);
    let (proof, proven) = match bundles.iter().find(|bundle| (bundle.statement.first_seq, bundle.statement.count) == (first, claim.count)) {
        None => ("no bundle for it".to_owned(), false),
        Some(bundle) => judge(session, claim, bundle, accept_mock),
    };
    Finding {
        first_seq: first,
        count: claim.count,
        transaction: claim.tx.to_string(),
        received: end <= transcript.end(),
        head,
        acknowledged: session.record().voucher.map(|voucher| end.0 <= voucher.given.0),
        proof,
        proven,
    }
}

/// What a bundle is worth for this claim of ours.
fn judge(session: &Session, claim: &ChainClaim, bundle: &Bundle, accept_mock: bool) -> (String, bool) {
    let job = *session.transcript().job();
    let options = Options {
        accept_mock,
        expected: Expected {
            chain_id: Some(job.chain_id),
            marketplace: Some(job.marketplace),
            job_id: Some(job.job_id),
            host: Some(job.host),
            model_digest: Some(job.model_digest),
        },
        salt: Some(session.record().salt),
        ..Options::default()
    };
    let report = milepost_bundle::check(bundle, &options);
    if let Some(line) = report.lines.iter().find(|line| matches!(line.verdict, milepost_bundle::Verdict::Fails(_))) {
        return (format!("its bundle does not hold: {}: {}", line.name, line.words), false);
    }
    let before = session.transcript().head_at(bundle.statement.first_seq);
    if bundle.statement.head_after != claim.head_after || before != Some(bundle.statement.head_before) {
        return ("its bundle proves other heads than these".to_owned(), false);
    }
    if report.proven { ("proven".to_owned(), true) } else { ("test-only: a mock proof, which proves nothing".to_owned(), true) }
}

fn from_folder(folder: &Path) -> Result<Vec<Bundle>, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut bundles = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.extension().is_some_and(|extension| extension == "bundle") {
            let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            bundles.push(Bundle::decode(&bytes).map_err(|error| format!("{}: {error}", path.display()))?);
        }
    }
    Ok(bundles)
}

/// Every bundle that the host gives of the job. What it does not give is missing, and counts as that.
async fn from_host(session: &Session, notes: &mut Vec<String>) -> Vec<Bundle> {
    let facts: Value = match session.host().job(session.job_id()).await {
        Ok(facts) => facts,
        Err(error) => {
            notes.push(format!("the host tells nothing of the job: {error}"));
            return Vec::new();
        }
    };
    let mut bundles = Vec::new();
    for name in facts["claims"].as_array().into_iter().flatten().filter_map(|claim| claim["claim"].as_str()) {
        match session.host().bundle(session.access_token(), name).await {
            Ok(bytes) => match Bundle::decode(&bytes) {
                Ok(bundle) => bundles.push(bundle),
                Err(error) => notes.push(format!("the bundle of claim {name}: {error}")),
            },
            Err(error) => notes.push(format!("claim {name}: {error}")),
        }
    }
    bundles
}
