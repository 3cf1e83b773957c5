//! What a Milepost proof says, byte by byte: transcript heads, the journal, receipts and vouchers.
//!
//! `docs/statement.md` is the specification; this crate is its Rust form, shared by the guest, the host, the verifier and
//! the clients. Version 1 is frozen: `vectors/v1.json` pins every byte and is checked here and in Solidity.
//!
//! **Guarantees.** Two different runs of tokens, jobs, hosts, chains or models have different heads (collision resistance of
//! SHA-256). **Does not** say that a model produced the tokens or that anybody received them.
//!
//! Without the feature `std` the crate is `no_std`, depends on nothing, and leaves hashing to the caller (the guest uses the
//! zkVM's own SHA-256): layouts and constants only.
#![cfg_attr(not(feature = "std"), no_std)]

mod journal;
mod layout;
mod units;

#[cfg(feature = "std")]
mod eip712;
#[cfg(feature = "std")]
mod proof;
#[cfg(feature = "std")]
mod quote;
#[cfg(feature = "std")]
mod text;
#[cfg(feature = "std")]
mod transcript;

pub use journal::{JOURNAL_LEN, JOURNAL_VERSION, JournalError, Statement};
pub use layout::{
    CHECKPOINT_DOMAIN, CHECKPOINT_HEADER_LEN, GENESIS_DOMAIN, GUEST_INPUT_VERSION, MAX_CHECKPOINT_TOKENS, OPEN_DOMAIN, PROMPT_DOMAIN,
    REQUEST_DOMAIN, SAMPLER_DOMAIN, TURNS_DOMAIN, checkpoint_header,
};
pub use units::{Address, ChainId, Digest, JobId, TokenCount, TokenId, TokenSeq};

#[cfg(feature = "std")]
pub use eip712::{Domain, SessionOpen, Signature, SignatureError, SigningKey, TurnReceipt, Voucher, address_of, keccak256, recover};
#[cfg(feature = "std")]
pub use proof::{ProofBytesError, ProofKind, ProofParts, decode_proof, encode_proof};
#[cfg(feature = "std")]
pub use quote::{Quote, SignedQuote};
#[cfg(feature = "std")]
pub use text::ParseError;
#[cfg(feature = "std")]
pub use transcript::{
    Salt, Sampler, Turn, checkpoint_head, genesis_head, guest_input, open_digest, prompt_digest, request_digest, salt_commitment,
    turns_digest,
};
