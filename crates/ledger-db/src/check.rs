//! Reading everything, and believing nothing: each record's checksum and shape, and of each account that its rows add up to
//! its positions and heads.

use std::fmt;

use milepost_ledger::{
    AccountId, AccountRecord, Address, ChainId, CheckpointRecord, Claim, ClaimId, ClaimState, Digest, Phase, TokenSeq, TurnRecord, Tx, TxId,
};
use milepost_statement::{checkpoint_head, genesis_head, salt_commitment, turns_digest};
use milepost_store::{Order, Range, Table, entries};

use crate::rows::Rows;
use crate::{Error, codec, tables};

/// Problems that a report names; beyond it they are only counted. A disk that fails wholesale must not fill memory.
pub const MAX_PROBLEMS: usize = 1000;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Records read.
    pub records: u64,
    /// Accounts checked.
    pub accounts: u64,
    /// Token ids hashed again.
    pub tokens: u64,
    /// What is wrong, at most [`MAX_PROBLEMS`] of it.
    pub problems: Vec<Problem>,
    /// Problems beyond those.
    pub further_problems: u64,
}

/// Something wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Problem {
    /// A record is damaged, or cannot be read as what belongs there.
    Record(Error),
    /// The rows of an account do not add up.
    Account {
        /// Whose.
        account: AccountId,
        /// What does not.
        what: String,
    },
    /// A record that another one names is not there.
    Missing {
        /// What.
        what: String,
        /// By what it is named.
        named_by: &'static str,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(error) => error.fmt(f),
            Self::Account { account, what } => write!(f, "account {account}: {what}"),
            Self::Missing { what, named_by } => write!(f, "{what} is missing, though {named_by} names it"),
        }
    }
}

impl CheckReport {
    /// Nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS { self.problems.push(problem) } else { self.further_problems += 1 }
    }
}

/// Checks a database that may be written to meanwhile: an account's record is read first, and of what only grows exactly the
/// part that this record speaks of.
pub(crate) fn check(rows: &Rows) -> Result<CheckReport, Error> {
    let mut report = CheckReport::default();
    for table in tables::ALL {
        // Rows are sorted by account: its record is looked up once for all of them.
        let mut known = None;
        for row in entries(&*rows.store, table, Range::all(), Order::Ascending) {
            let (key, value) = row?;
            report.records += 1;
            match check_record(table, &key, &value) {
                Ok(links) => check_links(rows, &links, &mut known, &mut report)?,
                Err(error) => report.add(Problem::Record(error)),
            }
        }
    }
    for row in entries(&*rows.store, tables::ACCOUNT, Range::all(), Order::Ascending) {
        let (key, value) = row?;
        // One that cannot be read was named above.
        if let Ok(record) = codec::decode::<AccountRecord>(tables::ACCOUNT, &key, &value, "account record") {
            report.accounts += 1;
            report.tokens += record.positions.metered.0;
            check_account(rows, &record, &mut report)?;
        }
    }
    Ok(report)
}

/// What a record speaks of and must be there.
#[derive(Default)]
struct Links {
    accounts: Vec<AccountId>,
    claims: Vec<ClaimId>,
    /// A claim's transaction, which must name it.
    tx: Option<(ClaimId, TxId)>,
    /// A transaction that is listed as pending, or must be if it is not resolved.
    pending: Option<TxId>,
}

