//! The only judge of whether a receipt file holds.
//!
//! Receipts come from strangers too (`milepost verify`). So the kind is read and refused by name before anything else is
//! decoded, receipts with assumptions (which nest without end) are not decoded at all, and sizes are bounded. Of a sealed receipt
//! nothing is decoded: from program and journal follows what its seal must be about.

use milepost_statement::{Digest, JournalError, ProofKind, Statement};
use risc0_zkvm::sha::Digestible;
use risc0_zkvm::{
    ExitCode, Groth16Receipt, Groth16ReceiptVerifierParameters, InnerReceipt, MaybePruned, Output, Receipt, ReceiptClaim, SegmentReceipt,
    VerifierContext,
};
use serde::Deserialize;
use sha2::Digest as _;

use crate::layout::{RECEIPT_TAG, SEAL_BYTES, kind_of, seal_of};

/// The selector of seals that RISC Zero's development mode makes.
const FAKE_SELECTOR: [u8; 4] = [0xff; 4];

/// Most bytes of a receipt file. A segment takes about 220 KB, a claim of a million tokens some hundred of them.
pub const MAX_RECEIPT_BYTES: usize = 64 << 20;

/// What a receipt proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Composite or Groth16.
    pub kind: ProofKind,
    /// The proven statement.
    pub statement: Statement,
    /// The program that was run.
    pub image_id: Digest,
    /// Segments of the composite STARK; 0 where a Groth16 proof stands for them.
    pub segments: usize,
    /// SHA-256 of the receipt file.
    pub receipt_digest: Digest,
}

/// Why a receipt is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// `RISC0_DEV_MODE` is set: nothing is verified in such an environment.
    #[error("RISC0_DEV_MODE is set in the environment; unset it, then verify")]
    DevMode,
    /// A test proof of [`Mock`](crate::Mock).
    #[error("this is a mock proof: it proves nothing")]
    Mock,
    /// A development-mode receipt of RISC Zero.
    #[error("this is a fake receipt of RISC Zero's development mode: it proves nothing")]
    Fake,
    /// Another kind of receipt than was asked for, or than there are.
    #[error("this is a {found} receipt, not a {expected} one")]
    Kind {
        /// As asked.
        expected: ProofKind,
        /// What it is.
        found: &'static str,
    },
    /// Not a receipt file, or a damaged one.
    #[error("this is not a receipt file: {0}")]
    Format(String),
    /// Proven of another program.
    #[error("the receipt is about program {found}, not {expected}")]
    WrongImage {
        /// The image id that counts.
        expected: Digest,
        /// The receipt's.
        found: Digest,
    },
    /// The guest did not end well.
    #[error("the guest ended with {0}")]
    WrongExit(String),
    /// The journal is not the one that was proven.
    #[error("the journal was altered: it is not the one that the seal commits to")]
    AlteredJournal,
    /// The STARK does not hold.
    #[error("the seal does not verify: {0}")]
    BadSeal(String),
    /// What was proven is not a statement.
    #[error("the proven journal is not a statement: {0}")]
    NotAStatement(#[from] JournalError),
    /// About another chain.
    #[error("the proof is about chain {found}, not {expected}")]
    WrongChain {
        /// As asked.
        expected: u64,
        /// As proven.
        found: u64,
    },
    /// About another contract.
    #[error("the proof is about marketplace {found}, not {expected}")]
    WrongMarketplace {
        /// As asked.
        expected: String,
        /// As proven.
        found: String,
    },
    /// About another job.
    #[error("the proof is about job {found}, not {expected}")]
    WrongJob {
        /// As asked.
        expected: u64,
        /// As proven.
        found: u64,
    },
    /// About another host.
    #[error("the proof is about host {found}, not {expected}")]
    WrongHost {
        /// As asked.
        expected: String,
        /// As proven.
        found: String,
    },
    /// About another model file.
    #[error("the proof is about model {found}, not {expected}")]
    WrongModel {
        /// As asked.
        expected: Digest,
        /// As proven.
        found: Digest,
    },
    /// Starts at another token.
    #[error("the proof starts at token {found}, not {expected}")]
    WrongFirstSeq {
        /// As asked.
        expected: u64,
        /// As proven.
        found: u64,
    },
    /// Covers another number of tokens.
    #[error("the proof covers {found} tokens, not {expected}")]
    WrongCount {
        /// As asked.
        expected: u64,
        /// As proven.
        found: u64,
    },
    /// Follows on from another head.
    #[error("the proof starts from head {found}, not {expected}")]
    WrongHeadBefore {
        /// As asked.
        expected: Digest,
        /// As proven.
        found: Digest,
    },
    /// Leads to another head: other tokens, turns or an other order.
    #[error("the proof leads to head {found}, not {expected}")]
    WrongHeadAfter {
        /// As asked.
        expected: Digest,
        /// As proven.
        found: Digest,
    },
}

