//! The bytes that are signed, sent and stored, written out by hand. They never change within a version.

use finality_gadget::network::{OwnVotes, Status};
use finality_gadget::persistence::{Refusal, SignState, Standing};
use finality_gadget::{
    Bitmap, BlockHash, Certificate, ChainId, CheckpointNumber, Domain, DomainDigest, Evidence, FinalityCheckpoint, Finalized, Link,
    LinkDigest, Message, SetDigest, SetId, Signature, SignedVote, Testimony, TrustedCheckpoint, ValidatorId, ValidatorIndex, Vote, codec,
};
use sha2::{Digest as _, Sha256};

fn checkpoint(number: u64, byte: u8) -> FinalityCheckpoint {
    FinalityCheckpoint { number: CheckpointNumber(number), hash: BlockHash([byte; 32]) }
}

fn vote() -> Vote {
    Vote {
        domain: DomainDigest([0xd0; 32]),
        set: SetId(5),
        sets: vec![SetDigest([0x51; 32]), SetDigest([0x52; 32])],
        link: Link { source: checkpoint(258, 0xaa), target: checkpoint(259, 0xbb) },
        previous: LinkDigest([0xee; 32]),
    }
}

fn vote_bytes() -> Vec<u8> {
    [
        &[1u8][..],
        &[0xd0; 32],
        &[0, 0, 0, 0, 0, 0, 0, 5],
        &[2],
        &[0x51; 32],
        &[0x52; 32],
        &[0, 0, 0, 0, 0, 0, 1, 2],
        &[0xaa; 32],
        &[0, 0, 0, 0, 0, 0, 1, 3],
        &[0xbb; 32],
        &[0xee; 32],
    ]
    .concat()
}

fn signed() -> SignedVote {
    SignedVote { vote: vote(), validator: ValidatorId(0x0102_0304), signature: Signature(vec![7, 8, 9]) }
}

fn signed_bytes() -> Vec<u8> {
    [&vote_bytes()[..], &[1, 2, 3, 4], &[0, 0, 0, 3, 7, 8, 9]].concat()
}

fn certificate() -> Certificate {
    let mut signers = Bitmap::empty(10);
    for index in [0, 3, 9] {
        signers.set(ValidatorIndex(index));
    }
    Certificate { vote: vote(), signers, aggregate: Signature(vec![6; 4]) }
}

fn certificate_bytes() -> Vec<u8> {
    [&vote_bytes()[..], &[0, 0, 0, 2, 0b0000_1001, 0b0000_0010], &[0, 0, 0, 4, 6, 6, 6, 6]].concat()
}

#[test]
fn a_domain_is_the_hash_of_chain_and_trusted_checkpoint() {
    let trusted = TrustedCheckpoint { checkpoint: checkpoint(7, 0xab), set: SetDigest([0xcd; 32]) };
    let domain = Domain { chain: ChainId(84532), trusted };
    let bytes =
        [&b"finality-gadget domain 1\0"[..], &[0, 0, 0, 0, 0, 1, 0x4a, 0x34], &[0, 0, 0, 0, 0, 0, 0, 7], &[0xab; 32], &[0xcd; 32]].concat();
    assert_eq!(domain.digest().0, <[u8; 32]>::from(Sha256::digest(bytes)));
    assert_eq!(domain.root().0, domain.digest().0);
}

#[test]
fn a_vote_has_one_encoding_and_is_signed_under_a_tag() {
    assert_eq!(vote().encode(), vote_bytes());
    assert_eq!(Vote::decode(&vote_bytes()).unwrap(), vote());
    assert_eq!(vote().signed_bytes(), [b"finality-gadget vote 1\0", &vote_bytes()[..]].concat());
    assert_eq!(vote().digest().0, <[u8; 32]>::from(Sha256::digest(vote().signed_bytes())));
    assert_eq!(
        vote().digest().to_string(),
        "0xe87d3e39cfaf1af752a065d373448de57256f3ee0eccf2c59f631632b1734960",
        "the digest of a vote is a promise to every other implementation"
    );
}

#[test]
fn signed_votes_certificates_and_finality_have_one_encoding() {
    assert_eq!(signed().encode(), signed_bytes());
    assert_eq!(SignedVote::decode(&signed_bytes()).unwrap(), signed());
    assert_eq!(certificate().encode(), certificate_bytes());
    assert_eq!(Certificate::decode(&certificate_bytes()).unwrap(), certificate());
    let finalized = Finalized { checkpoint: checkpoint(3, 0x33), by: CheckpointNumber(4) };
    let bytes = [&[1u8, 0, 0, 0, 0, 0, 0, 0, 3][..], &[0x33; 32], &[0, 0, 0, 0, 0, 0, 0, 4]].concat();
    assert_eq!(finalized.encode(), bytes);
    assert_eq!(Finalized::decode(&bytes).unwrap(), finalized);
}

