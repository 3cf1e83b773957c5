//! Validators that certify what a test tells them to: real keys, real doors, no gadget behind them.
#![allow(dead_code, unreachable_pub)] // as its neighbour

use std::path::{Path, PathBuf};

use finality_gadget::simulator::{Key, SchemeKind};
use finality_gadget::{
    Bitmap, BlockHash, Certificate, CheckpointNumber, FinalityCheckpoint, Finalized, Link, LinkDigest, Signature, ValidatorId, Vote,
};
use milepost_ledger::Digest;
use milepost_validator_net::TransportKey;
use milepost_validator_net::light::{Board, Door};
use milepost_validator_net::set_file::{Agreement, HexBytes, Rule, Scheme, Set, SetFile, Trusted, Validator};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const KIND: SchemeKind = SchemeKind::Bls;
/// Members of the set: three of four are a quorum.
const MEMBERS: u32 = 4;
/// Blocks between two checkpoints.
pub const INTERVAL: u64 = 4;

/// Four validators, two of which give certificates to everybody.
pub struct Validators {
    pub set_file: PathBuf,
    pub agreement: Agreement,
    keys: Vec<TransportKey>,
    addresses: Vec<String>,
    boards: Vec<Board>,
    open: Vec<(CancellationToken, JoinHandle<()>)>,
}

impl Validators {
    /// Validators that trust the block with this hash at height 0. Their doors are open.
    pub async fn new(folder: &Path, genesis: Digest) -> Result<Self, Box<dyn std::error::Error>> {
        let mut keys = Vec::new();
        let mut held = Vec::new();
        let mut validators = Vec::new();
        for id in 1..=MEMBERS {
            let registration = Key::of(KIND, ValidatorId(id)).registration(ValidatorId(id));
            let key = TransportKey::generate()?;
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?.to_string();
            validators.push(Validator {
                id,
                key: HexBytes(registration.key.0),
                possession: HexBytes(registration.possession.0),
                identity: Some(key.pin()),
                address: Some(format!("127.0.0.1:{}", 60_000 + id)),
                certificates: (id <= 2).then_some(address),
            });
            keys.push(key);
            held.push(listener);
        }
        drop(held);
        let file = SetFile {
            version: SetFile::VERSION,
            chain_id: 31337,
            interval: INTERVAL,
            rule: Rule::Single,
            scheme: Scheme::Bls,
            trusted: Trusted { number: 0, hash: HexBytes(genesis.0.to_vec()) },
            validators,
            sets: vec![Set { id: 1, boundary: None, members: (1..=MEMBERS).collect() }],
        };
        let set_file = folder.join("set.toml");
        std::fs::write(&set_file, file.to_toml()?)?;
        let agreement = file.agreement()?;
        let addresses: Vec<String> = agreement.sources().into_iter().map(|source| source.address).collect();
        let boards = addresses.iter().map(|_: &String| Board::new()).collect();
        let mut validators = Self { set_file, agreement, keys, addresses, boards, open: Vec::new() };
        validators.open().await?;
        Ok(validators)
    }

    /// Opens the doors, at the addresses of the set file.
    pub async fn open(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        for ((key, address), board) in self.keys.iter().zip(&self.addresses).zip(&self.boards) {
            let listener = TcpListener::bind(address).await?;
            let door = Door::new(key, &self.agreement, board.clone(), listener)?;
            let stop = CancellationToken::new();
            self.open.push((stop.clone(), tokio::spawn(door.run(stop))));
        }
        Ok(())
    }

    /// Nobody answers any more.
    pub async fn close(&mut self) {
        for (stop, task) in self.open.drain(..) {
            stop.cancel();
            task.await.expect("a door closes without panic");
        }
    }

    /// Certifies that checkpoint `number` has this hash, and tells everybody who asks.
    pub fn certify(&self, number: u64, hash: Digest) {
        for door in 0..self.boards.len() {
            self.certify_at(door, number, hash);
        }
    }

    /// Certifies the same, and tells those who ask at one door.
    pub fn certify_at(&self, door: usize, number: u64, hash: Digest) {
        let (schedule, source) = (&self.agreement.schedule, self.agreement.schedule.domain().trusted.checkpoint);
        let target = FinalityCheckpoint { number: CheckpointNumber(number), hash: BlockHash(hash.0) };
        let link = Link { source, target };
        let electorate = schedule.electorate(&link).expect("a link from the trusted checkpoint");
        let vote = Vote {
            domain: schedule.domain_digest(),
            set: electorate.id(),
            sets: electorate.digests(),
            link,
            previous: LinkDigest(schedule.domain().root().0),
        };
        let mut signers = Bitmap::empty(electorate.members().len());
        let mut signatures = Vec::new();
        for id in 1..MEMBERS {
            let index = electorate.index(ValidatorId(id)).expect("a member");
            signers.set(index);
            signatures.push((index, Key::of(KIND, ValidatorId(id)).sign_unchecked(&vote.signed_bytes())));
        }
        let signatures: Vec<(_, &Signature)> = signatures.iter().map(|(index, signature)| (*index, signature)).collect();
        let aggregate = electorate.keys().aggregate(&signatures).expect("sound signatures");
        self.boards[door].post(&Finalized { checkpoint: target, by: target.number }, &Certificate { vote, signers, aggregate });
    }
}
