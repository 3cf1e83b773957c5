//! `milepost verify`: whether a proof bundle holds, and what that means.
//!
//! Needs neither model, chain, host nor configuration. `--rpc` holds the bundle against a chain as well; `--replay` runs its turns
//! again on the model file. What is checked is in `milepost_bundle`; here is how it is asked for and told.

mod chain;
mod finality;
mod replay;

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use milepost_bundle::{Bundle, Error, Expected, Line, NOT_PROVEN, Options, PROVEN, Report, Verdict};
use milepost_statement::{Digest, Salt};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::CANNOT_LOOK;
use crate::cli::VerifyArgs;
use crate::output::Output;

/// Exit code of a bundle that holds where running it again gave other tokens.
const REPLAY_DIFFERS: u8 = 6;
/// Largest salt file read, bytes: a session file holds the salt beside every token of its session.
const MAX_SALT_FILE: u64 = 64 << 20;

/// Checks the file and prints what was found.
pub(crate) async fn run(args: &VerifyArgs, output: Output) -> ExitCode {
    match verify(args, output).await {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            crate::failed(&message);
            ExitCode::from(CANNOT_LOOK)
        }
    }
}

async fn verify(args: &VerifyArgs, output: Output) -> Result<u8, String> {
    let options = options(args)?;
    let file = read(&args.file, milepost_bundle::MAX_BUNDLE_BYTES as u64)?;
    let name = Digest(Sha256::digest(&file).into());
    let bundle = match Bundle::decode(&file) {
        Ok(bundle) => bundle,
        Err(error) => return show(output, &Found::unreadable(error.into()), name),
    };
    let agreement = args.set_file.as_deref().map(finality::agreement).transpose()?;
    let mut report = match &args.rpc {
        None => milepost_bundle::check(&bundle, &options),
        Some(url) => milepost_bundle::check_on_chain(&bundle, &options, &chain::Endpoint::new(url)?).await,
    };
    if let Some(agreement) = &agreement {
        finality::answer(&bundle, agreement, &mut report);
    }
    // A bundle that does not hold is not worth a model's time.
    let replay = match &args.replay {
        Some(prompts) if report.class().is_none() => Some(replay::run(&bundle, prompts, args.model.as_deref(), options.salt).await?),
        _ => None,
    };
    show(output, &Found { bundle: Some(bundle), report, replay }, name)
}

/// Everything there is to tell.
struct Found {
    bundle: Option<Bundle>,
    report: Report,
    replay: Option<replay::Outcome>,
}

impl Found {
    fn unreadable(error: Error) -> Self {
        let line = Line { name: "file", words: error.to_string(), verdict: Verdict::Fails(error) };
        Self { bundle: None, report: Report { lines: vec![line], proven: false }, replay: None }
    }

    /// Whether a certificate was checked and holds.
    fn is_final(&self) -> bool {
        self.report.lines.iter().any(|line| line.name == "finality" && line.verdict == Verdict::Holds)
    }

    fn exit_code(&self) -> u8 {
        match (self.report.class(), &self.replay) {
            (Some(class), _) => class.exit_code(),
            (None, Some(replay)) if replay.differs() => REPLAY_DIFFERS,
            (None, Some(replay)) if !replay.ran() => CANNOT_LOOK,
            (None, _) => 0,
        }
    }

    /// What follows from it, in one word.
    fn verdict(&self) -> Value {
        match (self.report.class(), self.exit_code()) {
            (Some(class), _) => json!(class),
            (None, 0) if self.report.proven => json!("proven"),
            (None, 0) => json!("test-only"),
            (None, REPLAY_DIFFERS) => json!("replay-differs"),
            (None, _) => json!("not-replayed"),
        }
    }

    fn json(&self, name: Digest) -> Value {
        let statement = self.bundle.as_ref().map(|bundle| &bundle.statement);
        json!({
            "bundle": name,
            "verdict": self.verdict(),
            "exit_code": self.exit_code(),
            "proven": self.report.proven,
            "what_is_proven": self.report.proven.then_some(PROVEN),
            "what_is_not_proven": NOT_PROVEN,
            "what_finality_adds": self.is_final().then_some(finality::ADDS),
            "tokens": statement.map(|it| it.count),
            "image_id": self.bundle.as_ref().map(|bundle| bundle.image_id),
            "statement": statement,
            "checks": self.report.lines,
            "replay": self.replay.as_ref().map(replay::Outcome::json),
        })
    }

    fn text(&self, name: Digest) -> String {
        let mut lines = vec![format!("bundle {name}"), String::new()];
        for line in &self.report.lines {
            let mark = match line.verdict {
                Verdict::Holds => "ok  ",
                Verdict::Fails(_) => "FAIL",
                Verdict::NotChecked => "-   ",
            };
            lines.push(format!("{mark}  {:<20} {}", line.name, line.words));
        }
        lines.push(String::new());
        match &self.bundle {
            Some(bundle) if self.report.proven => {
                let it = &bundle.statement;
                lines.push(format!("What is proven: {PROVEN}"));
                lines.push(format!(
                    "    N = {}, host {}, job {} on chain {}, tokens {} to {}.",
                    it.count,
                    it.host,
                    it.job_id,
                    it.chain_id,
                    it.first_seq,
                    it.end().0 - 1
                ));
            }
            Some(_) if self.report.class().is_none() => lines.push("TEST ONLY: this is a mock proof. Nothing is proven.".to_owned()),
            _ => lines.push("Nothing is proven by this bundle.".to_owned()),
        }
        lines.push(format!("What is not proven: {NOT_PROVEN}"));
        if self.is_final() {
            lines.push(format!("What the certificate adds: {}", finality::ADDS));
        }
        if let Some(replay) = &self.replay {
            lines.push(String::new());
            lines.extend(replay.lines());
        }
        lines.join("\n")
    }
}

fn show(output: Output, found: &Found, name: Digest) -> Result<u8, String> {
    output.show(|| found.json(name), || found.text(name))?;
    Ok(found.exit_code())
}

fn options(args: &VerifyArgs) -> Result<Options, String> {
    let mut options = Options {
        accept_mock: args.accept_mock,
        expected: Expected {
            chain_id: args.expect_chain.map(Into::into),
            marketplace: args.expect_marketplace,
            job_id: args.expect_job.map(Into::into),
            host: args.expect_host,
            model_digest: args.expect_model,
        },
        salt: args.salt_file.as_deref().map(salt).transpose()?,
        ..Options::default()
    };
    if let Some(image_id) = args.image_id {
        options.image_id = image_id;
    }
    Ok(options)
}

/// A salt from a file: 64 hexadecimal digits, or JSON with a field `salt` (a client's session file or capture).
fn salt(path: &Path) -> Result<Salt, String> {
    let wrong = || format!("{}: it holds neither 64 hexadecimal digits nor JSON with a field `salt`", path.display());
    let bytes = read(path, MAX_SALT_FILE)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong())?.trim();
    let digits = match text.parse::<Digest>() {
        Ok(salt) => return Ok(Salt(salt.0)),
        Err(_) => serde_json::from_str::<Value>(text).map_err(|_| wrong())?,
    };
    let salt = digits["salt"].as_str().and_then(|salt| salt.parse::<Digest>().ok());
    salt.map(|salt| Salt(salt.0)).ok_or_else(wrong)
}

/// A file of at most so many bytes. Of a larger one a byte more is read, so that whoever decodes it refuses it by its size.
fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(wrong)?.take(most + 1).read_to_end(&mut bytes).map_err(wrong)?;
    Ok(bytes)
}
