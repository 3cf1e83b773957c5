//! What clients say when they do not take a transaction.
//!
//! Each client has words of its own for the same refusal, and there is no code that tells them apart. Three classes matter:
//! a transaction is *possibly sent* unless its client says that it was not taken; a refusal is *retryable* when the same bytes may
//! be taken later or elsewhere, and *deterministic* when they never will. None of them is a verdict about the payment: that is for
//! receipts alone.

use super::SendError;
use crate::Error;

/// What follows from an answer to a sent transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It may be on its way: nothing is concluded.
    PossiblySent,
    /// The same bytes may be taken later, or by another endpoint.
    Retryable,
    /// These bytes will never be taken.
    Deterministic,
}

/// What a phrase means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Known,
    NonceTooLow,
    Underpriced,
    NoFunds,
    /// Full pools, rate limits, nodes that are not ready.
    Later,
    /// Malformed, too large, for another chain.
    Never,
}

/// Phrases in lower case, and who says them. The first that fits decides, so what is more special stands before what is general.
const PHRASES: &[(&str, Says)] = &[
    // In the pool, or mined, already.
    ("already known", Says::Known),       // geth, reth, erigon (`ALREADY_EXISTS: already known`)
    ("alreadyknown", Says::Known),        // nethermind
    ("known transaction", Says::Known),   // besu, older geth and parity
    ("already imported", Says::Known),    // anvil, parity
    ("with same hash", Says::Known),      // erigon: `existing tx(n) with same hash`
    ("already in the pool", Says::Known), // gateways
    ("already exists", Says::Known),      // gateways
    // The nonce is used up.
    ("nonce too low", Says::NonceTooLow),         // geth, reth, besu, erigon, anvil, newer nethermind
    ("oldnonce", Says::NonceTooLow),              // nethermind
    ("ownnoncealreadyused", Says::NonceTooLow),   // nethermind
    ("nonce is too low", Says::NonceTooLow),      // parity
    ("invalid nonce; got", Says::NonceTooLow),    // gateways
    ("already mined", Says::NonceTooLow),         // gateways
    ("internal_error: mined", Says::NonceTooLow), // erigon
    // No money for it now.
    ("insufficient funds", Says::NoFunds),   // geth, reth, erigon, anvil
    ("insufficientfunds", Says::NoFunds),    // nethermind
    ("upfront cost exceeds", Says::NoFunds), // besu
    ("insufficient balance", Says::NoFunds), // gateways
    ("overshot", Says::NoFunds),             // geth
    // It will never be taken, whatever the fee: before the words about fees, some of which it contains.
    ("max priority fee per gas higher than max fee", Says::Never), // geth, reth, anvil
    ("max priority fee per gas exceeds max fee", Says::Never),     // besu
    ("exceeds the configured cap", Says::Never),                   // geth, reth, erigon: the node's own `rpc.txfeecap`
    ("transaction fee cap exceeded", Says::Never),                 // besu
    // Its price is too low now, or below that of what it would replace.
    ("underpriced", Says::Underpriced),                // geth, reth, besu, erigon, anvil, newer nethermind
    ("gas price below minimum", Says::Underpriced),    // geth: `transaction gas price below minimum`
    ("feetoolow", Says::Underpriced),                  // nethermind
    ("fee too low", Says::Underpriced),                // erigon
    ("replacementnotallowed", Says::Underpriced),      // nethermind
    ("could not replace existing", Says::Underpriced), // erigon
    ("replaced by transaction with higher tip", Says::Underpriced), // erigon
    ("future transaction tries to replace pending", Says::Underpriced), // geth
    ("less than block base fee", Says::Underpriced),   // geth, reth, anvil
    ("below current base fee", Says::Underpriced),     // besu
    ("below configured minimum", Says::Underpriced),   // besu
    ("gas price too low", Says::Underpriced),          // gateways
    ("feecap", Says::Underpriced),                     // erigon: `fee cap less than block base fee`
    ("fee cap less than", Says::Underpriced),          // erigon
    // Perhaps later, perhaps elsewhere.
    ("is full", Says::Later),             // geth, reth `txpool is full`; erigon `… sub-pool is full`
    ("nonce too high", Says::Later),      // besu, nethermind, anvil: those before it are not there yet
    ("nonce gap", Says::Later),           // gateways
    ("noncegap", Says::Later),            // nethermind
    ("noncetoofarinfuture", Says::Later), // nethermind
    ("too distant from current sender nonce", Says::Later), // besu
    ("with a lower nonce exists", Says::Later), // besu
    ("transaction pool not enabled", Says::Later), // besu: not in sync
    ("sync is still in progress", Says::Later), // besu
    ("syncing", Says::Later),             // nethermind
    ("pending subpool", Says::Later),     // reth
    ("account limit exceeded", Says::Later), // geth
    ("in-flight transaction limit", Says::Later), // geth: delegated accounts
    ("gapped-nonce", Says::Later),        // geth: delegated accounts
    ("notcurrentnoncefordelegation", Says::Later), // nethermind
    ("delegatorhaspendingtx", Says::Later), // nethermind
    ("address already reserved", Says::Later), // geth
    ("spammer", Says::Later),             // erigon
    ("not authorized", Says::Later),      // besu: another endpoint may know the sender
    ("rate limit", Says::Later),          // gateways
    ("too many requests", Says::Later),   // gateways
    ("limit exceeded", Says::Later),      // gateways
    // Never.
    ("oversized data", Says::Never),                                      // geth, reth, erigon
    ("maxtxsizeexceeded", Says::Never),                                   // nethermind
    ("rlptoolong", Says::Never),                                          // erigon
    ("intrinsic gas", Says::Never),                                       // geth, reth, anvil; besu: `Intrinsic gas exceeds gas limit`
    ("intrinsicgas", Says::Never),                                        // erigon
    ("gas limit", Says::Never),                                           // `exceeds block gas limit`, `gas limit is too high`
    ("gaslimitexceeded", Says::Never),                                    // nethermind
    ("gasuintoverflow", Says::Never),                                     // erigon
    ("gas too high", Says::Never),                                        // anvil
    ("floor data gas", Says::Never),                                      // geth, reth
    ("invalid sender", Says::Never),                                      // geth, erigon
    ("invalid signature", Says::Never),                                   // besu
    ("invalid transaction signature", Says::Never),                       // reth
    ("failedtoresolvesender", Says::Never),                               // nethermind
    ("failed to decode signed transaction", Says::Never),                 // reth, anvil
    ("sender not an eoa", Says::Never),                                   // geth
    ("senderiscontract", Says::Never),                                    // nethermind
    ("reject transactions from senders with deployed code", Says::Never), // reth
    ("chain id", Says::Never),                                            // geth, reth, anvil: `invalid chain id`
    ("wrong chainid", Says::Never),                                       // besu
    ("chainid not supported", Says::Never),                               // besu
    ("type not supported", Says::Never),                                  // geth, reth
    ("notsupportedtxtype", Says::Never),                                  // nethermind
    ("type is not activated", Says::Never),                               // erigon
    ("negative value", Says::Never),                                      // geth, erigon
    ("int256overflow", Says::Never),                                      // nethermind
    ("nonce has max value", Says::Never),                                 // geth, reth, anvil
];