fn check_record(table: Table, key: &[u8], value: &[u8]) -> Result<Links, Error> {
    let matches = |matches: bool| {
        let reason = milepost_store::Corruption::Key;
        if matches { Ok(()) } else { Err(milepost_store::Error::Corrupt { table, key: key.to_vec(), reason }) }
    };
    let mut links = Links::default();
    match table {
        tables::ACCOUNT => {
            let record: AccountRecord = codec::decode(table, key, value, "account record")?;
            matches(tables::account(record.id) == key)?;
        }
        tables::LIVE => {
            codec::decode_bytes(table, key, value)?;
            links.accounts.extend(tables::account_of(key));
            matches(!links.accounts.is_empty())?;
        }
        tables::TOKENS => {
            codec::decode_tokens(table, key, value)?;
            links.accounts.extend(tables::tokens_of(key).map(|(account, _)| account));
            matches(!links.accounts.is_empty())?;
        }
        tables::TURN => {
            let turn: TurnRecord = codec::decode(table, key, value, "turn record")?;
            matches(tables::turn(turn.account, turn.number) == key)?;
            links.accounts.push(turn.account);
        }
        tables::REQUEST => drop(codec::decode::<u32>(table, key, value, "turn number")?),
        tables::CHECKPOINT => {
            let checkpoint: CheckpointRecord = codec::decode(table, key, value, "checkpoint record")?;
            matches(tables::checkpoint(checkpoint.account, checkpoint.number) == key)?;
            links.accounts.push(checkpoint.account);
        }
        tables::CLAIM => {
            let claim: Claim = codec::decode(table, key, value, "claim record")?;
            matches(tables::claim(claim.id) == key)?;
            links.accounts.push(AccountId::Job(claim.id.job));
            if let ClaimState::Submitted(tx) | ClaimState::Final(tx) = claim.state {
                links.tx = Some((claim.id, tx));
            }
        }
        tables::TX => {
            let tx: Tx = codec::decode(table, key, value, "transaction record")?;
            matches(tables::tx(tx.id) == key)?;
            links.accounts.extend(tx.purpose.jobs().map(AccountId::Job));
            links.pending = Some(tx.id);
            links.claims.extend_from_slice(tx.purpose.claims());
        }
        tables::PENDING_TX => {
            codec::decode_bytes(table, key, value)?;
            links.pending = tables::tx_of(key);
            matches(links.pending.is_some())?;
        }
        tables::SCHEMA => drop(codec::decode::<u32>(table, key, value, "schema version")?),
        _ => drop(codec::decode_bytes(table, key, value)?),
    }
    Ok(links)
}

/// Looks for what a record speaks of.
fn check_links(rows: &Rows, links: &Links, known: &mut Option<AccountId>, report: &mut CheckReport) -> Result<(), Error> {
    for account in &links.accounts {
        if *known == Some(*account) {
            continue;
        }
        if rows.is_known(*account)? {
            *known = Some(*account);
        } else {
            report.add(Problem::Account { account: *account, what: "has rows and no record of its own".to_owned() });
        }
    }
    for claim in &links.claims {
        if !is_there(&rows.claim(*claim)) {
            report.add(Problem::Missing { what: format!("claim {claim}"), named_by: "its transaction" });
        }
    }
    if let Some((claim, id)) = links.tx {
        // Which claims a transaction carries never changes.
        match rows.tx(id) {
            Ok(None) => {
                report.add(Problem::Missing { what: format!("transaction with nonce {} of {}", id.nonce, id.key), named_by: "its claim" });
            }
            Ok(Some(tx)) if !tx.purpose.claims().contains(&claim) => {
                report.add(Problem::Missing {
                    what: format!("claim {claim} in the transaction with nonce {} of {}", id.nonce, id.key),
                    named_by: "the claim",
                });
            }
            // One that cannot be read is named where its own table is checked.
            Ok(Some(_)) | Err(_) => {}
        }
    }
    if let Some(id) = links.pending
        && !agrees(|| Ok((rows.tx(id)?.is_some_and(|tx| tx.is_unresolved()), rows.is_pending(id)?)))
    {
        report.add(Problem::Missing {
            what: format!("the right mark for nonce {} of {}", id.nonce, id.key),
            named_by: "the list of pending transactions",
        });
    }
    Ok(())
}

/// A record that cannot be read is named where its own table is checked.
fn is_there<T>(found: &Result<Option<T>, Error>) -> bool {
    !matches!(found, Ok(None))
}

/// Whether two rows that are always written together say the same. They are read one after the other, and a writer may come
/// between: only a difference that stays counts.
fn agrees(read: impl Fn() -> Result<(bool, bool), Error>) -> bool {
    const LOOKS: usize = 3;
    (0..LOOKS).any(|_| read().map_or(true, |(left, right)| left == right))
}

