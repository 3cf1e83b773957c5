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
            checks.push(check("chain", ok, message));
            let (ok, message) = match (held_up(&status), &status.trouble, status.halted_jobs) {
                (Some(held_up), ..) => (false, held_up),
                (None, None, 0) => {
                    (true, format!("{} open jobs, {} unresolved transactions", status.open_jobs, status.unresolved_transactions))
                }
                (None, None, halted) => (false, format!("{halted} jobs wait for an operator: milepost why <job>")),
                (None, Some(trouble), _) => (false, format!("{}: {}", trouble.message, trouble.advice)),
            };
            checks.push(check("money", ok, message));
            let finality = &status.finality;
            match (&finality.trouble, &finality.certified) {
                (Some(trouble), _) => checks.push(check("finality", false, format!("{}: {}", trouble.message, trouble.advice))),
                (None, Some(newest)) => {
                    let found = format!("{}; the newest is of checkpoint {}, block {}", finality.source, newest.checkpoint, newest.block);
                    checks.push(check("finality", true, found));
                }
                // Not looked yet, or a source that cannot be in trouble by itself.
                (None, None) => {}
            }
        }
        if let Some(prover) = &self.prover {
            let (ok, message) = prover_verdict(&prover.borrow());
            checks.push(check("prover", ok, message));
        }
        if checks.is_empty() {
            checks.push(check("mode", true, "log mode: nothing is settled, nothing is earned".to_owned()));
        }
        checks
    }
}

/// A key that may not sign, or whose transactions are held up, moves no money for any job: said before what one job has.
fn held_up(status: &milepost_settlement::Status) -> Option<String> {
    if let Some(ahead) = &status.key_ahead {
        return Some(format!("{}: {}", ahead.message, ahead.advice));
    }
    let stuck = status.stuck.as_ref()?;
    let reason = stuck.reason.as_deref().unwrap_or("its fee is being raised");
    Some(format!("[MP-S-029] transaction {} of job {} has been the next for {} s: {reason}", stuck.nonce, stuck.job, stuck.seconds))
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

fn check(name: &str, ok: bool, message: String) -> Check {
    Check { name: name.to_owned(), ok, message }
}