impl SendError {
    /// What an error answer to a sent transaction says.
    pub(super) fn classify(error: Error) -> Self {
        // Without an answer, or with one that cannot be read, it may have been taken.
        let Error::Rpc { message, .. } = &error else { return Self::Unknown(error) };
        let text = message.to_lowercase();
        let says = PHRASES.iter().find(|(phrase, _)| text.contains(phrase)).map(|(_, says)| *says);
        match says {
            Some(Says::Known) => Self::AlreadyKnown,
            Some(Says::NonceTooLow) => Self::NonceTooLow,
            Some(Says::Underpriced) => Self::Underpriced(message.clone()),
            Some(Says::NoFunds) => Self::InsufficientFunds(message.clone()),
            Some(Says::Later) => Self::NotNow(message.clone()),
            Some(Says::Never) => Self::Rejected(message.clone()),
            // Words that nobody foresaw: an internal error after the transaction was taken looks like this too.
            None => Self::Unknown(error),
        }
    }

    /// What follows from it.
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::AlreadyKnown | Self::NonceTooLow | Self::Unknown(_) => Class::PossiblySent,
            Self::Underpriced(_) | Self::InsufficientFunds(_) | Self::NotNow(_) => Class::Retryable,
            Self::Rejected(_) => Class::Deterministic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> SendError {
        SendError::classify(Error::Rpc { endpoint: String::new(), what: "", code: -32000, message: message.to_owned(), data: None })
    }

