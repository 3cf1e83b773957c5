//! The check: every question by its name, none skipped because another failed.

use milepost_prover::{MOCK_RECEIPT_TAG, kind_of};
use milepost_statement::{Address, ChainId, Digest, JobId, ProofKind, Salt};
use serde::Serialize;

use crate::chain::{self, Facts, Reader};
use crate::error::{Class, Error, Field};
use crate::format::Bundle;
use crate::landing::Header;
use crate::{link, transcript};

/// The only chain for which a mock proof may be accepted.
const DEV_CHAIN: u64 = 31337;

/// What whoever checks goes by.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program whose proofs are believed.
    pub image_id: Digest,
    /// A mock proof for chain 31337 will do: for tours and tests. It proves nothing all the same, and is labelled so.
    pub accept_mock: bool,
    /// What the claim must be about.
    pub expected: Expected,
    /// The job's salt, where the bundle does not hold it.
    pub salt: Option<Salt>,
}

impl Default for Options {
    /// The committed guest; mock proofs refused; nothing expected.
    fn default() -> Self {
        Self { image_id: milepost_prover::IMAGE_ID, accept_mock: false, expected: Expected::default(), salt: None }
    }
}

/// What a claim must be about. Without these a bundle is checked in itself: it may be about somebody else's job.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// Chain id.
    pub chain_id: Option<ChainId>,
    /// The marketplace.
    pub marketplace: Option<Address>,
    /// The job.
    pub job_id: Option<JobId>,
    /// The host.
    pub host: Option<Address>,
    /// SHA-256 of the model file.
    pub model_digest: Option<Digest>,
}

/// How one question was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not.
    Fails(Error),
    /// The bundle does not hold what it takes to tell.
    NotChecked,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its name.
    pub name: &'static str,
    /// Its answer.
    pub verdict: Verdict,
    /// What was found, or why nothing was looked for.
    pub words: String,
}

#[derive(Serialize)]
struct LineForm<'a> {
    name: &'a str,
    result: &'a str,
    words: &'a str,
}

impl Serialize for Line {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let result = match self.verdict {
            Verdict::Holds => "holds",
            Verdict::Fails(_) => "fails",
            Verdict::NotChecked => "not-checked",
        };
        LineForm { name: self.name, result, words: &self.words }.serialize(serializer)
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Every question, in order.
    pub lines: Vec<Line>,
    /// Whether the claim is proven: never for a mock proof.
    pub proven: bool,
}

impl Report {
    /// The first refusal.
    pub fn error(&self) -> Option<&Error> {
        self.lines.iter().find_map(|line| match &line.verdict {
            Verdict::Fails(error) => Some(error),
            _ => None,
        })
    }

    /// Class of the first refusal; nothing where everything that was looked at holds.
    pub fn class(&self) -> Option<Class> {
        self.error().map(Error::class)
    }

    fn answer(&mut self, name: &'static str, found: Result<String, impl Into<Error>>) -> bool {
        let line = match found {
            Ok(words) => Line { name, verdict: Verdict::Holds, words },
            Err(error) => {
                let error = error.into();
                Line { name, words: error.to_string(), verdict: Verdict::Fails(error) }
            }
        };
        let holds = line.verdict == Verdict::Holds;
        self.lines.push(line);
        holds
    }

    fn not_checked(&mut self, name: &'static str, why: &str) {
        self.lines.push(Line { name, verdict: Verdict::NotChecked, words: why.to_owned() });
    }
}

impl Bundle {
    /// The kind of proof that the receipt is of, by its own word; what begins as none is judged, and refused, as the usual one.
    pub fn kind(&self) -> ProofKind {
        kind_of(&self.receipt).unwrap_or(ProofKind::Composite)
    }
}

