//! The set file: what all operators of one network of validators agree on, in one TOML file that they share.
//!
//! Validators read it, and so does whoever follows their certificates. It says which chain, where trust begins, how many blocks lie
//! between two checkpoints, by which rule they become final, who validates from when, and where each of them is reached:
//!
//! ```toml
//! version = 1
//! chain_id = 31337
//! interval = 32                      # blocks between two checkpoints
//! rule = "ffg"                       # or "single", where the chain has a `finalized` tag of its own
//! scheme = "bls12-381-min-sig"       # or "ed25519"
//!
//! [trusted]                          # final by definition
//! number = 0                         # the block's height divided by the interval
//! hash = "0x…"                       # 32 bytes
//!
//! [[validators]]
//! id = 1                             # stands for this key for ever
//! key = "0x…"                        # public key of its votes
//! possession = "0x…"                 # proof that it holds the secret one
//! identity = "…"                     # pin of its key on the network, 64 digits
//! address = "validator-1.example:7700"
//! certificates = "validator-1.example:7701"   # where everybody may ask it for certificates; optional
//!
//! [[sets]]
//! id = 1                             # votes on everything above the trusted checkpoint
//! members = [1]
//!
//! [[sets]]
//! id = 2
//! boundary = 1000                    # votes on everything above this number
//! members = [1, 2, 3, 4]
//! ```
//!
//! [`Agreement::digest`] covers what must be the same everywhere: chain, trusted checkpoint, interval, rule and sets. Addresses and
//! network identities may differ from file to file; operators compare the digest.
//!
//! # Does not
//!
//! Authenticate the file. Whoever can change it can name other validators: it is agreed among operators and never fetched from a peer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use finality_gadget::scheme::{Bls, Ed25519};
use finality_gadget::set::MAX_VALIDATORS;
use finality_gadget::{
    BlockHash, BlockNumber, ChainId, CheckpointNumber, Domain, FinalityCheckpoint, FinalityRule, PublicKey, Registration, Schedule, SetId,
    Signature, TrustedCheckpoint, ValidatorId, ValidatorSet, VoteScheme,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::peer::Peer;
use milepost_pinned_tls::Pin;

/// The version of the format that this code reads and writes.
const VERSION: u32 = 1;
/// Longest set file in bytes: room for the largest set with long names, and a bound for what a wrong path may cost.
const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;
/// Most sets in one file. Each change is agreed by hand; more would be a mistake.
const MAX_SETS: usize = 4096;
/// Stands before what [`Agreement::digest`] covers.
const TAG: &[u8] = b"milepost agreement 1\0";

/// Why a set file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("the set file {} cannot be read: {source}", .path.display())]
    Unreadable {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is no TOML of this shape.
    #[error("the set file is malformed: {0}")]
    Malformed(String),
    /// A value that cannot be.
    #[error("the set file is wrong: {0}")]
    Wrong(String),
    /// A key, a proof of possession or a set that does not hold.
    #[error("the set file names validators that cannot be: {0}")]
    Set(#[from] finality_gadget::set::Error),
}

/// Bytes, written as hexadecimal digits after `0x`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HexBytes(pub Vec<u8>);

impl fmt::Debug for HexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(&self.0))
    }
}

impl Serialize for HexBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("0x{}", hex::encode(&self.0)))
    }
}

impl<'de> Deserialize<'de> for HexBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").ok_or_else(|| serde::de::Error::custom("bytes are written as 0x and hexadecimal digits"))?;
        hex::decode(digits).map(Self).map_err(serde::de::Error::custom)
    }
}

/// By which rule checkpoints become final, as the file says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// [`FinalityRule::Single`].
    Single,
    /// [`FinalityRule::Ffg`].
    Ffg,
}

impl From<Rule> for FinalityRule {
    fn from(rule: Rule) -> Self {
        match rule {
            Rule::Single => Self::Single,
            Rule::Ffg => Self::Ffg,
        }
    }
}

/// How votes are signed, as the file says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheme {
    /// [`Bls`].
    #[serde(rename = "bls12-381-min-sig")]
    Bls,
    /// [`Ed25519`].
    #[serde(rename = "ed25519")]
    Ed25519,
}

impl Scheme {
    /// The scheme itself.
    pub fn scheme(self) -> Arc<dyn VoteScheme> {
        match self {
            Self::Bls => Arc::new(Bls),
            Self::Ed25519 => Arc::new(Ed25519),
        }
    }
}

