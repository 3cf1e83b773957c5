//! Why there is no proof. Each error has a code (see `docs/proofs.md`) and says what to do.

use std::path::PathBuf;
use std::time::Duration;

use milepost_statement::Digest;

/// Why a claim was not proven. In every case nothing changed: the tokens stay owed and the claim can be proven again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such program.
    #[error("there is no prover at {}", path.display())]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The program cannot be started.
    #[error("the prover at {} cannot be executed: {why}", path.display())]
    NotExecutable {
        /// The program.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The program started, but did not greet as a prover does.
    #[error("the program at {} is not a Milepost prover: {why}", path.display())]
    NotAProver {
        /// The program.
        path: PathBuf,
        /// What it did instead.
        why: String,
    },
    /// The prover belongs to another version.
    #[error("the prover is version {theirs}, this node is {ours}")]
    WrongVersion {
        /// This crate's version and protocol.
        ours: String,
        /// The prover's.
        theirs: String,
    },
    /// The prover holds another guest.
    #[error("the prover's guest has image id {theirs}, this node believes proofs of {ours}")]
    WrongImage {
        /// The image id that counts.
        ours: Digest,
        /// The prover's.
        theirs: Digest,
    },
    /// The prover's process ended before it answered.
    #[error("the prover ended with {status} before it answered{}", tail(stderr))]
    Crashed {
        /// How it ended: exit code or signal.
        status: String,
        /// The last it wrote to its error output.
        stderr: String,
    },
    /// The prover stopped giving signs of life, or stopped advancing, and was killed.
    #[error("the prover was silent for {}s ({what}) and was killed", silent.as_secs_f64())]
    Hung {
        /// How long nothing was heard.
        silent: Duration,
        /// What was waited for.
        what: &'static str,
    },
    /// The prover said that it cannot prove this.
    #[error("the prover refused: {message} [{code}]")]
    Refused {
        /// The worker's own code.
        code: String,
        /// Its words.
        message: String,
    },
    /// The prover's receipt does not hold.
    #[cfg(feature = "stark")]
    #[error("the prover's receipt does not hold: {0}")]
    Invalid(#[from] crate::VerifyError),
    /// The request contradicts itself.
    #[error("the claim cannot be proven: {why}")]
    BadRequest {
        /// What is wrong.
        why: String,
    },
    /// `RISC0_DEV_MODE` is set: receipts would be worth nothing.
    #[error("RISC0_DEV_MODE is set in the environment")]
    DevMode,
    /// Too many claims are waiting for the prover.
    #[error("{waiting} claims are already waiting for the prover")]
    Busy {
        /// How many wait.
        waiting: usize,
    },
    /// The prover needed more memory than it may have.
    #[error("the prover ran out of memory: it may have {ceiling_mb} MB, {enough_mb} MB would be enough for this claim")]
    OutOfMemory {
        /// What it may have, in MB.
        ceiling_mb: u64,
        /// What would be enough, in MB.
        enough_mb: u64,
    },
    /// The prover on another machine is not there.
    #[error("the prover at {address} cannot be reached: {why}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What the system said.
        why: String,
    },
    /// Whoever answers there is not the prover that was meant.
    #[error("the prover at {address} shows identity {found}, the configuration names {expected}")]
    WrongIdentity {
        /// Where it was asked.
        address: String,
        /// The identity that was expected.
        expected: String,
        /// The identity that was shown.
        found: String,
    },
    /// The prover on another machine does not serve this node.
    #[error("the prover at {address} does not admit this node, whose identity is {ours}")]
    NotAdmitted {
        /// Where it was asked.
        address: String,
        /// This node's identity.
        ours: String,
    },
    /// The prover on another machine, or the way to it, failed.
    #[error("the prover at {address} failed: {why}")]
    RemoteFailed {
        /// Where it was asked.
        address: String,
        /// What it said, or how it ended.
        why: String,
    },
    /// A seal was asked of a prover that makes none.
    #[error("the prover at {prover} makes no seals for the chain's verifier")]
    NoSeals {
        /// Program or address.
        prover: String,
    },
    /// The proof was made, and wrapping it for the chain's verifier failed.
    #[error("the proof could not be sealed for the chain's verifier: {why}")]
    Sealing {
        /// What the prover said.
        why: String,
    },
    /// The process or its pipes failed in another way.
    #[error("talking to the prover failed: {0}")]
    Io(#[from] std::io::Error),
}

impl Error {
    /// A short, stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "MP-P-001",
            Self::NotExecutable { .. } => "MP-P-002",
            Self::NotAProver { .. } => "MP-P-003",
            Self::WrongVersion { .. } => "MP-P-004",
            Self::WrongImage { .. } => "MP-P-005",
            Self::Crashed { .. } => "MP-P-006",
            Self::Hung { .. } => "MP-P-007",
            Self::Refused { .. } => "MP-P-008",
            #[cfg(feature = "stark")]
            Self::Invalid(_) => "MP-P-009",
            Self::BadRequest { .. } => "MP-P-010",
            Self::DevMode => "MP-P-011",
            Self::Busy { .. } => "MP-P-012",
            Self::Io(_) => "MP-P-013",
            Self::OutOfMemory { .. } => "MP-P-014",
            Self::Unreachable { .. } => "MP-P-015",
            Self::WrongIdentity { .. } => "MP-P-016",
            Self::NotAdmitted { .. } => "MP-P-017",
            Self::RemoteFailed { .. } => "MP-P-018",
            Self::NoSeals { .. } => "MP-P-019",
            Self::Sealing { .. } => "MP-P-020",
        }
    }

    /// What an operator should do.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "install milepost-prover beside milepost, or set prover.program to where it is",
            Self::NotExecutable { .. } => "make it executable (chmod +x) and check that it was built for this machine",
            Self::NotAProver { .. } => "set prover.program to the program milepost-prover of this release",
            Self::WrongVersion { .. } | Self::WrongImage { .. } => "deploy milepost and milepost-prover from the same release",
            Self::Crashed { .. } => {
                "read what it wrote last; killed by signal 9 mostly means that the machine's memory ran out (a proof needs 0.3 to 1.1 GB)"
            }
            Self::Hung { .. } => "check the machine's load and memory; the claim is proven again",
            Self::Refused { .. } | Self::BadRequest { .. } => "this is a fault of the program: keep the log and report it",
            #[cfg(feature = "stark")]
            Self::Invalid(_) => "do not submit; deploy milepost and milepost-prover from the same release",
            Self::DevMode => "unset RISC0_DEV_MODE: with it, receipts prove nothing",
            Self::Busy { .. } => "nothing, unless it lasts: then proofs take longer than tokens, and claims should hold more of them",
            Self::OutOfMemory { .. } => {
                "raise prover.memory_mb to that, or remove it for the default; the claim is kept and proven again after a pause"
            }
            Self::Unreachable { .. } => "start `milepost-prover serve --listen` there, set prover.address right, open the way to it",
            Self::WrongIdentity { .. } => {
                "set prover.identity to what `milepost-prover identity` says there; if nobody changed its key, somebody is in between"
            }
            Self::NotAdmitted { .. } => "start `milepost-prover serve --listen` there with --admit and this node's identity",
            Self::RemoteFailed { .. } => "look at its log and the way to it; the claim is kept and proven again after a pause",
            Self::NoSeals { .. } => "build milepost-prover with its feature groth16 on a machine that can make seals (docs/proofs.md)",
            Self::Sealing { .. } => {
                "check that this user can start Docker's containers and that memory suffices (docs/proofs.md); it is tried again after a pause"
            }
            Self::Io(_) => "check limits on open files and processes",
        }
    }

    /// Whether the same request may succeed later without anybody's help.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Crashed { .. }
                | Self::Hung { .. }
                | Self::Busy { .. }
                | Self::Unreachable { .. }
                | Self::RemoteFailed { .. }
                | Self::Sealing { .. }
                | Self::Io(_)
        )
    }
}

/// The last words of a process, if it had any.
fn tail(stderr: &str) -> String {
    let stderr = stderr.trim();
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}
