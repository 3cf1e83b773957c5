//! Writing the history of a key out of the database, and taking one in.

use std::collections::BTreeMap;

use finality_gadget::persistence::{SignState, SignUpdate, Standing};
use finality_gadget::{CheckpointNumber, DomainDigest, LinkDigest, PublicKey};
use milepost_store::Range;

use super::{Attestation, Entry, Error, Interchange};
use crate::check::doubtful;
use crate::db::CheckpointDB;

/// What an import found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Votes of this key in the file.
    pub votes: usize,
    /// The sign-state afterwards; `None` where there was none and the file has no vote of this key.
    pub state: Option<SignState>,
    /// Targets for which the file, or the file and this database, name two different votes: the key has contradicted itself.
    pub contradictions: Vec<CheckpointNumber>,
}

impl CheckpointDB {
    /// Every own vote that is kept, and the watermarks where they lie above them.
    pub fn export_complete(&self, domain: DomainDigest, key: &PublicKey) -> Result<Interchange, Error> {
        let Some(state) = self.exportable(domain, key)? else { return Ok(Interchange::new(domain, key, Vec::new())) };
        let votes = self.own_votes(&Range::all(), usize::MAX)?;
        let covered = |number: fn(&finality_gadget::Vote) -> CheckpointNumber, mark| votes.iter().any(|vote| number(vote) >= mark);
        let marks_shown =
            covered(|vote| vote.link.source.number, state.max_source) && covered(|vote| vote.link.target.number, state.max_target);
        let mut attestations: Vec<_> =
            votes.iter().map(|vote| Attestation::write(vote.link.source.number, vote.link.target.number, Some(vote.digest()))).collect();
        if !marks_shown {
            attestations.push(Attestation::write(state.max_source, state.max_target, None));
        }
        Ok(Interchange::new(domain, key, attestations))
    }

    /// The watermarks alone, as one vote that has the highest source and the highest target.
    pub fn export_minified(&self, domain: DomainDigest, key: &PublicKey) -> Result<Interchange, Error> {
        let marks = self.exportable(domain, key)?.map(|state| Attestation::write(state.max_source, state.max_target, None));
        Ok(Interchange::new(domain, key, marks.into_iter().collect()))
    }

    /// The sign-state, if it may be handed on. A state that has signed nothing is no history.
    fn exportable(&self, domain: DomainDigest, key: &PublicKey) -> Result<Option<SignState>, Error> {
        self.is_of(key)?;
        if let Some(reason) = self.doubt()? {
            return Err(Error::Doubtful { reason });
        }
        match self.sign_state()? {
            Some(state) if state.domain != domain => Err(Error::Database(crate::Error::Domain { expected: domain, found: state.domain })),
            state => Ok(state.filter(|state| state.max_target > CheckpointNumber(0))),
        }
    }

    /// Takes in the history of this key: watermarks become the highest of the file's and those recorded. Whole or not at all; **synced**. A
    /// file without votes of this key changes nothing. A refusal to sign stays: only an operator's declaration ends it.
    pub fn import(&self, domain: DomainDigest, key: &PublicKey, file: &Interchange) -> Result<Imported, Error> {
        self.is_of(key)?;
        let entries = file.entries(domain, key)?;
        let contradictions = self.contradictions(&entries)?;
        let marks = entries.iter().map(|entry| (entry.source, entry.target)).reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)));
        let Some((source, target)) = marks else {
            return Ok(Imported { votes: 0, state: self.sign_state()?, contradictions });
        };
        let doubt = self.doubt()?;
        let mut outcome = Ok(None);
        let stored = self.update_sign_state(CheckpointNumber(0), &mut |rows| {
            let mut state = match rows.state {
                Some(state) if state.domain != domain => {
                    outcome = Err(crate::Error::Domain { expected: domain, found: state.domain });
                    return None;
                }
                Some(state) => state,
                None => SignState { domain, max_source: source, max_target: target, standing: Standing::Clear },
            };
            state.max_source = state.max_source.max(source);
            state.max_target = state.max_target.max(target);
            let state = doubt.as_ref().and_then(|doubt| doubtful(Some(&state), doubt)).unwrap_or(state);
            outcome = Ok(Some(state.clone()));
            Some(SignUpdate { state, vote: None })
        });
        stored?;
        let state = outcome?;
        self.bind_key(key)?;
        tracing::info!(event = "interchange_imported", votes = entries.len(), max_source = %source, max_target = %target, "imported own votes");
        Ok(Imported { votes: entries.len(), state, contradictions })
    }

    /// Refuses where the record is known to be another key's.
    fn is_of(&self, key: &PublicKey) -> Result<(), Error> {
        match self.bound_key()?.filter(|bound| bound != key) {
            Some(found) => Err(Error::Database(crate::Error::Key { found })),
            None => Ok(()),
        }
    }

    fn contradictions(&self, entries: &[Entry]) -> Result<Vec<CheckpointNumber>, Error> {
        let mut roots: BTreeMap<CheckpointNumber, LinkDigest> = BTreeMap::new();
        for vote in self.own_votes(&Range::all(), usize::MAX)? {
            roots.insert(vote.link.target.number, vote.digest());
        }
        let mut found = Vec::new();
        for Entry { target, root, .. } in entries {
            let Some(root) = root else { continue };
            if *roots.entry(*target).or_insert(*root) != *root {
                found.push(*target);
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}