    /// What a client says, and the refusal and class that it must be taken for.
    fn check(client: &str, table: &[(&str, &str, Class)]) {
        for (message, name, class) in table {
            let taken = said(message);
            let found = format!("{taken:?}");
            assert!(found.starts_with(name), "{client} says {message:?}: taken for {found}, not {name}");
            assert_eq!(taken.class(), *class, "{client} says {message:?}");
        }
    }

    use Class::{Deterministic, PossiblySent, Retryable};

    #[test]
    fn geth_is_understood() {
        check(
            "geth",
            &[
                ("already known", "AlreadyKnown", PossiblySent),
                ("nonce too low: next nonce 5, tx nonce 3", "NonceTooLow", PossiblySent),
                ("replacement transaction underpriced", "Underpriced", Retryable),
                ("transaction underpriced", "Underpriced", Retryable),
                ("transaction gas price below minimum: gas tip cap 1, minimum needed 1000000", "Underpriced", Retryable),
                ("max fee per gas less than block base fee: address 0x00, maxFeePerGas: 1, baseFee: 7", "Underpriced", Retryable),
                ("future transaction tries to replace pending", "Underpriced", Retryable),
                ("insufficient funds for gas * price + value: balance 0, tx cost 9, overshot 9", "InsufficientFunds", Retryable),
                ("txpool is full", "NotNow", Retryable),
                ("in-flight transaction limit reached for delegated accounts", "NotNow", Retryable),
                ("exceeds block gas limit", "Rejected", Deterministic),
                ("intrinsic gas too low: gas 20000, minimum needed 21000", "Rejected", Deterministic),
                ("oversized data: transaction size 200000, limit 131072", "Rejected", Deterministic),
                ("invalid sender", "Rejected", Deterministic),
                ("invalid chain id for signer: have 1 want 5", "Rejected", Deterministic),
                ("max priority fee per gas higher than max fee per gas: address 0x00", "Rejected", Deterministic),
                ("tx fee (2.00 ether) exceeds the configured cap (1.00 ether)", "Rejected", Deterministic),
                ("transaction type not supported", "Rejected", Deterministic),
                ("context deadline exceeded", "Unknown", PossiblySent),
            ],
        );
    }

    #[test]
    fn reth_is_understood() {
        check(
            "reth",
            &[
                ("already known", "AlreadyKnown", PossiblySent),
                ("nonce too low: next nonce 5, tx nonce 3", "NonceTooLow", PossiblySent),
                ("replacement transaction underpriced", "Underpriced", Retryable),
                ("max fee per gas less than block base fee", "Underpriced", Retryable),
                ("insufficient funds for gas * price + value: have 0 want 9", "InsufficientFunds", Retryable),
                ("txpool is full", "NotNow", Retryable),
                ("exceeds block gas limit", "Rejected", Deterministic),
                ("intrinsic gas too low", "Rejected", Deterministic),
                ("invalid transaction signature", "Rejected", Deterministic),
                ("failed to decode signed transaction", "Rejected", Deterministic),
                ("reject transactions from senders with deployed code", "Rejected", Deterministic),
            ],
        );
    }

    #[test]
    fn nethermind_is_understood() {
        check(
            "nethermind",
            &[
                ("AlreadyKnown", "AlreadyKnown", PossiblySent),
                ("OldNonce, Current nonce: 5, nonce of rejected tx: 3", "NonceTooLow", PossiblySent),
                ("FeeTooLow, MaxFeePerGas too low. MaxFeePerGas: 1, BaseFee: 7", "Underpriced", Retryable),
                ("FeeTooLowToCompete", "Underpriced", Retryable),
                ("ReplacementNotAllowed", "Underpriced", Retryable),
                ("InsufficientFunds, Account balance: 0, cumulative cost: 9", "InsufficientFunds", Retryable),
                ("NonceGap, Future nonce. Expected nonce: 5", "NotNow", Retryable),
                ("NonceTooFarInFuture", "NotNow", Retryable),
                ("Syncing", "NotNow", Retryable),
                ("GasLimitExceeded, Gas limit: 30000000, gas limit of rejected tx: 40000000", "Rejected", Deterministic),
                ("MaxTxSizeExceeded", "Rejected", Deterministic),
                ("SenderIsContract", "Rejected", Deterministic),
                ("FailedToResolveSender", "Rejected", Deterministic),
                ("NotSupportedTxType", "Rejected", Deterministic),
            ],
        );
    }

