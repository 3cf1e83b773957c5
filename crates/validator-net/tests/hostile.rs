//! One of four validators is hostile and has its keys. The other three are exactly a quorum: whatever disturbs one of them stops finality.
//!
//! `HOSTILE_SEED` repeats a run with the seed that it printed.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::raw::messages::{Frame, Welcome};
use common::raw::{self, rpc};
use common::{Committee, Node, ROOT, eventually, hash_of};
use finality_gadget::network::{Hello, Status};
use finality_gadget::simulator::{Key, Rng, SchemeKind};
use finality_gadget::{Certificate, CheckpointNumber, FinalityCheckpoint, Link, LinkDigest, Message, SignedVote, ValidatorId, Vote};
use milepost_validator_net::{Limits, TransportKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

/// What three nodes in one process may grow by, the attacker's own buffers included. By their limits the hostile peer can take less than
/// 3 MiB of each (`Limits`), and the test's own messages and sockets take their share.
const MAX_GROWTH: usize = 24 * 1024 * 1024;
/// How long an attack that is held back may go on. Bounds the test, decides nothing.
const HELD_BACK: Duration = Duration::from_secs(2);

/// A line of `/proc/self/status`, in bytes.
fn memory(line: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("this test runs on Linux");
    let value = status.lines().find_map(|at| at.strip_prefix(line)).expect("the line is there");
    value.trim().trim_end_matches("kB").trim().parse::<usize>().expect("a number of kB") * 1024
}

struct Attacker {
    targets: Vec<SocketAddr>,
    key: TransportKey,
    hello: Frame,
    rng: Rng,
}

impl Attacker {
    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.rng.index(most + 1);
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.rng.bits().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }

    fn target(&mut self) -> SocketAddr {
        self.targets[self.rng.index(self.targets.len())]
    }

    /// Opens a stream, however often that takes: peers let a key connect once a second when it comes too often.
    async fn open(&self, target: SocketAddr) -> (mpsc::Sender<Frame>, tonic::Streaming<Welcome>) {
        for _ in 0..100 {
            let (sender, outgoing) = mpsc::channel(1);
            let _ = sender.try_send(self.hello.clone());
            if let Ok(channel) = raw::channel(target, &self.key).await
                && let Ok(mut answers) = rpc::call(channel, 4096, ReceiverStream::new(outgoing)).await
                && let Ok(Some(_)) = answers.message().await
            {
                return (sender, answers);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("{target} never welcomed a sound hello");
    }

    /// Sends these frames to one target and waits for the end of the stream, but not for ever.
    async fn exchange(&self, target: SocketAddr, frames: Vec<Frame>) {
        let (sender, mut answers) = self.open(target).await;
        let sending = async move {
            for frame in frames {
                if sender.send(frame).await.is_err() {
                    return;
                }
            }
        };
        let listening = async { while let Ok(Some(_)) = answers.message().await {} };
        let _ = timeout(HELD_BACK, futures::future::join(sending, listening)).await;
    }
}

async fn certify(nodes: &mut [Node], number: u64, during: &str) {
    let start = Instant::now();
    for node in nodes.iter() {
        node.head.send_replace(number);
    }
    for node in nodes {
        node.reaches(number).await;
    }
    println!("{number} certified by all honest validators {:?} after: {during}", start.elapsed());
}

fn received(nodes: &[Node]) -> u64 {
    nodes.iter().flat_map(|node| node.wire.bridge.peers()).filter(|peer| peer.validator.0 == 4).map(|peer| peer.received).sum()
}

/// A vote of the hostile validator for whatever it likes.
fn lie(like: &Vote, key: &Key, target: u64, hash: u8) -> SignedVote {
    let target = FinalityCheckpoint { number: CheckpointNumber(target), hash: finality_gadget::BlockHash([hash; 32]) };
    let vote = Vote { link: Link { target, ..like.link }, ..like.clone() };
    let signature = key.sign_unchecked(&vote.signed_bytes());
    SignedVote { vote, validator: ValidatorId(4), signature }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_validator_changes_nothing_and_costs_bounded_memory() {
    let seed = std::env::var("HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121);
    println!("HOSTILE_SEED={seed}");
    let committee = Committee::new(SchemeKind::Ed25519, 4).await;
    let limits = Limits::for_schedule(&committee.schedule);
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(committee.start(id, ROOT + 5).await);
    }
    certify(&mut nodes, ROOT + 5, "nothing").await;
    let mut attacker = Attacker {
        targets: (1..=3).map(|id| committee.address(id)).collect(),
        key: committee.transport_key(4),
        hello: raw::hello(&Hello::of(&committee.schedule, ValidatorId(4))),
        rng: Rng::new(seed),
    };
    let voting = Key::of(SchemeKind::Ed25519, ValidatorId(4));

    // Writing 5 there sets the peak back to what is resident now.
    std::fs::write("/proc/self/clear_refs", "5").expect("this test runs on Linux");
    let before = memory("VmRSS:");
    let mut head = ROOT + 5;
    let mut next = || {
        head += 1;
        head
    };

    // Half-open connections, more than handshakes are allowed at once; held until the end.
    let mut sockets = Vec::new();
    for round in 0..300 {
        let mut socket = TcpStream::connect(attacker.targets[round % 3]).await.expect("it listens");
        if round % 2 == 0 {
            // The beginning of a handshake that never goes on.
            let _ = socket.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await;
        }
        sockets.push(socket);
    }
    certify(&mut nodes, next(), "300 half-open connections").await;

    // No TLS at all.
    for _ in 0..50 {
        let (target, bytes) = (attacker.target(), attacker.bytes(64 * 1024));
        let mut socket = TcpStream::connect(target).await.expect("it listens");
        let _ = socket.write_all(&bytes).await;
    }
    certify(&mut nodes, next(), "random bytes for TLS").await;

    // TLS with the right key, then anything but HTTP/2; and HTTP/2 that begins well.
    for round in 0..24 {
        let (target, mut bytes) = (attacker.target(), attacker.bytes(64 * 1024));
        if round % 2 == 0 {
            bytes.splice(0..0, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".iter().copied());
        }
        if let Ok(mut stream) = raw::tls(target, &attacker.key).await {
            let _ = stream.write_all(&bytes).await;
            let _ = timeout(HELD_BACK, stream.read(&mut [0; 1024])).await;
        }
    }
    certify(&mut nodes, next(), "random bytes for HTTP/2").await;

    // Sound frames with random, truncated and changed messages.
    let gadget_certificate = some_certificate(&committee);
    for _ in 0..24 {
        let mut message = Message::Certificates(vec![gadget_certificate.clone()]).encode();
        match attacker.rng.index(3) {
            0 => message = attacker.bytes(4096),
            1 => message.truncate(attacker.rng.index(message.len())),
            _ => {
                let at = attacker.rng.index(message.len());
                message[at] ^= 1 << attacker.rng.index(8);
            }
        }
        let target = attacker.target();
        attacker.exchange(target, vec![raw::message(message)]).await;
    }
    certify(&mut nodes, next(), "random messages").await;

    // Lengths beyond the limits.
    for length in [limits.max_message_bytes + 65, 2 * limits.max_message_bytes, 1024 * 1024] {
        let target = attacker.target();
        attacker.exchange(target, vec![raw::message(vec![0x01; length])]).await;
    }
    certify(&mut nodes, next(), "messages that are too long").await;

    // Replays, lies and contradictions, all well signed.
    let vote = gadget_certificate.vote.clone();
    let mut frames = vec![raw::message(Message::Certificates(vec![gadget_certificate.clone(); 64]).encode()); 20];
    for number in 0..200 {
        let hash = u8::try_from(number % 250).expect("below 256");
        let votes = vec![lie(&vote, &voting, ROOT + 1 + number, hash), lie(&vote, &voting, ROOT + 1 + number, hash + 1)];
        frames.push(raw::message(Message::Votes(votes).encode()));
    }
    for target in attacker.targets.clone() {
        attacker.exchange(target, frames.clone()).await;
    }
    certify(&mut nodes, next(), "replays and contradictions").await;

    // A flood of small sound messages to all three at once. It is held back at the rate that the limits name.
    let flood = vec![raw::message(Message::Status(Status::default()).encode()); 10_000];
    let (received_before, start) = (received(&nodes), Instant::now());
    let flooding = attacker.targets.iter().map(|target| attacker.exchange(*target, flood.clone()));
    futures::future::join_all(flooding).await;
    let taken = received(&nodes) - received_before;
    let allowed = 3 * (limits.messages.burst + limits.messages.per_second * (start.elapsed().as_secs() + 2));
    println!("figure of 30,000 messages {taken} were taken in {:?}; at most {allowed} may be", start.elapsed());
    assert!(taken > 0 && taken <= allowed, "the rate limit holds");
    certify(&mut nodes, next(), "a flood of messages").await;

    // Large sound messages as fast as they go, and streams that are opened and dropped.
    let large = vec![raw::message(Message::Certificates(vec![gadget_certificate.clone(); 64]).encode()); 2_000];
    for target in attacker.targets.clone() {
        attacker.exchange(target, large.clone()).await;
    }
    for _ in 0..100 {
        let target = attacker.target();
        if let Ok(channel) = raw::channel(target, &attacker.key).await {
            let call = rpc::call(channel, 4096, tokio_stream::pending());
            let _ = timeout(Duration::from_millis(1), call).await;
        }
    }
    certify(&mut nodes, next(), "a flood of bytes and dropped streams").await;

    let (peak, after) = (memory("VmHWM:"), memory("VmRSS:"));
    let growth = peak.saturating_sub(before);
    println!(
        "figure resident memory of three nodes: before {} KiB, at its peak {} more (at most {}), after {} KiB",
        before / 1024,
        growth / 1024,
        MAX_GROWTH / 1024,
        after / 1024
    );
    assert!(growth <= MAX_GROWTH, "grew by {} KiB at the peak, {} KiB are allowed", growth / 1024, MAX_GROWTH / 1024);

    // Nobody is locked out by what was done in its name: an honest process with the same key joins and follows.
    drop(sockets);
    let top = next();
    let mut fourth = committee.start(4, top).await;
    certify(&mut nodes, top, "all of it").await;
    fourth.reaches(top).await;
    let followed = fourth.stop().await;
    assert!(committee.schedule.verify_certificate(&certificate(&followed, top)).is_ok());
    for node in nodes {
        let gadget = node.stop().await;
        assert_eq!(gadget.stopped(), None);
        for number in ROOT + 1..=top {
            let certified = certificate(&gadget, number);
            assert!(committee.schedule.verify_certificate(&certified).is_ok());
            assert_eq!(certified.vote.link.target.hash, hash_of(CheckpointNumber(number)), "only the true chain is certified");
        }
        assert!(gadget.health().evidence > 0, "the contradictions are kept as evidence");
    }
}

fn certificate(gadget: &finality_gadget::CheckpointFinality, number: u64) -> Certificate {
    let held = gadget.create_checkpoint_certificate(CheckpointNumber(number)).expect("memory does not fail");
    held.unwrap_or_else(|| panic!("there is no certificate for {number}"))
}

/// A true certificate, which everybody can have: made from the honest validators' own keys.
fn some_certificate(committee: &Committee) -> Certificate {
    let number = CheckpointNumber(ROOT + 1);
    let source = committee.schedule.domain().trusted.checkpoint;
    let link = Link { source, target: FinalityCheckpoint { number, hash: hash_of(number) } };
    let electorate = committee.schedule.electorate(&link).expect("the link is rooted");
    let previous = LinkDigest(committee.schedule.domain().root().0);
    let vote = Vote { domain: committee.schedule.domain_digest(), set: electorate.id(), sets: electorate.digests(), link, previous };
    let mut signers = finality_gadget::Bitmap::empty(electorate.members().len());
    let mut signatures = Vec::new();
    for id in 1..=3 {
        let index = electorate.index(ValidatorId(id)).expect("a member");
        signers.set(index);
        signatures.push((index, Key::of(committee.kind, ValidatorId(id)).sign_unchecked(&vote.signed_bytes())));
    }
    let borrowed: Vec<_> = signatures.iter().map(|(index, signature)| (*index, signature)).collect();
    let aggregate = electorate.keys().aggregate(&borrowed).expect("signatures of the scheme");
    let certificate = Certificate { vote, signers, aggregate };
    assert!(committee.schedule.verify_certificate(&certificate).is_ok());
    certificate
}

/// A listener with the right key that does everything wrong: the dialler tries again later and is otherwise unharmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_listener_costs_its_dialler_nothing_but_attempts() {
    let committee = Committee::new(SchemeKind::Test, 4).await;
    let listener = TcpListener::bind(committee.address(4)).await.expect("the address is free");
    let acceptor = raw::acceptor(&committee.transport_key(4));
    let served = tokio::spawn(async move {
        let mut rng = Rng::new(7);
        loop {
            let Ok((socket, _)) = listener.accept().await else { return };
            if rng.chance(30) {
                continue;
            }
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let bytes: Vec<u8> = (0..8192).flat_map(|_| rng.bits().to_le_bytes()).collect();
            let _ = stream.write_all(&bytes).await;
        }
    });
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(committee.start(id, ROOT).await);
    }
    for number in ROOT + 1..=ROOT + 20 {
        certify(&mut nodes, number, "a listener that answers with noise").await;
    }
    eventually("its noise is noticed", || {
        nodes
            .iter()
            .all(|node| node.wire.bridge.peers().iter().any(|peer| peer.validator.0 == 4 && peer.failure.is_some() && !peer.reached))
    })
    .await;
    for node in nodes {
        let waiting = node.wire.bridge.peers().iter().map(|peer| peer.waiting).max().unwrap_or_default();
        assert!(waiting <= Limits::for_schedule(&committee.schedule).outbox_bytes, "what waits for it is bounded");
        node.stop().await;
    }
    served.abort();
}
