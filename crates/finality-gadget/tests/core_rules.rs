//! The core by hand: one event at a time, and what it asks for.

mod common;

use common::{at, block, certify, chain, checkpoint, core, first_vote, says, schedule, sign, view, vote};
use finality_gadget::network::{OwnVotes, Status};
use finality_gadget::persistence::{SignState, Standing as Recorded};
use finality_gadget::simulator::{Rng, SchemeKind};
use finality_gadget::{
    CheckpointNumber, Config, Core, Effect, Event, FinalityRule, Lag, Message, Reason, Recipient, Restored, Schedule, Signature,
    SignedVote, Standing, ValidatorId, Verdict, Vote,
};

const KIND: SchemeKind = SchemeKind::Test;

fn state(schedule: &Schedule, max_source: u64, max_target: u64) -> SignState {
    SignState {
        domain: schedule.domain_digest(),
        max_source: CheckpointNumber(max_source),
        max_target: CheckpointNumber(max_target),
        standing: Recorded::Clear,
    }
}

/// Validator 0 of four, with a fresh record, not yet allowed to sign.
fn asking() -> (Core, Schedule) {
    let schedule = schedule(KIND, 4);
    let (mut core, schedule) = core(4, Restored { sign_state: Some(state(&schedule, 0, 0)), ..Restored::default() });
    let asked = core.handle(Event::Started { nonce: 7 });
    assert!(asked.contains(&Effect::Send { to: Recipient::All, message: Message::OwnVotesQuery { nonce: 7 } }));
    (core, schedule)
}

fn answer(nonce: u64) -> OwnVotes {
    OwnVotes { nonce, ..OwnVotes::default() }
}

fn signing() -> (Core, Schedule) {
    let (mut core, schedule) = asking();
    let _ = core.handle(Event::Chain(view(0)));
    let _ = says(&mut core, 1, Message::OwnVotes(answer(7)));
    let _ = says(&mut core, 2, Message::OwnVotes(answer(7)));
    let _ = says(&mut core, 3, Message::OwnVotes(answer(7)));
    assert_eq!(core.health().standing, Standing::Signing);
    (core, schedule)
}

fn asked_to_sign(effects: &[Effect]) -> Option<Vote> {
    effects.iter().find_map(|effect| if let Effect::Sign(vote) = effect { Some(vote.clone()) } else { None })
}

fn sign_it(core: &mut Core, vote: &Vote) -> Vec<Effect> {
    core.handle(Event::Signed(sign(KIND, 0, vote)))
}

fn refusal(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::RefuseToSign { .. }))
}

#[test]
fn nothing_is_signed_before_a_quorum_has_answered() {
    let (mut core, _) = asking();
    assert_eq!(asked_to_sign(&core.handle(Event::Chain(view(1)))), None, "a vote was asked for before anybody answered");
    assert_eq!(asked_to_sign(&says(&mut core, 1, Message::OwnVotes(answer(7)))), None);
    assert_eq!(asked_to_sign(&says(&mut core, 1, Message::OwnVotes(answer(7)))), None, "one peer's answer counted twice");
    assert_eq!(asked_to_sign(&says(&mut core, 2, Message::OwnVotes(answer(6)))), None, "an answer to an earlier start counted");
    let _ = at(&mut core, 0);
    assert_eq!(asked_to_sign(&says(&mut core, 2, Message::OwnVotes(answer(7)))), None, "the slow ones were not waited for");
    assert_eq!(asked_to_sign(&at(&mut core, 4_000)), None);
    assert!(asked_to_sign(&at(&mut core, 5_000)).is_some());
}

#[test]
fn one_newer_own_vote_at_a_peer_ends_signing() {
    let (mut core, schedule) = asking();
    let newer = sign(KIND, 0, &first_vote(&schedule, checkpoint(3)));
    let effects = says(&mut core, 1, Message::OwnVotes(OwnVotes { votes: vec![newer], ..answer(7) }));
    assert!(refusal(&effects), "a validator went on although a peer knew a newer vote of its own");
    let _ = says(&mut core, 2, Message::OwnVotes(answer(7)));
    let _ = says(&mut core, 3, Message::OwnVotes(answer(7)));
    assert_eq!(asked_to_sign(&core.handle(Event::Chain(view(9)))), None);
    assert!(matches!(core.health().standing, Standing::Refused { .. }));
}