    #[test]
    fn besu_is_understood() {
        check(
            "besu",
            &[
                ("Known transaction", "AlreadyKnown", PossiblySent),
                ("Nonce too low", "NonceTooLow", PossiblySent),
                ("Replacement transaction underpriced", "Underpriced", Retryable),
                ("Gas price below configured minimum gas price", "Underpriced", Retryable),
                ("Gas price below current base fee", "Underpriced", Retryable),
                ("Upfront cost exceeds account balance", "InsufficientFunds", Retryable),
                ("Nonce too high", "NotNow", Retryable),
                ("Transaction nonce is too distant from current sender nonce", "NotNow", Retryable),
                ("An invalid transaction with a lower nonce exists", "NotNow", Retryable),
                ("Initial sync is still in progress", "NotNow", Retryable),
                ("Sender account not authorized to send transactions", "NotNow", Retryable),
                ("Transaction gas limit exceeds block gas limit", "Rejected", Deterministic),
                ("Intrinsic gas exceeds gas limit", "Rejected", Deterministic),
                ("Max priority fee per gas exceeds max fee per gas", "Rejected", Deterministic),
                ("Transaction fee cap exceeded", "Rejected", Deterministic),
                ("Invalid signature", "Rejected", Deterministic),
                ("Wrong chainId", "Rejected", Deterministic),
                ("Internal error", "Unknown", PossiblySent),
                ("Timeout expired", "Unknown", PossiblySent),
            ],
        );
    }

    #[test]
    fn erigon_is_understood() {
        check(
            "erigon",
            &[
                ("ALREADY_EXISTS: already known", "AlreadyKnown", PossiblySent),
                ("existing txn with same hash", "AlreadyKnown", PossiblySent),
                ("INTERNAL_ERROR: mined", "NonceTooLow", PossiblySent),
                ("INTERNAL_ERROR: nonce too low", "NonceTooLow", PossiblySent),
                ("INTERNAL_ERROR: could not replace existing tx", "Underpriced", Retryable),
                ("underpriced", "Underpriced", Retryable),
                ("FEE_TOO_LOW: fee too low", "Underpriced", Retryable),
                ("INTERNAL_ERROR: insufficient funds", "InsufficientFunds", Retryable),
                ("pending sub-pool is full", "NotNow", Retryable),
                ("spammer", "NotNow", Retryable),
                ("RLPTooLong", "Rejected", Deterministic),
                ("IntrinsicGas", "Rejected", Deterministic),
                ("gas limit is too high", "Rejected", Deterministic),
                ("fork supporting this transaction type is not activated yet", "Rejected", Deterministic),
            ],
        );
    }

    #[test]
    fn anvil_is_understood() {
        check(
            "anvil",
            &[
                ("transaction already imported", "AlreadyKnown", PossiblySent),
                ("nonce too low", "NonceTooLow", PossiblySent),
                ("replacement transaction underpriced", "Underpriced", Retryable),
                ("max fee per gas less than block base fee", "Underpriced", Retryable),
                ("Insufficient funds for gas * price + value", "InsufficientFunds", Retryable),
                ("intrinsic gas too low -- tx.gas_limit < minimal_cost", "Rejected", Deterministic),
                ("invalid chain id for signer", "Rejected", Deterministic),
            ],
        );
    }

    #[test]
    fn no_answer_and_words_that_nobody_foresaw_decide_nothing() {
        let lost = Error::Unreachable { endpoint: String::new(), what: "", reason: String::new() };
        assert_eq!(SendError::classify(lost).class(), PossiblySent);
        assert_eq!(said("the cat walked over the keyboard").class(), PossiblySent);
        assert_eq!(said("rate limit reached").class(), Retryable);
    }
}
