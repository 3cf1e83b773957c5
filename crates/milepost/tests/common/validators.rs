//! Validators as processes: `milepost validator` on a dev chain, with keys, a set file and data folders of their own.

#![allow(dead_code, unreachable_pub)] // each test program uses a part of it

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use aes::cipher::{KeyIvInit, StreamCipher};
use checkpoint_db::{CheckpointDB, CheckpointStorageAdapter, Inspection};
use finality_gadget::persistence::{self, Declaration};
use finality_gadget::scheme::BlsSigner;
use finality_gadget::{CheckpointNumber, Link, LinkDigest, SignedVote, ValidatorId, Vote, VoteSigner};
use milepost_test_support::{ChainOptions, DevChain, Mining};
use milepost_validator_net::TransportKey;
use milepost_validator_net::set_file::{Agreement, HexBytes, Rule, Scheme, Set, SetFile, Trusted, Validator as Member};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::common::{forget_own_variables, free_port};

#[path = "validator_process.rs"]
mod process;

pub use process::Validator;

/// Blocks between two checkpoints.
pub const INTERVAL: u64 = 2;
/// Ports of a validator: for the others, for its pages, for certificates.
const PORTS: u32 = 3;
/// What opens the tests' keystores.
const PASSPHRASE: &str = "validators of a test";

/// Several validators, and the chain that they watch.
pub struct Committee {
    pub chain: DevChain,
    pub agreement: Agreement,
    folder: tempfile::TempDir,
    ports: Vec<u16>,
    own: Vec<(&'static str, &'static str)>,
}

impl Committee {
    /// So many validators, numbered from 1, who have declared that their keys are new. `own` are settings over the usual ones.
    pub async fn new(count: u32, own: &[(&'static str, &'static str)]) -> Self {
        Self::under(Rule::Ffg, count, own).await
    }

    /// The same under a rule of finality.
    pub async fn under(rule: Rule, count: u32, own: &[(&'static str, &'static str)]) -> Self {
        let chain = DevChain::start(ChainOptions { mining: Mining::Manual, ..ChainOptions::default() }).await.expect("a chain");
        let folder = tempfile::tempdir().expect("a folder");
        secret(&folder.path().join("passphrase"), PASSPHRASE.as_bytes());
        let ports: Vec<u16> = (0..PORTS * count).map(|_| free_port()).collect();
        let members = (1..=count).map(|id| {
            let at = first_port(id);
            member(&folder.path().join(id.to_string()), id, ports[at], ports[at + 2])
        });
        let file = SetFile {
            version: SetFile::VERSION,
            chain_id: chain.chain_id(),
            interval: INTERVAL,
            rule,
            scheme: Scheme::Bls,
            trusted: Trusted { number: 0, hash: genesis(&chain).await },
            validators: members.collect(),
            sets: vec![Set { id: 1, boundary: None, members: (1..=count).collect() }],
        };
        std::fs::write(folder.path().join("set.toml"), file.to_toml().expect("text")).expect("written");
        let agreement = file.agreement().expect("a sound file");
        let committee = Self { chain, agreement, folder, ports, own: own.to_vec() };
        for id in 1..=count {
            committee.must(id, &["validator", "declare", "--never-signed"]);
        }
        committee
    }

    /// Where everything of a validator lies.
    pub fn home(&self, id: u32) -> PathBuf {
        self.folder.path().join(id.to_string())
    }

    /// Its database. The witness lies beside it.
    pub fn database(&self, id: u32) -> PathBuf {
        self.home(id).join("data").join("finality")
    }

    /// Where the set file says that it gives certificates: a setting for those that are to listen there.
    pub fn certificates(&self, id: u32) -> (&'static str, String) {
        ("validator.certificates_listen", format!("127.0.0.1:{}", self.ports[first_port(id) + 2]))
    }

    /// The set file.
    pub fn set_file(&self) -> PathBuf {
        self.folder.path().join("set.toml")
    }

