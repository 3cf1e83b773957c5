//! The same claim as a chain has it. What is asked is here; who asks is whoever implements [`Reader`].

use std::future::Future;

use milepost_statement::{Address, ChainId, Digest, Statement, TokenCount};

use crate::error::Class;
use crate::format::Bundle;
use crate::landing::{Header, Submission};
use crate::transcript::genesis;

/// What a chain says of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its id.
    pub chain_id: ChainId,
    /// The job as it stands now; `None` where the marketplace knows no such job.
    pub job: Option<Job>,
    /// Hash of the canonical block at the height of the bundle's header; `None` where the bundle has none, or the chain is shorter.
    pub block: Option<Digest>,
    /// `ProofOfWork` events of the job: in the bundle's block where there is one, else all that were found.
    pub events: Vec<Event>,
    /// Height of the newest block.
    pub height: u64,
}

/// A job's terms and state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// The host of the terms.
    pub host: Address,
    /// The model of the terms.
    pub model_digest: Digest,
    /// The commitment of the terms.
    pub salt_commitment: Digest,
    /// Who countersigns running totals, if the terms name somebody.
    pub voucher_signer: Option<Address>,
    /// Tokens claimed in all.
    pub tokens_used: TokenCount,
    /// Head after the last claim.
    pub head: Digest,
}

/// `ProofOfWork`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Tokens of the claim.
    pub count: TokenCount,
    /// Tokens claimed in all after it.
    pub used: TokenCount,
    /// Head after it.
    pub head: Digest,
    /// Kind of proof.
    pub kind: u8,
    /// Its transaction.
    pub transaction: Digest,
}

/// Somebody who can ask a chain.
pub trait Reader {
    /// What the chain says. `header` is the block in which the claim is said to have landed.
    ///
    /// The error is one sentence for people: the question could not be asked, and nothing is decided.
    fn facts(&self, statement: &Statement, header: Option<&Header>) -> impl Future<Output = Result<Facts, String>> + Send;
}

/// What differs on the chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody answers: nothing is decided.
    #[error("the chain could not be asked: {0}")]
    Unreachable(String),
    /// Another chain.
    #[error("the endpoint serves chain {found}, the claim is about {expected}")]
    ChainId {
        /// The claim's.
        expected: u64,
        /// The endpoint's.
        found: u64,
    },
    /// No such job.
    #[error("the marketplace knows no job {0}")]
    NoJob(u64),
    /// The job's terms are others.
    #[error("the job's {what} is {found} on the chain, {expected} in the bundle")]
    Terms {
        /// Which of them.
        what: &'static str,
        /// In the bundle.
        expected: String,
        /// On the chain.
        found: String,
    },
    /// The claim's first head is not the one that the contract derived.
    #[error("the job's first head is {found} by its terms, {expected} in the bundle")]
    Genesis {
        /// In the bundle.
        expected: Digest,
        /// From the terms.
        found: Digest,
    },
    /// The block is not part of the chain.
    #[error("block {number} of the chain is {}, not {expected}: the bundle's block is not part of it", show(found.as_ref()))]
    Block {
        /// Its height.
        number: u64,
        /// The bundle's.
        expected: Digest,
        /// The chain's.
        found: Option<Digest>,
    },
    /// The claim did not land there.
    #[error("the chain has no ProofOfWork of job {job} that ends at token {end} with this head and this number of tokens")]
    Event {
        /// The job.
        job: u64,
        /// Position after the claim.
        end: u64,
    },
    /// It landed by another transaction.
    #[error("the claim landed by transaction {found}, not by {expected}")]
    Transaction {
        /// The bundle's.
        expected: Digest,
        /// The chain's.
        found: Digest,
    },
    /// Less is claimed than the claim says.
    #[error("the chain counts {found} tokens of the job, the claim ends at {expected}")]
    TokensUsed {
        /// End of the claim.
        expected: u64,
        /// On the chain.
        found: u64,
    },
    /// The head is another.
    #[error("the job's head is {found} on the chain, {expected} after the claim")]
    Head {
        /// The claim's.
        expected: Digest,
        /// The chain's.
        found: Digest,
    },
}

impl Error {
    pub(crate) fn class(&self) -> Class {
        if matches!(self, Self::Unreachable(_)) { Class::CannotLook } else { Class::ChainDiffers }
    }
}

