//! Validators as they are: the gadget with its storage, on a real network over loopback. Only the chain and the disk are made up.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod raw;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use finality_gadget::persistence::{self, CheckpointStorage, Declaration};
use finality_gadget::simulator::{Disk as _, Key, MemoryDisk, SchemeKind};
use finality_gadget::{
    BlockHash, ChainId, ChainView, CheckpointFinality, CheckpointNumber, CheckpointPersistenceConfig, Config, Domain, FinalityCheckpoint,
    FinalityRule, Message, Millis, NetworkBridge, Recipient, Schedule, SetId, TrustedCheckpoint, ValidatorId, ValidatorSet,
};
use milepost_validator_net::light::Board;
use milepost_validator_net::{Bridge, Inbox, Limits, Network, Options, Peer, Pin, TransportKey};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing here takes so long unless it hangs, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(3);
/// The trusted checkpoint's number.
pub const ROOT: u64 = 10;

/// The canonical chain: one block hash for each number.
pub fn hash_of(number: CheckpointNumber) -> BlockHash {
    let mut hash = [0xc4; 32];
    hash[..8].copy_from_slice(&number.0.to_be_bytes());
    BlockHash(hash)
}

fn domain_of(chain: u64, set: &ValidatorSet) -> Domain {
    let number = CheckpointNumber(ROOT);
    let checkpoint = FinalityCheckpoint { number, hash: hash_of(number) };
    Domain { chain: ChainId(chain), trusted: TrustedCheckpoint { checkpoint, set: set.digest() } }
}

pub fn set_of(id: u64, kind: SchemeKind, members: &[u32]) -> ValidatorSet {
    let members: Vec<_> = members.iter().map(|id| Key::of(kind, ValidatorId(*id)).registration(ValidatorId(*id))).collect();
    ValidatorSet::new(SetId(id), &*kind.scheme(), &members).expect("registrations of the test's own keys")
}

/// A schedule over sets with these members, each taking over 100 checkpoints after the one before.
pub fn schedule_of(chain: u64, kind: SchemeKind, sets: &[&[u32]]) -> Arc<Schedule> {
    let mut sets = (1..).zip(sets).map(|(id, members)| set_of(id, kind, members));
    let first = sets.next().expect("a schedule has a set");
    let mut schedule = Schedule::new(domain_of(chain, &first), kind.scheme(), first).expect("the domain names its set");
    for set in sets {
        schedule.add(CheckpointNumber(ROOT + 100 * (set.id().0 - 1)), set).expect("sets follow one another");
    }
    Arc::new(schedule)
}

/// Opens a validator's disk, as a new process would.
pub type Disk = Box<dyn Fn() -> Arc<dyn CheckpointStorage> + Send + Sync>;

/// Validators 1 to n, with their keys, sockets and disks.
pub struct Committee {
    pub schedule: Arc<Schedule>,
    pub kind: SchemeKind,
    /// Whether each gadget has a thread of its own, as it has in the program: its disk may block it, and is not to block the others.
    own_threads: bool,
    members: BTreeMap<u32, Member>,
}

struct Member {
    pem: String,
    pin: Pin,
    address: SocketAddr,
    disk: Disk,
}

impl Committee {
    /// On disks in memory.
    pub async fn new(kind: SchemeKind, count: u32) -> Self {
        let disk = |_| -> Disk {
            let disk = MemoryDisk::default();
            Box::new(move || disk.clone().open())
        };
        Self { own_threads: false, ..Self::on(kind, count, disk).await }
    }

    /// On the disks that `disk` gives them.
    pub async fn on(kind: SchemeKind, count: u32, disk: impl Fn(u32) -> Disk) -> Self {
        let ids: Vec<u32> = (1..=count).collect();
        let schedule = schedule_of(31337, kind, &[&ids]);
        let mut members = BTreeMap::new();
        // All sockets are held until every address is known, so that no two are the same.
        let mut held = Vec::new();
        for id in ids {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
            let address = listener.local_addr().expect("a bound socket has an address");
            held.push(listener);
            let key = TransportKey::generate().expect("the system gives randomness");
            let disk = disk(id);
            persistence::declare(&*disk(), schedule.domain_digest(), Declaration::NeverSigned).expect("an empty disk takes it");
            members.insert(id, Member { pem: key.to_pem().to_string(), pin: key.pin(), address, disk });
        }
        Self { schedule, kind, own_threads: true, members }
    }

    pub fn address(&self, id: u32) -> SocketAddr {
        self.members[&id].address
    }

    pub fn pin(&self, id: u32) -> Pin {
        self.members[&id].pin
    }

    pub fn transport_key(&self, id: u32) -> TransportKey {
        TransportKey::from_pem(&self.members[&id].pem).expect("written by the same code")
    }

    /// What validator `id`'s configuration says.
    pub fn options(&self, id: u32) -> Options {
        let peers = self.members.iter().filter(|(other, _)| **other != id);
        Options {
            validator: ValidatorId(id),
            key: self.transport_key(id),
            schedule: Arc::clone(&self.schedule),
            peers: peers
                .map(|(id, member)| Peer { validator: ValidatorId(*id), address: member.address.to_string(), pin: member.pin })
                .collect(),
            limits: Limits::for_schedule(&self.schedule),
        }
    }

    /// The network alone, without a gadget.
    pub async fn network(&self, options: Options) -> Wire {
        let listener = TcpListener::bind(self.address(options.validator.0)).await.expect("the address is free again");
        let (network, bridge, inbox) = Network::new(options, listener).expect("the options are sound");
        let stop = CancellationToken::new();
        let task = tokio::spawn(network.run(stop.clone()));
        Wire { bridge, inbox: Some(inbox), stop, task }
    }

