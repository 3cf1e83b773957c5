//! Health, as operators read it: how far finality is behind, and each reason why it may stand still.

mod common;

use common::{at, block, certify, chain, checkpoint, first_vote, says, schedule, set, sign, view, vote};
use finality_gadget::network::OwnVotes;
use finality_gadget::persistence::{Refusal, SignState, Standing as Recorded};
use finality_gadget::simulator::{Rng, SchemeKind};
use finality_gadget::{
    CheckpointNumber, Config, Core, Effect, Event, FinalityRule, Lag, Message, Reason, Restored, Schedule, SetId, ValidatorId,
};

const KIND: SchemeKind = SchemeKind::Test;
/// Far beyond the two minutes after which finality counts as stuck, and any patience.
const LONG: u64 = 1_000_000;

/// A validator with a clear record whose peers have answered, as far as `answers` goes.
fn node(schedule: &Schedule, rule: FinalityRule, validator: Option<u32>, standing: Recorded, answers: u32) -> Core {
    let zero = CheckpointNumber(0);
    let state = SignState { domain: schedule.domain_digest(), max_source: zero, max_target: zero, standing };
    let restored = Restored { sign_state: Some(state), ..Restored::default() };
    let mut core = Core::new(Config::new(rule, validator.map(ValidatorId)), schedule.clone(), Box::new(Rng::new(1)), restored);
    let _ = core.handle(Event::Started { nonce: 7 });
    for peer in 1..=answers {
        let _ = says(&mut core, peer, Message::OwnVotes(OwnVotes { nonce: 7, ..OwnVotes::default() }));
    }
    core
}

fn signing(schedule: &Schedule) -> Core {
    node(schedule, FinalityRule::Ffg, Some(0), Recorded::Clear, 3)
}

/// Looks at a chain of so many checkpoints, and signs what it is asked to.
fn looks(core: &mut Core, up_to: u64) {
    let effects = core.handle(Event::Chain(view(up_to)));
    sign_asked(core, &effects);
}

fn sign_asked(core: &mut Core, effects: &[Effect]) {
    for effect in effects {
        if let Effect::Sign(vote) = effect {
            let _ = core.handle(Event::Signed(sign(KIND, 0, vote)));
        }
    }
}

fn reasons(core: &mut Core) -> Vec<Reason> {
    let effects = at(core, LONG);
    sign_asked(core, &effects);
    core.health().stuck.expect("finality has stood still for long").reasons
}

#[track_caller]
fn tells(core: &mut Core, reason: &Reason) {
    let told = reasons(core);
    assert!(told.contains(reason), "{reason:?} is missing in {told:?}");
}

#[test]
fn lag_is_current_behind_or_far() {
    for (eligible, lag) in [(0, Lag::Current), (2, Lag::Current), (3, Lag::Behind), (16, Lag::Behind), (17, Lag::Far)] {
        let mut core = signing(&schedule(KIND, 4));
        looks(&mut core, eligible);
        assert_eq!(core.health().lag, lag, "{eligible} checkpoints above the last final one");
    }
}

#[test]
fn only_what_stands_still_for_long_with_something_to_vote_for_is_stuck() {
    let mut core = signing(&schedule(KIND, 4));
    looks(&mut core, 1);
    let _ = at(&mut core, 119_999);
    assert_eq!(core.health().stuck, None);
    let _ = at(&mut core, 120_000);
    assert_eq!(core.health().stuck.unwrap().for_ms, 120_000);

    let mut core = signing(&schedule(KIND, 4));
    looks(&mut core, 0);
    let _ = at(&mut core, LONG);
    assert_eq!(core.health().stuck, None, "nothing to vote for is no trouble");
}

#[test]
fn who_does_not_vote_says_so() {
    let schedule = schedule(KIND, 4);
    let mut observer = node(&schedule, FinalityRule::Ffg, None, Recorded::Clear, 0);
    looks(&mut observer, 5);
    tells(&mut observer, &Reason::Observer);

    let mut stranger = node(&schedule, FinalityRule::Ffg, Some(9), Recorded::Clear, 3);
    looks(&mut stranger, 5);
    tells(&mut stranger, &Reason::NotAMember);

    let refusal = Recorded::Refused(Refusal { reason: "the witness is missing".to_owned() });
    let mut refused = node(&schedule, FinalityRule::Ffg, Some(0), refusal, 3);
    looks(&mut refused, 5);
    tells(&mut refused, &Reason::Refused("the witness is missing".to_owned()));

    let mut asking = node(&schedule, FinalityRule::Ffg, Some(0), Recorded::Clear, 1);
    looks(&mut asking, 5);
    let told = reasons(&mut asking);
    assert!(told.iter().any(|reason| matches!(reason, Reason::Asking { answers: 1, needed } if *needed > 1)), "{told:?}");
}

