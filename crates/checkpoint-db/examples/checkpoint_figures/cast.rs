//! Validators, votes and certificates to measure with.

use std::sync::Arc;

use checkpoint_db::CheckpointStorageAdapter;
use finality_gadget::persistence::{CheckpointStorage as _, Declaration, check_and_insert, declare};
use finality_gadget::scheme::Bls;
use finality_gadget::simulator::{Key, SchemeKind};
use finality_gadget::{
    Bitmap, BlockHash, Certificate, ChainId, CheckpointNumber, Domain, FinalityCheckpoint, Finalized, Link, LinkDigest, Registration,
    Schedule, SetId, Signature, SignedVote, TrustedCheckpoint, ValidatorId, ValidatorIndex, ValidatorSet, Vote,
};

use crate::Failure;

pub(crate) fn checkpoint(number: u64) -> FinalityCheckpoint {
    let mut hash = [0xc0; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    FinalityCheckpoint { number: CheckpointNumber(number), hash: BlockHash(hash) }
}

/// Keys, set and schedule of the figures' validators.
pub(crate) struct Cast {
    pub(crate) keys: Vec<Key>,
    pub(crate) registrations: Vec<Registration>,
    pub(crate) schedule: Schedule,
}

impl Cast {
    pub(crate) fn new(members: u32) -> Result<Self, Failure> {
        let keys: Vec<Key> = (0..members).map(|id| Key::of(SchemeKind::Bls, ValidatorId(id))).collect();
        let registrations: Vec<_> = (0..).zip(&keys).map(|(id, key)| key.registration(ValidatorId(id))).collect();
        let set = ValidatorSet::new(SetId(1), &Bls, &registrations)?;
        let trusted = TrustedCheckpoint { checkpoint: checkpoint(0), set: set.digest() };
        let schedule = Schedule::new(Domain { chain: ChainId(31337), trusted }, Arc::new(Bls), set)?;
        Ok(Self { keys, registrations, schedule })
    }

    pub(crate) fn vote(&self, target: u64, previous: LinkDigest) -> Vote {
        let link = Link { source: checkpoint(target - 1), target: checkpoint(target) };
        let sets = vec![self.schedule.set_at(link.target.number).digest()];
        Vote { domain: self.schedule.domain_digest(), set: SetId(1), sets, link, previous }
    }

    pub(crate) fn signatures(&self, vote: &Vote) -> Vec<SignedVote> {
        let message = vote.signed_bytes();
        let sign =
            |(id, key): (u32, &Key)| SignedVote { vote: vote.clone(), validator: ValidatorId(id), signature: key.sign_unchecked(&message) };
        (0..).zip(&self.keys).map(sign).collect()
    }

    /// A certificate by a quorum that begins at `first` and wraps around: whose votes come first differs from checkpoint to checkpoint.
    pub(crate) fn certificate(&self, votes: &[SignedVote], first: usize) -> Result<Certificate, Failure> {
        let vote = votes[0].vote.clone();
        let electorate = self.schedule.electorate(&vote.link)?;
        let quorum = self.schedule.set_at(vote.link.target.number).quorum();
        let mut chosen: Vec<usize> = (first..first + quorum).map(|at| at % votes.len()).collect();
        chosen.sort_unstable();
        let mut signers = Bitmap::empty(votes.len());
        let signatures: Vec<(ValidatorIndex, &Signature)> =
            chosen.iter().map(|at| Ok((ValidatorIndex(u32::try_from(*at)?), &votes[*at].signature))).collect::<Result<_, Failure>>()?;
        for (index, _) in &signatures {
            signers.set(*index);
        }
        let aggregate = electorate.keys().aggregate(&signatures)?;
        Ok(Certificate { vote, signers, aggregate })
    }

    /// Writes checkpoints as a validator does: votes as they come, its own vote, the certificate with what is final by it. The log is moved
    /// into table files behind the checkpoint `settled`, besides when that is due.
    pub(crate) fn fill(&self, storage: &CheckpointStorageAdapter, checkpoints: u64, flush_every: u64, settled: u64) -> Result<(), Failure> {
        storage.bind_key(&self.registrations[0].key)?;
        declare(storage, self.schedule.domain_digest(), Declaration::NeverSigned)?;
        let mut previous = self.schedule.domain().root();
        for target in 1..=checkpoints {
            let vote = self.vote(target, previous);
            let votes = self.signatures(&vote);
            drop(check_and_insert(storage, vote.clone())?);
            votes.iter().try_for_each(|signed| storage.store_signatures(std::slice::from_ref(signed)))?;
            let certificate = self.certificate(&votes, usize::try_from(target * target)?)?;
            previous = certificate.digest();
            let finalized = Finalized { checkpoint: vote.link.target, by: vote.link.target.number };
            storage.store_certificate(&certificate, Some(&finalized))?;
            if target % flush_every == 0 {
                storage.flush()?;
            }
            if target == settled {
                storage.db().settle()?;
            }
        }
        Ok(())
    }
}
