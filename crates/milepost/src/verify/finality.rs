//! The bundle's certificate, held against a set file: whether validators made the claim's block final.

use std::path::Path;

use milepost_bundle::{Bundle, Error, Line, Report, Verdict, certified_block};
use milepost_statement::Digest;
use milepost_validator_net::light::Certified;
use milepost_validator_net::set_file::{Agreement, SetFile};

/// What a certificate that holds adds to a proof, in words.
pub(super) const ADDS: &str = "That the claim's block is final by the word of the validators in the set file: a quorum of them certified it or a block above it, \
                               and no more than a third of them can have signed something else without leaving evidence. It says nothing about the tokens.";

/// The agreement in a set file.
pub(super) fn agreement(file: &Path) -> Result<Agreement, String> {
    let read = SetFile::read(file).and_then(|set| set.agreement());
    read.map_err(|error| format!("{}: {error}", file.display()))
}

/// Answers the question of finality, which could not be asked without the set file. A bundle without a certificate leaves it open.
pub(super) fn answer(bundle: &Bundle, agreement: &Agreement, report: &mut Report) {
    // What could be seen without the set file, and failed, stays as it is.
    let Some(Ok((named, block))) = certified_block(bundle) else { return };
    let found = check(bundle, agreement, named, (block.hash, block.number));
    let line = match found {
        Ok(words) => Line { name: "finality", words, verdict: Verdict::Holds },
        Err(reason) => {
            let error = Error::NotCertified(reason);
            Line { name: "finality", words: error.to_string(), verdict: Verdict::Fails(error) }
        }
    };
    report.proven &= line.verdict == Verdict::Holds;
    match report.lines.iter_mut().find(|line| line.name == "finality") {
        Some(known) => *known = line,
        None => report.lines.push(line),
    }
}

fn check(bundle: &Bundle, agreement: &Agreement, named: Digest, block: (Digest, u64)) -> Result<String, String> {
    let known = Digest(agreement.digest());
    if named != known {
        return Err(format!("the certificate is by the agreement {named}, the set file holds {known}"));
    }
    let chain = (agreement.schedule.domain().chain.0, bundle.statement.chain_id.0);
    if chain.0 != chain.1 {
        return Err(format!("the validators watch chain {}, the claim is on chain {}", chain.0, chain.1));
    }
    let bytes = bundle.certificate.as_ref().map_or(&[][..], |certificate| certificate.bytes.as_slice());
    let certified = Certified::read(agreement, bytes).map_err(|error| error.to_string())?;
    let (hash, height) = (Digest(certified.checkpoint().hash.0), certified.height().0);
    if (hash, height) != block {
        return Err(format!(
            "the certificate is about block {hash} at height {height}, the enclosed headers lead to {} at {}",
            block.0, block.1
        ));
    }
    let above = bundle.certificate.as_ref().map_or(0, |certificate| certificate.link.len());
    Ok(format!(
        "checkpoint {} at height {height} is certified by {} validators of the agreement {known}; the claim's block lies {above} below it, by its hashes",
        certified.checkpoint().number,
        certified.certificate().signers.count()
    ))
}
