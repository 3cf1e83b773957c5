//! Making certificates from votes that agree.

use std::sync::Arc;

use super::Core;
use crate::bitmap::Bitmap;
use crate::certificate::Certificate;
use crate::scheme::Claim;
use crate::types::{CheckpointNumber, LinkDigest, ValidatorId, ValidatorIndex};
use crate::vote::{Signature, Vote};

impl Core {
    /// Makes a certificate if a quorum of every set says the same: aggregates first and verifies once. If that fails, the false votes
    /// are found by halves and dropped.
    pub(super) fn try_certify(&mut self, target: CheckpointNumber, digest: LinkDigest) {
        if self.links.get(target).is_some() || target <= self.links.finalized().checkpoint.number || self.halted.is_some() {
            return;
        }
        let Some(vote) = self.pool.agreeing(target, digest).next().map(|held| held.signed.vote.clone()) else { return };
        // A quorum would not say so falsely, but this node can not yet tell: the certificate of the source will come first.
        if !self.links.source_is_justified(&vote) {
            return;
        }
        // Twice at most: what the first round leaves is verified.
        for _ in 0..2 {
            let Ok(electorate) = self.schedule.check(&vote).cloned() else { return };
            let voted: Vec<(ValidatorId, ValidatorIndex, Signature)> = self
                .pool
                .agreeing(target, digest)
                .filter_map(|held| Some((held.signed.validator, electorate.index(held.signed.validator)?, held.signed.signature.clone())))
                .collect();
            if electorate.has_quorum(|member| voted.binary_search_by_key(&member, |(validator, ..)| *validator).is_ok()).is_err() {
                return;
            }
            if let Some(certificate) = assemble(&electorate, &vote, &voted)
                && self.schedule.verify_certificate(&certificate).is_ok()
            {
                let electorate = Arc::clone(&electorate);
                self.install(certificate, &electorate);
                return;
            }
            let message = vote.signed_bytes();
            let claims: Vec<Claim<'_>> =
                voted.iter().map(|(_, index, signature)| Claim { index: *index, message: &message, signature }).collect();
            let verdicts = electorate.keys().verify_each(&claims, &mut *self.entropy);
            for ((validator, ..), holds) in voted.iter().zip(verdicts) {
                if holds {
                    if let Some(held) = self.pool.get_mut(target, *validator) {
                        held.verified = true;
                    }
                } else {
                    self.pool.remove(target, *validator);
                    self.peers.fault(*validator, self.now);
                }
            }
        }
    }

    /// Looks again at votes whose source has only now become known as justified.
    pub(super) fn certify_from(&mut self, source: CheckpointNumber) {
        let mut waiting: Vec<(CheckpointNumber, LinkDigest)> = self
            .pool
            .iter()
            .filter(|held| held.signed.vote.link.source.number == source)
            .map(|held| (held.signed.vote.link.target.number, held.digest))
            .collect();
        waiting.dedup();
        for (target, digest) in waiting {
            self.try_certify(target, digest);
        }
    }
}

fn assemble(electorate: &crate::set::Electorate, vote: &Vote, voted: &[(ValidatorId, ValidatorIndex, Signature)]) -> Option<Certificate> {
    let mut signers = Bitmap::empty(electorate.members().len());
    for (_, index, _) in voted {
        signers.set(*index);
    }
    let signatures: Vec<(ValidatorIndex, &Signature)> = voted.iter().map(|(_, index, signature)| (*index, signature)).collect();
    let aggregate = electorate.keys().aggregate(&signatures).ok()?;
    Some(Certificate { vote: vote.clone(), signers, aggregate })
}
