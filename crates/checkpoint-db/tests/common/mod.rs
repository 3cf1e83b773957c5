//! Votes, certificates and evidence to store, and engines to store them in.
#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::Arc;

use checkpoint_db::{CheckpointDB, CheckpointStorageAdapter, TABLES, TableWitness, WITNESS_TABLE};
use finality_gadget::{
    Bitmap, BlockHash, Certificate, CheckpointNumber, DomainDigest, Evidence, FinalityCheckpoint, Finalized, Link, LinkDigest, SetDigest,
    SetId, Signature, SignedVote, Testimony, ValidatorId, ValidatorIndex, Vote,
};
use milepost_store::{FaultPlan, Memory};

pub(crate) const DOMAIN: DomainDigest = DomainDigest([0xd0; 32]);

pub(crate) fn at(number: u64) -> CheckpointNumber {
    CheckpointNumber(number)
}

pub(crate) fn checkpoint(number: u64, branch: u8) -> FinalityCheckpoint {
    let mut hash = [branch; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    FinalityCheckpoint { number: at(number), hash: BlockHash(hash) }
}

/// A vote on a branch of the chain.
pub(crate) fn vote(source: u64, target: u64, branch: u8) -> Vote {
    Vote {
        domain: DOMAIN,
        set: SetId(5),
        sets: vec![SetDigest([0x51; 32])],
        link: Link { source: checkpoint(source, 0), target: checkpoint(target, branch) },
        previous: LinkDigest([0xee; 32]),
    }
}

pub(crate) fn signed(validator: u32, vote: Vote) -> SignedVote {
    let mut signature = [7; 48];
    signature[..4].copy_from_slice(&validator.to_be_bytes());
    signature[4..36].copy_from_slice(&vote.digest().0);
    SignedVote { vote, validator: ValidatorId(validator), signature: Signature(signature.to_vec()) }
}

pub(crate) fn certificate(vote: Vote) -> Certificate {
    let mut signers = Bitmap::empty(21);
    (0..15).for_each(|index| signers.set(ValidatorIndex(index)));
    Certificate { vote, signers, aggregate: Signature(vec![6; 48]) }
}

/// A certificate over a boundary between two sets.
pub(crate) fn boundary(source: u64, target: u64) -> Certificate {
    let mut certificate = certificate(vote(source, target, 0));
    certificate.vote.sets.push(SetDigest([0x52; 32]));
    certificate
}

pub(crate) fn finalized(number: u64) -> Finalized {
    Finalized { checkpoint: checkpoint(number, 0), by: at(number) }
}

pub(crate) fn evidence(validator: u32, target: u64) -> Evidence {
    let testimony = |branch| Testimony::Vote(signed(validator, vote(target - 1, target, branch)));
    Evidence::new(ValidatorId(validator), testimony(0), testimony(1))
}

pub(crate) fn memory(plan: FaultPlan) -> Memory {
    Memory::with_faults(&[TABLES.as_slice(), &[WITNESS_TABLE]].concat(), plan)
}

pub(crate) fn open(engine: &Memory) -> Result<CheckpointDB, checkpoint_db::Error> {
    let engine = Arc::new(engine.clone());
    CheckpointDB::over(engine.clone(), Box::new(TableWitness::new(engine)))
}

pub(crate) fn adapter(engine: &Memory) -> Result<CheckpointStorageAdapter, checkpoint_db::Error> {
    open(engine).map(|db| CheckpointStorageAdapter::new(Arc::new(db)))
}

/// SplitMix64: the same choices on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.bits() % most.max(1) as u64).unwrap()
    }
}