/// Where trust begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trusted {
    /// Number of the checkpoint: its block's height divided by the interval.
    pub number: u64,
    /// Hash of its block, 32 bytes.
    pub hash: HexBytes,
}

/// One validator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validator {
    /// Its number, which stands for this key for ever: with a new key comes a new number.
    pub id: u32,
    /// The public key that it votes with.
    pub key: HexBytes,
    /// The proof that it holds the secret key.
    pub possession: HexBytes,
    /// The key that it shows on the network. Validators of the newest set have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Pin>,
    /// Where it listens for other validators, as `host:port`. Validators of the newest set have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Where it gives certificates to everybody, as `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<String>,
}

/// One validator set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// Its number: one more than that of the set before.
    pub id: u64,
    /// It votes on everything above this checkpoint. The first set has none: it begins at the trusted checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boundary: Option<u64>,
    /// Numbers of its members.
    pub members: Vec<u32>,
}

/// A set file as it is written. [`SetFile::agreement`] makes of it what nodes work with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetFile {
    /// Version of the format: 1.
    pub version: u32,
    /// The chain whose blocks are voted on.
    pub chain_id: u64,
    /// Blocks between two checkpoints.
    pub interval: u64,
    /// How checkpoints become final.
    pub rule: Rule,
    /// How votes are signed.
    pub scheme: Scheme,
    /// Where trust begins.
    pub trusted: Trusted,
    /// Everybody whom a set names, in any order.
    pub validators: Vec<Validator>,
    /// The sets, oldest first.
    pub sets: Vec<Set>,
}

impl SetFile {
    /// The version that this code writes.
    pub const VERSION: u32 = VERSION;

    /// Reads a file. Says nothing yet about keys and sets; see [`SetFile::agreement`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
        let length = std::fs::metadata(path).map_err(unreadable)?.len();
        if length > MAX_FILE_BYTES {
            return Err(Error::Wrong(format!("{} has {length} bytes, at most {MAX_FILE_BYTES} are read", path.display())));
        }
        Self::parse(&std::fs::read_to_string(path).map_err(unreadable)?)
    }

    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let file: Self = toml::from_str(text).map_err(|error| Error::Malformed(error.to_string()))?;
        if file.version != VERSION {
            return Err(Error::Wrong(format!("its version is {}, known is {VERSION}", file.version)));
        }
        Ok(file)
    }

    /// The file's text.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|error| Error::Malformed(error.to_string()))
    }

    /// Checks everything and puts it together. Costs two pairings for each place in a set.
    pub fn agreement(&self) -> Result<Agreement, Error> {
        let wrong = |text: String| Err(Error::Wrong(text));
        if self.interval == 0 {
            return wrong("interval must be at least 1 block".to_owned());
        }
        if self.validators.len() > MAX_VALIDATORS || self.sets.len() > MAX_SETS {
            return wrong(format!("more than {MAX_VALIDATORS} validators or {MAX_SETS} sets"));
        }
        let hash = <[u8; 32]>::try_from(&self.trusted.hash.0[..]);
        let Ok(hash) = hash else { return wrong("the trusted checkpoint's hash must have 32 bytes".to_owned()) };
        let trusted = FinalityCheckpoint { number: CheckpointNumber(self.trusted.number), hash: BlockHash(hash) };
        if trusted.number.0.checked_mul(self.interval).is_none() {
            return wrong("the trusted checkpoint lies beyond every block".to_owned());
        }
        let mut known = BTreeMap::new();
        let mut pins = BTreeSet::new();
        for validator in &self.validators {
            if known.insert(validator.id, validator).is_some() {
                return wrong(format!("validator {} is listed twice", validator.id));
            }
            if validator.identity.is_some_and(|pin| !pins.insert(pin)) {
                return wrong(format!("validator {} has the network identity of another one", validator.id));
            }
            for address in [&validator.address, &validator.certificates].into_iter().flatten() {
                check_address(validator.id, address)?;
            }
        }
        let scheme = self.scheme.scheme();
        let mut schedule: Option<Schedule> = None;
        for set in &self.sets {
            let mut members = Vec::with_capacity(set.members.len());
            for id in &set.members {
                let Some(validator) = known.get(id) else {
                    return wrong(format!("set {} names validator {id}, who is not listed", set.id));
                };
                members.push(validator.registration());
            }
            let made = ValidatorSet::new(SetId(set.id), &*scheme, &members)?;
            match (&mut schedule, set.boundary) {
                (None, None) => {
                    let trusted = TrustedCheckpoint { checkpoint: trusted, set: made.digest() };
                    schedule = Some(Schedule::new(Domain { chain: ChainId(self.chain_id), trusted }, Arc::clone(&scheme), made)?);
                }
                (Some(schedule), Some(boundary)) => schedule.add(CheckpointNumber(boundary), made)?,
                (None, Some(_)) => return wrong("the first set begins at the trusted checkpoint and has no boundary".to_owned()),
                (Some(_), None) => return wrong(format!("set {} needs a boundary: it votes on everything above it", set.id)),
            }
        }
        let Some(schedule) = schedule else { return wrong("it names no set".to_owned()) };
        let newest = schedule.set_at(CheckpointNumber(u64::MAX));
        let unreached = newest.members().find(|(id, _)| known[&id.0].peer().is_none());
        if let Some((id, _)) = unreached {
            return wrong(format!("validator {id} is in the newest set and needs an address and an identity"));
        }
        Ok(Agreement { schedule: Arc::new(schedule), rule: self.rule.into(), interval: self.interval, validators: self.validators.clone() })
    }
}

