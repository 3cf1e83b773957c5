//! Validator sets, who votes on which link, and what a quorum is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::certificate::Certificate;
use crate::codec::Writer;
use crate::domain::Domain;
use crate::scheme::{self, KeySet, PublicKey, VoteScheme};
use crate::types::{CheckpointNumber, DomainDigest, Link, SetDigest, SetId, ValidatorId, ValidatorIndex};
use crate::vote::{MAX_SETS_PER_LINK, Signature, SignedVote, Vote};

const TAG: &[u8] = b"finality-gadget set 1\0";

/// Most validators in one set. Beyond this every validator talking to every other is the wrong design.
pub const MAX_VALIDATORS: usize = 4096;

/// Why a set, a vote or a certificate is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A set without members, with too many, or with a member twice.
    #[error("validator set {set}: {reason}")]
    Set {
        /// The set.
        set: SetId,
        /// What is wrong.
        reason: &'static str,
    },
    /// A key or proof of possession that does not hold.
    #[error("validator {validator}: {source}")]
    Key {
        /// Whose.
        validator: ValidatorId,
        /// What is wrong.
        source: scheme::Error,
    },
    /// The first set is not the one that the trusted checkpoint names.
    #[error("the trusted checkpoint names the set {expected}, the configuration gives {found}")]
    NotTrusted {
        /// What the trusted checkpoint names.
        expected: SetDigest,
        /// What was given.
        found: SetDigest,
    },
    /// Signed for another chain or another trusted checkpoint.
    #[error("signed for another chain or trusted checkpoint ({found}; here it is {expected})")]
    Domain {
        /// Ours.
        expected: DomainDigest,
        /// The statement's.
        found: DomainDigest,
    },
    /// The link begins before the trusted checkpoint, or spans more sets than may vote together.
    #[error("the link {}→{} begins before the trusted checkpoint or spans more than {MAX_SETS_PER_LINK} sets", .0.source.number, .0.target.number)]
    Span(Link),
    /// The statement names other sets than those in force.
    #[error("the statement names set {found}; in force at its target is {expected}, or the digests differ")]
    WrongSet {
        /// In force at the target.
        expected: SetId,
        /// Named by the statement.
        found: SetId,
    },
    /// The author is not a member.
    #[error("validator {0} is not a member of the sets that vote on this link")]
    NotAMember(ValidatorId),
    /// The signature or aggregate does not hold.
    #[error("the signature does not hold")]
    Signature,
    /// Bitmap of another length.
    #[error("the bitmap is not one over {members} members")]
    Bitmap {
        /// Members of the electorate.
        members: usize,
    },
    /// Too few signers.
    #[error("set {set} has {signers} signers where {quorum} are a quorum")]
    Quorum {
        /// The set without a quorum.
        set: SetId,
        /// How many of its members signed.
        signers: usize,
        /// How many must.
        quorum: usize,
    },
}

/// A validator as it is registered: with the proof that it holds its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its name, forever tied to this key.
    pub id: ValidatorId,
    /// Its public key.
    pub key: PublicKey,
    /// Its proof of possession.
    pub possession: Signature,
}

/// Faulty members that a set of `members` outlives: f = ⌊(n − 1) / 3⌋.
pub fn faults(members: usize) -> usize {
    members.saturating_sub(1) / 3
}

/// Members that make a quorum of a set: n − f. Two quorums then share more members than may be faulty.
pub fn quorum(members: usize) -> usize {
    members - faults(members)
}

/// A set of validators with equal weight. Keys were checked when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatorSet {
    id: SetId,
    scheme: &'static str,
    members: BTreeMap<ValidatorId, PublicKey>,
    digest: SetDigest,
}

