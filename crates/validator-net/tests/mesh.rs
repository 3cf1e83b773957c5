//! Validators among themselves: from votes to certificates over TLS, and back after an absence.

mod common;

use common::{Committee, Node, ROOT, eventually};
use finality_gadget::simulator::SchemeKind;
use finality_gadget::{CheckpointFinality, CheckpointNumber, Standing};
use milepost_validator_net::{Failure, Reason};

fn certificate(gadget: &CheckpointFinality, number: u64) -> finality_gadget::Certificate {
    let held = gadget.create_checkpoint_certificate(CheckpointNumber(number)).expect("memory does not fail");
    held.unwrap_or_else(|| panic!("there is no certificate for {number}"))
}

async fn all_reach(nodes: &mut [Node], number: u64) {
    for node in nodes {
        node.reaches(number).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_turn_their_votes_into_certificates_over_tls() {
    let committee = Committee::new(SchemeKind::Bls, 4).await;
    let mut nodes = Vec::new();
    for id in 1..=4 {
        nodes.push(committee.start(id, ROOT).await);
    }
    for number in ROOT + 1..=ROOT + 10 {
        for node in &nodes {
            node.head.send_replace(number);
        }
        all_reach(&mut nodes, number).await;
    }
    for node in &nodes {
        eventually("everybody reaches and hears everybody", || node.wire.bridge.peers().iter().all(|peer| peer.reached && peer.heard))
            .await;
        assert_eq!(node.wire.bridge.peers().len(), 3);
        assert_eq!(node.wire.bridge.strangers(), 0);
    }
    let mut gadgets = Vec::new();
    for node in nodes {
        gadgets.push(node.stop().await);
    }
    for number in ROOT + 1..=ROOT + 10 {
        let first = certificate(&gadgets[0], number);
        for gadget in &gadgets {
            let own = certificate(gadget, number);
            assert_eq!(own.digest(), first.digest(), "all certify the same link at {number}");
            let electorate = committee.schedule.verify_certificate(&own).expect("a certificate verifies without its maker");
            assert!(own.signers.count() >= electorate.sets()[0].quorum(), "three of four have signed");
        }
    }
    assert!(gadgets.iter().all(|gadget| gadget.finalized().checkpoint.number.0 == ROOT + 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_that_was_away_catches_up_by_request_and_votes_again() {
    let committee = Committee::new(SchemeKind::Ed25519, 4).await;
    let far = ROOT + 150;
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(committee.start(id, far).await);
    }
    all_reach(&mut nodes, far).await;

    // 150 certificates are more than two messages hold: it must ask, and ask again.
    let mut late = committee.start(4, far).await;
    late.reaches(far).await;
    late.stop().await;

    eventually("the others know why it is gone", || {
        let told = |peer: &milepost_validator_net::PeerReport| match &peer.failure {
            Some(Failure::Refused(refusal)) => refusal.reason == Reason::Closing,
            // It had ended before it could say so, or was dialled again since.
            Some(Failure::Lost(_) | Failure::Unreachable(_)) => true,
            _ => false,
        };
        nodes
            .iter()
            .all(|node| node.wire.bridge.peers().iter().any(|peer| peer.validator.0 == 4 && !peer.reached && !peer.heard && told(peer)))
    })
    .await;

    for node in &nodes {
        let gone = node.wire.bridge.peers().into_iter().find(|peer| peer.validator.0 == 4).expect("a configured peer");
        assert_eq!((gone.heard, gone.refused), (false, None), "a connection that ends is no misbehaviour");
    }

    let further = far + 70;
    for node in &nodes {
        node.head.send_replace(further);
    }
    all_reach(&mut nodes, further).await;
    let mut back = committee.start(4, further).await;
    back.reaches(further).await;

    // Three of four are a quorum: without validator 1 nothing is certified unless the one that came back votes.
    nodes.remove(0).stop().await;
    nodes.push(back);
    for node in &nodes {
        node.head.send_replace(further + 1);
    }
    all_reach(&mut nodes, further + 1).await;
    for node in nodes {
        let gadget = node.stop().await;
        assert_eq!(gadget.health().standing, Standing::Signing);
        assert!(committee.schedule.verify_certificate(&certificate(&gadget, further + 1)).is_ok());
    }
}