impl Validator {
    /// Key and proof, as a set takes them.
    pub fn registration(&self) -> Registration {
        Registration { id: ValidatorId(self.id), key: PublicKey(self.key.0.clone()), possession: Signature(self.possession.0.clone()) }
    }

    /// Where other validators reach it.
    pub fn peer(&self) -> Option<Peer> {
        Some(Peer { validator: ValidatorId(self.id), address: self.address.clone()?, pin: self.identity? })
    }

    /// Where everybody may ask it for certificates.
    pub fn source(&self) -> Option<Peer> {
        Some(Peer { validator: ValidatorId(self.id), address: self.certificates.clone()?, pin: self.identity? })
    }
}

fn check_address(validator: u32, address: &str) -> Result<(), Error> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_some_and(|port| port > 0) {
        return Ok(());
    }
    Err(Error::Wrong(format!("validator {validator} is reached at {address:?}, which is no host:port")))
}

/// What a set file says, checked.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// Domain and sets.
    pub schedule: Arc<Schedule>,
    /// How checkpoints become final.
    pub rule: FinalityRule,
    /// Blocks between two checkpoints; at least 1.
    pub interval: u64,
    validators: Vec<Validator>,
}

impl Agreement {
    /// SHA-256 over a tag, the domain, interval, rule, and each set with its boundary: what must be the same for all.
    ///
    /// ```text
    /// tag · domain digest 32 · interval 8 · rule 1 (0 single, 1 ffg) · for each set: boundary 8, digest 32      numbers big-endian
    /// ```
    pub fn digest(&self) -> [u8; 32] {
        let rule = match self.rule {
            FinalityRule::Single => 0u8,
            FinalityRule::Ffg => 1,
        };
        let start = Sha256::new().chain_update(TAG).chain_update(self.schedule.domain_digest().0);
        let start = start.chain_update(self.interval.to_be_bytes()).chain_update([rule]);
        let sets = self.schedule.sets();
        sets.fold(start, |hash, (boundary, set)| hash.chain_update(boundary.0.to_be_bytes()).chain_update(set.digest().0)).finalize().into()
    }

    /// The height of a checkpoint's block; `None` beyond the highest height there is.
    pub fn height(&self, number: CheckpointNumber) -> Option<BlockNumber> {
        number.0.checked_mul(self.interval).map(BlockNumber)
    }

    /// Everybody but `me` whose address is known, as the network wants it.
    pub fn peers(&self, me: ValidatorId) -> Vec<Peer> {
        self.validators.iter().filter_map(Validator::peer).filter(|peer| peer.validator != me).collect()
    }

    /// Validators that give certificates to everybody.
    pub fn sources(&self) -> Vec<Peer> {
        self.validators.iter().filter_map(Validator::source).collect()
    }

    /// A validator as the file lists it.
    pub fn validator(&self, id: ValidatorId) -> Option<&Validator> {
        self.validators.iter().find(|validator| validator.id == id.0)
    }
}

#[cfg(test)]
mod tests {
    use finality_gadget::scheme::BlsSigner;

    use super::*;
    use milepost_pinned_tls::Key as TransportKey;

