//! What the doors are given by the program that wires them. The doors never see a chain: [`Jobs`] answers for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use milepost_bundle::{Certificate, Inclusion};
use milepost_inference::Engine;
use milepost_ledger::{Address, BlockRef, Digest, JobId, Statement, Terms, TokenAmount, UnixSeconds};
use milepost_ledger_db::LedgerDb;
use milepost_statement::{Domain, Quote, SigningKey};
use serde::{Deserialize, Serialize};

/// What it means for a client that a job's terms are not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobsErrorKind {
    /// Nothing is decided: the same question may be answered later.
    Unreachable,
    /// The job names another host, for good.
    AnotherHost,
    /// The job names this host, which does not serve it as it was funded or as it stands: asking again changes nothing.
    NotServed,
}

/// Why a job's terms are not told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct JobsError {
    /// What follows from it.
    pub kind: JobsErrorKind,
    /// Stable code of the cause, as operators know it.
    pub code: &'static str,
    /// What was found.
    pub message: String,
    /// What would be right.
    pub advice: &'static str,
}

/// What this host asks for a token of a model, and where: the basis of a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The signing domain.
    pub domain: Domain,
    /// The host.
    pub host: Address,
    /// Price of a token in the payment token's smallest unit.
    pub price: TokenAmount,
}

/// What a job was funded with.
pub trait Jobs: Send + Sync + 'static {
    /// The terms of a job of this host that is active; `None` where there is no such job.
    fn terms(&self, job: JobId) -> BoxFuture<'_, Result<Option<Terms>, JobsError>>;

    /// The same, where an unexpired quote of this host's own stands for what it asks in the registry.
    fn terms_quoted(&self, job: JobId, quote: Quote) -> BoxFuture<'_, Result<Option<Terms>, JobsError>> {
        let _ = quote;
        self.terms(job)
    }

    /// The domain under which this host's quotes are signed; `None` where jobs know none.
    fn domain(&self) -> Option<Domain> {
        None
    }

    /// What this host asks for a model in a payment token; `None` where it takes no such payment.
    fn asked(&self, model: Digest, token: Address) -> BoxFuture<'_, Result<Option<Asked>, JobsError>> {
        let _ = (model, token);
        Box::pin(std::future::ready(Ok(None)))
    }

    /// The event of a claim that landed by this transaction in this block, with what shows that it belongs there; `None` where the
    /// chain does not show it. What is answered was checked.
    fn inclusion(&self, transaction: Digest, block: BlockRef, claim: Statement) -> BoxFuture<'_, Result<Option<Inclusion>, JobsError>> {
        let _ = (transaction, block, claim);
        Box::pin(std::future::ready(Ok(None)))
    }

    /// The certificate that makes a block final, with the headers that lead to the certified one; `None` where certificates are not what
    /// makes blocks final here, or none covers it yet.
    fn certificate(&self, block: BlockRef) -> BoxFuture<'_, Result<Option<Certificate>, JobsError>> {
        let _ = block;
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// One condition of being able to earn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Check {
    /// What is looked at.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was found, and what to do where it does not hold.
    pub message: String,
}

/// Whether the host can earn: chain reachable, prover proven, money moving.
pub trait Readiness: Send + Sync + 'static {
    /// Every check, as it stands now. Must not block.
    fn checks(&self) -> Vec<Check>;
}

/// Which code runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BuildInfo {
    /// Version of the program.
    pub version: String,
    /// Git commit.
    pub commit: String,
    /// When it was built.
    pub built: String,
    /// Image id of the guest whose proofs it submits.
    pub image_id: Option<String>,
    /// Compiled features.
    pub features: Vec<String>,
    /// Chains it is configured for.
    pub chains: Vec<u64>,
    /// Contracts by name.
    pub contracts: BTreeMap<String, String>,
}

/// What time it is. Passed in, so that tests can move it.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> UnixSeconds;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs()))
    }
}

/// Everything the doors build on.
#[derive(Clone)]
pub struct Deps {
    /// The durable ledger.
    pub db: LedgerDb,
    /// The models served, at least one, each under its own name.
    pub engines: Vec<Arc<dyn Engine>>,
    /// Terms of jobs; `None` in log mode, where any job number is accepted without terms.
    pub jobs: Option<Arc<dyn Jobs>>,
    /// The host's or its submitter's key, which signs receipts; without it they are unsigned.
    pub signer: Option<SigningKey>,
    /// Conditions for `/ready`.
    pub readiness: Arc<dyn Readiness>,
    /// Which code runs.
    pub build: BuildInfo,
    /// Renders the metrics in Prometheus' text form.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}