/// Checks a bundle by itself: no model, no chain, no host.
pub fn check(bundle: &Bundle, options: &Options) -> Report {
    let mut report = Report::default();
    report.answer("program", program(bundle, options));
    let kind = bundle.kind();
    let holds = report.answer("proof", proof(bundle, options));
    report.answer("about", about(bundle, &options.expected));
    report.answer("checkpoints", transcript::checkpoints(bundle));
    opening(bundle, options, &mut report);
    landing_lines(bundle, kind, &mut report);
    match certified_block(bundle) {
        None => report.not_checked("finality", "the bundle has no finality certificate"),
        Some(Ok((agreement, block))) => report.not_checked(
            "finality",
            &format!(
                "enclosed is a certificate by the agreement {agreement}, and the headers up to block {} at height {}; whoever has the set file can check it",
                block.hash, block.number
            ),
        ),
        Some(Err(error)) => {
            report.answer("finality", Err::<String, _>(error));
        }
    }
    report.proven = holds && kind != ProofKind::Mock && report.class().is_none();
    report
}

/// What the enclosed certificate must be about: the agreement it names, and the block that the enclosed headers lead to from the claim's. `None`
/// without a certificate. Whether the certificate holds is for those to say who know the validators.
pub fn certified_block(bundle: &Bundle) -> Option<Result<(Digest, Header), link::Error>> {
    let certificate = bundle.certificate.as_ref()?;
    let inclusion = bundle.landing.as_ref().and_then(|landing| landing.inclusion.as_ref());
    let block = inclusion.and_then(|inclusion| Header::read(&inclusion.header).ok()).ok_or(link::Error::NoBlock);
    Some(block.and_then(|block| Ok((certificate.set_file, link::follow(block, &certificate.link)?))))
}

/// The same, and holds it against a chain.
pub async fn check_on_chain(bundle: &Bundle, options: &Options, reader: &impl Reader) -> Report {
    let mut report = check(bundle, options);
    let inclusion = bundle.landing.as_ref().and_then(|landing| landing.inclusion.as_ref());
    // A header that cannot be read was refused above.
    let header = inclusion.and_then(|inclusion| Header::read(&inclusion.header).ok());
    match reader.facts(&bundle.statement, header.as_ref()).await {
        Ok(facts) => compare(bundle, header.as_ref(), &facts, &mut report),
        Err(reason) => {
            report.answer("chain", Err::<String, _>(chain::Error::Unreachable(reason)));
        }
    }
    report.proven &= report.class().is_none();
    report
}

fn compare(bundle: &Bundle, header: Option<&Header>, facts: &Facts, report: &mut Report) {
    let kind = bundle.kind();
    // A transaction that cannot be read was refused above.
    let submission = bundle.landing.as_ref().and_then(|landing| landing.check_transaction(&bundle.statement, kind).ok());
    for (name, found) in chain::compare(bundle, kind.code(), header, submission.as_ref(), facts) {
        report.answer(name, found);
    }
}

fn program(bundle: &Bundle, options: &Options) -> Result<String, Error> {
    if bundle.image_id == options.image_id {
        Ok(bundle.image_id.to_string())
    } else {
        Err(Error::ImageId { expected: options.image_id, found: bundle.image_id })
    }
}

fn proof(bundle: &Bundle, options: &Options) -> Result<String, Error> {
    if bundle.kind() != ProofKind::Mock {
        return proven(bundle, options.image_id);
    }
    let chain = bundle.statement.chain_id.0;
    if chain != DEV_CHAIN {
        return Err(Error::MockElsewhere(chain));
    }
    if !options.accept_mock {
        return Err(Error::Mock);
    }
    if bundle.receipt != [MOCK_RECEIPT_TAG, &bundle.statement.journal()].concat() {
        return Err(Error::MockJournal);
    }
    Ok("TEST ONLY: a mock proof, accepted because you asked for it. NOTHING IS PROVEN".into())
}

#[cfg(feature = "stark")]
fn proven(bundle: &Bundle, image_id: Digest) -> Result<String, Error> {
    let verified = milepost_prover::verify(&bundle.receipt, image_id, &bundle.statement)?;
    if verified.kind == ProofKind::Groth16 {
        let words = "a Groth16 proof says exactly this statement; it rests on RISC Zero's trusted setup besides";
        return Ok(format!("{words} ({} bytes)", bundle.receipt.len()));
    }
    let segments = if verified.segments == 1 { "1 segment".to_owned() } else { format!("{} segments", verified.segments) };
    Ok(format!("a composite STARK of {segments} ({} bytes) says exactly this statement", bundle.receipt.len()))
}