fn check_account(rows: &Rows, record: &AccountRecord, report: &mut CheckReport) -> Result<(), Error> {
    let mut wrong = |what: String| report.add(Problem::Account { account: record.id, what });
    if let Err(broken) = record.positions.check(record.terms.as_ref().map(milepost_ledger::Terms::affordable)) {
        wrong(broken.to_string());
    }
    if let Phase::Paid(payout) = record.phase
        && record.positions.metered != record.positions.paid + record.positions.written_off
    {
        wrong(format!("paid out ({payout:?}), and M is not Z + W: {}", record.positions));
    }
    // Jobs that are not paid are loaded at every start. (A free label may have been retired, which its record does not say.)
    if record.id.job().is_some()
        && !agrees(|| {
            let unpaid = rows.account(record.id)?.is_some_and(|record| !matches!(record.phase, Phase::Paid(_)));
            Ok((unpaid, rows.is_live(record.id)?))
        })
    {
        wrong("is unpaid and not listed as live, or the other way round".to_owned());
    }
    // Damage is named above record by record; here it means that the rest cannot be checked.
    for outcome in [check_transcript(rows, record), check_turns(rows, record), check_claim(rows, record)] {
        match outcome {
            Ok(None) => {}
            Ok(Some(what)) => wrong(what),
            Err(error @ Error::Store(milepost_store::Error::Io { .. } | milepost_store::Error::PowerLost)) => return Err(error),
            Err(error) => wrong(format!("cannot be checked: {error}")),
        }
    }
    Ok(())
}

/// Hashes the transcript again, checkpoint by checkpoint.
fn check_transcript(rows: &Rows, record: &AccountRecord) -> Result<Option<String>, Error> {
    let positions = &record.positions;
    let mut head = genesis(record);
    let mut end = TokenSeq::ZERO;
    for number in 0..record.checkpoints {
        let Some(checkpoint) = rows.checkpoints(record.id, number, 1)?.pop().filter(|checkpoint| checkpoint.number == number) else {
            return Ok(Some(format!("checkpoint {number} of {} is missing", record.checkpoints)));
        };
        let next = checkpoint.first + checkpoint.count;
        let ids = rows.tokens(record.id, checkpoint.first..next)?;
        let digest = turns_digest(&record.salt, checkpoint.first, &checkpoint.turns);
        let computed = checkpoint_head(&head, checkpoint.first, &digest, &ids);
        if (checkpoint.first, checkpoint.head_before, checkpoint.turns_digest, checkpoint.head_after) != (end, head, digest, computed) {
            return Ok(Some(format!("checkpoint {number} does not follow on, or is not the hash of its {} tokens", ids.len())));
        }
        if next == positions.finalized && record.final_head != computed {
            return Ok(Some(format!("the final head is not the head after checkpoint {number}")));
        }
        (end, head) = (next, computed);
    }
    if end != positions.sealed || head != record.head {
        return Ok(Some(format!("its {} checkpoints end at {end}, and S is {}", record.checkpoints, positions.sealed)));
    }
    let open = rows.tokens(record.id, positions.sealed..positions.metered)?;
    let found = positions.sealed.0 + open.len() as u64;
    Ok((found != positions.metered.0).then(|| format!("its tokens end at {found}, and M is {}", positions.metered)))
}

fn genesis(record: &AccountRecord) -> Digest {
    let (chain, marketplace, host, commitment) =
        record.terms.as_ref().map_or((ChainId(0), Address::ZERO, Address::ZERO, salt_commitment(&record.salt)), |terms| {
            (terms.chain, terms.marketplace, terms.host, terms.salt_commitment)
        });
    genesis_head(chain, marketplace, record.id.job().unwrap_or_default(), host, record.model, commitment)
}

fn check_turns(rows: &Rows, record: &AccountRecord) -> Result<Option<String>, Error> {
    for number in 0..record.turns {
        let Some(turn) = rows.turn(record.id, number)? else { return Ok(Some(format!("turn {number} of {} is missing", record.turns))) };
        let by_request = rows.turn_by_request(record.id, &turn.request)?;
        if by_request.as_ref().map(|turn| turn.number) != Some(number) {
            return Ok(Some(format!("request {:?} of turn {number} does not lead back to it", turn.request)));
        }
    }
    Ok(None)
}

/// The claim and the transactions that the record names.
fn check_claim(rows: &Rows, record: &AccountRecord) -> Result<Option<String>, Error> {
    for id in [record.close, record.finalize].into_iter().flatten() {
        if rows.tx(id)?.is_none() {
            return Ok(Some(format!("its close or payout is carried by nonce {} of {}, which has no record", id.nonce, id.key)));
        }
    }
    let Some(id) = record.claim else { return Ok(None) };
    Ok(match rows.claim(id)? {
        // The claim's record may have moved on since the account's was read; that it is there has not.
        Some(_) => None,
        None => Some(format!("claim {id} is under way and has no record")),
    })
}
