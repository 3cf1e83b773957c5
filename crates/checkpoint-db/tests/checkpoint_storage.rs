//! What the database keeps, in which order, and what pruning must not take.

mod common;

use checkpoint_db::{CheckpointDB, Error};
use common::{adapter, at, boundary, certificate, checkpoint, evidence, finalized, memory, open, signed, vote};
use finality_gadget::persistence::{Anchor, CheckpointStorage, Declaration, NotSafe, PruneOrder, check_and_insert, declare};
use finality_gadget::{CheckpointNumber, LinkDigest, ValidatorId};
use milepost_store::{FaultPlan, Memory};

fn db() -> (Memory, CheckpointDB) {
    let engine = memory(FaultPlan::none());
    let db = open(&engine).unwrap();
    (engine, db)
}

fn order(below: u64) -> PruneOrder {
    let anchor = Some(Anchor { number: at(below), link: LinkDigest([9; 32]) });
    PruneOrder { below: at(below), own_votes_below: at(below), anchor }
}

#[test]
fn votes_come_back_whole_in_the_order_of_their_targets() {
    let (_, db) = db();
    let votes: Vec<_> = (1..=5).flat_map(|target| (0..4).map(move |validator| signed(validator, vote(target - 1, target, 0)))).collect();
    db.store_signatures_batch(&votes[4..]).unwrap();
    db.store_signature(&votes[0]).unwrap();
    db.store_signatures_batch(&votes[..4]).unwrap();
    assert_eq!(db.signatures_after(at(0), usize::MAX).unwrap(), votes);
    assert_eq!(db.signatures_after(at(3), 5).unwrap(), votes[12..17]);
    assert_eq!(db.get_signatures(at(2)).unwrap(), votes[4..8]);
    assert_eq!(db.get_signatures(at(6)).unwrap(), []);
    assert_eq!(db.signatures_after(CheckpointNumber(u64::MAX), 1).unwrap(), []);
}

#[test]
fn two_different_votes_of_one_validator_for_one_target_are_both_kept() {
    let (_, db) = db();
    let (one, other) = (signed(3, vote(1, 2, 0)), signed(3, vote(1, 2, 1)));
    db.store_signature(&one).unwrap();
    db.store_signatures_batch(&[other.clone(), one.clone()]).unwrap();
    let kept = db.get_signatures(at(2)).unwrap();
    assert_eq!(kept.len(), 2);
    assert!(kept.contains(&one) && kept.contains(&other));
}

#[test]
fn certificates_are_listed_from_both_ends_boundaries_among_them() {
    let engine = memory(FaultPlan::none());
    let storage = adapter(&engine).unwrap();
    for target in 1..=9 {
        let certificate = if target % 4 == 0 { boundary(target - 1, target) } else { certificate(vote(target - 1, target, 0)) };
        storage.store_certificate(&certificate, Some(&finalized(target))).unwrap();
    }
    let targets =
        |found: Vec<finality_gadget::Certificate>| -> Vec<u64> { found.iter().map(|one| one.vote.link.target.number.0).collect() };
    assert_eq!(targets(storage.certificates_after(at(2), 4).unwrap()), [3, 4, 5, 6]);
    assert_eq!(targets(storage.certificates_before(None, 3).unwrap()), [9, 8, 7]);
    assert_eq!(targets(storage.certificates_before(Some(at(5)), 100).unwrap()), [4, 3, 2, 1]);
    assert_eq!(storage.certificate(at(4)).unwrap(), Some(boundary(3, 4)));
    assert_eq!(storage.certificate(at(10)).unwrap(), None);
    assert_eq!(storage.last_finalized().unwrap(), Some(finalized(9)));
    assert_eq!(storage.db().get_all_certificate_checkpoints().unwrap(), (1..=9).map(at).collect::<Vec<_>>());
}

