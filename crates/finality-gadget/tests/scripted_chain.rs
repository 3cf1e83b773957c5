//! Looks at the canonical chain, through a client: what is asked for, what is voted for, and what a chain that fails or moves does to it.

mod common;

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use common::set;
use finality_gadget::persistence::{Declaration, declare};
use finality_gadget::simulator::{Disk, Key, MemoryDisk, SchemeKind, ScriptedChain};
use finality_gadget::{
    BlockNumber, ChainId, CheckpointFinality, CheckpointNumber, CheckpointPersistenceConfig, Config, Domain, FinalityCheckpoint,
    FinalityRule, Message, Millis, NetworkBridge, Reason, Recipient, Schedule, TrustedCheckpoint, ValidatorId, Vote, chain,
};

const KIND: SchemeKind = SchemeKind::Test;
/// Blocks between checkpoints.
const INTERVAL: u64 = 8;

#[derive(Default)]
struct Sent(Mutex<Vec<Vote>>);

impl NetworkBridge for Sent {
    fn send(&self, _: Recipient, message: &Message) {
        if let Message::Votes(votes) = message {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(votes.iter().map(|signed| signed.vote.clone()));
        }
    }
}

/// The only validator of its set, so that each of its votes is a quorum, and the chain that it looks at.
struct Lone {
    chain: ScriptedChain,
    gadget: CheckpointFinality,
    sent: Arc<Sent>,
}

impl Lone {
    fn new(rule: FinalityRule) -> Self {
        let chain = ScriptedChain::new();
        let only = set(KIND, 1, 0..1);
        let checkpoint = FinalityCheckpoint { number: CheckpointNumber(0), hash: chain.hash(BlockNumber(0)).unwrap() };
        let domain = Domain { chain: ChainId(31337), trusted: TrustedCheckpoint { checkpoint, set: only.digest() } };
        let schedule = Schedule::new(domain, KIND.scheme(), only).unwrap();
        let storage = MemoryDisk::default().open();
        declare(&*storage, schedule.domain_digest(), Declaration::NeverSigned).unwrap();
        let (config, sent) = (Config::new(rule, Some(ValidatorId(0))), Arc::new(Sent::default()));
        let bridge: Arc<dyn NetworkBridge> = Arc::<Sent>::clone(&sent);
        let signer = Arc::new(Key::of(KIND, ValidatorId(0)));
        let mut gadget = CheckpointFinality::new(config, schedule, CheckpointPersistenceConfig::testnet(), bridge, Some(signer));
        gadget.set_storage(storage);
        gadget.restore_from_storage(1).unwrap();
        gadget.tick(Millis(0)).unwrap();
        Self { chain, gadget, sent }
    }

    /// One look. The chain's futures are ready at once, so that no runtime is needed.
    fn look(&mut self) -> Result<(), chain::Error> {
        let mut look = pin!(self.gadget.look(&self.chain, INTERVAL));
        match look.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(looked) => looked.unwrap(),
            Poll::Pending => panic!("a scripted chain answers at once"),
        }
    }

    fn checkpoint(&self, number: u64) -> FinalityCheckpoint {
        FinalityCheckpoint { number: CheckpointNumber(number), hash: self.chain.hash(BlockNumber(number * INTERVAL)).unwrap() }
    }

    /// What was voted for, each vote once.
    fn voted(&self) -> Vec<Vote> {
        let mut votes = self.sent.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        votes.dedup();
        votes
    }

    fn stuck_reasons(&mut self) -> Vec<Reason> {
        self.gadget.tick(Millis(1_000_000)).unwrap();
        self.gadget.health().stuck.expect("nothing was certified for a quarter of an hour").reasons
    }
}

#[test]
fn checkpoints_are_voted_for_as_the_chain_reaches_them() {
    let mut lone = Lone::new(FinalityRule::Ffg);
    lone.look().unwrap();
    lone.chain.grow(INTERVAL - 1);
    lone.look().unwrap();
    assert_eq!(lone.voted(), [], "a vote for a checkpoint that is not there yet");
    for number in 1..=5 {
        lone.chain.grow(if number == 1 { 1 } else { INTERVAL });
        lone.look().unwrap();
        let votes = lone.voted();
        assert_eq!(votes.len() as u64, number);
        assert_eq!(votes.last().unwrap().link.target, lone.checkpoint(number));
        assert_eq!(lone.gadget.finalized().checkpoint, lone.checkpoint(number - 1));
    }
}

#[test]
fn a_chain_that_is_down_or_moves_while_it_is_read_changes_nothing() {
    let mut lone = Lone::new(FinalityRule::Ffg);
    lone.chain.grow(INTERVAL);
    lone.chain.fail(Some("connection refused"));
    assert!(matches!(lone.look(), Err(chain::Error::Unavailable(why)) if why == "connection refused"));
    lone.chain.fail(None);
    lone.chain.move_while_read(3);
    assert!(matches!(lone.look(), Err(chain::Error::Moved)), "blocks of two chains were taken for one");
    assert_eq!(lone.voted(), [], "a vote on what was not read whole");
    lone.look().unwrap();
    assert_eq!(lone.voted().last().unwrap().link.target, lone.checkpoint(1), "the chain as it is now");
}

#[test]
fn single_finality_goes_as_far_as_the_chains_own_tag() {
    let mut lone = Lone::new(FinalityRule::Single);
    lone.chain.grow(40 * INTERVAL);
    lone.look().unwrap();
    assert_eq!(lone.voted(), []);
    assert!(lone.stuck_reasons().contains(&Reason::WaitingForTheChain));
    // A block short of the third checkpoint.
    lone.chain.finalize(BlockNumber(3 * INTERVAL - 1));
    for _ in 0..5 {
        lone.look().unwrap();
    }
    assert_eq!(lone.gadget.finalized().checkpoint, lone.checkpoint(2));
}

#[test]
fn what_is_final_stays_when_the_chain_goes_another_way_and_operators_are_told() {
    let mut lone = Lone::new(FinalityRule::Ffg);
    for _ in 0..6 {
        lone.chain.grow(INTERVAL);
        lone.look().unwrap();
    }
    let finalized = lone.gadget.finalized();
    assert_eq!(finalized.checkpoint, lone.checkpoint(5));
    // Above what is final the chain may go another way: what follows is voted for on the new one.
    lone.chain.reorganise(4);
    lone.chain.grow(2 * INTERVAL);
    for now in 1..20 {
        lone.gadget.tick(Millis(now * 20_000)).unwrap();
        lone.look().unwrap();
    }
    let last = lone.voted().pop().unwrap();
    assert_eq!(last.link.target, lone.checkpoint(last.link.target.number.0));
    assert_eq!(last.link.source, lone.checkpoint(5), "a source that is no longer on the chain");
    // Below it, it stays final, nothing new is signed, and the reason is told.
    let (before, finalized) = (lone.voted().len(), lone.gadget.finalized());
    lone.chain.reorganise(usize::try_from(8 * INTERVAL).unwrap());
    lone.chain.grow(4 * INTERVAL);
    lone.look().unwrap();
    assert_eq!((lone.voted().len(), lone.gadget.finalized()), (before, finalized), "finality followed the chain back");
    let expected = Reason::FinalNotCanonical { finalized: finalized.checkpoint.number };
    assert!(lone.stuck_reasons().contains(&expected));
}
