//! Why an event was refused. A refused event changed nothing.

use milepost_statement::{Digest, TokenCount, TokenSeq};

use crate::{AccountId, Broken, ClaimId, TxId};

/// Why an event was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such account is open.
    #[error("account {0} is not open here")]
    UnknownAccount(AccountId),
    /// It is open already.
    #[error("account {0} is open already")]
    AccountExists(AccountId),
    /// The salt does not open the commitment in the terms.
    #[error("the salt does not match the job's commitment {expected}: the client must send the salt it funded the job with")]
    WrongSalt {
        /// Commitment in the terms.
        expected: Digest,
    },
    /// The job was funded for another model.
    #[error("the job was funded for model {expected}, this host serves {found}")]
    WrongModel {
        /// In the terms.
        expected: Digest,
        /// Served here.
        found: Digest,
    },
    /// The session is ending or ended.
    #[error("account {0} is ending: no further tokens can be metered")]
    NotOpen(AccountId),
    /// Another request is generating.
    #[error("account {account} is generating request {request:?}: one at a time")]
    Busy {
        /// The account.
        account: AccountId,
        /// The active request's id.
        request: String,
    },
    /// The request id was used before.
    #[error("request {request:?} of account {account} exists as turn {turn}")]
    RequestExists {
        /// The account.
        account: AccountId,
        /// The request id.
        request: String,
        /// The turn that answered it.
        turn: u32,
    },
    /// Nothing is generating.
    #[error("account {0} has no active turn")]
    NoTurn(AccountId),
    /// Tokens offered do not follow on.
    #[error("account {account} stands at token {expected}, the batch starts at {found}")]
    OutOfOrder {
        /// The account.
        account: AccountId,
        /// Where it stands.
        expected: TokenSeq,
        /// Where the batch starts.
        found: TokenSeq,
    },
    /// More tokens than the deposit pays for.
    #[error("account {account}: the deposit pays for {affordable} tokens, {asked} would be metered")]
    Deposit {
        /// The account.
        account: AccountId,
        /// Tokens the deposit pays for.
        affordable: TokenCount,
        /// Position the batch would reach.
        asked: TokenSeq,
    },
    /// A claim must end at a checkpoint after the last submitted token.
    #[error("no checkpoint of account {account} ends at token {asked}")]
    NotACheckpoint {
        /// The account.
        account: AccountId,
        /// Where the claim should end.
        asked: TokenSeq,
    },
    /// The job has an unresolved claim.
    #[error("claim {0} is not resolved yet: one at a time")]
    ClaimInFlight(ClaimId),
    /// No such claim is under way.
    #[error("claim {0} is not under way")]
    UnknownClaim(ClaimId),
    /// The event does not fit the claim's or transaction's state.
    #[error("{what} cannot be {event} while it is {state}")]
    WrongState {
        /// The claim or transaction.
        what: String,
        /// What was to happen.
        event: &'static str,
        /// Where it stands.
        state: String,
    },
    /// No such transaction is under way.
    #[error("transaction with nonce {} of {} is not under way", .0.nonce, .0.key)]
    UnknownTx(TxId),
    /// The nonce belongs to another transaction.
    #[error("nonce {} of {} is taken by another transaction", .0.nonce, .0.key)]
    NonceTaken(TxId),
    /// Too many attempts of one transaction.
    #[error("transaction with nonce {} of {} has {} attempts already", .0.nonce, .0.key, crate::Tx::MAX_ATTEMPTS)]
    TooManyAttempts(TxId),
    /// The account has no terms (log mode, unbilled).
    #[error("account {0} is not settled on a chain")]
    NotSettling(AccountId),
    /// A payout does not fit what the ledger expects.
    #[error("the payout of account {account} is {found}, expected {expected}")]
    Payout {
        /// The account.
        account: AccountId,
        /// What came.
        found: String,
        /// What should have come.
        expected: String,
    },
    /// The line between the positions would break: a fault in this program.
    #[error("account {account}: {broken}")]
    Invariant {
        /// The account.
        account: AccountId,
        /// Which part.
        broken: Box<Broken>,
    },
}
