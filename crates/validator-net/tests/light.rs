//! Followers of certificates: what they take from honest validators, and what they do not take from others.

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use common::{Committee, ROOT, eventually, hash_of};
use finality_gadget::simulator::{Key, SchemeKind};
use finality_gadget::{
    Bitmap, BlockHash, BlockNumber, Certificate, CheckpointNumber, FinalityCheckpoint, Finalized, Link, LinkDigest, Signature, ValidatorId,
    Vote,
};
use milepost_validator_net::light::{self, Board, CertifiedError, Door, Error, Handle, Light, Options, Trouble};
use milepost_validator_net::set_file::{Agreement, HexBytes, Rule, Scheme, Set, SetFile, Trusted, Validator};
use milepost_validator_net::{Failure, Peer, Reason, TransportKey};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const KIND: SchemeKind = SchemeKind::Bls;
const INTERVAL: u64 = 8;
/// Often enough that tests do not wait, seldom enough that a busy machine keeps up.
const POLL: Duration = Duration::from_millis(50);

/// What the operators of a committee wrote down.
fn set_file(committee: &Committee, members: u32) -> SetFile {
    let validators = (1..=members).map(|id| {
        let registration = Key::of(KIND, ValidatorId(id)).registration(ValidatorId(id));
        Validator {
            id,
            key: HexBytes(registration.key.0),
            possession: HexBytes(registration.possession.0),
            identity: Some(committee.pin(id)),
            address: Some(committee.address(id).to_string()),
            certificates: None,
        }
    });
    SetFile {
        version: SetFile::VERSION,
        chain_id: 31337,
        interval: INTERVAL,
        rule: Rule::Single,
        scheme: Scheme::Bls,
        trusted: Trusted { number: ROOT, hash: HexBytes(hash_of(CheckpointNumber(ROOT)).0.to_vec()) },
        validators: validators.collect(),
        sets: vec![Set { id: 1, boundary: None, members: (1..=members).collect() }],
    }
}

/// A validator's door.
struct Open {
    address: SocketAddr,
    board: Board,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Open {
    async fn with(key: &TransportKey, agreement: &Agreement, board: Board) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let door = Door::new(key, agreement, board.clone(), listener).expect("a sound key");
        let (address, stop) = (door.address().expect("it is bound"), CancellationToken::new());
        let task = tokio::spawn(door.run(stop.clone()));
        Self { address, board, stop, task }
    }

    async fn close(self) {
        self.stop.cancel();
        tokio::time::timeout(common::PATIENCE, self.task).await.expect("a door closes").expect("and does not panic");
    }
}