#[test]
fn a_certificate_that_counts_a_vote_this_table_does_not_know_ends_signing() {
    let (mut core, schedule) = signing();
    let effects = says(&mut core, 1, Message::Certificates(vec![certify(&schedule, KIND, &first_vote(&schedule, checkpoint(2)), 0..3)]));
    assert!(refusal(&effects), "a twin's vote in a certificate went unnoticed");
}

#[test]
fn what_a_peer_falsely_says_of_own_votes_changes_nothing() {
    let (mut core, schedule) = asking();
    let mut forged = sign(KIND, 1, &first_vote(&schedule, checkpoint(3)));
    forged.validator = ValidatorId(0);
    let mut certificate = certify(&schedule, KIND, &first_vote(&schedule, checkpoint(2)), 1..4);
    certificate.signers.set(finality_gadget::ValidatorIndex(0));
    let lie = OwnVotes { votes: vec![forged], certificate: Some(certificate), ..answer(7) };
    assert!(!refusal(&says(&mut core, 1, Message::OwnVotes(lie))), "a forged vote kept a validator from signing");
}

#[test]
fn a_claim_of_high_finality_by_one_liar_does_not_hold_signing_up() {
    let (mut core, _) = asking();
    let _ = core.handle(Event::Chain(view(1)));
    let _ = says(&mut core, 3, Message::OwnVotes(OwnVotes { finalized: CheckpointNumber(u64::MAX), ..answer(7) }));
    let _ = says(&mut core, 1, Message::OwnVotes(answer(7)));
    assert!(matches!(core.health().standing, Standing::Asking { .. } | Standing::Signing));
    let _ = says(&mut core, 2, Message::OwnVotes(answer(7)));
    assert_eq!(core.health().standing, Standing::Signing, "one liar's claim kept a validator from signing");
}

#[test]
fn four_votes_make_a_certificate_and_two_certificates_finality() {
    let (mut core, schedule) = signing();
    let first = asked_to_sign(&core.handle(Event::Chain(view(1)))).unwrap();
    assert_eq!(first, first_vote(&schedule, checkpoint(1)));
    let _ = sign_it(&mut core, &first);
    assert!(
        says(&mut core, 1, Message::Votes(vec![sign(KIND, 1, &first)]))
            .iter()
            .all(|effect| !matches!(effect, Effect::KeepCertificate { .. }))
    );
    let effects = says(&mut core, 2, Message::Votes(vec![sign(KIND, 2, &first)]));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::KeepCertificate { finalized: None, .. })));
    assert_eq!(core.justified(), CheckpointNumber(1));

    let second = asked_to_sign(&core.handle(Event::Chain(view(2)))).unwrap();
    assert_eq!(second, vote(&schedule, checkpoint(1), checkpoint(2), first.digest()));
    let _ = sign_it(&mut core, &second);
    let _ = says(&mut core, 1, Message::Votes(vec![sign(KIND, 1, &second)]));
    let effects = says(&mut core, 3, Message::Votes(vec![sign(KIND, 3, &second)]));
    let kept = effects.iter().position(|effect| matches!(effect, Effect::KeepCertificate { finalized: Some(_), .. })).unwrap();
    let told = effects.iter().position(|effect| matches!(effect, Effect::Finalized(_))).unwrap();
    assert!(kept < told, "finality was told before its certificate was kept");
    assert_eq!(core.finalized().checkpoint, checkpoint(1));
}

#[test]
fn after_a_split_the_next_round_number_is_voted_for_from_the_same_source() {
    let (mut core, schedule) = signing();
    let vote = asked_to_sign(&core.handle(Event::Chain(view(1)))).unwrap();
    let _ = sign_it(&mut core, &vote);
    // The chain is reorganised: block 1 is another, and 2 follows it.
    let mut reorganised = view(2);
    reorganised.hashes.insert(CheckpointNumber(1), block(1, 5).hash);
    assert_eq!(asked_to_sign(&core.handle(Event::Chain(reorganised.clone()))), None, "a second vote for one number was asked for");
    let effects = at(&mut core, 20_000);
    assert_eq!(asked_to_sign(&effects), Some(first_vote(&schedule, checkpoint(2))));
}

