//! Reading back what was kept, and believing only what can be shown.

use std::collections::{BTreeMap, BTreeSet};

use crate::certificate::{Certificate, Finalized};
use crate::core::{FinalityRule, HISTORY, KEPT_BELOW_FINAL, Restored};
use crate::evidence::Testimony;
use crate::persistence::{CheckpointStorage, Error, SignState};
use crate::scheme::Entropy;
use crate::set::Schedule;
use crate::types::{CheckpointNumber, EvidenceId, FinalityCheckpoint, LinkDigest, ValidatorId};
use crate::vote::{SignedVote, Vote};

/// Certificates verified, and names of evidence read, in one go.
const PAGE: usize = 256;
/// Votes and certificates read in one go. Each page begins with a search of its own, and a start reads a thousand.
const READ_PAGE: usize = 2048;
/// Certificates read back at a start, newest first. Retention is below this; whatever lies deeper is served from the storage.
const MAX_CERTIFICATES: usize = 16_384;
/// Votes read back at a start.
const MAX_VOTES: usize = 262_144;
/// Own votes read back at a start, by target numbers below the newest.
const OWN_VOTES: u64 = 1024;
/// Pieces of evidence whose names are read back.
const MAX_EVIDENCE: usize = 65_536;

/// What a restore found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreReport {
    /// Last final checkpoint.
    pub finalized: FinalityCheckpoint,
    /// Certificates whose place in the chain of digests was confirmed, or whose aggregate was verified.
    pub certificates: usize,
    /// Votes of all validators for targets above the last final one. Those below are read behind the start.
    pub signatures: usize,
    /// Own votes.
    pub own_votes: usize,
    /// Whether the chain of digests reaches down to the trusted checkpoint or to the anchor of the last pruning.
    pub complete: bool,
    /// Targets of certificates that did not hold and are not used.
    pub damaged: Vec<CheckpointNumber>,
}

pub(super) struct Read {
    pub(super) restored: Restored,
    pub(super) report: RestoreReport,
    pub(super) background: Background,
}

pub(super) fn read(storage: &dyn CheckpointStorage, schedule: &Schedule, rule: FinalityRule) -> Result<Read, Error> {
    let (own, chain) = std::thread::scope(|scope| {
        // Side by side: they are most of what a start reads.
        let own = scope.spawn(|| own(storage));
        let chain = certificates(storage, schedule);
        (own.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), chain)
    });
    let (sign_state, own_votes) = own?;
    let (mut chain, damaged, complete) = chain?;
    let finalized = supported_finality(storage, schedule, rule, &chain)?;
    let final_number = finalized.map_or(schedule.domain().trusted.checkpoint.number, |finalized| finalized.checkpoint.number);
    // What lies below finality is only there to notice contradictions that come late: it is read behind the start.
    let votes = votes(storage, final_number)?;
    let report = RestoreReport {
        finalized: finalized.map_or(schedule.domain().trusted.checkpoint, |finalized| finalized.checkpoint),
        certificates: chain.len(),
        signatures: votes.len(),
        own_votes: own_votes.len(),
        complete,
        damaged: damaged.iter().map(|(target, _)| *target).collect(),
    };
    // What lies deeper was checked, and is served from the storage.
    let certificates = chain.split_off(&final_number.minus(KEPT_BELOW_FINAL)).into_values().collect();
    let (evidence, halted) = evidence(storage, schedule)?;
    Ok(Read {
        restored: Restored { certificates, finalized, votes, sign_state, own_votes, evidence, damaged, halted },
        report,
        background: Background { history: Some(final_number), before: None, done: false, verified: 0, damaged: Vec::new() },
    })
}

/// The sign-state, and the newest own votes.
fn own(storage: &dyn CheckpointStorage) -> Result<(Option<SignState>, Vec<Vote>), Error> {
    let sign_state = storage.sign_state()?;
    let own_from = sign_state.as_ref().map(|state| state.max_target.minus(OWN_VOTES)).unwrap_or_default();
    let own_votes = storage.own_votes_after(own_from, READ_PAGE)?;
    Ok((sign_state, own_votes))
}