    fn file(count: u32) -> SetFile {
        let validators = (1..=count).map(|id| {
            let signer = BlsSigner::from_seed(&[u8::try_from(id).unwrap_or(u8::MAX); 32]).unwrap();
            Validator {
                id,
                key: HexBytes(finality_gadget::VoteSigner::public_key(&signer).0.clone()),
                possession: HexBytes(signer.possession().0),
                identity: Some(TransportKey::generate().unwrap().pin()),
                address: Some(format!("127.0.0.1:{}", 7000 + id)),
                certificates: (id > 1).then(|| format!("127.0.0.1:{}", 8000 + id)),
            }
        });
        SetFile {
            version: VERSION,
            chain_id: 31337,
            interval: 8,
            rule: Rule::Ffg,
            scheme: Scheme::Bls,
            trusted: Trusted { number: 3, hash: HexBytes(vec![7; 32]) },
            validators: validators.collect(),
            sets: vec![
                Set { id: 1, boundary: None, members: (1..count).collect() },
                Set { id: 2, boundary: Some(100), members: (1..=count).collect() },
            ],
        }
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_says_who_validates_when() {
        let written = file(4);
        let read = SetFile::parse(&written.to_toml().unwrap()).unwrap();
        assert_eq!(read, written);
        let agreement = read.agreement().unwrap();
        assert_eq!(agreement.schedule.set_at(CheckpointNumber(100)).members().len(), 3);
        assert_eq!(agreement.schedule.set_at(CheckpointNumber(101)).members().len(), 4);
        assert_eq!(agreement.peers(ValidatorId(2)).iter().map(|peer| peer.validator.0).collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!(agreement.sources().iter().map(|peer| peer.validator.0).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(agreement.height(CheckpointNumber(5)), Some(BlockNumber(40)));
        assert_eq!(agreement.height(CheckpointNumber(u64::MAX)), None);
    }

    #[test]
    fn the_digest_covers_what_must_agree_and_nothing_else() {
        let agreed = |change: &dyn Fn(&mut SetFile)| {
            let mut file = file(4);
            change(&mut file);
            file.agreement().unwrap().digest()
        };
        let digest = agreed(&|_| {});
        assert_eq!(agreed(&|file| file.validators[0].address = Some("elsewhere.example:1".to_owned())), digest);
        assert_eq!(agreed(&|file| file.validators.reverse()), digest, "nor the order in which they are listed");
        let changes: [&dyn Fn(&mut SetFile); 6] = [
            &|file| file.chain_id = 1,
            &|file| file.interval = 16,
            &|file| file.rule = Rule::Single,
            &|file| file.trusted.number = 4,
            &|file| file.trusted.hash.0[31] = 8,
            &|file| file.sets[1].boundary = Some(101),
        ];
        for change in changes {
            assert_ne!(agreed(change), digest);
        }
        assert_ne!(agreed(&|file| _ = file.sets.pop()), digest, "nor without its second set");
    }

    /// What is changed in a file.
    type Change<'a> = &'a dyn Fn(&mut SetFile);

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refused = |change: &dyn Fn(&mut SetFile)| {
            let mut file = file(4);
            change(&mut file);
            file.agreement().map(|_| ()).unwrap_err().to_string()
        };
        let cases: [(Change<'_>, &str); 12] = [
            (&|file| file.interval = 0, "interval"),
            (&|file| file.trusted.hash.0.truncate(31), "32 bytes"),
            (&|file| file.trusted.number = u64::MAX, "beyond every block"),
            (&|file| file.validators[1].id = 1, "listed twice"),
            (&|file| file.validators[1].identity = file.validators[0].identity, "identity of another"),
            (&|file| file.validators[1].address = Some("nowhere".to_owned()), "no host:port"),
            (&|file| file.validators[1].address = None, "needs an address"),
            (&|file| file.sets[0].members.push(9), "not listed"),
            (&|file| file.sets[0].boundary = Some(4), "no boundary"),
            (&|file| file.sets[1].boundary = None, "needs a boundary"),
            (&|file| file.sets.clear(), "no set"),
            (&|file| file.validators[0].possession.0[5] ^= 1, "possession"),
        ];
        for (change, named) in cases {
            let words = refused(change);
            assert!(words.contains(named), "{words:?} does not say {named:?}");
        }
    }

    #[test]
    fn another_version_and_unknown_keys_are_errors() {
        let text = file(2).to_toml().unwrap();
        assert!(SetFile::parse(&text.replacen("version = 1", "version = 2", 1)).is_err());
        let error = SetFile::parse(&format!("intervall = 3\n{text}")).unwrap_err();
        assert!(error.to_string().contains("intervall"), "{error}");
        assert!(SetFile::parse(&text.replacen("0x", "", 1)).is_err(), "hexadecimal digits begin with 0x");
    }
}
