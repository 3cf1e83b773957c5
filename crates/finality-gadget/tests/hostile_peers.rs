//! The core among peers that lie, flood and wait for it to forget.

mod common;

use common::{at, certify, checkpoint, core, first_vote, says, schedule, sign, view, vote};
use finality_gadget::network::OwnVotes;
use finality_gadget::persistence::{SignState, Standing as Recorded};
use finality_gadget::simulator::SchemeKind;
use finality_gadget::{
    CheckpointNumber, Core, Effect, Event, LinkDigest, Message, Reason, Restored, Schedule, Signature, SignedVote, Standing,
};

const KIND: SchemeKind = SchemeKind::Test;

fn started(members: u32) -> (Core, Schedule) {
    let domain = schedule(KIND, members).domain_digest();
    let zero = CheckpointNumber(0);
    let state = SignState { domain, max_source: zero, max_target: zero, standing: Recorded::Clear };
    let (mut core, schedule) = core(members, Restored { sign_state: Some(state), ..Restored::default() });
    let _ = core.handle(Event::Started { nonce: 7 });
    let _ = core.handle(Event::Chain(view(0)));
    (core, schedule)
}

fn answers(effects: &[Effect]) -> Vec<OwnVotes> {
    let own = |effect: &Effect| match effect {
        Effect::Send { message: Message::OwnVotes(own), .. } => Some(own.clone()),
        _ => None,
    };
    effects.iter().filter_map(own).collect()
}

#[test]
fn false_words_about_own_votes_silence_whoever_brings_them() {
    let (mut core, schedule) = started(4);
    let newer = first_vote(&schedule, checkpoint(9));
    let forged = SignedVote { signature: Signature(vec![1; 32]), ..sign(KIND, 0, &newer) };
    let _ = says(&mut core, 3, Message::OwnVotes(OwnVotes { nonce: 7, votes: vec![forged], ..OwnVotes::default() }));
    assert_eq!(core.health().faults, 1, "each false signature costs this node a verification and its sender nothing");
    assert_eq!(core.health().standing, Standing::Asking { answers: 0, needed: 2 }, "the answer of a liar was counted");
    let mut forged = certify(&schedule, KIND, &newer, 0..3);
    forged.aggregate.0[3] ^= 1;
    let _ = says(&mut core, 2, Message::OwnVotes(OwnVotes { nonce: 7, certificate: Some(forged), ..OwnVotes::default() }));
    assert_eq!(core.health().faults, 2);
}

#[test]
fn a_peer_of_another_schedule_is_not_taken_for_a_liar() {
    let (mut core, schedule) = started(4);
    let mut other = first_vote(&schedule, checkpoint(9));
    other.sets[0].0[0] ^= 1;
    let _ = says(&mut core, 3, Message::OwnVotes(OwnVotes { nonce: 7, votes: vec![sign(KIND, 0, &other)], ..OwnVotes::default() }));
    assert_eq!(core.health().faults, 0);
}

#[test]
fn answers_about_own_votes_are_rationed() {
    let (mut core, _) = started(4);
    let _ = at(&mut core, 5_000);
    let mut given = 0;
    for nonce in 0..1_000 {
        given += answers(&says(&mut core, 3, Message::OwnVotesQuery { nonce })).len();
    }
    assert!((1..=20).contains(&given), "{given} answers in one second");
    assert_eq!(answers(&says(&mut core, 2, Message::OwnVotesQuery { nonce: 1 })).len(), 1, "one peer's questions cost another its answer");
}

#[test]
fn a_validators_newest_vote_is_remembered_however_long_finality_stands_still() {
    let (mut core, schedule) = started(4);
    let _ = core.handle(Event::Chain(view(40)));
    let newest = sign(KIND, 3, &vote(&schedule, checkpoint(0), checkpoint(40), schedule.domain().root()));
    let _ = says(&mut core, 3, Message::Votes(vec![newest.clone()]));
    for head in [400, 900, 3_000] {
        let _ = core.handle(Event::Chain(view(head)));
        let _ = at(&mut core, head * 1_000);
    }
    assert_eq!(core.health().votes, 0, "the target is far below what is voted for now");
    let told = answers(&says(&mut core, 3, Message::OwnVotesQuery { nonce: 5 }));
    assert_eq!(told[0].votes, [newest], "an old backup of validator 3 would be told that nothing newer is known");
}

#[test]
fn links_that_never_lead_to_a_direct_child_are_no_progress_of_finality() {
    let (mut core, schedule) = started(4);
    let _ = at(&mut core, 0);
    let mut previous: LinkDigest = schedule.domain().root();
    let mut source = 0;
    for round in 1..=10u64 {
        let target = source + 2;
        let _ = core.handle(Event::Chain(view(target + 1)));
        let jump = vote(&schedule, checkpoint(source), checkpoint(target), previous);
        previous = jump.digest();
        source = target;
        let _ = says(&mut core, 1, Message::Certificates(vec![certify(&schedule, KIND, &jump, 1..4)]));
        let _ = at(&mut core, round * 30_000);
    }
    assert_eq!(core.finalized().checkpoint, checkpoint(0));
    let stuck = core.health().stuck.expect("nothing has become final for five minutes");
    let reason = Reason::NoDirectChild { justified: CheckpointNumber(20) };
    assert!(stuck.reasons.contains(&reason), "{:?}", stuck.reasons);
    assert_eq!(stuck.for_ms, 300_000);
}
