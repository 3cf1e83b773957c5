//! The vectors that the Solidity library is tested with (`vectors/certificates.json`), made anew and compared.
//!
//! Keys come from fixed seeds and signing is deterministic, so that the file is the same on every machine.
//! `MILEPOST_WRITE_VECTORS=1` writes it.

use finality_gadget::simulator::{Key, SchemeKind};
use finality_gadget::{Bitmap, BlockHash, Certificate, CheckpointNumber, FinalityCheckpoint, Link, LinkDigest, ValidatorId, Vote};
use milepost_validator_net::Pin;
use milepost_validator_net::evm::{self, Arguments, Error};
use milepost_validator_net::set_file::{Agreement, HexBytes, Rule, Scheme, Set, SetFile, Trusted, Validator};
use serde_json::{Value, json};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/certificates.json");
const CHAIN: u64 = 84_532;
/// Number of the trusted checkpoint.
const ROOT: u64 = 7;
/// Where the second set takes over.
const BOUNDARY: u64 = 100;

fn validator(kind: SchemeKind, id: u32) -> Validator {
    let registration = Key::of(kind, ValidatorId(id)).registration(ValidatorId(id));
    let mut pin = [0; 32];
    pin[..4].copy_from_slice(&id.to_be_bytes());
    Validator {
        id,
        key: HexBytes(registration.key.0),
        possession: HexBytes(registration.possession.0),
        identity: Some(Pin(pin)),
        address: Some(format!("validator-{id}.example:7700")),
        certificates: None,
    }
}

/// One set or two.
fn agreement(kind: SchemeKind, sets: &[std::ops::RangeInclusive<u32>]) -> Agreement {
    let last = sets.iter().map(|set| *set.end()).max().expect("a set");
    let sets = (1..).zip(sets).map(|(id, members)| Set { id, boundary: (id > 1).then_some(BOUNDARY), members: members.clone().collect() });
    let file = SetFile {
        version: SetFile::VERSION,
        chain_id: CHAIN,
        interval: 32,
        rule: Rule::Ffg,
        scheme: if kind == SchemeKind::Bls { Scheme::Bls } else { Scheme::Ed25519 },
        trusted: Trusted { number: ROOT, hash: HexBytes(vec![0x70; 32]) },
        validators: (1..=last).map(|id| validator(kind, id)).collect(),
        sets: sets.collect(),
    };
    file.agreement().expect("sound sets")
}

fn checkpoint(number: u64) -> FinalityCheckpoint {
    let byte = u8::try_from(number % 251).expect("below 251");
    FinalityCheckpoint { number: CheckpointNumber(number), hash: BlockHash([byte; 32]) }
}

fn certificate(kind: SchemeKind, agreement: &Agreement, source: u64, signers: &[u32]) -> Certificate {
    let link = Link { source: checkpoint(source), target: checkpoint(source + 1) };
    let electorate = agreement.schedule.electorate(&link).expect("above the trusted checkpoint");
    let vote = Vote {
        domain: agreement.schedule.domain_digest(),
        set: electorate.id(),
        sets: electorate.digests(),
        link,
        previous: LinkDigest([0x5a; 32]),
    };
    let mut bitmap = Bitmap::empty(electorate.members().len());
    let mut signatures = Vec::new();
    for id in signers {
        let index = electorate.index(ValidatorId(*id)).expect("a member");
        bitmap.set(index);
        signatures.push((index, Key::of(kind, ValidatorId(*id)).sign_unchecked(&vote.signed_bytes())));
    }
    let signatures: Vec<_> = signatures.iter().map(|(index, signature)| (*index, signature)).collect();
    let aggregate = electorate.keys().aggregate(&signatures).expect("sound signatures");
    Certificate { vote, signers: bitmap, aggregate }
}

fn hex(bytes: impl AsRef<[u8]>) -> Value {
    json!(format!("0x{}", hex::encode(bytes)))
}

fn case(agreement: &Agreement, certificate: &Certificate) -> Value {
    let Arguments { schedule, certificate: bytes, signature, sets } = evm::arguments(agreement, certificate).expect("a sound certificate");
    let trusted = agreement.schedule.domain().trusted.checkpoint;
    let link = certificate.vote.link;
    json!({
        "chainId": CHAIN,
        "number": trusted.number.0,
        "blockHash": hex(trusted.hash.0),
        "boundaries": schedule.iter().map(|set| set.boundary).collect::<Vec<_>>(),
        "ids": schedule.iter().map(|set| set.id.0).collect::<Vec<_>>(),
        "digests": schedule.iter().map(|set| hex(set.digest.0)).collect::<Vec<_>>(),
        "domain": hex(agreement.schedule.domain_digest().0),
        "certificate": hex(bytes),
        "signature": hex(signature),
        "sets": sets.iter().map(hex).collect::<Vec<_>>(),
        "sourceNumber": link.source.number.0,
        "sourceHash": hex(link.source.hash.0),
        "targetNumber": link.target.number.0,
        "targetHash": hex(link.target.hash.0),
        "signers": certificate.signers.count(),
        "encodedBytes": certificate.encode().len(),
    })
}

fn vectors() -> Value {
    let bls = SchemeKind::Bls;
    let four = agreement(bls, &[1..=4]);
    let many = agreement(bls, &[1..=21]);
    // Members 3 and 4 are in both sets; at the boundary a quorum of each must sign.
    let changing = agreement(bls, &[1..=4, 3..=7]);
    let signers: Vec<u32> = (4..=18).collect();
    json!({
        "four": case(&four, &certificate(bls, &four, ROOT + 1, &[1, 2, 4])),
        "twentyOne": case(&many, &certificate(bls, &many, ROOT + 1, &signers)),
        "boundary": case(&changing, &certificate(bls, &changing, BOUNDARY, &[2, 3, 4, 5, 6])),
        "afterBoundary": case(&changing, &certificate(bls, &changing, BOUNDARY + 1, &[3, 5, 6, 7])),
        "everybody": case(&four, &certificate(bls, &four, ROOT + 3, &[1, 2, 3, 4])),
    })
}

#[test]
fn the_vectors_for_contracts_are_what_this_code_makes() {
    let made = format!("{:#}\n", vectors());
    if std::env::var_os("MILEPOST_WRITE_VECTORS").is_some() {
        std::fs::write(FILE, &made).expect("the folder is there");
    }
    let committed = std::fs::read_to_string(FILE).expect("the vectors are committed");
    assert!(made == committed, "{FILE} is not what this code makes; MILEPOST_WRITE_VECTORS=1 writes it");
}

#[test]
fn what_no_contract_can_check_has_no_form_for_one() {
    let edwards = SchemeKind::Ed25519;
    let agreed = agreement(edwards, &[1..=4]);
    assert_eq!(evm::arguments(&agreed, &certificate(edwards, &agreed, ROOT + 1, &[1, 2, 3])), Err(Error::Key(ValidatorId(1))));
    let agreed = agreement(SchemeKind::Bls, &[1..=4]);
    let short = certificate(SchemeKind::Bls, &agreed, ROOT + 1, &[1, 2]);
    assert!(matches!(evm::arguments(&agreed, &short), Err(Error::Refused(_))));
}
