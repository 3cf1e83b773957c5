//! `milepost-prover`: RISC Zero proving in a process of its own.
//!
//! The node starts it (`milepost-prover serve`), asks for a proof over stdin and gets a receipt over stdout; the protocol is
//! `milepost_prover::protocol`. The process holds no keys of money, knows no chain and keeps nothing: it can be killed at any instant.
//! It lowers its own priority so that proving does not starve inference, and refuses to run in RISC Zero's development mode.
//!
//! | module | subject |
//! |---|---|
//! | [`guest`] | the guest's ELF, its memory, its image id |
//! | [`execute`] | running the guest, cutting the run into segments |
//! | [`prove`] | a STARK for each segment, put together as a receipt |
//! | [`seal`] | that receipt wrapped for the chain's verifier, with the feature `groth16` |
//! | [`serve`] | the protocol's worker side |
//! | [`listen`] | proving for nodes on other machines |
//! | [`limits`] | priority, I/O class and memory ceiling of this process |
//! | [`bench`], [`memory`], [`empty`] | figures for people, against a program that does nothing |

mod bench;
mod empty;
mod execute;
mod guest;
mod limits;
mod listen;
mod memory;
mod prove;
mod seal;
mod serve;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use milepost_prover::{IMAGE_ID, ProofRequest, dev_mode_is_set, encode_receipt, sample_request, verify};

const HELP: &str = "\
milepost-prover: makes the proofs of a Milepost host

  milepost-prover serve             answer a node over stdin and stdout (started by the node)
  milepost-prover serve --listen ADDR --key FILE --admit IDENTITY.. [--proofs N] [--memory-mb N]
                                    prove for the nodes with these identities, over the network
  milepost-prover identity --key FILE
                                    the identity of a key, which is made if the file is not there
  milepost-prover self-test         prove a tiny claim and verify the proof
  milepost-prover bench [TOKENS..]  cycles, segments, seconds and bytes for claims of so many tokens,
                                    and their time against a program that does nothing
  milepost-prover capacity          cycles and segments without proving, and how many tokens a segment holds
  milepost-prover memory [TOKENS]   memory that the largest claim takes, or one of so many tokens
  milepost-prover image-id FILE     the image id of a guest's ELF
  milepost-prover --version         version, image id, and whether cpu or cuda proves

Exit codes: 0 well, 1 failed, 2 wrong arguments, 3 RISC0_DEV_MODE is set";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["--version" | "-V" | "version"] => {
            println!("milepost-prover {} image {IMAGE_ID} on {}", env!("CARGO_PKG_VERSION"), prove::BACKEND);
            Ok(())
        }
        ["--help" | "-h" | "help"] => {
            println!("{HELP}");
            Ok(())
        }
        ["image-id", file] => image_id(file),
        ["serve" | "self-test" | "bench" | "memory", ..] if dev_mode_is_set() => {
            serve::refuse_dev_mode(arguments[..] == ["serve"]);
            return ExitCode::from(3);
        }
        ["serve"] => serve::serve(),
        ["serve", ref options @ ..] => match listen::Arguments::parse(options) {
            Ok(arguments) => listen::listen(arguments),
            Err(error) => {
                eprintln!("milepost-prover: {error:#}\n\n{HELP}");
                return ExitCode::from(2);
            }
        },
        ["identity", "--key", file] => listen::identity(file),
        ["self-test"] => self_test(),
        ["capacity"] => bench::capacity(),
        ["memory"] => memory::memory(None),
        ["memory", tokens] => memory::memory(Some(tokens)),
        ["bench", ref tokens @ ..] => bench::bench(tokens),
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("milepost-prover: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn image_id(file: &str) -> Result<()> {
    let elf = std::fs::read(file).with_context(|| format!("reading {file}"))?;
    println!("{}", guest::image_id(&elf)?.to_string().trim_start_matches("0x"));
    Ok(())
}

fn self_test() -> Result<()> {
    if guest::image_id(guest::ELF)? != IMAGE_ID {
        bail!("the guest in this program is not the one whose image id it names");
    }
    let made = make(&sample_request())?;
    println!("ok: {} bytes of receipt in {:.1} s, segments of 2^{:?} cycles", made.receipt.len(), made.seconds, made.po2);
    Ok(())
}

/// A proof and what it took.
struct Made {
    receipt: Vec<u8>,
    cycles: u64,
    paging: u64,
    po2: Vec<u32>,
    seconds: f64,
    verify_seconds: f64,
}

/// Proves and verifies a claim in this process.
fn make(request: &ProofRequest) -> Result<Made> {
    request.check()?;
    let started = std::time::Instant::now();
    let run = execute::execute(&request.guest_input(), execute::MAX_SEGMENT_PO2)?;
    let po2 = run.po2();
    let receipt = encode_receipt(&prove::prove(&run.segments, &run.journal, |_| ())?)?;
    let seconds = started.elapsed().as_secs_f64();
    let started = std::time::Instant::now();
    verify(&receipt, IMAGE_ID, &request.statement)?;
    let verify_seconds = started.elapsed().as_secs_f64();
    Ok(Made { receipt, cycles: run.user_cycles, paging: run.paging_cycles, po2, seconds, verify_seconds })
}