#[test]
fn what_the_table_forbids_is_not_asked_for_again() {
    let (mut core, _) = signing();
    assert!(asked_to_sign(&core.handle(Event::Chain(view(3)))).is_some());
    let again = core.handle(Event::NotSafe { verdict: Verdict::TargetsUpTo(CheckpointNumber(5)) });
    assert_eq!(asked_to_sign(&again), None);
    let later = at(&mut core, 60_000);
    assert_eq!(asked_to_sign(&later), None, "a target was asked for that the table had excluded");
    let vote = asked_to_sign(&core.handle(Event::Chain(view(6)))).unwrap();
    assert_eq!(vote.link.target.number, CheckpointNumber(6));
    let _ = core.handle(Event::NotSafe { verdict: Verdict::SourcesBelow(CheckpointNumber(4)) });
    let _ = core.handle(Event::Chain(view(8)));
    assert_eq!(asked_to_sign(&at(&mut core, 90_000)), None);
    let stuck = {
        let _ = at(&mut core, 300_000);
        core.health().stuck.unwrap()
    };
    assert!(stuck.reasons.contains(&Reason::SourceBelowMark { source: CheckpointNumber(0), mark: CheckpointNumber(4) }), "{stuck:?}");
}

#[test]
fn single_finality_waits_for_the_chains_own_tag() {
    let schedule = schedule(KIND, 4);
    let config = Config::new(FinalityRule::Single, Some(ValidatorId(0)));
    let restored = Restored { sign_state: Some(state(&schedule, 0, 0)), ..Restored::default() };
    let mut core = Core::new(config, schedule.clone(), Box::new(Rng::new(1)), restored);
    let _ = core.handle(Event::Started { nonce: 7 });
    for peer in 1..4 {
        let _ = says(&mut core, peer, Message::OwnVotes(answer(7)));
    }
    let behind = finality_gadget::ChainView { finalized: Some(CheckpointNumber(0)), ..view(5) };
    assert_eq!(asked_to_sign(&core.handle(Event::Chain(behind))), None, "a vote above the chain's finalized tag was asked for");
    let vote =
        asked_to_sign(&core.handle(Event::Chain(finality_gadget::ChainView { finalized: Some(CheckpointNumber(1)), ..view(5) }))).unwrap();
    assert_eq!(vote.link.target, checkpoint(1));
    let effects = says(&mut core, 1, Message::Certificates(vec![certify(&schedule, KIND, &vote, 1..4)]));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Finalized(_))));
    assert_eq!(core.finalized().checkpoint, checkpoint(1));
}

#[test]
fn two_votes_for_one_target_are_evidence_and_both_are_kept() {
    let (mut core, schedule) = signing();
    let _ = core.handle(Event::Chain(view(1)));
    let (one, other) = (sign(KIND, 3, &first_vote(&schedule, checkpoint(1))), sign(KIND, 3, &first_vote(&schedule, block(1, 9))));
    let _ = says(&mut core, 3, Message::Votes(vec![one.clone()]));
    let effects = says(&mut core, 3, Message::Votes(vec![other.clone()]));
    let evidence =
        effects.iter().find_map(|effect| if let Effect::KeepEvidence(evidence) = effect { Some(evidence.clone()) } else { None }).unwrap();
    evidence.verify(&schedule).unwrap();
    let votes: Vec<&Vote> = vec![evidence.first.vote(), evidence.second.vote()];
    assert!(votes.contains(&&one.vote) && votes.contains(&&other.vote));
}

#[test]
fn a_surrounding_vote_is_evidence_whichever_comes_first() {
    for swapped in [false, true] {
        let (mut core, schedule) = signing();
        let steps = chain(&schedule, KIND, 4, 1..4);
        let _ = core.handle(Event::Chain(view(6)));
        let inner = sign(KIND, 3, &vote(&schedule, checkpoint(2), checkpoint(3), steps[1].digest()));
        let outer = sign(KIND, 3, &vote(&schedule, checkpoint(1), checkpoint(5), steps[0].digest()));
        let (first, second) = if swapped { (outer, inner) } else { (inner, outer) };
        let _ = says(&mut core, 3, Message::Votes(vec![first]));
        let effects = says(&mut core, 3, Message::Votes(vec![second]));
        assert!(effects.iter().any(|effect| matches!(effect, Effect::KeepEvidence(_))), "a surrounding vote went unnoticed");
    }
}