#[test]
fn evidence_has_one_encoding_whichever_statement_was_seen_first() {
    let (one, other) = (Testimony::Vote(signed()), Testimony::Certificate(certificate()));
    let evidence = Evidence::new(ValidatorId(9), one.clone(), other.clone());
    assert_eq!(evidence, Evidence::new(ValidatorId(9), other, one));
    let (vote, quorum) = (signed_bytes(), certificate_bytes());
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_be_bytes();
    let bytes = [&[1u8, 0, 0, 0, 9][..], &[0], &length(&vote), &vote, &[1], &length(&quorum), &quorum].concat();
    assert_eq!(evidence.encode(), bytes);
    assert_eq!(Evidence::decode(&bytes).unwrap(), evidence);
    let swapped = [&[1u8, 0, 0, 0, 9][..], &[1], &length(&quorum), &quorum, &[0], &length(&vote), &vote].concat();
    assert!(Evidence::decode(&swapped).is_err(), "one pair of statements must not have two encodings");
}

#[test]
fn a_sign_state_has_one_encoding() {
    let clear = SignState {
        domain: DomainDigest([0xd0; 32]),
        max_source: CheckpointNumber(258),
        max_target: CheckpointNumber(259),
        standing: Standing::Clear,
    };
    let head = [&[1u8][..], &[0xd0; 32], &[0, 0, 0, 0, 0, 0, 1, 2], &[0, 0, 0, 0, 0, 0, 1, 3]].concat();
    let bytes = [&head[..], &[0, 0, 0, 0, 0]].concat();
    assert_eq!(clear.encode(), bytes);
    assert_eq!(SignState::decode(&bytes).unwrap(), clear);
    let refused = SignState { standing: Standing::Refused(Refusal { reason: "no".to_owned() }), ..clear };
    let bytes = [&head[..], &[1, 0, 0, 0, 2, b'n', b'o']].concat();
    assert_eq!(refused.encode(), bytes);
    assert_eq!(SignState::decode(&bytes).unwrap(), refused);
}

#[test]
fn every_message_reads_back_and_has_one_encoding() {
    let status = Status { finalized: CheckpointNumber(1), justified: CheckpointNumber(2), eligible: CheckpointNumber(3), open_links: 4 };
    let status_bytes = [1u8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4];
    assert_eq!(Message::Status(status).encode(), status_bytes);
    let own = OwnVotes { nonce: 77, finalized: CheckpointNumber(5), votes: vec![signed()], certificate: Some(certificate()) };
    let messages = [
        Message::Status(status),
        Message::Votes(vec![signed(), signed()]),
        Message::Certificates(vec![certificate()]),
        Message::CertificatesAfter(CheckpointNumber(12)),
        Message::OwnVotesQuery { nonce: 77 },
        Message::OwnVotes(own),
        Message::OwnVotes(OwnVotes::default()),
    ];
    for message in messages {
        let bytes = message.encode();
        assert_eq!(Message::decode(&bytes).unwrap(), message);
        assert!(Message::decode(&[&bytes[..], &[0]].concat()).is_err(), "a byte too many was accepted");
        for end in 0..bytes.len() {
            assert!(Message::decode(&bytes[..end]).is_err(), "a message cut at byte {end} was accepted");
        }
    }
}

#[test]
fn whatever_is_not_an_encoding_is_refused_with_its_reason() {
    let with = |at: usize, byte: u8| {
        let mut bytes = vote_bytes();
        bytes[at] = byte;
        Vote::decode(&bytes)
    };
    assert_eq!(with(0, 2), Err(codec::Error::Version { what: "vote", found: 2, known: 1 }));
    assert!(matches!(with(41, 0), Err(codec::Error::Invalid { .. })), "a vote without sets");
    assert!(matches!(with(41, 5), Err(codec::Error::Invalid { .. })), "a vote with five sets");
    // The target's number: lowered to the source's.
    assert!(matches!(with(153, 2), Err(codec::Error::Invalid { .. })), "a link that leads nowhere");
    assert_eq!(Vote::decode(&[&vote_bytes()[..], &[0]].concat()), Err(codec::Error::Trailing { what: "vote", extra: 1 }));
    let mut long = signed_bytes();
    let at = long.len() - 7;
    long[at..at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(SignedVote::decode(&long).is_err(), "a length beyond its bound");
}

#[test]
fn a_bitmap_has_no_bits_beyond_its_members() {
    assert!(Bitmap::from_bytes(&[0xff, 0b0000_0011], 10).is_some());
    assert!(Bitmap::from_bytes(&[0xff, 0b0000_0111], 10).is_none());
    assert!(Bitmap::from_bytes(&[0xff], 10).is_none());
    let bitmap = Bitmap::from_bytes(&[0b1000_0001, 0b10], 10).unwrap();
    assert_eq!(bitmap.iter().map(|index| index.0).collect::<Vec<_>>(), [0, 7, 9]);
    assert_eq!(bitmap.count(), 3);
    assert!(!bitmap.has(ValidatorIndex(1_000)));
}
