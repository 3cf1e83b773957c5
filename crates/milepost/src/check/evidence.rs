//! Everything the checks look at, read once.

use std::path::Path;

use milepost_client::Capture;
use milepost_statement::{Digest, JobId, TokenCount, TokenSeq, checkpoint_head};

use super::chain::{self, Created, Facts};
use super::finality::Certified;
use super::report::Report;

/// Largest file read, bytes: a receipt is some hundred kilobytes, a long capture a few megabytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Report, capture, chain and receipts.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    pub(super) report: Report,
    pub(super) capture: Capture,
    pub(super) facts: Facts,
    /// Receipt files in the order of the report's claims.
    pub(super) receipts: Vec<Result<Vec<u8>, String>>,
    /// Set file, certificates and the blocks that they name, where the report speaks of them.
    pub(super) certified: Option<Certified>,
}

impl Evidence {
    /// Reads the files beside the report, and the chain that it names.
    pub(super) async fn gather(path: &Path) -> Result<Self, String> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let report: Report = json(path)?;
        let capture: Capture = json(&folder.join(&report.client.capture))?;
        let receipts = report.claims.iter().map(|claim| bytes(&folder.join(&claim.receipt))).collect();
        let facts = chain::read(&report.rpc_url, report.marketplace, JobId(report.job_id)).await;
        let facts = facts.map_err(|error| format!("chain at {}: {error}", report.rpc_url))?;
        let certified = match &report.finality {
            Some(finality) => Some(Certified::gather(folder, &report, finality).await?),
            None => None,
        };
        Ok(Self { report, capture, facts, receipts, certified })
    }

    /// The one `SessionCreated` of the job.
    pub(super) fn created(&self) -> Result<&Created, String> {
        match self.facts.created.as_slice() {
            [created] => Ok(created),
            others => Err(format!("{} SessionCreated events of the job, expected one", others.len())),
        }
    }

    /// Heads after each captured checkpoint, recomputed from captured ids and turns digests alone, with their positions; the genesis
    /// head first.
    pub(super) fn heads(&self) -> Result<Vec<(TokenSeq, Digest)>, String> {
        let mut head = self.capture.identity().genesis(&self.capture.salt);
        let mut end = TokenSeq::ZERO;
        let mut heads = vec![(end, head)];
        for checkpoint in &self.capture.checkpoints {
            if checkpoint.first_seq != end {
                return Err(format!(
                    "checkpoint {} begins at token {}, the one before it ended at {end}",
                    checkpoint.number, checkpoint.first_seq
                ));
            }
            let next = checkpoint.end().ok_or_else(|| format!("checkpoint {} runs past the largest position", checkpoint.number))?;
            let (from, to) = (index(end), index(next));
            let ids = self.capture.ids.get(from..to);
            let ids = ids.ok_or_else(|| {
                format!("checkpoint {} ends at token {next}, {} were captured", checkpoint.number, self.capture.ids.len())
            })?;
            head = checkpoint_head(&head, end, &checkpoint.turns_digest, ids);
            end = next;
            heads.push((end, head));
        }
        Ok(heads)
    }

    /// Tokens captured.
    pub(super) fn captured(&self) -> TokenCount {
        TokenCount(self.capture.ids.len() as u64)
    }
}

fn index(seq: TokenSeq) -> usize {
    usize::try_from(seq.0).unwrap_or(usize::MAX)
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    serde_json::from_slice(&bytes(path)?).map_err(|error| format!("{}: {error}", path.display()))
}

pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    let length = std::fs::metadata(path).map_err(wrong)?.len();
    if length > MAX_FILE {
        return Err(format!("{}: {length} bytes, more than {MAX_FILE}", path.display()));
    }
    std::fs::read(path).map_err(wrong)
}