impl ValidatorSet {
    /// Checks every key and proof of possession. Costs two pairings a member with BLS.
    pub fn new(id: SetId, scheme: &dyn VoteScheme, registrations: &[Registration]) -> Result<Self, Error> {
        let refuse = |reason| Error::Set { set: id, reason };
        if registrations.is_empty() || registrations.len() > MAX_VALIDATORS {
            return Err(refuse("has no members or too many"));
        }
        let mut members = BTreeMap::new();
        let mut keys = BTreeSet::new();
        for registration in registrations {
            let Registration { id: validator, key, possession } = registration;
            scheme.check_key(key, possession).map_err(|source| Error::Key { validator: *validator, source })?;
            if members.insert(*validator, key.clone()).is_some() || !keys.insert(key) {
                return Err(refuse("names an id or a key twice"));
            }
        }
        let writer = Writer::new().raw(TAG).u64(id.0).sized(scheme.name().as_bytes());
        let bytes = members.iter().fold(writer, |writer, (validator, key)| writer.u32(validator.0).sized(&key.0)).finish();
        Ok(Self { id, scheme: scheme.name(), members, digest: SetDigest(Sha256::digest(bytes).into()) })
    }

    /// Its serial number.
    pub fn id(&self) -> SetId {
        self.id
    }

    /// SHA-256 over a tag, the id, the scheme's name, and ids and keys in ascending order of ids.
    pub fn digest(&self) -> SetDigest {
        self.digest
    }

    /// Its members, ascending.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (ValidatorId, &PublicKey)> + '_ {
        self.members.iter().map(|(id, key)| (*id, key))
    }

    /// Whether `validator` is one of them.
    pub fn contains(&self, validator: ValidatorId) -> bool {
        self.members.contains_key(&validator)
    }

    /// How many members make a quorum.
    pub fn quorum(&self) -> usize {
        quorum(self.members.len())
    }

    /// How many faulty members it outlives.
    pub fn faults(&self) -> usize {
        faults(self.members.len())
    }
}

/// Everyone who may vote on a link: the union of the sets in force from its source to its target.
pub struct Electorate {
    sets: Vec<Arc<ValidatorSet>>,
    members: Vec<ValidatorId>,
    keys: Box<dyn KeySet>,
}

impl std::fmt::Debug for Electorate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Electorate")
            .field("set", &self.id())
            .field("sets", &self.sets.len())
            .field("members", &self.members.len())
            .finish_non_exhaustive()
    }
}

impl Electorate {
    fn new(scheme: &dyn VoteScheme, sets: &[Arc<ValidatorSet>]) -> Result<Self, Error> {
        let union: BTreeMap<ValidatorId, &PublicKey> = sets.iter().flat_map(|set| set.members()).collect();
        let keys: Vec<PublicKey> = union.values().map(|key| (*key).clone()).collect();
        let keys = scheme.keys(&keys).map_err(|_| Error::Set { set: sets[0].id, reason: "has a key that the scheme refuses" })?;
        Ok(Self { sets: sets.to_vec(), members: union.into_keys().collect(), keys })
    }

    /// Id of the set in force at the target.
    pub fn id(&self) -> SetId {
        self.sets[self.sets.len() - 1].id
    }

    /// The sets, oldest first.
    pub fn sets(&self) -> &[Arc<ValidatorSet>] {
        &self.sets
    }

    /// Their digests, oldest first, as votes name them.
    pub fn digests(&self) -> Vec<SetDigest> {
        self.sets.iter().map(|set| set.digest).collect()
    }

    /// The members of the union, ascending.
    pub fn members(&self) -> &[ValidatorId] {
        &self.members
    }

    /// The keys, in the order of the members.
    pub fn keys(&self) -> &dyn KeySet {
        &*self.keys
    }

    /// A member's position.
    pub fn index(&self, validator: ValidatorId) -> Option<ValidatorIndex> {
        self.members.binary_search(&validator).ok().map(index)
    }

    /// The member at a position.
    pub fn validator(&self, index: ValidatorIndex) -> Option<ValidatorId> {
        self.members.get(index.0 as usize).copied()
    }

    /// Whether those for whom `has` is true are a quorum of **each** set. One set's quorum is not enough at a boundary: the old set
    /// alone knows what is final so far, the new one alone answers for what follows.
    pub fn has_quorum(&self, mut has: impl FnMut(ValidatorId) -> bool) -> Result<(), Error> {
        let signed: BTreeSet<ValidatorId> = self.members.iter().copied().filter(|member| has(*member)).collect();
        self.sets.iter().try_for_each(|set| {
            let (signers, quorum) = (signed.iter().filter(|signer| set.contains(**signer)).count(), set.quorum());
            if signers >= quorum { Ok(()) } else { Err(Error::Quorum { set: set.id, signers, quorum }) }
        })
    }

