//! Finality by certificates: the set file, whether the chain has its trusted block, and whether somebody gives certificates, how old.
//!
//! The validators are asked as the node asks them, and what they give is verified; but what is learned is kept in a folder of its own that
//! is gone afterwards, so that nothing changes under a running node.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy::consensus::BlockHeader as _;
use alloy::providers::Provider;
use milepost_settlement::{Certificates, Chain, Finality, SettlementConfig};
use milepost_statement::Digest;
use milepost_validator_net::light::{Light, Options, SourceReport, State};
use milepost_validator_net::set_file::{Agreement, SetFile};
use tokio_util::sync::CancellationToken;

use super::Findings;
use super::chain::Seen;

/// Validators that were not heard in this time are silent: it holds a connection and some answers over any network.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two questions to one validator: the doctor is in a hurry.
const POLL: Duration = Duration::from_millis(200);

/// Looks at the configured source of finality. Those that are a part of the chain have been looked at with it.
pub(super) async fn check(settlement: &SettlementConfig, seen: Option<&Seen>, findings: &mut Findings) {
    let (Finality::Certificate, Some(section)) = (settlement.finality, &settlement.certificates) else { return };
    let file = section.set_file.display();
    let read = SetFile::read(&section.set_file).and_then(|file| file.agreement());
    let agreement = match read {
        Ok(agreement) => agreement,
        Err(error) => {
            return findings.failure("set file", format!("{file}: {error}"), "set chain.certificates.set_file to the validators' set file");
        }
    };
    set_file(&agreement, section, settlement, findings);
    if let Some(seen) = seen {
        trusted_block(&agreement, &seen.chain, findings).await;
    }
    let sources: Vec<_> = agreement.sources();
    let wanted = |id: u32| section.validators.is_empty() || section.validators.contains(&id);
    let sources: Vec<_> = sources.into_iter().filter(|source| wanted(source.validator.0)).collect();
    if sources.is_empty() {
        return findings.failure(
            "certificates",
            format!("{file} gives no address for certificates"),
            "ask the validators' operators for a set file with addresses for certificates",
        );
    }
    match follow(&agreement, sources).await {
        Ok(state) => judge(&agreement, section, &state, seen, findings).await,
        Err(why) => findings.failure("certificates", why, "see docs/certificates.md"),
    }
}

fn set_file(agreement: &Agreement, section: &Certificates, settlement: &SettlementConfig, findings: &mut Findings) {
    let digest = hex::encode(agreement.digest());
    let domain = agreement.schedule.domain();
    let told = format!(
        "{}: agreement {digest}, trusted checkpoint {} of block {}",
        section.set_file.display(),
        domain.trusted.checkpoint.number,
        agreement.height(domain.trusted.checkpoint.number).unwrap_or_default()
    );
    let pinned = section.agreement.as_deref().map(|wanted| wanted.trim().trim_start_matches("0x").eq_ignore_ascii_case(&digest));
    if domain.chain.0 != settlement.chain_id.0 {
        let found = format!("{told}; it is of chain {}, and this host settles on {}", domain.chain, settlement.chain_id);
        findings.failure("set file", found, "use the set file of the validators that watch this chain");
    } else if pinned == Some(false) {
        findings.failure(
            "set file",
            format!("{told}; chain.certificates.agreement says another"),
            "compare the digest with the validators' operators: the file was changed, or the agreement was",
        );
    } else if pinned.is_none() {
        findings.warning("set file", told, "compare the digest with the validators' operators and pin it: chain.certificates.agreement");
    } else {
        findings.ok("set file", told);
    }
}

/// Whether the chain that is settled on is the one that the validators trust.
async fn trusted_block(agreement: &Agreement, chain: &Chain, findings: &mut Findings) {
    let trusted = agreement.schedule.domain().trusted.checkpoint;
    let height = agreement.height(trusted.number).unwrap_or_default().0;
    match chain.provider().get_block_by_number(height.into()).await {
        Ok(Some(block)) if block.header.hash.0 == trusted.hash.0 => {
            findings.ok("trusted checkpoint", format!("block {height} has the hash that the set file names"));
        }
        Ok(Some(block)) => findings.failure(
            "trusted checkpoint",
            format!(
                "block {height} is {} at {}, and {} in the set file",
                Digest(block.header.hash.0),
                chain.endpoint(),
                Digest(trusted.hash.0)
            ),
            "the set file or the endpoint is of another chain: compare both with the validators' operators",
        ),
        Ok(None) => findings.failure(
            "trusted checkpoint",
            format!("{} has no block {height}", chain.endpoint()),
            "the endpoint lags, or the set file is of another chain",
        ),
        Err(error) => findings.skipped("trusted checkpoint", format!("the chain does not say: {error}")),
    }
}