#[cfg(not(feature = "stark"))]
fn proven(_: &Bundle, _: Digest) -> Result<String, Error> {
    Err(Error::NoVerifier)
}

fn about(bundle: &Bundle, expected: &Expected) -> Result<String, Error> {
    let it = &bundle.statement;
    let same = |field, expected: Option<String>, found: String| match expected {
        Some(expected) if expected != found => Err(Error::Expected { field, expected, found }),
        _ => Ok(()),
    };
    same(Field::Chain, expected.chain_id.map(|it| it.to_string()), it.chain_id.to_string())?;
    same(Field::Marketplace, expected.marketplace.map(|it| it.to_string()), it.marketplace.to_string())?;
    same(Field::Job, expected.job_id.map(|it| it.to_string()), it.job_id.to_string())?;
    same(Field::Host, expected.host.map(|it| it.to_string()), it.host.to_string())?;
    same(Field::Model, expected.model_digest.map(|it| it.to_string()), it.model_digest.to_string())?;
    Ok(format!(
        "tokens {} to {} of job {}, chain {}, marketplace {}, host {}, model {}",
        it.first_seq,
        it.end().0 - 1,
        it.job_id,
        it.chain_id,
        it.marketplace,
        it.host,
        it.model_digest
    ))
}

fn opening(bundle: &Bundle, options: &Options, report: &mut Report) {
    let Some(opening) = &bundle.opening else {
        for name in ["token ids", "salt", "turns"] {
            report.not_checked(name, "not opened: only the depositor can");
        }
        return;
    };
    report.answer("token ids", transcript::tokens(bundle, opening));
    report.answer("settings of turns", transcript::settings(bundle, opening));
    // Where no salt was agreed on, zeros are used as the salt.
    let unsalted = (bundle.salt_commitment == Digest::ZERO).then(Salt::default);
    match options.salt.or(opening.salt).or(unsalted) {
        None => {
            report.not_checked("salt", "not given");
            report.not_checked("turns", "needs the salt");
        }
        Some(salt) => {
            if report.answer("salt", transcript::salt(bundle, &salt)) {
                report.answer("turns", transcript::turns(bundle, opening, &salt));
            } else {
                report.not_checked("turns", "needs the right salt");
            }
        }
    }
}

fn landing_lines(bundle: &Bundle, kind: ProofKind, report: &mut Report) {
    let Some(landing) = &bundle.landing else {
        for name in ["transaction", "voucher", "block", "event"] {
            report.not_checked(name, "the bundle was made before the claim landed");
        }
        return;
    };
    let submission = landing.check_transaction(&bundle.statement, kind);
    let voucher = submission.as_ref().map(|it| it.voucher).map_err(|_| ());
    report.answer("transaction", submission.map(|it| format!("{} submits exactly this claim, signed by {}", it.hash, it.signer)));
    match voucher {
        Err(()) => report.not_checked("voucher", "needs the transaction"),
        Ok(None) => report.not_checked("voucher", "the transaction shows none"),
        Ok(Some(it)) => {
            let words =
                format!("{} countersigned {} tokens of the job in all; the claim ends at {}", it.signer, it.tokens, bundle.statement.end());
            report.answer("voucher", Ok::<_, Error>(words));
        }
    }
    let Some(inclusion) = &landing.inclusion else {
        for name in ["block", "event"] {
            report.not_checked(name, "the bundle was made before the claim landed");
        }
        return;
    };
    let header = Header::read(&inclusion.header);
    let words = |it: &Header| {
        format!("{} at height {}; that it is part of the chain, only the chain or a certificate can tell", it.hash, it.number)
    };
    let read = header.as_ref().map(words);
    report.answer("block", read.map_err(Clone::clone));
    let Ok(header) = header else { return report.not_checked("event", "needs a block") };
    let event = inclusion.check_event(&bundle.statement, kind).and_then(|()| inclusion.check_receipt(&header));
    report.answer(
        "event",
        event.map(|shown| {
            if shown {
                "ProofOfWork of exactly this claim; its receipt is under the block's receiptsRoot".to_owned()
            } else {
                "ProofOfWork of exactly this claim is asserted; that it is in the block is not shown here".to_owned()
            }
        }),
    );
}