fn show(hash: Option<&Digest>) -> String {
    hash.map_or_else(|| "not there".to_owned(), Digest::to_string)
}

/// One question to the chain's facts: its name, and what was found.
pub(crate) type Answer = (&'static str, Result<String, Error>);

/// Holds a bundle against what a chain says. `submission` is the bundle's transaction, where it has one.
pub(crate) fn compare(bundle: &Bundle, kind: u8, header: Option<&Header>, submission: Option<&Submission>, facts: &Facts) -> Vec<Answer> {
    let statement = &bundle.statement;
    if facts.chain_id != statement.chain_id {
        return vec![("chain", Err(Error::ChainId { expected: statement.chain_id.0, found: facts.chain_id.0 }))];
    }
    let Some(job) = &facts.job else { return vec![("job on chain", Err(Error::NoJob(statement.job_id.0)))] };
    vec![
        ("terms on chain", terms(bundle, submission, job)),
        ("block on chain", block(header, facts)),
        ("event on chain", event(statement, kind, header, submission.map(|it| it.hash), facts)),
        ("tokensUsed on chain", used(statement, job)),
    ]
}

fn terms(bundle: &Bundle, submission: Option<&Submission>, job: &Job) -> Result<String, Error> {
    let statement = &bundle.statement;
    let same = |what, expected: &dyn std::fmt::Display, found: &dyn std::fmt::Display| {
        let (expected, found) = (expected.to_string(), found.to_string());
        if expected == found { Ok(()) } else { Err(Error::Terms { what, expected, found }) }
    };
    same("host", &statement.host, &job.host)?;
    same("model digest", &statement.model_digest, &job.model_digest)?;
    same("salt commitment", &bundle.salt_commitment, &job.salt_commitment)?;
    // Terms that name nobody take no vouchers, and one that is shown all the same says nothing.
    if let (Some(voucher), Some(signer)) = (submission.and_then(|it| it.voucher), job.voucher_signer) {
        same("voucher signer", &voucher.signer, &signer)?;
    }
    if statement.first_seq.0 == 0 {
        // Job and commitment are the chain's by now: so is what follows from them.
        let found = genesis(bundle);
        if found != statement.head_before {
            return Err(Error::Genesis { expected: statement.head_before, found });
        }
    }
    Ok("host, model and salt commitment are those that the depositor agreed to".into())
}

fn block(header: Option<&Header>, facts: &Facts) -> Result<String, Error> {
    let Some(header) = header else { return Ok("the bundle names none".into()) };
    if facts.block != Some(header.hash) {
        return Err(Error::Block { number: header.number, expected: header.hash, found: facts.block });
    }
    Ok(format!("block {} is part of the chain, {} blocks deep", header.number, facts.height.saturating_sub(header.number)))
}

fn event(statement: &Statement, kind: u8, header: Option<&Header>, transaction: Option<Digest>, facts: &Facts) -> Result<String, Error> {
    let end = statement.end();
    let fits = |event: &&Event| (event.count, event.used.0, event.head, event.kind) == (statement.count, end.0, statement.head_after, kind);
    let found = facts.events.iter().find(fits).ok_or(Error::Event { job: statement.job_id.0, end: end.0 })?;
    match transaction {
        // Without a block every event was looked at; with one, those of that block.
        Some(expected) if expected != found.transaction => Err(Error::Transaction { expected, found: found.transaction }),
        _ if header.is_some() => Ok(format!("ProofOfWork in that block, transaction {}", found.transaction)),
        _ => Ok(format!("ProofOfWork in transaction {}", found.transaction)),
    }
}

fn used(statement: &Statement, job: &Job) -> Result<String, Error> {
    let end = statement.end().0;
    if job.tokens_used.0 < end {
        return Err(Error::TokensUsed { expected: end, found: job.tokens_used.0 });
    }
    if job.tokens_used.0 > end {
        return Ok(format!("{}: {} were claimed after this claim", job.tokens_used, job.tokens_used.0 - end));
    }
    if job.head != statement.head_after {
        return Err(Error::Head { expected: statement.head_after, found: job.head });
    }
    Ok(format!("{end}, and the job's head is the claim's"))
}