/// Asks the validators until each has answered or shown that it does not, or time is up.
async fn follow(agreement: &Agreement, sources: Vec<milepost_validator_net::Peer>) -> Result<State, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("a folder for what is learned: {error}"))?;
    let count = sources.len();
    let options = Options { agreement: agreement.clone(), sources, folder: folder.path().to_owned(), poll: POLL };
    let (light, handle) = Light::new(options).map_err(|error| error.to_string())?;
    let mut states = handle.watch();
    let all = |state: &State| {
        let known = |source: &SourceReport| source.heard.is_some() || source.trouble.is_some();
        state.sources().len() >= count && state.sources().iter().all(known)
    };
    let stop = CancellationToken::new();
    let begin = Instant::now();
    tokio::select! {
        ended = light.run(stop.clone()) => ended.map_err(|error| error.to_string())?,
        _ = tokio::time::timeout(PATIENCE, states.wait_for(|state| all(state))) => {}
    }
    tracing::debug!(event = "certificates_asked", millis = begin.elapsed().as_millis(), "validators were asked for certificates");
    Ok(handle.state())
}

async fn judge(agreement: &Agreement, section: &Certificates, state: &State, seen: Option<&Seen>, findings: &mut Findings) {
    let mut answering = 0;
    for source in state.sources() {
        let who = format!("validator {} at {}", source.validator, source.address);
        match (&source.trouble, source.heard) {
            (None, Some(_)) => {
                answering += 1;
                findings.ok("certificates", format!("{who} answers, up to checkpoint {}", source.finalized));
            }
            (Some(trouble), _) => {
                findings.warning("certificates", format!("{who}: {trouble}"), "one that answers is enough; tell its operator");
            }
            (None, None) => {
                findings.warning("certificates", format!("{who} did not answer in {} s", PATIENCE.as_secs()), "tell its operator");
            }
        }
    }
    if answering == 0 {
        return findings.failure(
            "newest certificate",
            "no validator answers: nothing becomes final",
            "check the network and the set file's addresses",
        );
    }
    let Some(tip) = state.tip() else {
        let trusted = agreement.schedule.domain().trusted.checkpoint.number;
        return findings.warning(
            "newest certificate",
            format!("none yet: only the trusted checkpoint {trusted} is final"),
            "nothing is paid before the validators certify something",
        );
    };
    let told = format!("checkpoint {}, block {}", tip.checkpoint().number, tip.height());
    let Some(seen) = seen else { return findings.ok("newest certificate", told) };
    match seen.chain.provider().get_block_by_number(tip.height().0.into()).await {
        Ok(Some(block)) if block.header.hash.0 != tip.checkpoint().hash.0 => findings.failure(
            "newest certificate",
            format!("{told}: {} has another block there", seen.chain.endpoint()),
            "nothing is final through this endpoint: use another, and ask the validators' operators",
        ),
        Ok(Some(block)) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            judge_age(&told, now.saturating_sub(block.header.timestamp()), section.stale_seconds, findings);
        }
        Ok(None) => {
            findings.warning("newest certificate", format!("{told}: the endpoint does not have that block yet"), "the endpoint lags");
        }
        Err(error) => findings.skipped("newest certificate", format!("{told}; the chain does not say how old: {error}")),
    }
}

fn judge_age(told: &str, age: u64, stale: u64, findings: &mut Findings) {
    let told = format!("{told}, {age} s old");
    if age > stale {
        findings.warning(
            "newest certificate",
            format!("{told}: more than chain.certificates.stale_seconds ({stale})"),
            "what is not certified is not final: the chain stands still, or the validators do",
        );
    } else {
        findings.ok("newest certificate", told);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn an_old_certificate_is_looked_at() {
        for (age, verdict) in [(0, Verdict::Ok), (300, Verdict::Ok), (301, Verdict::Warning)] {
            let mut findings = Findings::default();
            judge_age("checkpoint 7", age, 300, &mut findings);
            assert_eq!(findings.0[0].verdict, verdict, "{age} s");
        }
    }
}