    /// A whole validator that sees the chain up to `eligible`.
    pub async fn start(&self, id: u32, eligible: u64) -> Node {
        let mut wire = self.network(self.options(id)).await;
        let inbox = wire.inbox.take().expect("nobody has taken it");
        let sent = Arc::new(Sent { bridge: wire.bridge.clone(), at: Mutex::default() });
        let config = Config {
            resend_every: 250,
            status_every: 250,
            // Nobody gives a target up: each checkpoint is certified in turn.
            patience: 3_600_000,
            ..Config::new(FinalityRule::Single, Some(ValidatorId(id)))
        };
        let signer = Arc::new(Key::of(self.kind, ValidatorId(id)));
        let bridge: Arc<dyn NetworkBridge> = sent.clone();
        let mut gadget =
            CheckpointFinality::new(config, (*self.schedule).clone(), CheckpointPersistenceConfig::mainnet(), bridge, Some(signer));
        gadget.set_storage((self.members[&id].disk)());
        gadget.restore_from_storage(u64::from(id) << 32 | u64::from(std::process::id())).expect("a sound disk");
        let (head, heads) = watch::channel(eligible);
        let (progress, watched) = watch::channel(Progress::default());
        let certified = Arc::new(Mutex::new(BTreeMap::new()));
        let board = Board::new();
        let stop = wire.stop.clone();
        let life = Life { gadget, inbox, heads, progress, stop, certified: certified.clone(), board: board.clone() };
        let gadget = if self.own_threads {
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || runtime.block_on(life.live()))
        } else {
            tokio::spawn(life.live())
        };
        Node { id, wire, head, progress: watched, sent, certified, board, gadget }
    }
}

/// A running network.
pub struct Wire {
    pub bridge: Bridge,
    pub inbox: Option<Inbox>,
    pub stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Wire {
    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("the network ends when it is told to").expect("and does not panic");
    }
}

/// How far a validator is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    pub justified: u64,
    pub finalized: u64,
}

/// The bridge, and when each own vote first went into it.
pub struct Sent {
    bridge: Bridge,
    pub at: Mutex<BTreeMap<u64, Instant>>,
}

impl NetworkBridge for Sent {
    fn send(&self, to: Recipient, message: &Message) {
        if let (Recipient::All, Message::Votes(votes)) = (to, message)
            && let [own] = &votes[..]
        {
            let now = Instant::now();
            self.at.lock().unwrap_or_else(PoisonError::into_inner).entry(own.vote.link.target.number.0).or_insert(now);
        }
        self.bridge.send(to, message);
    }
}

/// A running validator.
pub struct Node {
    pub id: u32,
    pub wire: Wire,
    pub head: watch::Sender<u64>,
    pub progress: watch::Receiver<Progress>,
    pub sent: Arc<Sent>,
    /// When each number was first certified here.
    pub certified: Arc<Mutex<BTreeMap<u64, Instant>>>,
    /// What everybody may know of it.
    pub board: Board,
    gadget: JoinHandle<CheckpointFinality>,
}

impl Node {
    /// Waits until a number is certified here.
    pub async fn reaches(&mut self, number: u64) {
        let reached = tokio::time::timeout(PATIENCE, self.progress.wait_for(|progress| progress.justified >= number)).await;
        if !reached.is_ok_and(|reached| reached.is_ok()) {
            let progress = *self.progress.borrow();
            panic!("validator {} is at {progress:?} and not at {number}; its peers: {:#?}", self.id, self.wire.bridge.peers());
        }
    }

    /// Stops it and gives its gadget back.
    pub async fn stop(self) -> CheckpointFinality {
        self.wire.stop().await;
        tokio::time::timeout(PATIENCE, self.gadget).await.expect("the gadget ends with its network").expect("and does not panic")
    }
}

struct Life {
    gadget: CheckpointFinality,
    inbox: Inbox,
    heads: watch::Receiver<u64>,
    progress: watch::Sender<Progress>,
    stop: CancellationToken,
    certified: Arc<Mutex<BTreeMap<u64, Instant>>>,
    board: Board,
}

impl Life {
    /// What a node around the gadget does: messages, time and the chain go in.
    async fn live(mut self) -> CheckpointFinality {
        let start = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            tokio::select! {
                received = self.inbox.next() => match received {
                    Some((from, message)) => self.gadget.receive(from, message).expect("the disk does not fail"),
                    None => return self.gadget,
                },
                _ = ticks.tick() => {
                    let now = u64::try_from(start.elapsed().as_millis()).expect("tests are short");
                    self.gadget.tick(Millis(now)).expect("the disk does not fail");
                }
                Ok(()) = self.heads.changed() => {}
                () = self.stop.cancelled() => return self.gadget,
            }
            self.look();
        }
    }

    fn look(&mut self) {
        let eligible = CheckpointNumber(*self.heads.borrow());
        let wanted = self.gadget.wanted(eligible, Some(eligible));
        let hashes = wanted.into_iter().map(|number| (number, hash_of(number))).collect();
        self.gadget.observe(ChainView { eligible, finalized: Some(eligible), hashes }).expect("the disk does not fail");
        let progress = Progress { justified: self.gadget.core().justified().0, finalized: self.gadget.finalized().checkpoint.number.0 };
        self.board.update(&self.gadget);
        let before = self.progress.borrow().justified;
        if progress.justified > before {
            let now = Instant::now();
            let mut certified = self.certified.lock().unwrap_or_else(PoisonError::into_inner);
            (before + 1..=progress.justified).for_each(|number| _ = certified.entry(number).or_insert(now));
            drop(certified);
            self.progress.send_replace(progress);
        }
    }
}

/// Looks again and again until something is so. For what the network does in its own time and tells nobody.
pub async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "it never came about that {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