    /// Checks bitmap and quorum.
    fn counts(&self, certificate: &Certificate) -> Result<(), Error> {
        if !certificate.signers.fits(self.members.len()) {
            return Err(Error::Bitmap { members: self.members.len() });
        }
        self.has_quorum(|member| self.index(member).is_some_and(|index| certificate.signers.has(index)))
    }

    /// Checks quorum and aggregate. The vote's sets are the schedule's business.
    fn verify(&self, certificate: &Certificate) -> Result<(), Error> {
        self.counts(certificate)?;
        let message = certificate.vote.signed_bytes();
        if self.keys.verify_aggregate(&certificate.signers, &message, &certificate.aggregate) { Ok(()) } else { Err(Error::Signature) }
    }
}

/// A certificate's position in a list, and its signed bytes.
type Placed = (usize, Vec<u8>);

fn index(position: usize) -> ValidatorIndex {
    // Sets are bounded far below 2^32.
    ValidatorIndex(u32::try_from(position).unwrap_or(u32::MAX))
}

/// Which set votes on what: the trusted checkpoint's set, and the boundaries at which others take over.
///
/// A set with boundary N is in force for numbers above N. Boundaries are agreed among operators before anyone votes across them.
///
/// # Does not
///
/// Find out about set changes. Two validators with different schedules do not understand each other's votes: that costs liveness,
/// not safety.
#[derive(Clone)]
pub struct Schedule {
    domain: Domain,
    digest: DomainDigest,
    scheme: Arc<dyn VoteScheme>,
    /// Each set with its boundary, ascending. The first one's boundary is the trusted checkpoint.
    sets: Vec<(CheckpointNumber, Arc<ValidatorSet>)>,
    /// By positions in `sets` of the oldest and the newest.
    electorates: BTreeMap<(usize, usize), Arc<Electorate>>,
}

impl std::fmt::Debug for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schedule").field("domain", &self.domain).field("sets", &self.sets.len()).finish_non_exhaustive()
    }
}

impl Schedule {
    /// Begins with the set that the trusted checkpoint names.
    pub fn new(domain: Domain, scheme: Arc<dyn VoteScheme>, first: ValidatorSet) -> Result<Self, Error> {
        if first.digest != domain.trusted.set {
            return Err(Error::NotTrusted { expected: domain.trusted.set, found: first.digest });
        }
        let mut schedule = Self { domain, digest: domain.digest(), scheme, sets: Vec::new(), electorates: BTreeMap::new() };
        schedule.push(domain.trusted.checkpoint.number, first)?;
        Ok(schedule)
    }

    /// Adds the set that votes on everything above `boundary`. Its id is the last one's plus one, its boundary above the last one's,
    /// and a validator that stays keeps its key.
    pub fn add(&mut self, boundary: CheckpointNumber, set: ValidatorSet) -> Result<(), Error> {
        let (last_boundary, last) = &self.sets[self.sets.len() - 1];
        let refuse = |reason| Err(Error::Set { set: set.id, reason });
        if set.id.0 != last.id.0 + 1 || boundary <= *last_boundary {
            return refuse("ids must follow one another and boundaries ascend");
        }
        for (_, earlier) in &self.sets {
            if set.members().any(|(id, key)| earlier.members.get(&id).is_some_and(|known| known != key)) {
                return refuse("gives a known validator another key: a new key takes a new id");
            }
        }
        self.push(boundary, set)
    }

    fn push(&mut self, boundary: CheckpointNumber, set: ValidatorSet) -> Result<(), Error> {
        if set.scheme != self.scheme.name() {
            return Err(Error::Set { set: set.id, reason: "is made for another scheme" });
        }
        self.sets.push((boundary, Arc::new(set)));
        let newest = self.sets.len() - 1;
        for oldest in (newest + 1).saturating_sub(MAX_SETS_PER_LINK)..=newest {
            let sets: Vec<_> = self.sets[oldest..=newest].iter().map(|(_, set)| Arc::clone(set)).collect();
            self.electorates.insert((oldest, newest), Arc::new(Electorate::new(&*self.scheme, &sets)?));
        }
        Ok(())
    }