#[test]
fn one_target_has_one_certificate_of_whatever_kind() {
    let (_, db) = db();
    db.store_certificate(&boundary(1, 2), None).unwrap();
    db.store_certificate(&certificate(vote(1, 2, 0)), None).unwrap();
    assert_eq!(db.get_all_certificate_checkpoints().unwrap(), [at(2)]);
    db.store_certificate(&boundary(1, 2), None).unwrap();
    assert_eq!(db.get_all_certificate_checkpoints().unwrap(), [at(2)]);
    assert_eq!(db.get_certificate(at(2)).unwrap(), Some(boundary(1, 2)));
}

#[test]
fn finality_moves_neither_backwards_nor_sideways() {
    let (_, db) = db();
    db.set_last_finalized(&finalized(5)).unwrap();
    db.set_last_finalized(&finalized(5)).unwrap();
    let mut sideways = finalized(5);
    sideways.checkpoint = checkpoint(5, 1);
    for refused in [finalized(4), sideways] {
        assert!(matches!(db.set_last_finalized(&refused), Err(Error::Finality { .. })));
    }
    assert!(matches!(db.store_certificate(&certificate(vote(3, 5, 1)), Some(&sideways)), Err(Error::Finality { .. })));
    assert_eq!(db.get_certificate(at(5)).unwrap(), None, "the batch was refused as a whole");
    db.store_certificate(&certificate(vote(3, 4, 0)), Some(&finalized(4))).unwrap();
    assert_eq!(db.get_certificate(at(4)).unwrap(), Some(certificate(vote(3, 4, 0))), "what comes late is kept");
    assert_eq!(db.get_last_finalized().unwrap(), Some(finalized(5)));
    db.set_last_finalized(&finalized(6)).unwrap();
}

#[test]
fn pruning_takes_what_is_below_and_never_a_boundary_or_evidence() {
    let engine = memory(FaultPlan::none());
    let storage = adapter(&engine).unwrap();
    declare(&storage, common::DOMAIN, Declaration::NeverSigned).unwrap();
    for target in 1..=20 {
        storage.store_signatures(&[signed(0, vote(target - 1, target, 0)), signed(1, vote(target - 1, target, 0))]).unwrap();
        let certificate = if target == 3 { boundary(2, 3) } else { certificate(vote(target - 1, target, 0)) };
        storage.store_certificate(&certificate, Some(&finalized(target))).unwrap();
        drop(check_and_insert(&storage, vote(target - 1, target, 0)).unwrap());
    }
    storage.store_evidence(&evidence(1, 2)).unwrap();

    let pruned = storage.prune(&order(10)).unwrap();
    assert_eq!((pruned.below, pruned.checkpoints), (at(10), 10));
    let targets: Vec<u64> = storage.certificates_after(at(0), 100).unwrap().iter().map(|one| one.vote.link.target.number.0).collect();
    assert_eq!(targets, [vec![3], (10..=20).collect()].concat());
    assert!(storage.signatures_after(at(0), 100).unwrap().iter().all(|signed| signed.vote.link.target.number >= at(10)));
    assert_eq!(storage.own_votes_after(at(0), 100).unwrap().len(), 11);
    assert_eq!(storage.evidence_after(None, 10).unwrap(), [evidence(1, 2)]);
    assert!(storage.has_evidence_against(ValidatorId(1)).unwrap());
    assert!(!storage.has_evidence_against(ValidatorId(2)).unwrap());
    assert_eq!(storage.anchor().unwrap(), order(10).anchor);

    let again = storage.prune(&order(10)).unwrap();
    assert_eq!((again.below, again.checkpoints), (at(10), 0), "what is pruned twice is pruned once");
    let lower = storage.prune(&order(5)).unwrap();
    assert_eq!((lower.below, lower.checkpoints), (at(10), 0));
    assert_eq!(storage.anchor().unwrap(), order(10).anchor, "an anchor never falls");
}

