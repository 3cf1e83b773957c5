//! A thousand validators: twenty whole nodes that hear the votes of all.

mod common;

use common::{checkpoint, schedule, sign, view, vote};
use finality_gadget::network::OwnVotes;
use finality_gadget::persistence::{SignState, Standing as Recorded};
use finality_gadget::simulator::{Rng, SchemeKind};
use finality_gadget::{CheckpointNumber, Config, Core, Effect, Event, FinalityRule, Message, Restored, SignedVote, ValidatorId};

const VALIDATORS: u32 = 1_000;
const NODES: u32 = 20;
const CHECKPOINTS: u64 = 3;

#[test]
fn a_thousand_validators_agree_and_a_third_of_them_may_be_silent_or_lie() {
    let kind = SchemeKind::Test;
    let schedule = schedule(kind, VALIDATORS);
    let mut nodes: Vec<Core> = (0..NODES)
        .map(|id| {
            let zero = CheckpointNumber(0);
            let state = SignState { domain: schedule.domain_digest(), max_source: zero, max_target: zero, standing: Recorded::Clear };
            let restored = Restored { sign_state: Some(state), ..Restored::default() };
            let mut core =
                Core::new(Config::new(FinalityRule::Ffg, Some(ValidatorId(id))), schedule.clone(), Box::new(Rng::new(id.into())), restored);
            let _ = core.handle(Event::Started { nonce: 1 });
            for peer in 0..VALIDATORS {
                let answer = Message::OwnVotes(OwnVotes { nonce: 1, ..OwnVotes::default() });
                let _ = core.handle(Event::Received { from: ValidatorId(peer), message: answer });
            }
            core
        })
        .collect();
    let mut previous = schedule.domain().root();
    for number in 1..=CHECKPOINTS {
        // Validators 0 to 666 are a quorum; of the others half are silent, and half vote for a block that never was.
        let honest = vote(&schedule, checkpoint(number - 1), checkpoint(number), previous);
        let lie = vote(&schedule, checkpoint(number - 1), common::block(number, 9), previous);
        previous = honest.digest();
        let mut votes: Vec<SignedVote> =
            (NODES..667).map(|id| sign(kind, id, &honest)).chain((834..1_000).map(|id| sign(kind, id, &lie))).collect();
        for node in &mut nodes {
            for effect in node.handle(Event::Chain(view(number))) {
                if let Effect::Sign(asked) = effect {
                    assert_eq!(asked, honest);
                }
            }
        }
        for (id, node) in (0..NODES).zip(&mut nodes) {
            let own = sign(kind, id, &honest);
            let _ = node.handle(Event::Signed(own.clone()));
            votes.push(own);
        }
        for (id, node) in (0..NODES).zip(&mut nodes) {
            for signed in votes.iter().filter(|signed| signed.validator != ValidatorId(id)) {
                let _ = node.handle(Event::Received { from: signed.validator, message: Message::Votes(vec![signed.clone()]) });
            }
            assert_eq!(node.justified(), CheckpointNumber(number), "a quorum of a thousand made no certificate");
            let certificate = node.certificate(CheckpointNumber(number)).unwrap();
            assert_eq!(certificate.signers.count(), 667);
            schedule.verify_certificate(certificate).unwrap();
        }
    }
    println!("figure {VALIDATORS} validators: {CHECKPOINTS} checkpoints certified by 667 at {NODES} whole nodes, 167 silent, 166 lying");
    for node in &nodes {
        assert_eq!(node.finalized().checkpoint, checkpoint(CHECKPOINTS - 1));
    }
}