    /// Chain and trusted checkpoint.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Digest of the domain, as votes carry it.
    pub fn domain_digest(&self) -> DomainDigest {
        self.digest
    }

    /// The set in force at a number. At the trusted checkpoint and below it is the first one.
    pub fn set_at(&self, number: CheckpointNumber) -> &Arc<ValidatorSet> {
        &self.sets[self.position(number)].1
    }

    /// All sets with the boundaries above which they vote, ascending.
    pub fn sets(&self) -> impl Iterator<Item = (CheckpointNumber, &Arc<ValidatorSet>)> + '_ {
        self.sets.iter().map(|(boundary, set)| (*boundary, set))
    }

    /// Whether any set names this validator.
    pub fn knows(&self, validator: ValidatorId) -> bool {
        self.sets.iter().any(|(_, set)| set.contains(validator))
    }

    fn position(&self, number: CheckpointNumber) -> usize {
        self.sets.iter().rposition(|(boundary, _)| *boundary < number).unwrap_or(0)
    }

    /// Who votes on a link.
    pub fn electorate(&self, link: &Link) -> Result<&Arc<Electorate>, Error> {
        let span = (self.position(link.source.number), self.position(link.target.number));
        let root = self.domain.trusted.checkpoint;
        let rooted = link.source.number > root.number || link.source == root;
        self.electorates.get(&span).filter(|_| rooted && link.source.number < link.target.number).ok_or(Error::Span(*link))
    }

    /// Whether a vote is one that could count here: our domain, and the sets in force. Says nothing about signatures.
    pub fn check(&self, vote: &Vote) -> Result<&Arc<Electorate>, Error> {
        if vote.domain != self.digest {
            return Err(Error::Domain { expected: self.digest, found: vote.domain });
        }
        let electorate = self.electorate(&vote.link)?;
        if vote.set != electorate.id() || !electorate.sets.iter().map(|set| set.digest).eq(vote.sets.iter().copied()) {
            return Err(Error::WrongSet { expected: electorate.id(), found: vote.set });
        }
        Ok(electorate)
    }

    /// Verifies one signed vote.
    pub fn verify_vote(&self, signed: &SignedVote) -> Result<&Arc<Electorate>, Error> {
        let electorate = self.check(&signed.vote)?;
        let index = electorate.index(signed.validator).ok_or(Error::NotAMember(signed.validator))?;
        let holds = electorate.keys.verify(index, &signed.vote.signed_bytes(), &signed.signature);
        if holds { Ok(electorate) } else { Err(Error::Signature) }
    }

    /// Which of several certificates hold, in their order: verified together where that is cheaper.
    pub fn verify_certificates(&self, certificates: &[Certificate], entropy: &mut dyn scheme::Entropy) -> Vec<bool> {
        let mut verdicts = vec![false; certificates.len()];
        let mut groups: BTreeMap<Vec<SetDigest>, (&Arc<Electorate>, Vec<Placed>)> = BTreeMap::new();
        for (at, certificate) in certificates.iter().enumerate() {
            if let Ok(electorate) = self.check(&certificate.vote)
                && electorate.counts(certificate).is_ok()
            {
                let group = groups.entry(certificate.vote.sets.clone()).or_insert_with(|| (electorate, Vec::new()));
                group.1.push((at, certificate.vote.signed_bytes()));
            }
        }
        for (electorate, group) in groups.into_values() {
            let claims: Vec<_> =
                group.iter().map(|(at, message)| (&certificates[*at].signers, &**message, &certificates[*at].aggregate)).collect();
            let held = electorate.keys.verify_aggregates(&claims, entropy);
            group.iter().zip(held).for_each(|((at, _), holds)| verdicts[*at] = holds);
        }
        verdicts
    }

    /// Verifies a certificate: domain, sets, a quorum of each, aggregate. Nothing else is needed, not even the certificates before it:
    /// its quorum has checked that its source was justified.
    pub fn verify_certificate(&self, certificate: &Certificate) -> Result<&Arc<Electorate>, Error> {
        let electorate = self.check(&certificate.vote)?;
        electorate.verify(certificate)?;
        Ok(electorate)
    }
}
