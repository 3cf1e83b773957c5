//! Opening an engine: is everything there, is everything whole, and may its sign-state be believed?

use std::sync::{Arc, Mutex};

use finality_gadget::persistence::{Refusal, SignState, SignUpdate, Standing};
use milepost_store::key::{Key, Reader};
use milepost_store::{Batch, Durability, Order, Range, Storage, Table, entries};

use crate::Error;
use crate::db::{CheckpointDB, SCHEMA, Writer, content};
use crate::sign::read_sign_state;
use crate::tables::{self, BOUNDARIES, CERTIFICATES, EVIDENCE, OWN_VOTES, ROW, STATE, StateKey, TABLES};
use crate::witness::{Reading, Testimonial, Witness};

/// Most synced writes by which a database may be ahead of its witness: a decision to sign, which the witness wrote down before it was
/// counted, and the write under way when the process ended. How often the sign-state changed is compared exactly.
const MOST_AHEAD: u64 = 2;

/// Everything that what is signed or called final may rest on, in two halves that are read side by side: one certificate and one own vote
/// for each checkpoint are nearly all of it.
const CHECKED_AT_ONCE: [&[Table]; 2] = [&[STATE, OWN_VOTES, EVIDENCE], &[CERTIFICATES, BOUNDARIES]];

impl CheckpointDB {
    /// A database over an engine that was opened with [`TABLES`](crate::TABLES). Checks every row but those of other validators' votes; a
    /// damaged or incomplete database is refused with [`Error::Damaged`] or the row's own error, and left as it is.
    ///
    /// Where witness and database disagree in a way that no crash explains, the database opens and refuses to sign.
    pub fn over(store: Arc<dyn Storage>, witness: Box<dyn Witness>) -> Result<Self, Error> {
        let reading = witness.read()?;
        let born = StateKey::Schema.read(&*store)?;
        let mut writer = if let Some(payload) = &born {
            let identity = read_schema(payload)?;
            check_at_once(&*store)?;
            read_writer(&*store, identity)?
        } else {
            refuse_orphans(&*store, &reading)?;
            Writer {
                identity: rand::random(),
                synced: 0,
                serial: 0,
                state: None,
                newest_vote: None,
                stopped: None,
                dirty: false,
                unsettled: 0,
            }
        };
        let verdict = compare(&writer, &reading)?;
        if born.is_none() {
            writer.synced = 1;
            store.write(birth(&writer), Durability::Synced)?;
        }
        let db = Self { store, witness, writer: Mutex::new(writer), recovery: None, suspicion: None, lock: None };
        db.settle_account(verdict)?;
        Ok(db)
    }

    /// Reads every row and checks frame, content and place; answers how many there are. To be called once behind each start, on a thread
    /// of its own: votes of other validators, by far the most rows, are not read before. What is found damaged is set aside and rebuilt
    /// at the next start.
    pub fn check(&self) -> Result<u64, Error> {
        self.noting(check_rows(&*self.store, &TABLES))
    }

    fn settle_account(&self, verdict: Verdict) -> Result<(), Error> {
        let mut writer = self.writer()?;
        match verdict {
            Verdict::Agreed => self.testify(&mut writer),
            Verdict::Adopt(testimonial) => {
                let Testimonial { state: Some(state), vote, .. } = *testimonial else { return self.testify(&mut writer) };
                tracing::info!(event = "sign_state_adopted", max_target = %state.max_target, "the last decision to sign was recorded by the witness alone");
                let current = writer.state.clone();
                self.record(&mut writer, current.as_ref(), &SignUpdate { state, vote }, Batch::new())?;
                self.testify(&mut writer)
            }
            Verdict::Doubt(reason) => {
                tracing::error!(event = "sign_state_doubtful", %reason, "this node does not sign until an operator declares");
                let current = writer.state.clone();
                if let Some(state) = doubtful(current.as_ref(), &reason) {
                    self.record(&mut writer, current.as_ref(), &SignUpdate { state, vote: None }, Batch::new())?;
                } else {
                    let mut batch = Batch::new();
                    StateKey::Doubt.put(&mut batch, reason.as_bytes());
                    self.write_counted(&mut writer, batch)?;
                }
                self.testify(&mut writer)
            }
        }
    }
}

/// The state with its reason not to sign. An earlier reason stays.
pub(crate) fn doubtful(state: Option<&SignState>, reason: &str) -> Option<SignState> {
    let mut state = state?.clone();
    if state.standing == Standing::Clear {
        // A sign-state's reason has at most 512 bytes.
        let reason = reason.chars().take(128).collect();
        state.standing = Standing::Refused(Refusal { reason });
    }
    Some(state)
}

/// What comparing database and witness gives.
pub(crate) enum Verdict {
    /// They say the same, or the database is ahead by what was under way.
    Agreed,
    /// The process ended between the two records of one decision.
    Adopt(Box<Testimonial>),
    /// No crash explains what is there.
    Doubt(String),
}

