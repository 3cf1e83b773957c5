//! The chain's own story of the money, told by a process that knows nothing else.
//!
//! A test that moves money asks a child process ([`Question::ask`]), which has the chain's address and nothing of the ledger's, the
//! node's or the settlement's code: it reads logs, receipts and balances over JSON-RPC and adds them up ([`answer`]). What does not
//! add up in itself (a gap or an overlap between claims, a transaction that failed, a payout that is not its deposit, money that
//! lies where nobody can account for it) is an error there; what is left to the test is to compare the sums with what it metered.

use std::process::Command;

use alloy::consensus::BlockHeader as _;
use alloy::eips::BlockNumberOrTag;
use alloy::network::ReceiptResponse as _;
use alloy::primitives::{Address, B256, U256};
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::types::{Filter, TransactionRequest};
use alloy::sol_types::{SolCall, SolEventInterface as _};
use serde_json::{Value, json};

use crate::bindings::JobMarketplace::JobMarketplaceEvents as Events;
use crate::bindings::{HostEarnings, JobMarketplace, TestUSDC};
use crate::{Deployment, install_tls};

/// Under this name the child is told what to count.
const TOLD: &str = "MILEPOST_TEST_RECOUNTS";
/// What stands before its answer.
const ANSWER: &str = "recounted ";

/// What can go wrong: in words, for a test's output.
pub type Wrong = Box<dyn std::error::Error + Send + Sync>;

/// Whose money is to be counted.
#[derive(Clone, Debug)]
pub struct Question {
    url: String,
    contracts: [Address; 3],
    host: Address,
}

/// One job by the chain's logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobCount {
    /// Its number.
    pub job: u64,
    /// Tokens of each claim that was taken, in order. They follow on from one another.
    pub claims: Vec<u64>,
    /// Gas of each claim's transaction.
    pub gas: Vec<u64>,
    /// Tokens of each payout: one, once the job is paid.
    pub paid: Vec<u64>,
}

impl JobCount {
    /// Tokens claimed in all.
    pub fn claimed(&self) -> u64 {
        self.claims.iter().sum()
    }
}

/// Everything that was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recount {
    /// Every job of the marketplace, by number.
    pub jobs: Vec<JobCount>,
    /// Transactions to the marketplace that were mined and failed.
    pub reverts: u64,
    /// What the host may withdraw, in 10⁻⁶ USDC.
    pub earned: u64,
}

impl Question {
    /// About this deployment on the chain at `url`.
    pub fn new(url: &str, contracts: &Deployment) -> Self {
        Self {
            url: url.to_owned(),
            contracts: [contracts.marketplace, contracts.earnings, contracts.usdc],
            host: contracts.actors.host.address,
        }
    }

    /// Has a child of this very program count: `counter` names a test of it that does nothing but call [`answer`].
    pub fn ask(&self, counter: &str) -> Result<Recount, Wrong> {
        let [marketplace, earnings, usdc] = self.contracts;
        let told = format!("{} {marketplace} {earnings} {usdc} {}", self.url, self.host);
        let mut child = Command::new(std::env::current_exe()?);
        let output = child.args([counter, "--exact", "--nocapture"]).env(TOLD, told).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = said.lines().find_map(|line| line.split_once(ANSWER)).map(|(_, answer)| answer.to_owned());
        let line = line.ok_or_else(|| format!("no recount: {said}{}", String::from_utf8_lossy(&output.stderr)))?;
        read(&serde_json::from_str(&line)?)
    }
}

/// In a child that was asked: counts and prints. Anywhere else there is nothing to do.
pub async fn answer() -> Result<(), Wrong> {
    let Ok(told) = std::env::var(TOLD) else { return Ok(()) };
    let [url, contracts @ .., host] =
        told.split(' ').collect::<Vec<_>>().try_into().map(|words: [&str; 5]| words).map_err(|_| told.clone())?;
    let [marketplace, earnings, usdc] = contracts;
    let question =
        Question { url: url.to_owned(), contracts: [marketplace.parse()?, earnings.parse()?, usdc.parse()?], host: host.parse()? };
    let counted = count(&question).await?;
    let jobs: Vec<_> =
        counted.jobs.iter().map(|job| json!({ "job": job.job, "claims": job.claims, "gas": job.gas, "paid": job.paid })).collect();
    // On a line of its own: the test harness has begun one.
    println!("\n{ANSWER}{}", json!({ "jobs": jobs, "reverts": counted.reverts, "earned": counted.earned }));
    Ok(())
}

fn read(answer: &Value) -> Result<Recount, Wrong> {
    let number = |value: &Value| value.as_u64().ok_or_else(|| format!("no number: {value}"));
    let numbers = |value: &Value| value.as_array().into_iter().flatten().map(number).collect::<Result<Vec<_>, _>>();
    let jobs = answer["jobs"].as_array().ok_or("no jobs")?.iter();
    let jobs = jobs.map(|job| {
        Ok(JobCount {
            job: number(&job["job"])?,
            claims: numbers(&job["claims"])?,
            gas: numbers(&job["gas"])?,
            paid: numbers(&job["paid"])?,
        })
    });
    Ok(Recount { jobs: jobs.collect::<Result<_, String>>()?, reverts: number(&answer["reverts"])?, earned: number(&answer["earned"])? })
}