/// Whether `RISC0_DEV_MODE` asks for RISC Zero's development mode, in which fake receipts pass. Anything but an explicit "off" counts.
pub fn dev_mode_is_set() -> bool {
    std::env::var_os("RISC0_DEV_MODE").is_some_and(|value| !["", "0", "false", "no"].iter().any(|off| value.eq_ignore_ascii_case(off)))
}

/// Verifies a receipt file: the STARK, the program, and that it says exactly `expected`.
///
/// **Does not** say that a model produced the tokens, or that anybody received them.
pub fn verify(file: &[u8], image_id: Digest, expected: &Statement) -> Result<Verified, VerifyError> {
    let verified = verify_any(file, image_id)?;
    compare(&verified.statement, expected)?;
    Ok(verified)
}

/// Verifies the STARK and the program, whatever it states.
fn verify_any(file: &[u8], image_id: Digest) -> Result<Verified, VerifyError> {
    if dev_mode_is_set() {
        return Err(VerifyError::DevMode);
    }
    if file.len() > MAX_RECEIPT_BYTES {
        return Err(VerifyError::Format(format!("it has {} bytes; at most {MAX_RECEIPT_BYTES} are read", file.len())));
    }
    match kind_of(file) {
        Some(ProofKind::Composite) => verify_composite(file, image_id),
        Some(ProofKind::Groth16) => verify_sealed(file, image_id),
        Some(ProofKind::Mock) => Err(VerifyError::Mock),
        None => Err(VerifyError::Format("it does not begin as one".into())),
    }
}

fn verify_composite(file: &[u8], image_id: Digest) -> Result<Verified, VerifyError> {
    let receipt = decode(file)?;
    let composite = match &receipt.inner {
        InnerReceipt::Composite(composite) => composite,
        InnerReceipt::Fake(_) => return Err(VerifyError::Fake),
        _ => return Err(not_composite("different")),
    };

    // These comparisons only give good names to what the verification below would refuse anyway.
    let (Some(first), Some(last)) = (composite.segments.first(), composite.segments.last()) else {
        return Err(VerifyError::Format("it has no segments".into()));
    };
    let found = digest(first.claim.pre.digest());
    if found != image_id {
        return Err(VerifyError::WrongImage { expected: image_id, found });
    }
    if last.claim.exit_code != ExitCode::Halted(0) {
        return Err(VerifyError::WrongExit(format!("{:?}", last.claim.exit_code)));
    }
    let output = Output { journal: MaybePruned::Pruned(receipt.journal.digest()), assumptions: Vec::new().into() };
    if last.claim.output.digest() != MaybePruned::Value(Some(output)).digest() {
        return Err(VerifyError::AlteredJournal);
    }

    // The judgement: every segment's seal, their chain, program, exit code and journal.
    judge(&receipt, image_id)?;
    Ok(Verified {
        kind: ProofKind::Composite,
        statement: Statement::from_journal(&receipt.journal.bytes)?,
        image_id,
        segments: composite.segments.len(),
        receipt_digest: Digest(sha2::Sha256::digest(file).into()),
    })
}

/// What the chain's verifier does, done here: the seal must be about the program's good end with exactly this journal. Where it is
/// not, nobody can tell which of the three is wrong.
fn verify_sealed(file: &[u8], image_id: Digest) -> Result<Verified, VerifyError> {
    let cut = || VerifyError::Format(format!("a sealed receipt has a seal of {SEAL_BYTES} bytes, then a journal"));
    let (seal, journal) = seal_of(file).ok_or_else(cut)?;
    let (selector, seal) = seal.split_at(4);
    let parameters = Groth16ReceiptVerifierParameters::default().digest();
    if selector == FAKE_SELECTOR {
        return Err(VerifyError::Fake);
    }
    let expected = &parameters.as_bytes()[..4];
    if selector != expected {
        return Err(VerifyError::BadSeal(format!("it is for the verifier {}, known is {}", hex::encode(selector), hex::encode(expected))));
    }
    let claim = MaybePruned::Value(ReceiptClaim::ok(risc0_zkvm::Digest::from(image_id.0), journal.to_vec()));
    let inner = InnerReceipt::Groth16(Groth16Receipt::new(seal.to_vec(), claim, parameters));
    judge(&Receipt::new(inner, journal.to_vec()), image_id)?;
    Ok(Verified {
        kind: ProofKind::Groth16,
        statement: Statement::from_journal(journal)?,
        image_id,
        segments: 0,
        receipt_digest: Digest(sha2::Sha256::digest(file).into()),
    })
}