/// The follower under test.
struct Following {
    handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Following {
    fn start(agreement: &Agreement, sources: Vec<Peer>, folder: &Path) -> Self {
        let options = Options { agreement: agreement.clone(), sources, folder: folder.to_owned(), poll: POLL };
        let (light, handle) = Light::new(options).expect("sound options");
        let stop = CancellationToken::new();
        let task = tokio::spawn(light.run(stop.clone()));
        Self { handle, stop, task }
    }

    fn tip(&self) -> Option<u64> {
        self.handle.state().tip().map(|tip| tip.checkpoint().number.0)
    }

    async fn reaches(&self, number: u64) {
        eventually(&format!("the follower reaches {number}"), || self.tip() == Some(number)).await;
    }

    fn trouble(&self, validator: u32) -> Option<Trouble> {
        let state = self.handle.state();
        state.sources().iter().find(|source| source.validator.0 == validator).and_then(|source| source.trouble.clone())
    }

    async fn stop(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(common::PATIENCE, self.task).await.expect("a follower stops").expect("and does not panic");
        ended.expect("and nothing was wrong");
    }
}

fn source(committee: &Committee, id: u32, address: SocketAddr) -> Peer {
    Peer { validator: ValidatorId(id), address: address.to_string(), pin: committee.pin(id) }
}

fn checkpoint(number: u64, fork: u8) -> FinalityCheckpoint {
    let mut hash = hash_of(CheckpointNumber(number)).0;
    hash[31] ^= fork;
    FinalityCheckpoint { number: CheckpointNumber(number), hash: BlockHash(hash) }
}

/// A certificate by hand, signed by whom one likes.
fn certificate(agreement: &Agreement, source: FinalityCheckpoint, target: FinalityCheckpoint, signers: &[u32]) -> Certificate {
    let link = Link { source, target };
    let electorate = agreement.schedule.electorate(&link).expect("the link begins at the trusted checkpoint");
    let vote = Vote {
        domain: agreement.schedule.domain_digest(),
        set: electorate.id(),
        sets: electorate.digests(),
        link,
        previous: LinkDigest(agreement.schedule.domain().root().0),
    };
    let mut bitmap = Bitmap::empty(electorate.members().len());
    let mut signatures = Vec::new();
    for id in signers {
        let index = electorate.index(ValidatorId(*id)).expect("a member");
        bitmap.set(index);
        signatures.push((index, Key::of(KIND, ValidatorId(*id)).sign_unchecked(&vote.signed_bytes())));
    }
    let signatures: Vec<(_, &Signature)> = signatures.iter().map(|(index, signature)| (*index, signature)).collect();
    let aggregate = electorate.keys().aggregate(&signatures).expect("sound signatures");
    Certificate { vote, signers: bitmap, aggregate }
}

fn post(board: &Board, certificate: &Certificate) {
    let checkpoint = certificate.vote.link.target;
    board.post(&Finalized { checkpoint, by: checkpoint.number }, certificate);
}

fn good(agreement: &Agreement, number: u64) -> Certificate {
    certificate(agreement, checkpoint(ROOT, 0), checkpoint(number, 0), &[1, 2, 3])
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_learns_what_four_validators_certify() {
    let committee = Committee::new(KIND, 4).await;
    let agreement = set_file(&committee, 4).agreement().expect("a sound set file");
    assert_eq!(agreement.schedule.domain_digest(), committee.schedule.domain_digest(), "the file says what the validators were given");
    let mut nodes = Vec::new();
    let mut sources = Vec::new();
    for id in 1..=4 {
        let node = committee.start(id, ROOT).await;
        let door = Open::with(&committee.transport_key(id), &agreement, node.board.clone()).await;
        sources.push(source(&committee, id, door.address));
        nodes.push((node, door));
    }
    let kept = folder();
    let following = Following::start(&agreement, sources, kept.path());
    assert_eq!(following.handle.finalized().0, agreement.schedule.domain().trusted.checkpoint, "at first only what is trusted");
    for number in ROOT + 1..=ROOT + 3 {
        for (node, _) in &mut nodes {
            node.head.send_replace(number);
        }
        for (node, _) in &mut nodes {
            node.reaches(number).await;
        }
        following.reaches(number).await;
    }
    let state = following.handle.state();
    let tip = state.tip().expect("it has one");
    assert_eq!((tip.checkpoint().hash, tip.height()), (hash_of(CheckpointNumber(ROOT + 3)), BlockNumber((ROOT + 3) * INTERVAL)));
    committee.schedule.verify_certificate(tip.certificate()).expect("and it verifies for everybody");
    let covering = state.covering(BlockNumber((ROOT + 1) * INTERVAL + 1)).expect("a later checkpoint covers it");
    assert!(covering.checkpoint().number.0 >= ROOT + 2);
    assert!(state.covering(BlockNumber((ROOT + 3) * INTERVAL + 1)).is_none(), "nothing covers a block above the tip");
    eventually("all four were heard", || following.handle.state().sources().iter().all(|source| source.heard.is_some())).await;
    following.stop().await;
    for (node, door) in nodes {
        door.close().await;
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_is_named_and_one_honest_source_is_enough() {
    let committee = Committee::new(KIND, 4).await;
    let agreement = set_file(&committee, 4).agreement().expect("a sound set file");
    let mut doors = Vec::new();
    for id in 1..=4 {
        doors.push(Open::with(&committee.transport_key(id), &agreement, Board::new()).await);
    }
    // Two signers of four are no quorum; a signature of one stands for three; the third withholds; the fourth is honest.
    post(&doors[0].board, &certificate(&agreement, checkpoint(ROOT, 0), checkpoint(ROOT + 9, 1), &[1, 2]));
    let alone = certificate(&agreement, checkpoint(ROOT, 0), checkpoint(ROOT + 9, 1), &[2]);
    post(&doors[1].board, &Certificate { signers: good(&agreement, ROOT + 1).signers, ..alone });
    post(&doors[3].board, &good(&agreement, ROOT + 2));
    let sources = (1..).zip(&doors).map(|(id, door)| source(&committee, id, door.address)).collect();
    let kept = folder();
    let following = Following::start(&agreement, sources, kept.path());
    following.reaches(ROOT + 2).await;
    eventually("both liars are named", || {
        let false_one = |id| matches!(following.trouble(id), Some(Trouble::Certificate(CertifiedError::Refused(_))));
        false_one(1) && false_one(2)
    })
    .await;
    assert_eq!((following.trouble(3), following.trouble(4)), (None, None), "who withholds is heard, and does no harm");
    assert_eq!(following.tip(), Some(ROOT + 2));
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tip_never_moves_back_and_survives_a_restart() {
    let committee = Committee::new(KIND, 4).await;
    let agreement = set_file(&committee, 4).agreement().expect("a sound set file");
    let kept = folder();
    let door = Open::with(&committee.transport_key(1), &agreement, Board::new()).await;
    post(&door.board, &good(&agreement, ROOT + 5));
    let following = Following::start(&agreement, vec![source(&committee, 1, door.address)], kept.path());
    following.reaches(ROOT + 5).await;
    following.stop().await;
    door.close().await;

    // Another process reads the same, with nobody to ask.
    let state = light::read(kept.path(), &agreement).expect("a sound folder");
    assert_eq!(state.tip().map(|tip| tip.checkpoint()), Some(checkpoint(ROOT + 5, 0)));
    assert!(state.halted().is_none());

    // Only an old one is to be had.
    let old = Open::with(&committee.transport_key(1), &agreement, Board::new()).await;
    post(&old.board, &certificate(&agreement, checkpoint(ROOT, 0), checkpoint(ROOT + 4, 0), &[2, 3, 4]));
    let following = Following::start(&agreement, vec![source(&committee, 1, old.address)], kept.path());
    assert_eq!(following.tip(), Some(ROOT + 5), "there from the start");
    eventually("the old one was heard", || following.handle.state().sources()[0].heard.is_some()).await;
    post(&old.board, &good(&agreement, ROOT + 6));
    following.reaches(ROOT + 6).await;
    assert!(following.handle.state().halted().is_none());
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_set_aside_and_never_believed() {
    let committee = Committee::new(KIND, 4).await;
    let agreement = set_file(&committee, 4).agreement().expect("a sound set file");
    let kept = folder();
    let door = Open::with(&committee.transport_key(1), &agreement, Board::new()).await;
    let sources = vec![source(&committee, 1, door.address)];
    let following = Following::start(&agreement, sources.clone(), kept.path());
    for number in [ROOT + 1, ROOT + 2] {
        post(&door.board, &good(&agreement, number));
        following.reaches(number).await;
    }
    following.stop().await;

    let inner = std::fs::read_dir(kept.path()).expect("it is there").next().expect("one agreement").expect("readable").path();
    let newest = inner.join(format!("{:020}.cert", ROOT + 2));
    let mut bytes = std::fs::read(&newest).expect("the newest certificate");
    for at in [0, 60, 150, bytes.len() - 1] {
        bytes[at] ^= 1;
        std::fs::write(&newest, &bytes).expect("the test may write");
        let state = light::read(kept.path(), &agreement).expect("a readable folder");
        assert_eq!(state.tip().map(|tip| tip.checkpoint().number.0), Some(ROOT + 1), "byte {at} flipped");
        bytes[at] ^= 1;
    }
    bytes.truncate(100);
    std::fs::write(&newest, &bytes).expect("the test may write");
    let following = Following::start(&agreement, sources, kept.path());
    assert!(inner.join(format!("{:020}.cert.damaged", ROOT + 2)).exists(), "nothing is deleted");
    following.reaches(ROOT + 2).await;
    assert!(newest.exists(), "and what was missing came again");
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_certificates_that_contradict_each_other_end_it_for_good() {
    let committee = Committee::new(KIND, 4).await;
    let agreement = set_file(&committee, 4).agreement().expect("a sound set file");
    let kept = folder();
    let (one, other) = (
        Open::with(&committee.transport_key(1), &agreement, Board::new()).await,
        Open::with(&committee.transport_key(2), &agreement, Board::new()).await,
    );
    let sources = vec![source(&committee, 1, one.address), source(&committee, 2, other.address)];
    let following = Following::start(&agreement, sources.clone(), kept.path());
    post(&one.board, &good(&agreement, ROOT + 1));
    following.reaches(ROOT + 1).await;
    post(&other.board, &certificate(&agreement, checkpoint(ROOT, 0), checkpoint(ROOT + 1, 1), &[2, 3, 4]));
    eventually("the contradiction is seen", || following.handle.state().halted().is_some()).await;
    post(&one.board, &good(&agreement, ROOT + 2));
    following.stop().await;

    let following = Following::start(&agreement, sources, kept.path());
    let halted = following.handle.state().halted().cloned().expect("a restart does not forget it");
    assert_eq!(halted.accepted.checkpoint(), checkpoint(ROOT + 1, 0));
    assert_eq!(halted.against.checkpoint(), checkpoint(ROOT + 1, 1));
    eventually("both were heard", || following.handle.state().sources().iter().all(|source| source.heard.is_some())).await;
    assert_eq!(following.tip(), Some(ROOT + 1), "nothing moves any more");
    following.stop().await;
}

/// What is changed in a set file.
type Change<'a> = &'a dyn Fn(&mut SetFile);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_agrees_on_something_else_parts_with_a_reason() {
    let committee = Committee::new(KIND, 4).await;
    let file = set_file(&committee, 4);
    let agreement = file.agreement().expect("a sound set file");
    let door = Open::with(&committee.transport_key(1), &agreement, Board::new()).await;
    post(&door.board, &good(&agreement, ROOT + 1));
    let cases: [(Change<'_>, Reason); 5] = [
        (&|file| file.chain_id = 5, Reason::Chain),
        (&|file| file.trusted.number += 1, Reason::Trusted),
        (&|file| file.sets[0].members.truncate(3), Reason::Trusted),
        (&|file| file.interval = 16, Reason::Trusted),
        (&|file| file.rule = Rule::Ffg, Reason::Trusted),
    ];
    for (change, reason) in cases {
        let mut other = file.clone();
        change(&mut other);
        let kept = folder();
        let agreement = other.agreement().expect("sound in itself");
        let following = Following::start(&agreement, vec![source(&committee, 1, door.address)], kept.path());
        eventually("it is refused", || following.trouble(1).is_some()).await;
        match following.trouble(1) {
            Some(Trouble::Network(Failure::Refused(refusal))) => assert_eq!(refusal.reason, reason, "{refusal}"),
            other => panic!("expected {reason:?}, not {other:?}"),
        }
        assert_eq!(following.tip(), None);
        following.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_shows_another_key_is_not_asked_and_nobody_there_is_said_so() {
    let committee = Committee::new(KIND, 4).await;
    let agreement = set_file(&committee, 4).agreement().expect("a sound set file");
    let impostor = Open::with(&TransportKey::generate().expect("randomness"), &agreement, Board::new()).await;
    post(&impostor.board, &good(&agreement, ROOT + 1));
    let gone = Open::with(&committee.transport_key(2), &agreement, Board::new()).await;
    let address = gone.address;
    gone.close().await;
    let kept = folder();
    let sources = vec![source(&committee, 1, impostor.address), source(&committee, 2, address)];
    let following = Following::start(&agreement, sources, kept.path());
    eventually("both are named", || following.trouble(1).is_some() && following.trouble(2).is_some()).await;
    assert_eq!(following.trouble(1), Some(Trouble::Network(Failure::AnotherKey)));
    assert!(matches!(following.trouble(2), Some(Trouble::Network(Failure::Unreachable(_)))), "{:?}", following.trouble(2));
    assert_eq!(following.tip(), None);

    // It comes back at the same address, and is found.
    let listener = TcpListener::bind(address).await.expect("its port is free again");
    let board = Board::new();
    post(&board, &good(&agreement, ROOT + 1));
    let door = Door::new(&committee.transport_key(2), &agreement, board, listener).expect("a sound key");
    let stop = CancellationToken::new();
    let task = tokio::spawn(door.run(stop.clone()));
    following.reaches(ROOT + 1).await;
    assert_eq!(following.trouble(2), None);
    following.stop().await;
    stop.cancel();
    task.await.expect("a door closes without panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_ffg_a_certificate_makes_its_source_final_and_a_longer_link_nothing() {
    let committee = Committee::new(KIND, 4).await;
    let mut file = set_file(&committee, 4);
    file.rule = Rule::Ffg;
    let agreement = file.agreement().expect("a sound set file");
    let door = Open::with(&committee.transport_key(1), &agreement, Board::new()).await;
    let link = certificate(&agreement, checkpoint(ROOT + 2, 0), checkpoint(ROOT + 3, 0), &[1, 2, 3]);
    door.board.post(&Finalized { checkpoint: checkpoint(ROOT + 2, 0), by: CheckpointNumber(ROOT + 3) }, &link);
    let kept = folder();
    let following = Following::start(&agreement, vec![source(&committee, 1, door.address)], kept.path());
    following.reaches(ROOT + 2).await;
    let jump = certificate(&agreement, checkpoint(ROOT + 3, 0), checkpoint(ROOT + 5, 0), &[1, 2, 3]);
    door.board.post(&Finalized { checkpoint: checkpoint(ROOT + 5, 0), by: CheckpointNumber(ROOT + 5) }, &jump);
    eventually("the jump is refused", || matches!(following.trouble(1), Some(Trouble::Certificate(CertifiedError::NotFinal(_))))).await;
    assert_eq!(following.tip(), Some(ROOT + 2));
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_strangers_is_let_go_and_a_follower_gets_through() {
    const FLOOD: usize = 100;
    let committee = Committee::new(KIND, 4).await;
    let agreement = set_file(&committee, 4).agreement().expect("a sound set file");
    let door = Open::with(&committee.transport_key(1), &agreement, Board::new()).await;
    post(&door.board, &good(&agreement, ROOT + 1));
    let mut strangers = Vec::new();
    for _ in 0..FLOOD {
        strangers.push(tokio::net::TcpStream::connect(door.address).await.expect("the system accepts"));
    }
    // They say nothing. Some are turned away, the others have the time of a handshake; nobody is kept for ever.
    for mut stranger in strangers {
        let read = tokio::time::timeout(common::PATIENCE, tokio::io::AsyncReadExt::read(&mut stranger, &mut [0; 1])).await;
        assert!(matches!(read, Ok(Ok(0) | Err(_))), "a silent stranger is still there: {read:?}");
    }
    let folder = folder();
    let following = Following::start(&agreement, vec![source(&committee, 1, door.address)], folder.path());
    following.reaches(ROOT + 1).await;
    following.stop().await;
}

#[test]
fn a_follower_without_anybody_to_ask_says_so() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let committee = runtime.block_on(Committee::new(KIND, 4));
    let agreement = set_file(&committee, 4).agreement().expect("a sound set file");
    let kept = folder();
    let of =
        |sources| Light::new(Options { agreement: agreement.clone(), sources, folder: kept.path().to_owned(), poll: POLL }).map(|_| ());
    assert!(matches!(of(agreement.sources()), Err(Error::NoSources)), "the file names no address for certificates");
    let one = source(&committee, 1, committee.address(1));
    assert!(matches!(of(vec![one.clone(), one]), Err(Error::Twice(ValidatorId(1)))));
}
