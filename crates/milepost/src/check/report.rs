//! `report.json` of the demo, as far as it is checked.

use std::path::PathBuf;

use milepost_client::{Amount, SignedReceipt};
use milepost_ledger::Positions;
use milepost_statement::{Address, ChainId, Digest, ProofKind, TokenCount, TokenId, TokenSeq};
use serde::Deserialize;

/// What a demo says about itself.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Report {
    /// Played with the scripted engine and mock proofs: labelled as such, and held against the same figures.
    #[serde(default)]
    pub(crate) tour: bool,
    pub(crate) chain_id: ChainId,
    pub(crate) rpc_url: String,
    pub(crate) marketplace: Address,
    pub(crate) job_id: u64,
    pub(crate) model: Model,
    pub(crate) image_id: String,
    pub(crate) positions: Positions,
    pub(crate) client: Client,
    pub(crate) claims: Vec<Claim>,
    pub(crate) payout: Payout,
    /// By whose certificates payments became final, where validators certified.
    #[serde(default)]
    pub(crate) finality: Option<Finality>,
}

/// What the report says of finality.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Finality {
    /// Path of the set file, relative to the report.
    pub(crate) set_file: PathBuf,
    /// Digest of what the validators agree on.
    pub(crate) agreement: String,
    /// Each payment.
    pub(crate) payments: Vec<Payment>,
}

/// A payment, and what is said to have made it final.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Payment {
    pub(crate) what: String,
    pub(crate) tx: Digest,
    /// Path of the certificate, relative to the report.
    pub(crate) certificate: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) sha256: Digest,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Client {
    pub(crate) captured_ids: Vec<TokenId>,
    pub(crate) last_receipt: Option<SignedReceipt>,
    /// Path of the capture, relative to the report.
    #[serde(default = "default_capture")]
    pub(crate) capture: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Claim {
    pub(crate) first_seq: TokenSeq,
    pub(crate) count: TokenCount,
    pub(crate) proof_kind: ProofKind,
    pub(crate) prove_seconds: f64,
    pub(crate) receipt_bytes: u64,
    /// Path of the receipt, relative to the report.
    pub(crate) receipt: PathBuf,
    pub(crate) tx: Digest,
    pub(crate) gas: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Payout {
    pub(crate) fee_bps: u16,
    pub(crate) host: Amount,
    pub(crate) treasury: Amount,
    pub(crate) refund: Amount,
}

fn default_capture() -> PathBuf {
    PathBuf::from("client-capture.json")
}
