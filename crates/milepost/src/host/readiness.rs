//! `/ready`: can this host earn? Chain, prover, money.

use milepost_gateway::Check;
use milepost_settlement::ChainState;
use tokio::sync::watch;

/// Reads the parts' own states; asks nobody.
pub(super) struct Readiness {
    settlement: Option<watch::Receiver<milepost_settlement::Status>>,
    prover: Option<watch::Receiver<milepost_prover::Status>>,
}

impl Readiness {
    pub(super) fn new(
        settlement: Option<watch::Receiver<milepost_settlement::Status>>,
        prover: Option<watch::Receiver<milepost_prover::Status>>,
    ) -> Self {
        Self { settlement, prover }
    }
}

impl milepost_gateway::Readiness for Readiness {
    fn checks(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        if let Some(settlement) = &self.settlement {
            let status = settlement.borrow();
            let (ok, message) = match &status.chain {
                ChainState::Ready => (true, "checked and answering".to_owned()),
                ChainState::Connecting { trouble: None } => (false, "not reached yet".to_owned()),
                ChainState::Connecting { trouble: Some(trouble) } | ChainState::Down { trouble, .. } => {
                    (false, format!("{}: {}", trouble.message, trouble.advice))
                }
            };
            checks.push(check("chain", ok, &message));
            let (ok, message) = money_verdict(&status);
            checks.push(check("money", ok, &message));
            let finality = &status.finality;
            match (&finality.trouble, &finality.certified) {
                (Some(trouble), _) => checks.push(check("finality", false, &format!("{}: {}", trouble.message, trouble.advice))),
                (None, Some(newest)) => {
                    let found = format!("{}; the newest is of checkpoint {}, block {}", finality.source, newest.checkpoint, newest.block);
                    checks.push(check("finality", true, &found));
                }
                // Not looked yet, or a source that cannot be in trouble by itself.
                (None, None) => {}
            }
        }
        if let Some(prover) = &self.prover {
            let (ok, message) = prover_verdict(&prover.borrow());
            checks.push(check("prover", ok, &message));
        }
        if checks.is_empty() {
            checks.push(check("mode", true, "log mode: nothing is settled, nothing is earned"));
        }
        checks
    }
}

/// Whether money moves. What stops every job is told before what stops one.
fn money_verdict(status: &milepost_settlement::Status) -> (bool, String) {
    if let Some(trouble) = &status.key_ahead {
        return (false, format!("{}: {}", trouble.message, trouble.advice));
    }
    if let Some(stuck) = &status.stuck {
        let (nonce, job, seconds, attempts) = (stuck.nonce, stuck.job, stuck.seconds, stuck.attempts);
        let reason = stuck.reason.as_deref().unwrap_or("its fee is being raised");
        let what =
            format!("[MP-S-029] the transaction of nonce {nonce}, for job {job}, has been the next for {seconds} s in {attempts} forms");
        return (
            false,
            format!("{what}: {reason}; raise max_fee_gwei, send gas to the key, or cancel it (`milepost claims cancel {nonce}`)"),
        );
    }
    match (&status.trouble, status.halted_jobs) {
        (None, 0) => (true, format!("{} open jobs, {} unresolved transactions", status.open_jobs, status.unresolved_transactions)),
        (None, halted) => (false, format!("{halted} jobs wait for an operator: `milepost why <job>`, then `milepost jobs resume <job>`")),
        (Some(trouble), _) => (false, format!("{}: {}", trouble.message, trouble.advice)),
    }
}

/// Whether claims can be proven, and what was found; also what `milepost doctor` says.
pub(crate) fn prover_verdict(status: &milepost_prover::Status) -> (bool, String) {
    match status {
        milepost_prover::Status::Ready(test) => {
            let remembered = if test.cached { ", remembered from an earlier run" } else { "" };
            (true, format!("self-test proved ({}) in {:.1} s{remembered}", test.kind, test.seconds))
        }
        milepost_prover::Status::Untested => (false, "not tested yet".to_owned()),
        milepost_prover::Status::Testing => (false, "the self-test runs; claims wait for it, serving does not".to_owned()),
        milepost_prover::Status::Failed { code, message, advice } => (false, format!("[{code}] {message}: {advice}")),
    }
}

fn check(name: &str, ok: bool, message: &str) -> Check {
    // An endpoint's own words may repeat its address.
    Check { name: name.to_owned(), ok, message: crate::redact::clean(message).into_owned() }
}

#[cfg(test)]
mod tests {
    use milepost_settlement::{Status, Stuck, Trouble};
    use milepost_statement::JobId;

    use super::*;

    #[test]
    fn a_key_that_signs_nothing_and_a_stuck_one_earn_nothing() {
        let well = Status {
            chain: ChainState::Ready,
            endpoints: Vec::new(),
            head: None,
            gas_wei: None,
            open_jobs: 2,
            halted_jobs: 0,
            unresolved_transactions: 1,
            proving: 0,
            key_ahead: None,
            stuck: None,
            finality: milepost_settlement::FinalityStatus::default(),
            trouble: None,
        };
        assert_eq!(money_verdict(&well), (true, "2 open jobs, 1 unresolved transactions".to_owned()));
        let trouble = Trouble { code: "MP-S-030", message: "the chain counts more".to_owned(), advice: "restore" };
        let ahead = Status { key_ahead: Some(trouble.clone()), halted_jobs: 1, ..well.clone() };
        assert_eq!(money_verdict(&ahead), (false, "the chain counts more: restore".to_owned()));
        let stuck = Stuck { nonce: 7, job: JobId(1), seconds: 600, attempts: 3, reason: None };
        let (ok, words) = money_verdict(&Status { stuck: Some(stuck), ..well.clone() });
        assert!(!ok && words.contains("nonce 7") && words.contains("600 s"), "{words}");
        assert!(!money_verdict(&Status { halted_jobs: 1, ..well.clone() }).0);
        assert!(!money_verdict(&Status { trouble: Some(trouble), ..well }).0);
    }
}