    /// Its settings, as flags give them.
    pub fn settings(&self, id: u32) -> Vec<(String, String)> {
        let at = first_port(id);
        let home = self.home(id);
        let path = |path: PathBuf| path.display().to_string();
        let mut all: Vec<(String, String)> = [
            ("data", path(home.join("data"))),
            ("set_file", path(self.set_file())),
            ("keystore", path(home.join("vote.json"))),
            ("passphrase_file", path(self.folder.path().join("passphrase"))),
            ("transport_key", path(home.join("transport.pem"))),
            ("listen", format!("127.0.0.1:{}", self.ports[at])),
            ("metrics_listen", format!("127.0.0.1:{}", self.ports[at + 1])),
            ("rpc_url", self.chain.url().to_owned()),
            ("poll_ms", "50".to_owned()),
            ("depth", "0".to_owned()),
            ("persistence.preset", "testnet".to_owned()),
            // Everything is kept, so that everything can be looked at in the end.
            ("persistence.retention_checkpoints", "1000000".to_owned()),
            ("timing.resend_ms", "200".to_owned()),
            ("timing.status_ms", "200".to_owned()),
            ("timing.patience_ms", "1500".to_owned()),
            ("timing.settle_ms", "1000".to_owned()),
        ]
        .map(|(key, value)| (format!("validator.{key}"), value))
        .to_vec();
        all.extend(self.own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        all
    }

    /// The program with these arguments and a validator's settings, with `more` over them: what is said later wins.
    fn command(&self, id: u32, arguments: &[&str], more: &[(&str, String)]) -> Command {
        self.arguments(Command::new(env!("CARGO_BIN_EXE_milepost")), id, arguments, more)
    }

    fn arguments(&self, mut command: Command, id: u32, arguments: &[&str], more: &[(&str, String)]) -> Command {
        command.args(arguments).arg("--json");
        for (key, value) in self.settings(id) {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        for (key, value) in more {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        forget_own_variables(&mut command);
        command
    }

    /// Runs a command with a validator's settings.
    pub fn run(&self, id: u32, arguments: &[&str]) -> Output {
        self.run_with(id, arguments, &[])
    }

    /// The same with these settings over the validator's own.
    pub fn run_with(&self, id: u32, arguments: &[&str], more: &[(&str, String)]) -> Output {
        self.command(id, arguments, more).output().expect("the program runs")
    }

    /// Runs a command that must succeed; its answer.
    pub fn must(&self, id: u32, arguments: &[&str]) -> Value {
        let output = self.run(id, arguments);
        assert!(output.status.success(), "{arguments:?} of {id}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Runs a command that must not succeed; its exit code and words.
    pub fn must_fail(&self, id: u32, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.run(id, arguments);
        assert!(!output.status.success(), "{arguments:?} of {id} succeeds: {}", String::from_utf8_lossy(&output.stdout));
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Starts a validator.
    pub fn start(&self, id: u32) -> Validator {
        self.start_with(id, &[])
    }

    /// Starts a validator with these settings over its own.
    pub fn start_with(&self, id: u32, more: &[(&str, String)]) -> Validator {
        Validator::spawn(id, self.command(id, &["validator"], more), format!("http://127.0.0.1:{}", self.ports[first_port(id) + 1]))
    }

    /// Starts a validator behind a shell that runs `before` first and then becomes the validator: limits and signals pass on to it.
    pub fn start_behind(&self, id: u32, before: &str) -> Validator {
        self.start_behind_with(id, before, &[])
    }

    /// The same with these settings over its own.
    pub fn start_behind_with(&self, id: u32, before: &str, more: &[(&str, String)]) -> Validator {
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("{before}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_milepost")]);
        Validator::spawn(
            id,
            self.arguments(shell, id, &["validator"], more),
            format!("http://127.0.0.1:{}", self.ports[first_port(id) + 1]),
        )
    }

    /// Starts a validator whose endpoints stand in a configuration file.
    pub fn start_with_file(&self, id: u32, file: &Path) -> Validator {
        let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
        command.args(["validator", "--json", "--config"]).arg(file);
        for (key, value) in self.settings(id).iter().filter(|(key, _)| key != "validator.rpc_url") {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        forget_own_variables(&mut command);
        Validator::spawn(id, command, format!("http://127.0.0.1:{}", self.ports[first_port(id) + 1]))
    }

    /// Lets the chain offer so many checkpoints more.
    pub async fn offer(&self, checkpoints: u64) {
        self.chain.mine(INTERVAL * checkpoints).await.expect("mined");
    }

    /// Lets the chain offer a checkpoint each `pause` for as long as the answer lives.
    pub fn keep_offering(self: &Arc<Self>, pause: Duration) -> tokio::task::JoinHandle<()> {
        let committee = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                committee.offer(1).await;
                tokio::time::sleep(pause).await;
            }
        })
    }

    /// What a stopped validator's disk holds, read by this process.
    pub fn inspect(&self, id: u32) -> Inspection {
        CheckpointDB::inspect(self.database(id)).unwrap_or_else(|error| panic!("validator {id}: {error}"))
    }

    /// How many checkpoints of these numbers some stopped validator holds a certificate for.
    pub fn certified(&self, ids: &[u32], numbers: std::ops::RangeInclusive<u64>) -> u32 {
        let mut found = std::collections::BTreeSet::new();
        for id in ids {
            let targets = self.inspect(*id).db.get_all_certificate_checkpoints().expect("readable");
            found.extend(targets.into_iter().filter(|target| numbers.contains(&target.0)));
        }
        u32::try_from(found.len()).expect("few")
    }

    /// Reads the disks of stopped validators and judges, with rules of its own, whether anybody contradicted themselves or each other.
    /// Answers how many votes and certificates that was. A validator that prunes has no record any more of what it signed long ago: that is
    /// judged by what the others still hold of it.
    pub fn judge(&self, ids: &[u32]) -> (usize, usize) {
        let disks: Vec<(u32, Inspection)> = ids.iter().map(|id| (*id, self.inspect(*id))).collect();
        let (mut votes, mut certificates) = (0, 0);
        for id in ids {
            let own_disk = &disks.iter().find(|(other, _)| other == id).expect("read").1;
            let own = own_disk.db.own_votes_after(CheckpointNumber(0), usize::MAX).expect("readable");
            let kept_from = own_disk.db.pruned_below().expect("readable");
            let mut signed: Vec<(Link, LinkDigest)> = own.iter().map(|vote| (vote.link, vote.digest())).collect();
            for (reader, disk) in &disks {
                let seen = disk.db.signatures_after(CheckpointNumber(0), usize::MAX).expect("readable");
                for vote in seen.into_iter().filter(|vote| vote.validator == ValidatorId(*id)) {
                    self.agreement.schedule.verify_vote(&vote).expect("what a validator keeps holds");
                    let digest = vote.vote.digest();
                    assert!(
                        vote.vote.link.target.number < kept_from || own.iter().any(|known| known.digest() == digest),
                        "validator {reader} holds a vote of {id} for {:?} that {id} has no record of",
                        vote.vote.link
                    );
                    signed.push((vote.vote.link, digest));
                }
            }
            contradictions(*id, signed);
            votes += own.len();
        }
        let mut justified = std::collections::BTreeMap::new();
        for (id, disk) in &disks {
            for target in disk.db.get_all_certificate_checkpoints().expect("readable") {
                let certificate = disk.db.get_certificate(target).expect("readable").expect("it is named");
                self.agreement.schedule.verify_certificate(&certificate).expect("a stored certificate holds");
                let hash = certificate.vote.link.target.hash;
                assert_eq!(*justified.entry(target).or_insert(hash), hash, "validator {id}: two blocks are certified for {target}");
                certificates += 1;
            }
            assert_eq!(disk.db.get_stats().expect("readable").evidence, 0, "validator {id} holds evidence against somebody");
            assert_eq!(disk.doubt, None, "validator {id}");
        }
        (votes, certificates)
    }
}

/// Where a validator's ports begin among all.
fn first_port(id: u32) -> usize {
    (PORTS * (id - 1)) as usize
}

/// Two different votes for one target, or one that surrounds another: with targets ascending, sources may not fall.
fn contradictions(id: u32, mut signed: Vec<(Link, LinkDigest)>) {
    signed.sort_by_key(|(link, digest)| (link.target.number, *digest));
    signed.dedup_by_key(|(_, digest)| *digest);
    for pair in signed.windows(2) {
        let ((before, _), (after, _)) = (&pair[0], &pair[1]);
        assert!(before.target.number < after.target.number, "validator {id} signed two votes for one target: {before:?}, {after:?}");
        assert!(before.source.number <= after.source.number, "validator {id} signed a vote that surrounds another: {before:?}, {after:?}");
    }
}

/// Hash of the chain's first block, the trusted checkpoint.
async fn genesis(chain: &DevChain) -> HexBytes {
    let block: Value = chain.request("eth_getBlockByNumber", ("0x0", false)).await.expect("a block");
    let digits = block["hash"].as_str().expect("a hash").trim_start_matches("0x");
    HexBytes(hex::decode(digits).expect("digits"))
}

/// Makes a validator's folder with its keys.
fn member(home: &Path, id: u32, port: u16, certificates: u16) -> Member {
    std::fs::create_dir_all(home).expect("a folder");
    let signer = signer(id);
    let transport = TransportKey::generate().expect("a key");
    secret(&home.join("transport.pem"), transport.to_pem().as_bytes());
    secret(&home.join("vote.json"), keystore(&signer).to_string().as_bytes());
    Member {
        id,
        key: HexBytes(signer.public_key().0.clone()),
        possession: HexBytes(signer.possession().0),
        identity: Some(transport.pin()),
        address: Some(format!("127.0.0.1:{port}")),
        certificates: Some(format!("127.0.0.1:{certificates}")),
    }
}

/// What a second process with a validator's key signs, which keeps a record of its own and knows nothing of the first one's.
pub fn twin(id: u32, vote: Vote) -> SignedVote {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = CheckpointStorageAdapter::new(Arc::new(CheckpointDB::new(folder.path().join("twin")).expect("a database")));
    persistence::declare(&storage, vote.domain, Declaration::NeverSigned).expect("it knows no better");
    let safe = persistence::check_and_insert(&storage, vote.clone()).expect("nothing speaks against it there");
    let signature = signer(id).sign(&safe).expect("signed");
    SignedVote { vote, validator: ValidatorId(id), signature }
}

/// A validator's vote key.
fn signer(id: u32) -> BlsSigner {
    BlsSigner::from_seed(&Sha256::digest(format!("validator {id} of a test"))).expect("a key")
}

/// A keystore as another program would write it, and so cheap to open that a validator can be started a thousand times.
fn keystore(signer: &BlsSigner) -> Value {
    const ROUNDS: u32 = 10;
    let (salt, iv) = ([7_u8; 32], [9_u8; 16]);
    let derived = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(PASSPHRASE.as_bytes(), &salt, ROUNDS);
    let mut text = signer.to_bytes();
    ctr::Ctr128BE::<aes::Aes128>::new(derived[..16].into(), &iv.into()).apply_keystream(&mut text[..]);
    let checksum = Sha256::new().chain_update(&derived[16..]).chain_update(&text[..]).finalize();
    json!({
        "crypto": {
            "kdf": {
                "function": "pbkdf2",
                "params": { "dklen": 32, "c": ROUNDS, "prf": "hmac-sha256", "salt": hex::encode(salt) },
                "message": "",
            },
            "checksum": { "function": "sha256", "params": {}, "message": hex::encode(checksum) },
            "cipher": { "function": "aes-128-ctr", "params": { "iv": hex::encode(iv) }, "message": hex::encode(&text[..]) },
        },
        "pubkey": hex::encode(&signer.public_key().0),
        "path": "",
        "uuid": "00000000-0000-4000-8000-000000000000",
        "version": 4,
    })
}

fn secret(path: &Path, text: &[u8]) {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).expect("a new file");
    std::io::Write::write_all(&mut file, text).expect("written");
}
