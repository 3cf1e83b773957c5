//! Strangers and peers that do not fit part with a reason, on both sides.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::raw::{self, rpc};
use common::{Committee, PATIENCE, Wire, eventually, schedule_of};
use finality_gadget::network::{Hello, PROTOCOL_VERSION};
use finality_gadget::simulator::SchemeKind;
use finality_gadget::{Schedule, ValidatorId};
use milepost_validator_net::{Error, Failure, Limits, Network, Options, PeerReport, Reason, Refusal, TransportKey};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tonic::{Code, Status};

const KIND: SchemeKind = SchemeKind::Test;

fn report(wire: &Wire, id: u32) -> PeerReport {
    let peers = wire.bridge.peers();
    peers.into_iter().find(|peer| peer.validator.0 == id).expect("a configured peer")
}

/// Validators 1 and 2 with schedules of their own; what each says of the other.
async fn introduce(one: Arc<Schedule>, two: Arc<Schedule>) -> (PeerReport, PeerReport) {
    let committee = Committee::new(KIND, 2).await;
    let options = |id: u32, schedule: &Arc<Schedule>| {
        let mut options = Options { schedule: Arc::clone(schedule), ..committee.options(id) };
        // Sets with further members: their addresses lead nowhere.
        for (_, set) in schedule.sets() {
            for (member, _) in set.members().filter(|(member, _)| member.0 > 2) {
                if options.peers.iter().all(|peer| peer.validator != member) {
                    let key = TransportKey::generate().expect("the system gives randomness");
                    let peer = milepost_validator_net::Peer { validator: member, address: "127.0.0.1:1".to_owned(), pin: key.pin() };
                    options.peers.push(peer);
                }
            }
        }
        options
    };
    let (first, second) = (committee.network(options(1, &one)).await, committee.network(options(2, &two)).await);
    eventually("both know why they do not talk", || {
        [report(&first, 2), report(&second, 1)].iter().all(|peer| peer.failure.is_some() && peer.refused.is_some())
            && [report(&first, 2), report(&second, 1)].iter().all(|peer| matches!(peer.failure, Some(Failure::Refused(_))))
    })
    .await;
    let told = (report(&first, 2), report(&second, 1));
    first.stop().await;
    second.stop().await;
    told
}

fn assert_refused(peer: &PeerReport, reason: Reason, theirs: u64, ours: u64) {
    assert!(!peer.reached && !peer.heard, "{peer:?}");
    let refused = peer.refused.as_ref().expect("this node refused the peer");
    assert_eq!((refused.reason, refused.theirs, refused.ours), (reason, theirs, ours), "{peer:?}");
    let Some(Failure::Refused(told)) = &peer.failure else { panic!("{peer:?}") };
    assert_eq!((told.reason, told.theirs, told.ours), (reason, ours, theirs), "the peer tells the same from its side: {peer:?}");
}

#[tokio::test]
async fn a_peer_on_another_chain_is_refused_and_both_sides_say_which() {
    let (one, two) = introduce(schedule_of(1, KIND, &[&[1, 2]]), schedule_of(5, KIND, &[&[1, 2]])).await;
    assert_refused(&one, Reason::Chain, 5, 1);
    assert_refused(&two, Reason::Chain, 1, 5);
}

#[tokio::test]
async fn a_peer_with_another_first_set_is_refused() {
    let (one, two) = introduce(schedule_of(1, KIND, &[&[1, 2]]), schedule_of(1, KIND, &[&[1, 2, 3]])).await;
    assert_refused(&one, Reason::Trusted, 0, 0);
    assert_refused(&two, Reason::Trusted, 0, 0);
}

#[tokio::test]
async fn a_peer_with_other_members_in_a_later_set_is_refused() {
    let (one, two) = introduce(schedule_of(1, KIND, &[&[1, 2], &[1, 2, 3]]), schedule_of(1, KIND, &[&[1, 2], &[1, 2, 4]])).await;
    assert_refused(&one, Reason::Set, 2, 2);
    assert_refused(&two, Reason::Set, 2, 2);
}