#[test]
fn a_vote_against_a_certificate_is_evidence_and_passed_on_to_all() {
    let (mut core, schedule) = signing();
    let _ = core.handle(Event::Chain(view(1)));
    let certified = first_vote(&schedule, checkpoint(1));
    let _ = says(&mut core, 1, Message::Certificates(vec![certify(&schedule, KIND, &certified, 1..4)]));
    let contrary = sign(KIND, 3, &first_vote(&schedule, block(1, 9)));
    let effects = says(&mut core, 3, Message::Votes(vec![contrary.clone()]));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::KeepEvidence(_))));
    assert!(effects.contains(&Effect::Send { to: Recipient::All, message: Message::Votes(vec![contrary]) }));
}

#[test]
fn two_certificates_that_contradict_each_other_convict_their_common_signers_and_halt() {
    let (mut core, schedule) = signing();
    let _ = core.handle(Event::Chain(view(1)));
    let _ = says(&mut core, 1, Message::Certificates(vec![certify(&schedule, KIND, &first_vote(&schedule, checkpoint(1)), 1..4)]));
    let effects = says(&mut core, 1, Message::Certificates(vec![certify(&schedule, KIND, &first_vote(&schedule, block(1, 9)), 1..4)]));
    let convicted = effects.iter().filter(|effect| matches!(effect, Effect::KeepEvidence(_))).count();
    assert_eq!(convicted, 3);
    assert!(refusal(&effects));
    let _ = at(&mut core, 500_000);
    assert!(core.health().stuck.unwrap().reasons.iter().any(|reason| matches!(reason, Reason::Halted(_))));
    assert_eq!(asked_to_sign(&core.handle(Event::Chain(view(5)))), None);
}

#[test]
fn a_false_signature_silences_its_sender_for_a_while() {
    let (mut core, schedule) = signing();
    let _ = core.handle(Event::Chain(view(1)));
    let vote = first_vote(&schedule, checkpoint(1));
    let false_one = SignedVote { signature: Signature(vec![1; 32]), ..sign(KIND, 3, &vote) };
    let _ = says(&mut core, 3, Message::Votes(vec![false_one]));
    let _ = says(&mut core, 1, Message::Votes(vec![sign(KIND, 1, &vote)]));
    // With the third vote the quorum seems complete; verification finds the false one, and drops it.
    let effects = says(&mut core, 2, Message::Votes(vec![sign(KIND, 2, &vote)]));
    assert!(effects.iter().all(|effect| !matches!(effect, Effect::KeepCertificate { .. })), "a false vote was counted");
    assert_eq!(core.health().faults, 1);
    assert!(says(&mut core, 3, Message::Votes(vec![sign(KIND, 3, &vote)])).is_empty(), "a peer was heard right after a false signature");
    let _ = at(&mut core, 2_000);
    let effects = says(&mut core, 3, Message::Votes(vec![sign(KIND, 3, &vote)]));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::KeepCertificate { .. })));
}

#[test]
fn votes_for_far_targets_strangers_and_other_sets_cost_no_memory() {
    let (mut core, schedule) = signing();
    let _ = core.handle(Event::Chain(view(1)));
    for number in 100..5_000 {
        let vote = first_vote(&schedule, checkpoint(number));
        assert!(says(&mut core, 3, Message::Votes(vec![sign(KIND, 3, &vote)])).is_empty());
    }
    let stranger = sign(KIND, 77, &first_vote(&schedule, checkpoint(1)));
    assert!(says(&mut core, 77, Message::Votes(vec![stranger.clone()])).is_empty());
    assert!(says(&mut core, 3, Message::Votes(vec![stranger])).is_empty());
    let mut foreign = first_vote(&schedule, checkpoint(1));
    foreign.sets[0].0[0] ^= 1;
    assert!(says(&mut core, 3, Message::Votes(vec![sign(KIND, 3, &foreign)])).is_empty());
    assert_eq!(core.health().votes, 0, "votes were held that can never count");
    for number in 1..64 {
        let _ = says(&mut core, 3, Message::Votes(vec![sign(KIND, 3, &first_vote(&schedule, checkpoint(number)))]));
    }
    assert!(core.health().votes <= 64);
}

