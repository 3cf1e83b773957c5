//! Own votes and the sign-state: the slashing protection's table.

use finality_gadget::persistence::{Decide, SignRows, SignState, SignUpdate, Standing};
use finality_gadget::{CheckpointNumber, PublicKey, Vote};
use milepost_store::key::{Key, Reader};
use milepost_store::{Batch, Order, Storage, entries};

use crate::Error;
use crate::db::{CheckpointDB, Writer, content};
use crate::tables::{self, OWN_VOTES, ROW, StateKey};

impl CheckpointDB {
    /// The sign-state; `None` where this database never had one, and where it was lost ([`CheckpointDB::doubt`] tells).
    pub fn sign_state(&self) -> Result<Option<SignState>, Error> {
        Ok(read_sign_state(&*self.store)?.map(|(_, state)| state))
    }

    /// Why there may have been a sign-state that is lost, if so. Until an operator declares with a mark that the old process is stopped,
    /// nothing is signed.
    pub fn doubt(&self) -> Result<Option<String>, Error> {
        let payload = StateKey::Doubt.read(&*self.store)?;
        payload.map(|payload| String::from_utf8(payload).map_err(|_| content(StateKey::Doubt, "text"))).transpose()
    }

    /// The key whose record this is, once a gadget has signed with it or a history was imported.
    pub fn bound_key(&self) -> Result<Option<PublicKey>, Error> {
        Ok(StateKey::Key.read(&*self.store)?.map(PublicKey))
    }

    /// Ties the record of own votes to a key, for good: any other key is refused from then on. **Synced.** Without it two validators whose
    /// directories are exchanged would each sign against the other's record.
    pub fn bind_key(&self, key: &PublicKey) -> Result<(), Error> {
        let mut writer = self.writer()?;
        match self.bound_key()? {
            Some(bound) if bound == *key => Ok(()),
            Some(found) => Err(Error::Key { found }),
            None => {
                let mut batch = Batch::new();
                StateKey::Key.put(&mut batch, &key.0);
                self.write_synced(&mut writer, batch)
            }
        }
    }

    /// The own vote for a target.
    pub fn own_vote(&self, target: CheckpointNumber) -> Result<Option<Vote>, Error> {
        let key = tables::target_key(target);
        let payload = tables::read(&*self.store, OWN_VOTES, &key)?;
        payload.map(|payload| tables::own_vote(&key, &payload).map_err(Error::from)).transpose()
    }

    /// Own votes with targets above `after`, ascending, at most `limit`.
    pub fn own_votes_after(&self, after: CheckpointNumber, limit: usize) -> Result<Vec<Vote>, Error> {
        self.own_votes(&tables::above(after), limit)
    }

    pub(crate) fn own_votes(&self, range: &milepost_store::Range, limit: usize) -> Result<Vec<Vote>, Error> {
        let found = entries(&*self.store, OWN_VOTES, range.clone(), Order::Ascending);
        found
            .in_pages_of(limit)
            .take(limit)
            .map(|entry| entry.and_then(|(key, value)| tables::own_vote(&key, tables::open(OWN_VOTES, &key, &value)?)).map_err(Error::from))
            .collect()
    }

    /// Reads the sign-state and the own vote for `target`, lets `decide` judge, and records its decision: first in the witness, then here,
    /// both synced. With any doubt the answer is an error, and nothing may be signed.
    pub fn update_sign_state(&self, target: CheckpointNumber, decide: Decide<'_>) -> Result<(), Error> {
        let mut writer = self.writer()?;
        let at_target = self.own_vote(target)?;
        let state = self.sign_state()?;
        match decide(SignRows { state: state.clone(), at_target }) {
            Some(update) => self.record(&mut writer, state.as_ref(), &update, Batch::new()),
            None => Ok(()),
        }
    }

    /// Records a new sign-state, and whatever else is in `batch` with it.
    pub(crate) fn record(
        &self,
        writer: &mut Writer,
        current: Option<&SignState>,
        update: &SignUpdate,
        mut batch: Batch,
    ) -> Result<(), Error> {
        if let Some(reason) = self.refused(current, update)? {
            return Err(Error::SignState { reason });
        }
        let serial = writer.serial + 1;
        let mut next = writer.testimonial();
        next.serial = serial;
        next.state = Some(update.state.clone());
        next.vote = update.vote.clone().or(next.vote);
        // The witness goes first. If the power fails in between, the next start finds the decision there and takes it over; the other way
        // round, a log that loses its end would take the only record with it.
        self.witness.write(&next).map_err(|error| self.stop(writer, error))?;
        put_sign_state(&mut batch, serial, &update.state);
        if let Some(vote) = &update.vote {
            batch.put_sealed(OWN_VOTES, tables::target_key(vote.link.target.number), ROW, &vote.encode());
        }
        batch.delete(tables::STATE, StateKey::Doubt.key());
        self.write_counted(writer, batch)?;
        (writer.serial, writer.state, writer.newest_vote) = (serial, next.state, next.vote);
        Ok(())
    }

    /// What no decision may do, whoever makes it.
    fn refused(&self, current: Option<&SignState>, update: &SignUpdate) -> Result<Option<String>, Error> {
        let next = &update.state;
        Ok(match current {
            Some(current) if current.domain != next.domain => Some("it belongs to another domain".to_owned()),
            Some(current) if next.max_source < current.max_source || next.max_target < current.max_target => {
                Some("a watermark would decrease".to_owned())
            }
            Some(_) => None,
            None => self.doubt()?.filter(|_| next.standing == Standing::Clear && next.max_target == CheckpointNumber(0)).map(|doubt| {
                format!("{doubt}; only a declaration that the old process is stopped, with the highest number it could have signed, lets this key sign")
            }),
        })
    }
}

/// Serial number and sign-state.
pub(crate) fn read_sign_state(store: &dyn Storage) -> Result<Option<(u64, SignState)>, Error> {
    let Some(payload) = StateKey::Sign.read(store)? else { return Ok(None) };
    let mut reader = Reader::new(&payload);
    let serial = reader.u64().ok_or_else(|| content(StateKey::Sign, "sign-state"))?;
    let state = SignState::decode(reader.rest()).map_err(|_| content(StateKey::Sign, "sign-state"))?;
    Ok(Some((serial, state)))
}

pub(crate) fn put_sign_state(batch: &mut Batch, serial: u64, state: &SignState) {
    StateKey::Sign.put(batch, &Key::new().u64(serial).bytes(&state.encode()).build());
}