#[tokio::test]
async fn a_peer_that_knows_one_set_less_is_talked_to() {
    let committee = Committee::new(KIND, 2).await;
    let newer = schedule_of(31337, KIND, &[&[1, 2], &[1, 2]]);
    let first = committee.network(Options { schedule: newer, ..committee.options(1) }).await;
    let second = committee.network(committee.options(2)).await;
    eventually("they reach and hear each other", || [report(&first, 2), report(&second, 1)].iter().all(|peer| peer.reached && peer.heard))
        .await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_key_that_is_not_pinned_gets_no_further_than_the_handshake() {
    let committee = Committee::new(KIND, 2).await;
    let first = committee.network(committee.options(1)).await;
    let second = committee.network(Options { key: TransportKey::generate().expect("randomness"), ..committee.options(2) }).await;
    eventually("the one with the wrong key is told so", || report(&second, 1).failure == Some(Failure::KeyNotAccepted)).await;
    eventually("the other knows that somebody else answers there", || report(&first, 2).failure == Some(Failure::AnotherKey)).await;
    assert!(first.bridge.strangers() > 0);
    for peer in [report(&first, 2), report(&second, 1)] {
        assert!(!peer.reached && !peer.heard && peer.received == 0 && peer.sent == 0, "{peer:?}");
    }
    first.stop().await;
    second.stop().await;
}

/// Says hello by hand and returns how the stream ends.
async fn say(committee: &Committee, key: &TransportKey, frames: Vec<raw::messages::Frame>) -> Status {
    let channel = raw::channel(committee.address(1), key).await.expect("validator 1 listens");
    match rpc::call(channel, 4096, tokio_stream::iter(frames)).await {
        Err(status) => status,
        Ok(mut answers) => loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => break Status::ok("the end"),
                Err(status) => break status,
            }
        },
    }
}

fn refusal(status: &Status) -> (i32, u64, u64) {
    let details = <raw::messages::Refusal as prost::Message>::decode(status.details()).expect("a refusal stands in the details");
    (details.reason, details.theirs, details.ours)
}

#[tokio::test]
async fn each_refusal_is_a_status_with_code_reason_and_words() {
    let committee = Committee::new(KIND, 4).await;
    let wire = committee.network(committee.options(1)).await;
    let key = committee.transport_key(2);
    let sound = Hello::of(&committee.schedule, ValidatorId(2));

    let newer = Hello { version: PROTOCOL_VERSION + 1, ..sound.clone() };
    let status = say(&committee, &key, vec![raw::hello(&newer)]).await;
    let version = u64::from(PROTOCOL_VERSION);
    assert_eq!(
        (status.code(), refusal(&status)),
        (Code::FailedPrecondition, (raw::messages::Reason::Version as i32, version + 1, version))
    );
    assert!(status.message().contains("version 2"), "{status}");

    let posing = Hello { validator: ValidatorId(3), ..sound.clone() };
    let status = say(&committee, &key, vec![raw::hello(&posing)]).await;
    assert_eq!((status.code(), refusal(&status)), (Code::PermissionDenied, (raw::messages::Reason::Identity as i32, 3, 2)));

    let unknown = Hello { validator: ValidatorId(77), ..sound.clone() };
    let status = say(&committee, &key, vec![raw::hello(&unknown)]).await;
    assert_eq!((status.code(), refusal(&status)), (Code::PermissionDenied, (raw::messages::Reason::Unknown as i32, 77, 0)));

    for frames in [
        vec![raw::message(&b"no hello"[..])],
        vec![raw::messages::Frame::default()],
        vec![raw::hello(&sound), raw::hello(&sound)],
        vec![raw::hello(&sound), raw::message(&b"not a message"[..])],
    ] {
        let status = say(&committee, &key, frames.clone()).await;
        assert_eq!(
            (status.code(), refusal(&status)),
            (Code::InvalidArgument, (raw::messages::Reason::Malformed as i32, 0, 0)),
            "{frames:?}"
        );
    }
    let status = say(&committee, &key, Vec::new()).await;
    assert_eq!((status.code(), refusal(&status)), (Code::DeadlineExceeded, (raw::messages::Reason::Silent as i32, 0, 0)));

    let seen = report(&wire, 2);
    assert!(matches!(seen.refused, Some(Refusal { reason: Reason::Silent, .. })), "{seen:?}");
    assert_eq!(seen.received, 0);
    wire.stop().await;
}