#[test]
fn evidence_against_one_validator_is_bounded() {
    let (mut core, schedule) = signing();
    let _ = core.handle(Event::Chain(view(60)));
    let mut kept = 0;
    for number in 1..60 {
        for fork in 0..3 {
            let effects = says(&mut core, 3, Message::Votes(vec![sign(KIND, 3, &first_vote(&schedule, block(number, fork)))]));
            kept += effects.iter().filter(|effect| matches!(effect, Effect::KeepEvidence(_))).count();
        }
    }
    assert_eq!(kept, 16, "a liar fills the disk with evidence against itself");
}

#[test]
fn a_node_that_is_behind_asks_and_one_that_is_ahead_helps() {
    let (mut core, schedule) = signing();
    let steps = chain(&schedule, KIND, 5, 1..4);
    let ahead = Status { finalized: CheckpointNumber(4), justified: CheckpointNumber(5), ..Status::default() };
    let effects = says(&mut core, 1, Message::Status(ahead));
    let question = Effect::Send { to: Recipient::One(ValidatorId(1)), message: Message::CertificatesAfter(CheckpointNumber(0)) };
    assert!(effects.contains(&question));
    let _ = core.handle(Event::Chain(view(5)));
    let _ = says(&mut core, 1, Message::Certificates(steps.clone()));
    assert_eq!((core.finalized().checkpoint, core.justified()), (checkpoint(4), CheckpointNumber(5)));
    assert_eq!(core.health().lag, Lag::Current);
    let effects = says(&mut core, 2, Message::Status(Status::default()));
    assert!(effects.contains(&Effect::Send { to: Recipient::One(ValidatorId(2)), message: Message::Certificates(steps) }));
}

#[test]
fn a_certificate_is_taken_even_if_those_before_it_are_missing() {
    let (mut core, schedule) = signing();
    let steps = chain(&schedule, KIND, 9, 1..4);
    let _ = says(&mut core, 1, Message::Certificates(vec![steps[8].clone()]));
    assert_eq!(
        (core.finalized().checkpoint, core.justified()),
        (checkpoint(8), CheckpointNumber(9)),
        "a certificate does not certify itself"
    );
}

#[test]
fn a_vote_is_sent_again_until_it_is_certified() {
    let (mut core, _) = signing();
    let vote = asked_to_sign(&core.handle(Event::Chain(view(1)))).unwrap();
    let sent = sign(KIND, 0, &vote);
    let resent = Effect::Send { to: Recipient::All, message: Message::Votes(vec![sent.clone()]) };
    assert!(core.handle(Event::Signed(sent)).contains(&resent));
    for round in 1..6 {
        assert!(at(&mut core, round * 2_000).contains(&resent), "an uncertified vote was not sent again");
    }
    let _ = says(&mut core, 1, Message::Votes(vec![sign(KIND, 1, &vote)]));
    let _ = says(&mut core, 2, Message::Votes(vec![sign(KIND, 2, &vote)]));
    assert!(!at(&mut core, 14_000).contains(&resent), "a certified vote was sent again");
}

#[test]
fn after_a_restart_the_newest_vote_is_signed_and_sent_again() {
    let schedule = schedule(KIND, 4);
    let earlier = first_vote(&schedule, checkpoint(2));
    let restored = Restored { sign_state: Some(state(&schedule, 0, 2)), own_votes: vec![earlier.clone()], ..Restored::default() };
    let (mut core, _) = core(4, restored);
    let _ = core.handle(Event::Started { nonce: 7 });
    let _ = says(&mut core, 1, Message::OwnVotes(answer(7)));
    let _ = says(&mut core, 3, Message::OwnVotes(answer(7)));
    let effects = says(&mut core, 2, Message::OwnVotes(OwnVotes { votes: vec![sign(KIND, 0, &earlier)], ..answer(7) }));
    assert!(!refusal(&effects), "a vote that the table knows was taken for another's");
    assert_eq!(asked_to_sign(&effects), Some(earlier));
}

#[test]
fn health_says_who_is_missing() {
    let (mut core, _) = signing();
    let vote = asked_to_sign(&core.handle(Event::Chain(view(1)))).unwrap();
    let _ = sign_it(&mut core, &vote);
    assert_eq!(core.health().stuck, None);
    let _ = at(&mut core, 1_000_000);
    let stuck = core.health().stuck.unwrap();
    assert!(matches!(stuck.reasons[0], Reason::TooFewPeers { heard: 1, needed: 3, .. }), "{stuck:?}");
}