pub(crate) fn compare(writer: &Writer, reading: &Reading) -> Result<Verdict, Error> {
    let doubt = |reason: &str| Ok(Verdict::Doubt(reason.to_owned()));
    let testimonial = match reading {
        // A new database: nothing was signed before its first record, and that writes the witness first.
        Reading::Absent | Reading::Unreadable { .. } if writer.synced <= 1 && writer.serial == 0 => return Ok(Verdict::Agreed),
        Reading::Absent => return doubt("the witness of the sign-state is missing"),
        Reading::Unreadable { reason } => return Ok(Verdict::Doubt(format!("the witness of the sign-state is damaged: {reason}"))),
        Reading::Found(testimonial) => testimonial,
    };
    if testimonial.identity != writer.identity {
        return doubt("the witness of the sign-state belongs to another database");
    }
    if writer.synced < testimonial.synced || writer.serial + 1 < testimonial.serial {
        let reason = format!(
            "its log ends at synced write {} where {} were made: a *.log file is damaged, or this is an old copy",
            writer.synced, testimonial.synced
        );
        return Err(Error::Damaged { reason });
    }
    if writer.synced > testimonial.synced + MOST_AHEAD || writer.serial > testimonial.serial {
        return doubt("the witness of the sign-state is older than the database");
    }
    if writer.serial + 1 == testimonial.serial {
        return Ok(Verdict::Adopt(testimonial.clone()));
    }
    if writer.state != testimonial.state {
        return doubt("database and witness disagree about the sign-state");
    }
    Ok(Verdict::Agreed)
}

/// An engine without a birth record must be empty, and have no past.
fn refuse_orphans(store: &dyn Storage, reading: &Reading) -> Result<(), Error> {
    for table in TABLES {
        if !store.scan(table, &Range::all(), Order::Ascending, 1)?.entries.is_empty() {
            return Err(Error::Damaged {
                reason: format!("the table `{table}` has rows, but the record of the database's birth is missing"),
            });
        }
    }
    match reading {
        Reading::Found(testimonial) => {
            Err(Error::Damaged { reason: format!("it is empty where its witness counted {} synced writes", testimonial.synced) })
        }
        Reading::Absent | Reading::Unreadable { .. } => Ok(()),
    }
}

/// Checks what may not wait until after the start.
pub(crate) fn check_at_once(store: &dyn Storage) -> Result<(), Error> {
    let [here, beside] = CHECKED_AT_ONCE;
    let (here, beside) = std::thread::scope(|scope| {
        let beside = scope.spawn(|| check_rows(store, beside));
        (check_rows(store, here), beside.join())
    });
    here?;
    beside.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok(())
}

pub(crate) fn check_rows(store: &dyn Storage, tables: &[Table]) -> Result<u64, Error> {
    let mut rows = 0;
    for table in tables.iter().copied() {
        for entry in entries(store, table, Range::all(), Order::Ascending) {
            let (key, value) = entry?;
            tables::verify(table, &key, &value)?;
            rows += 1;
        }
    }
    Ok(rows)
}

pub(crate) fn read_writer(store: &dyn Storage, identity: [u8; 16]) -> Result<Writer, Error> {
    let synced = StateKey::Synced.read(store)?.ok_or(Error::Damaged { reason: "the count of synced writes is missing".to_owned() })?;
    let synced = synced.try_into().map(u64::from_be_bytes).map_err(|_| content(StateKey::Synced, "count"))?;
    let (serial, state) = read_sign_state(store)?.map_or((0, None), |(serial, state)| (serial, Some(state)));
    let newest = store.scan(OWN_VOTES, &Range::all(), Order::Descending, 1)?.entries.pop();
    let newest_vote = newest.map(|(key, value)| tables::own_vote(&key, tables::open(OWN_VOTES, &key, &value)?)).transpose()?;
    if let (Some(state), Some(vote)) = (&state, &newest_vote)
        && state.max_target < vote.link.target.number
    {
        let reason = format!("an own vote for {} lies above the watermark {}", vote.link.target.number, state.max_target);
        return Err(Error::Damaged { reason });
    }
    if state.is_none() && newest_vote.is_some() {
        return Err(Error::Damaged { reason: "there are own votes, but the sign-state is missing".to_owned() });
    }
    Ok(Writer { identity, synced, serial, state, newest_vote, stopped: None, dirty: true, unsettled: 0 })
}

/// The identity, if the schema is ours.
pub(crate) fn read_schema(payload: &[u8]) -> Result<[u8; 16], Error> {
    let mut reader = Reader::new(payload);
    let found = reader.u32().ok_or_else(|| content(StateKey::Schema, "schema"))?;
    if found != SCHEMA {
        return Err(Error::Schema { found, known: SCHEMA });
    }
    let identity = reader.array::<16>().filter(|_| reader.end().is_some());
    identity.ok_or_else(|| content(StateKey::Schema, "schema"))
}

/// The first record of a database, or of a rebuilt one.
pub(crate) fn birth(writer: &Writer) -> Batch {
    let mut batch = Batch::new();
    StateKey::Schema.put(&mut batch, &Key::new().u32(SCHEMA).bytes(&writer.identity).build());
    StateKey::Synced.put(&mut batch, &writer.synced.to_be_bytes());
    if let Some(state) = &writer.state {
        crate::sign::put_sign_state(&mut batch, writer.serial, state);
    }
    if let Some(vote) = &writer.newest_vote {
        batch.put_sealed(OWN_VOTES, tables::target_key(vote.link.target.number), ROW, &vote.encode());
    }
    batch
}