/// A job while its logs are read.
#[derive(Default)]
struct Open {
    deposit: U256,
    price: U256,
    minimum: U256,
    used: U256,
    count: Option<JobCount>,
}

async fn count(question: &Question) -> Result<Recount, Wrong> {
    install_tls();
    let [marketplace, earnings, usdc] = question.contracts;
    let provider: RootProvider = RootProvider::new_http(question.url.parse()?);
    let fee_bps = view(&provider, marketplace, JobMarketplace::feeBpsCall {}).await?;
    let mut jobs = std::collections::BTreeMap::<u64, Open>::new();
    let (mut host_paid, mut treasury, mut deposits) = (U256::ZERO, U256::ZERO, U256::ZERO);
    for log in provider.get_logs(&Filter::new().address(marketplace).from_block(0)).await? {
        let event = Events::decode_log(&log.inner)?.data;
        match event {
            Events::SessionCreated(created) => {
                let job = jobs.entry(u64::try_from(created.jobId)?).or_default();
                if job.count.is_some() {
                    return Err(format!("job {} was created twice", created.jobId).into());
                }
                let count = JobCount { job: u64::try_from(created.jobId)?, claims: Vec::new(), gas: Vec::new(), paid: Vec::new() };
                let terms = created.terms;
                let minimum = terms.minimumCharge.min(terms.deposit);
                *job = Open { deposit: terms.deposit, price: terms.pricePerToken, minimum, used: U256::ZERO, count: Some(count) };
                deposits += terms.deposit;
            }
            Events::ProofOfWork(claim) => {
                let gas = gas_of(&provider, log.transaction_hash, marketplace).await?;
                let job = jobs.entry(u64::try_from(claim.jobId)?).or_default();
                job.used += claim.tokensClaimed;
                if claim.tokensClaimed == U256::ZERO || job.used != claim.tokensUsed {
                    return Err(format!("job {}: {} more tokens make {}", claim.jobId, claim.tokensClaimed, claim.tokensUsed).into());
                }
                let count = job.count.as_mut().ok_or("a claim of a job that was not created")?;
                count.claims.push(u64::try_from(claim.tokensClaimed)?);
                count.gas.push(gas);
            }
            Events::SessionCompleted(done) => {
                let job = jobs.entry(u64::try_from(done.jobId)?).or_default();
                let charge = if job.used == U256::ZERO { U256::ZERO } else { job.minimum.max(job.used * job.price) };
                let fee = charge * fee_bps / U256::from(10_000);
                let split = (done.hostPaid, done.treasuryFee, done.refund);
                if done.tokensUsed != job.used || split != (charge - fee, fee, job.deposit - charge) {
                    return Err(format!("job {}: paid {done:?} for {} tokens", done.jobId, job.used).into());
                }
                job.count.as_mut().ok_or("a payout of a job that was not created")?.paid.push(u64::try_from(done.tokensUsed)?);
                host_paid += done.hostPaid;
                treasury += done.treasuryFee;
                deposits -= job.deposit;
            }
            _ => {}
        }
    }
    let earned = view(&provider, earnings, HostEarnings::getBalanceCall { host: question.host, token: usdc }).await?;
    if earned != host_paid {
        return Err(format!("{host_paid} was paid to the host, which may withdraw {earned}").into());
    }
    let held = view(&provider, usdc, TestUSDC::balanceOfCall { account: marketplace }).await?;
    if held != deposits + treasury {
        return Err(format!("the marketplace holds {held}: deposits of {deposits} and fees of {treasury} are accounted for").into());
    }
    let counts = jobs.into_values().filter_map(|job| job.count).collect();
    Ok(Recount { jobs: counts, reverts: reverts(&provider, marketplace).await?, earned: u64::try_from(earned)? })
}

/// Gas of a transaction that must have succeeded at the marketplace.
async fn gas_of(provider: &RootProvider, hash: Option<B256>, marketplace: Address) -> Result<u64, Wrong> {
    let hash = hash.ok_or("a log without a transaction")?;
    let receipt = provider.get_transaction_receipt(hash).await?.ok_or_else(|| format!("{hash} logged something and has no receipt"))?;
    if !receipt.status() || receipt.to() != Some(marketplace) {
        return Err(format!("{hash} is no transaction that succeeded at the marketplace: {receipt:?}").into());
    }
    Ok(receipt.gas_used())
}

/// How many transactions to the marketplace failed, over all blocks.
async fn reverts(provider: &RootProvider, marketplace: Address) -> Result<u64, Wrong> {
    let head = provider.get_block_by_number(BlockNumberOrTag::Latest).await?.ok_or("no newest block")?.header.number();
    let mut reverts = 0;
    for number in 0..=head {
        let receipts = provider.get_block_receipts(number.into()).await?.unwrap_or_default();
        let failed = receipts.iter().filter(|receipt| receipt.to() == Some(marketplace) && !receipt.status()).count();
        reverts += u64::try_from(failed)?;
    }
    Ok(reverts)
}

async fn view<C: SolCall>(provider: &RootProvider, to: Address, call: C) -> Result<C::Return, Wrong> {
    let request = TransactionRequest::default().to(to).input(call.abi_encode().into());
    let answer = provider.call(request).block(BlockNumberOrTag::Latest.into()).await?;
    Ok(C::abi_decode_returns(&answer)?)
}