type Chain = BTreeMap<CheckpointNumber, Certificate>;
/// Targets of certificates that do not hold, and the links they stand for.
type Damaged = Vec<(CheckpointNumber, LinkDigest)>;
/// Whom kept evidence accuses, and its name.
type Named = Vec<(ValidatorId, EvidenceId)>;

/// The newest certificate that verifies, and everything below it that its digests lead to. What lies beside that chain, on other
/// branches above the last final checkpoint, is verified by itself.
fn certificates(storage: &dyn CheckpointStorage, schedule: &Schedule) -> Result<(Chain, Damaged, bool), Error> {
    let mut all: Chain = BTreeMap::new();
    let mut before = None;
    while all.len() < MAX_CERTIFICATES {
        let page = storage.certificates_before(before, READ_PAGE)?;
        let Some(last) = page.last() else { break };
        before = Some(last.vote.link.target.number);
        all.extend(page.into_iter().map(|certificate| (certificate.vote.link.target.number, certificate)));
    }
    let (mut chain, mut damaged, mut complete) = (Chain::new(), Vec::new(), all.is_empty());
    let root = (schedule.domain().trusted.checkpoint.number, schedule.domain().root());
    let anchor = storage.anchor()?.map(|anchor| (anchor.number, anchor.link));
    let last_final = storage.last_finalized()?.map_or(root.0, |finalized| finalized.checkpoint.number);
    while let Some((target, tip)) = all.pop_last() {
        if !chain.is_empty() && target <= last_final {
            // Beside the chain and below finality: for history only. The verification behind the start looks at it.
            continue;
        }
        if schedule.verify_certificate(&tip).is_err() {
            damaged.push((target, tip.digest()));
            continue;
        }
        let mut next = (tip.vote.link.source.number, tip.vote.previous);
        chain.insert(target, tip);
        while all.get(&next.0).is_some_and(|below| below.digest() == next.1)
            && let Some(below) = all.remove(&next.0)
        {
            next = (below.vote.link.source.number, below.vote.previous);
            chain.insert(below.vote.link.target.number, below);
        }
        complete |= next == root || Some(next) == anchor;
    }
    Ok((chain, damaged, complete))
}

/// The recorded finality if a confirmed certificate shows it, otherwise the highest that confirmed certificates do show.
fn supported_finality(
    storage: &dyn CheckpointStorage,
    schedule: &Schedule,
    rule: FinalityRule,
    chain: &Chain,
) -> Result<Option<Finalized>, Error> {
    let shown = |certificate: &Certificate| {
        let link = certificate.vote.link;
        match rule {
            FinalityRule::Single => Some(Finalized { checkpoint: link.target, by: link.target.number }),
            FinalityRule::Ffg => link.is_direct().then_some(Finalized { checkpoint: link.source, by: link.target.number }),
        }
    };
    let recorded = storage.last_finalized()?;
    if let Some(recorded) = recorded
        && chain.get(&recorded.by).and_then(shown) == Some(recorded)
    {
        return Ok(Some(recorded));
    }
    let best = chain.values().filter_map(shown).max_by_key(|finalized| finalized.checkpoint.number);
    if recorded.is_some() {
        tracing::warn!(
            event = "finality_unsupported",
            "the recorded finality has no certificate that holds; what certificates show is used"
        );
    }
    Ok(best.filter(|best| best.checkpoint.number > schedule.domain().trusted.checkpoint.number))
}

