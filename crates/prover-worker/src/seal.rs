//! From a composite receipt to a seal that the chain's verifier takes, by RISC Zero's own prover: each segment's STARK is verified by a
//! recursion program, pairs of those by another until one is left, that one is proven over the curve BN254, and wrapped as a Groth16 proof
//! by a program that RISC Zero publishes as a container. Without the feature `groth16` none of it is here.

use anyhow::Result;
use milepost_statement::ProofKind;
use risc0_zkvm::Receipt;

/// What this program can make.
#[cfg(feature = "groth16")]
pub(crate) const KINDS: &[ProofKind] = &[ProofKind::Composite, ProofKind::Groth16];
/// What this program can make.
#[cfg(not(feature = "groth16"))]
pub(crate) const KINDS: &[ProofKind] = &[ProofKind::Composite];

/// Whether the container of the last step can be started, as far as that shows before.
#[cfg(feature = "groth16")]
pub(crate) fn check() -> Result<()> {
    use std::process::{Command, Stdio};

    use anyhow::{Context, ensure};
    let docker = Command::new("docker").args(["info", "--format", "{{.ServerVersion}}"]).stdin(Stdio::null()).output();
    let docker = docker.context("docker, which wraps the proof, cannot be started")?;
    let said = String::from_utf8_lossy(&docker.stderr);
    ensure!(docker.status.success(), "docker, which wraps the proof, does not answer: {}", said.trim());
    Ok(())
}

/// The file of the sealed receipt.
#[cfg(feature = "groth16")]
pub(crate) fn seal(receipt: &Receipt) -> Result<Vec<u8>> {
    use anyhow::Context;
    use milepost_prover::{SEAL_BYTES, sealed_receipt};
    use risc0_zkvm::{ProverOpts, get_prover_server};
    let options = ProverOpts::groth16();
    let wrapped = get_prover_server(&options)?.compress(&options, receipt)?;
    let groth16 = wrapped.inner.groth16()?;
    let mut seal = [0; SEAL_BYTES];
    // Selector and proof, as RISC Zero's contracts take them.
    seal[..4].copy_from_slice(&groth16.verifier_parameters.as_bytes()[..4]);
    let proof: &[u8; SEAL_BYTES - 4] = groth16.seal.as_slice().try_into().context("a Groth16 proof of another length")?;
    seal[4..].copy_from_slice(proof);
    Ok(sealed_receipt(&seal, &wrapped.journal.bytes))
}

#[cfg(not(feature = "groth16"))]
pub(crate) fn check() -> Result<()> {
    anyhow::bail!("this program was built without the feature groth16")
}

#[cfg(not(feature = "groth16"))]
pub(crate) fn seal(_: &Receipt) -> Result<Vec<u8>> {
    check().map(|()| Vec::new())
}
