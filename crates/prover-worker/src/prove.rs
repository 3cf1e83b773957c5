//! From an execution to a receipt: a STARK for each segment, and the claim that holds them together.
//!
//! RISC Zero's own prover stands on crates that compile half an hour of C++ for recursion and Keccak, which a composite receipt
//! does not use. Here only the rv32im circuit proves; the receipt is put together by hand and then judged, like any other, by
//! `milepost_prover::verify`. The receipt types cannot be constructed outside their crate, but they can be deserialised.

use anyhow::{Context, Result, ensure};
use risc0_circuit_rv32im::execute::Segment;
use risc0_circuit_rv32im::prove::{SegmentProver, segment_prover};
use risc0_circuit_rv32im::{Rv32imV2Claim, TerminateState};
use risc0_zkvm::sha::Digestible;
use risc0_zkvm::{
    CompositeReceipt, CompositeReceiptVerifierParameters, Digest, ExitCode, InnerReceipt, MaybePruned, Output, Receipt, ReceiptClaim,
    SegmentReceipt, SegmentReceiptVerifierParameters, SystemState,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Proves the segments in order; `proven` is told how many are done after each.
pub(crate) fn prove(segments: &[Segment], journal: &[u8], mut proven: impl FnMut(usize)) -> Result<Receipt> {
    let circuit = segment_prover()?;
    let mut receipts = Vec::with_capacity(segments.len());
    for (index, segment) in segments.iter().enumerate() {
        receipts.push(prove_segment(&*circuit, index, segment, journal).with_context(|| format!("segment {index}"))?);
        proven(index + 1);
    }
    // The field order of `CompositeReceipt`.
    let verifier_parameters = CompositeReceiptVerifierParameters::default().digest();
    let composite: CompositeReceipt = assemble(&(receipts, Vec::<()>::new(), verifier_parameters))?;
    Ok(Receipt::new(InnerReceipt::Composite(composite), journal.to_vec()))
}

/// Proves segments and keeps nothing but the number of bytes of their seals: for programs whose claim is nobody's concern.
pub(crate) fn seal_bytes(segments: &[Segment]) -> Result<usize> {
    let circuit = segment_prover()?;
    segments.iter().try_fold(0, |bytes, segment| Ok(bytes + 4 * circuit.prove(segment)?.len()))
}

/// What proves: chosen when the program is built.
pub(crate) const BACKEND: &str = if cfg!(feature = "cuda") { "cuda" } else { "cpu" };

fn prove_segment(circuit: &dyn SegmentProver, index: usize, segment: &Segment, journal: &[u8]) -> Result<SegmentReceipt> {
    let seal = circuit.prove(segment)?;
    let claim = claim(&Rv32imV2Claim::decode(&seal)?, journal)?;
    // The field order of `SegmentReceipt`.
    assemble(&(seal, u32::try_from(index)?, "poseidon2", SegmentReceiptVerifierParameters::default().digest(), claim))
}

/// The claim of a segment's seal, with the output opened: a composite receipt's claim must show it.
fn claim(seal: &Rv32imV2Claim, journal: &[u8]) -> Result<ReceiptClaim> {
    let (exit_code, post, output) = match seal.terminate_state {
        None => (ExitCode::SystemSplit, seal.post_state, None),
        Some(TerminateState { a0, .. }) => {
            ensure!(a0.1 == 0, "the guest paused");
            let output = Output { journal: MaybePruned::Value(journal.to_vec()), assumptions: Vec::new().into() };
            // The verifier takes the state after a halt for nothing: it is not part of the claim.
            (ExitCode::Halted(a0.0.into()), Digest::ZERO, Some(output))
        }
    };
    let state = |merkle_root| MaybePruned::Value(SystemState { pc: 0, merkle_root });
    Ok(ReceiptClaim {
        pre: state(seal.pre_state),
        post: state(post),
        exit_code,
        input: MaybePruned::Pruned(seal.input),
        output: output.into(),
    })
}

/// Makes a value of a type that can only be deserialised out of its fields.
fn assemble<T: DeserializeOwned>(fields: &impl Serialize) -> Result<T> {
    Ok(postcard::from_bytes(&postcard::to_allocvec(fields)?)?)
}