/// Names of what is kept. Two certificates that contradict each other halt a node for as long as it trusts the same checkpoint; a restart
/// does not make more of its validators honest.
fn evidence(storage: &dyn CheckpointStorage, schedule: &Schedule) -> Result<(Named, Option<String>), Error> {
    let (mut names, mut halted) = (Vec::new(), None);
    let mut after = None;
    while names.len() < MAX_EVIDENCE {
        let page = storage.evidence_after(after, PAGE)?;
        let Some(last) = page.last() else { break };
        after = Some(last.id());
        for evidence in &page {
            names.push((evidence.validator, evidence.id()));
            if let (None, Testimony::Certificate(one), Testimony::Certificate(other)) = (&halted, &evidence.first, &evidence.second)
                && evidence.verify(schedule).is_ok()
            {
                let (one, other) = (one.vote.link.target.number, other.vote.link.target.number);
                halted = Some(format!("two certificates contradict each other at targets {one} and {other}"));
            }
        }
    }
    Ok((names, halted))
}

/// Votes for targets above a number.
fn votes(storage: &dyn CheckpointStorage, mut after: CheckpointNumber) -> Result<Vec<SignedVote>, Error> {
    let mut all: Vec<SignedVote> = Vec::new();
    while all.len() < MAX_VOTES {
        let some = storage.signatures_after(after, READ_PAGE)?;
        let Some(last) = some.last().map(|last| last.vote.link.target.number) else { break };
        // A page may end within a target's votes; that target is read again, and what came twice is one.
        let next = if last > after.next() && some.len() >= READ_PAGE { last.minus(1) } else { last };
        all.extend(some);
        after = next;
    }
    let mut seen = BTreeSet::new();
    all.retain(|signed| seen.insert((signed.vote.link.target.number, signed.validator, signed.signature.clone())));
    Ok(all)
}

/// What one step behind a start found.
pub(super) struct Step {
    /// Whether that was all.
    pub(super) done: bool,
    /// What does not hold.
    pub(super) damaged: Damaged,
    /// Votes below finality.
    pub(super) votes: Vec<SignedVote>,
}

/// The verification behind a start: votes below finality are read back, and then every stored certificate's own aggregate is verified,
/// newest first, a page at a time.
#[derive(Debug, Clone)]
pub struct Background {
    /// The last final number at the start, until votes below it were read.
    history: Option<CheckpointNumber>,
    before: Option<CheckpointNumber>,
    done: bool,
    verified: usize,
    damaged: Vec<CheckpointNumber>,
}

impl Background {
    /// Whether everything was looked at.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// How many hold.
    pub fn verified(&self) -> usize {
        self.verified
    }

    /// Targets of those that do not.
    pub fn damaged(&self) -> &[CheckpointNumber] {
        &self.damaged
    }

    /// One page; answers whether that was all, and what in it does not hold.
    pub(super) fn step(&mut self, storage: &dyn CheckpointStorage, schedule: &Schedule, entropy: &mut dyn Entropy) -> Result<Step, Error> {
        if self.done {
            return Ok(Step { done: true, damaged: Vec::new(), votes: Vec::new() });
        }
        if let Some(last) = self.history.take() {
            let mut votes = votes(storage, last.minus(HISTORY))?;
            votes.retain(|signed| signed.vote.link.target.number <= last);
            return Ok(Step { done: false, damaged: Vec::new(), votes });
        }
        let mut damaged = Vec::new();
        let page = storage.certificates_before(self.before, PAGE)?;
        let Some(last) = page.last() else {
            self.done = true;
            tracing::info!(
                event = "restored_verified",
                certificates = self.verified,
                damaged = self.damaged.len(),
                "every stored certificate was verified"
            );
            return Ok(Step { done: true, damaged, votes: Vec::new() });
        };
        self.before = Some(last.vote.link.target.number);
        for (certificate, holds) in page.iter().zip(schedule.verify_certificates(&page, entropy)) {
            if holds {
                self.verified += 1;
            } else {
                let target = certificate.vote.link.target.number;
                tracing::error!(event = "damaged_certificate", %target, "a stored certificate does not hold; peers are asked for it");
                self.damaged.push(target);
                damaged.push((target, certificate.digest()));
            }
        }
        Ok(Step { done: false, damaged, votes: Vec::new() })
    }
}