#[test]
fn no_order_prunes_what_is_final_last_or_the_newest_own_vote() {
    let engine = memory(FaultPlan::none());
    let storage = adapter(&engine).unwrap();
    declare(&storage, common::DOMAIN, Declaration::NeverSigned).unwrap();
    for target in 1..=4 {
        storage.store_certificate(&certificate(vote(target - 1, target, 0)), Some(&finalized(target))).unwrap();
        drop(check_and_insert(&storage, vote(target - 1, target, 0)).unwrap());
    }
    let pruned = storage.prune(&order(1_000_000)).unwrap();
    assert_eq!((pruned.below, pruned.checkpoints), (at(4), 4));
    assert_eq!(storage.certificates_after(at(0), 100).unwrap().len(), 1);
    assert_eq!(storage.own_votes_after(at(0), 100).unwrap(), [vote(3, 4, 0)]);
    assert!(matches!(check_and_insert(&storage, vote(3, 4, 1)), Err(NotSafe::SameTarget(_))), "pruning never loosens the protection");
    assert!(matches!(check_and_insert(&storage, vote(0, 3, 1)), Err(NotSafe::Target { .. })), "nor does the loss of an old row");
}

#[test]
fn nothing_is_pruned_before_anything_is_final() {
    let (_, db) = db();
    db.store_signature(&signed(0, vote(0, 1, 0))).unwrap();
    assert_eq!(db.prune_old_checkpoints(&order(10)).unwrap().checkpoints, 0);
    assert_eq!(db.get_signatures(at(1)).unwrap().len(), 1);
}

#[test]
fn statistics_count_what_is_there() {
    let (_, db) = db();
    let votes: Vec<_> = (0..21).map(|validator| signed(validator, vote(6, 7, 0))).collect();
    db.store_signatures_batch(&votes).unwrap();
    db.store_certificate(&certificate(vote(6, 7, 0)), Some(&finalized(7))).unwrap();
    db.store_certificate(&boundary(7, 8), Some(&finalized(8))).unwrap();
    db.store_evidence(&evidence(4, 5)).unwrap();
    let stats = db.get_stats().unwrap();
    assert_eq!((stats.total_signatures, stats.total_certificates, stats.evidence, stats.own_votes), (21, 2, 1, 0));
    assert_eq!((stats.oldest_checkpoint, stats.newest_checkpoint, stats.last_finalized), (Some(at(7)), Some(at(8)), Some(at(8))));
}

#[test]
fn evidence_is_found_page_by_page() {
    let (_, db) = db();
    let mut all: Vec<_> = (1..=7).map(|validator| evidence(validator, 9)).collect();
    for evidence in &all {
        db.store_evidence(evidence).unwrap();
    }
    all.sort_by_key(finality_gadget::Evidence::id);
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = db.evidence_after(after, 3).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id());
        found.extend(page);
    }
    assert_eq!(found, all);
}

#[test]
fn a_vote_that_was_stored_with_one_half_lost_is_no_vote_and_no_damage() {
    // What a disk that reorders unsynced writes may leave: the second signature without the vote that the first had brought along.
    for seed in 0..32 {
        let engine = memory(FaultPlan::none().surviving(milepost_store::Survival::Subset, seed));
        let db = open(&engine).unwrap();
        db.store_signature(&signed(0, vote(0, 1, 0))).unwrap();
        db.store_signature(&signed(1, vote(0, 1, 0))).unwrap();
        drop(db);
        let db = open(&engine.crash().reopen()).unwrap();
        let left = db.get_signatures(at(1)).unwrap();
        assert!(left.iter().all(|one| *one == signed(one.validator.0, vote(0, 1, 0))), "what is left is whole");
        db.store_signature(&signed(2, vote(0, 1, 0))).unwrap();
        assert!(db.get_signatures(at(1)).unwrap().contains(&signed(2, vote(0, 1, 0))), "and votes can be stored again");
    }
}