fn judge(receipt: &Receipt, image_id: Digest) -> Result<(), VerifyError> {
    receipt
        .verify_with_context(&VerifierContext::default().with_dev_mode(false), risc0_zkvm::Digest::from(image_id.0))
        .map_err(|why| VerifyError::BadSeal(why.to_string()))
}

fn not_composite(found: &'static str) -> VerifyError {
    VerifyError::Kind { expected: ProofKind::Composite, found }
}

/// The file of a composite receipt.
pub fn encode_receipt(receipt: &Receipt) -> Result<Vec<u8>, VerifyError> {
    postcard::to_extend(receipt, RECEIPT_TAG.to_vec()).map_err(|why| VerifyError::Format(why.to_string()))
}

/// Decodes the file of a composite receipt.
fn decode(file: &[u8]) -> Result<Receipt, VerifyError> {
    let body = file.strip_prefix(RECEIPT_TAG).unwrap_or_default();
    // postcard writes the variant of `InnerReceipt` first.
    match body.first() {
        Some(0) => {}
        Some(1) => return Err(not_composite("succinct")),
        Some(2) => return Err(not_composite("Groth16")),
        Some(3) => return Err(VerifyError::Fake),
        _ => return Err(VerifyError::Format("its kind is unknown".into())),
    }
    let wrong = |why: postcard::Error| VerifyError::Format(why.to_string());
    let (shape, rest) = postcard::take_from_bytes::<Shape>(&body[1..]).map_err(wrong)?;
    if !rest.is_empty() {
        return Err(VerifyError::Format(format!("{} bytes stand behind it", rest.len())));
    }
    debug_assert!(shape.assumption_receipts.is_empty());
    postcard::from_bytes(body).map_err(wrong)
}

/// A composite receipt as it lies in the file, without assumptions: decoding it cannot recurse.
#[derive(Deserialize)]
struct Shape {
    #[expect(dead_code, reason = "decoded to learn whether it can be")]
    segments: Vec<SegmentReceipt>,
    assumption_receipts: Vec<Assumption>,
    #[expect(dead_code, reason = "decoded to learn whether it can be")]
    verifier_parameters: risc0_zkvm::Digest,
    #[expect(dead_code, reason = "decoded to learn whether it can be")]
    journal: Vec<u8>,
    #[expect(dead_code, reason = "decoded to learn whether it can be")]
    metadata: risc0_zkvm::Digest,
}

/// Stands where an assumption would; never decodes.
struct Assumption;

impl<'de> Deserialize<'de> for Assumption {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("a claim's receipt has no assumptions"))
    }
}

fn digest(digest: risc0_zkvm::Digest) -> Digest {
    Digest(digest.into())
}

/// Compares field by field, so that a refusal names the field.
fn compare(found: &Statement, expected: &Statement) -> Result<(), VerifyError> {
    macro_rules! same {
        ($field:ident, $error:ident, $value:expr) => {
            if found.$field != expected.$field {
                let value = $value;
                return Err(VerifyError::$error { expected: value(expected.$field), found: value(found.$field) });
            }
        };
    }
    same!(chain_id, WrongChain, |chain: milepost_statement::ChainId| chain.0);
    same!(marketplace, WrongMarketplace, |address: milepost_statement::Address| address.to_string());
    same!(job_id, WrongJob, |job: milepost_statement::JobId| job.0);
    same!(host, WrongHost, |address: milepost_statement::Address| address.to_string());
    same!(model_digest, WrongModel, |digest| digest);
    same!(first_seq, WrongFirstSeq, |seq: milepost_statement::TokenSeq| seq.0);
    same!(count, WrongCount, |count: milepost_statement::TokenCount| count.0);
    same!(head_before, WrongHeadBefore, |digest| digest);
    same!(head_after, WrongHeadAfter, |digest| digest);
    Ok(())
}