/// Takes the five seconds that a peer is given.
#[tokio::test]
async fn a_connection_that_never_says_hello_is_closed() {
    let committee = Committee::new(KIND, 4).await;
    let wire = committee.network(committee.options(1)).await;
    let mut silent = raw::tls(committee.address(1), &committee.transport_key(2)).await.expect("validator 1 listens");
    let mut stranger = TcpStream::connect(committee.address(1)).await.expect("validator 1 listens");
    let start = Instant::now();
    let ends = async {
        // The server's own settings arrive; then there is nothing until the end.
        while silent.read(&mut [0; 1024]).await.is_ok_and(|length| length > 0) {}
        while stranger.read(&mut [0; 1024]).await.is_ok_and(|length| length > 0) {}
    };
    tokio::time::timeout(PATIENCE, ends).await.expect("both are closed");
    assert!(start.elapsed() >= Duration::from_secs(4), "but not before an honest peer could have spoken");
    wire.stop().await;
}

#[tokio::test]
async fn a_second_stream_of_one_validator_takes_the_place_of_the_first() {
    let committee = Committee::new(KIND, 4).await;
    let wire = committee.network(committee.options(1)).await;
    let hello = raw::hello(&Hello::of(&committee.schedule, ValidatorId(2)));
    let key = committee.transport_key(2);
    let open = || async {
        let channel = raw::channel(committee.address(1), &key).await.expect("validator 1 listens");
        let (frames, outgoing) = tokio::sync::mpsc::channel(4);
        frames.send(hello.clone()).await.expect("there is room");
        let stream = tokio_stream::wrappers::ReceiverStream::new(outgoing);
        let mut answers = rpc::call(channel, 4096, stream).await.expect("a sound hello is welcome");
        assert!(answers.message().await.is_ok_and(|welcome| welcome.is_some()));
        (frames, answers)
    };
    let (_first, mut first) = open().await;
    let (_second, mut second) = open().await;
    let status = first.message().await.expect_err("the first is told to go");
    assert_eq!((status.code(), refusal(&status).0), (Code::Aborted, raw::messages::Reason::Replaced as i32));
    assert!(report(&wire, 2).heard);
    wire.stop().await;
    let status = second.message().await.expect_err("the second hears that the node shuts down");
    assert_eq!((status.code(), refusal(&status).0), (Code::Unavailable, raw::messages::Reason::Closing as i32));
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_is_refused_at_once() {
    let committee = Committee::new(KIND, 4).await;
    let listener = || async { TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port") };
    let fails = |change: fn(&mut Options)| {
        let mut options = committee.options(1);
        change(&mut options);
        async { Network::new(options, listener().await).map(|_| ()).expect_err("it makes no sense") }
    };
    assert!(matches!(fails(|options| options.validator = ValidatorId(9)).await, Error::NotAMember(ValidatorId(9))));
    assert!(matches!(fails(|options| _ = options.peers.pop()).await, Error::MissingPeer(ValidatorId(4))));
    assert!(matches!(fails(|options| options.peers[0].validator = ValidatorId(9)).await, Error::UnknownPeer(ValidatorId(9))));
    assert!(matches!(fails(|options| options.peers[0].validator = ValidatorId(1)).await, Error::Twice(ValidatorId(1))));
    assert!(matches!(fails(|options| options.peers[0].pin = options.peers[1].pin).await, Error::Twice(ValidatorId(3))));
    assert!(matches!(fails(|options| options.peers[2].pin = options.key.pin()).await, Error::Twice(ValidatorId(4))));
    assert!(Limits::for_schedule(&committee.schedule).max_message_bytes < 300_000, "four validators need no 4 MiB");
}