#[test]
fn a_chain_that_gives_nothing_to_vote_for_is_named() {
    let schedule = schedule(KIND, 4);
    tells(&mut signing(&schedule), &Reason::NoChain);

    let mut single = node(&schedule, FinalityRule::Single, Some(0), Recorded::Clear, 3);
    let _ = single.handle(Event::Chain(finality_gadget::ChainView { finalized: Some(CheckpointNumber(0)), ..view(40) }));
    tells(&mut single, &Reason::WaitingForTheChain);

    // Certified up to the head, but by jumps that make nothing final.
    let mut jumped = signing(&schedule);
    let jump = first_vote(&schedule, checkpoint(4));
    let _ = says(&mut jumped, 1, Message::Certificates(vec![certify(&schedule, KIND, &jump, 1..4)]));
    let _ = jumped.handle(Event::Chain(view(4)));
    tells(&mut jumped, &Reason::NothingToVoteFor);
}

#[test]
fn a_vote_that_waits_names_its_target_and_who_is_missing() {
    let schedule = schedule(KIND, 4);
    let mut core = signing(&schedule);
    looks(&mut core, 1);
    tells(&mut core, &Reason::Waiting { target: CheckpointNumber(1) });
    tells(&mut core, &Reason::TooFewPeers { set: SetId(1), heard: 1, needed: 3 });
}

#[test]
fn votes_that_disagree_are_a_split() {
    let schedule = schedule(KIND, 4);
    let mut core = signing(&schedule);
    looks(&mut core, 1);
    for peer in 1..4 {
        let vote = first_vote(&schedule, block(1, u8::try_from(peer).unwrap()));
        let _ = says(&mut core, peer, Message::Votes(vec![sign(KIND, peer, &vote)]));
    }
    tells(&mut core, &Reason::Split { target: CheckpointNumber(1), leading: 1, needed: 3 });
}

#[test]
fn what_only_operators_can_mend_is_named() {
    let schedule = schedule(KIND, 4);
    let mut core = signing(&schedule);
    let _ = says(&mut core, 1, Message::Certificates(chain(&schedule, KIND, 3, 1..4)));
    let mut elsewhere = view(6);
    for number in 1..=6 {
        elsewhere.hashes.insert(CheckpointNumber(number), block(number, 7).hash);
    }
    let _ = core.handle(Event::Chain(elsewhere));
    tells(&mut core, &Reason::FinalNotCanonical { finalized: CheckpointNumber(2) });

    let mut halted = signing(&schedule);
    looks(&mut halted, 1);
    for contrary in [checkpoint(1), block(1, 9)] {
        let certificate = certify(&schedule, KIND, &first_vote(&schedule, contrary), 1..4);
        let _ = says(&mut halted, 1, Message::Certificates(vec![certificate]));
    }
    let told = reasons(&mut halted);
    assert!(matches!(&told[0], Reason::Halted(why) if why.contains("contradict")), "the likeliest reason comes first: {told:?}");
}

#[test]
fn a_link_over_more_sets_than_vote_together_is_named() {
    let mut schedule = schedule(KIND, 4);
    for id in 2..=6 {
        schedule.add(CheckpointNumber(id), set(KIND, id, 0..4)).unwrap();
    }
    let mut core = signing(&schedule);
    // The first checkpoint is voted for and never certified; the next target lies behind all the sets.
    looks(&mut core, 1);
    let _ = core.handle(Event::Chain(view(8)));
    let _ = at(&mut core, LONG);
    let told = core.health().stuck.expect("nothing was certified").reasons;
    assert!(told.contains(&Reason::TooManySets), "{told:?}");
}

#[test]
fn certificates_that_make_nothing_final_are_named() {
    let schedule = schedule(KIND, 4);
    let mut core = signing(&schedule);
    let _ = at(&mut core, 0);
    let mut previous = schedule.domain().root();
    for round in 0..10 {
        let _ = core.handle(Event::Chain(view(2 * round + 3)));
        let jump = vote(&schedule, checkpoint(2 * round), checkpoint(2 * round + 2), previous);
        previous = jump.digest();
        let _ = says(&mut core, 1, Message::Certificates(vec![certify(&schedule, KIND, &jump, 1..4)]));
        let _ = at(&mut core, (round + 1) * 30_000);
    }
    let told = core.health().stuck.expect("nothing became final for five minutes").reasons;
    assert!(told.contains(&Reason::NoDirectChild { justified: CheckpointNumber(20) }), "{told:?}");
}
