//! A job as the contract holds it.

use std::cmp::Ordering;
use std::future::IntoFuture as _;

use alloy::consensus::BlockHeader as _;
use alloy::eips::BlockId;
use alloy::primitives::{Address as EvmAddress, U256};
use alloy::providers::Provider as _;
use milepost_ledger::{
    Account, Address, ChainStatus, ChainView, Digest, JobId, Payout, Terms, TokenCount, TokenSeq, UnixSeconds, VoucherTerms,
};

use super::{Chain, Constants, Head, at, latest};
use crate::Error;
use crate::bindings::{HostRegistry, JobMarketplace};
use crate::convert::{address, amount, b256, digest, evm, small};

/// A job's terms and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnChain {
    /// What it was funded with.
    pub terms: Terms,
    /// Contract that must verify seals; zero for none.
    pub verifier: Address,
    /// Status.
    pub status: ChainStatus,
    /// Tokens claimed in all.
    pub used: TokenCount,
    /// The transcript head; `None` where the contract keeps none.
    pub head: Option<Digest>,
    /// No further claim is accepted.
    pub closed_to_claims: bool,
    /// When the last claim landed, or the session's start, where the rate counts from there.
    pub last_proof: Option<UnixSeconds>,
    /// The split, where the job itself tells it.
    pub paid: Option<Payout>,
}

impl OnChain {
    /// Whether so many tokens are claimed, with this head where the contract keeps heads.
    pub(crate) fn stands_at(&self, used: TokenSeq, head: Digest) -> bool {
        self.used.0 == used.0 && self.head.is_none_or(|found| found == head)
    }
}

/// What a look at a job's chain side says.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// For the planner; its head holds only where the contract keeps heads, see [`Self::view_of`].
    pub(crate) view: ChainView,
    pub(crate) terms: Terms,
    keeps_heads: bool,
    /// See [`OnChain::last_proof`].
    pub(crate) last_proof: Option<UnixSeconds>,
}

impl Seen {
    /// The view of this account. Where the contract keeps no heads, the ledger's own stands for what the count says: every claim that
    /// is counted must be one of ours.
    pub(crate) fn view_of(&self, account: &Account) -> ChainView {
        if self.keeps_heads {
            return self.view;
        }
        let landed = account.claim.as_ref().filter(|claim| claim.statement.end().0 == self.view.used.0);
        ChainView { head: landed.map_or(account.record.final_head, |claim| claim.statement.head_after), ..self.view }
    }
}

/// What the chain says of a job, with what it cannot say as it was recorded: deployed marketplaces do not know the model, and their rate
/// is measured.
pub(crate) fn as_recorded(found: Terms, recorded: &Terms) -> Terms {
    if found.deployed.is_some() { Terms { model: recorded.model, rate: recorded.rate, ..found } } else { found }
}

/// `Status` of the contract.
const NONE: u8 = 0;
const ACTIVE: u8 = 1;
const CLOSING: u8 = 2;
const COMPLETED: u8 = 3;

impl Chain {
    /// A job at the newest block; `None` if there is none.
    pub async fn job(&self, job: JobId) -> Result<Option<OnChain>, Error> {
        self.job_at(job, latest()).await
    }

    /// A job at a block; `None` if there is none.
    pub(crate) async fn job_at(&self, job: JobId, block: BlockId) -> Result<Option<OnChain>, Error> {
        self.adapter().await?.job(self, job, block).await
    }

    /// A job on our own marketplace at a block; `None` if there is none.
    pub(crate) async fn our_job_at(&self, job: JobId, block: BlockId) -> Result<Option<OnChain>, Error> {
        let constants = self.constants().await?;
        let call = JobMarketplace::getSessionCall { jobId: U256::from(job.0) };
        let session = self.call("a job", self.marketplace(), call, block).await?;
        let status = match session.status {
            NONE => return Ok(None),
            ACTIVE => ChainStatus::Active,
            CLOSING => ChainStatus::Closing { until: UnixSeconds(session.claimUntil) },
            COMPLETED => ChainStatus::Completed,
            other => {
                return Err(Error::Answer {
                    what: "a job",
                    answer: format!("status {other}, which this generation of the contract does not have"),
                });
            }
        };
        Ok(Some(OnChain {
            terms: self.terms_of(&session, &constants)?,
            verifier: address(session.terms.verifier),
            status,
            used: TokenCount(session.tokensUsed),
            head: Some(digest(session.head)),
            closed_to_claims: session.closedToClaims,
            last_proof: None,
            paid: None,
        }))
    }

    fn terms_of(&self, session: &JobMarketplace::Session, constants: &Constants) -> Result<Terms, Error> {
        let terms = &session.terms;
        let voucher = (terms.voucherSigner != EvmAddress::ZERO)
            .then(|| VoucherTerms { signer: address(terms.voucherSigner), allowance: TokenCount(terms.voucherAllowance) });
        let price = amount("pricePerToken", terms.pricePerToken)?;
        if price.0 == 0 {
            return Err(Error::Answer { what: "a job", answer: "a price of zero".to_owned() });
        }
        Ok(Terms {
            chain: self.chain_id(),
            marketplace: self.marketplace(),
            host: address(terms.host),
            depositor: address(session.depositor),
            token: address(terms.token),
            deposit: amount("deposit", terms.deposit)?,
            price,
            model: digest(terms.modelDigest),
            rate: terms.expectedRate,
            burst: constants.burst,
            started: UnixSeconds(session.startTime),
            max_duration: terms.maxDuration,
            idle_timeout: terms.timeoutSeconds,
            claim_window: constants.claim_window,
            minimum_charge: amount("minimumCharge", terms.minimumCharge)?,
            min_claim: constants.min_claim,
            fee_bps: constants.fee_bps,
            voucher,
            salt_commitment: digest(terms.saltCommitment),
            deployed: None,
        })
    }

    /// What the planner needs to know of a job, and what it was funded with, read at one block.
    pub(crate) async fn view(&self, job: JobId, head: &Head) -> Result<Seen, Error> {
        let found = self.job_at(job, at(&head.block)).await?.ok_or(Error::UnknownJob(job))?;
        self.cache_terms(job, &found.terms);
        let view = ChainView {
            block: head.block,
            time: head.next_time,
            status: found.status,
            used: found.used,
            head: found.head.unwrap_or_default(),
            closed_to_claims: found.closed_to_claims,
        };
        Ok(Seen { view, keeps_heads: found.head.is_some(), last_proof: found.last_proof, terms: found.terms })
    }

    /// Whether the funding of a job, which `head` shows to have happened at `funded`, is final.
    pub(crate) async fn is_funding_final(&self, job: JobId, funded: UnixSeconds, head: &Head) -> Result<bool, Error> {
        let Some(height) = self.final_height(head).await? else { return Ok(false) };
        let block = self.ask("a block's time", self.provider().get_block_by_number(height.into()).into_future()).await?;
        let Some(block) = block else { return Ok(false) };
        Ok(match UnixSeconds(block.header.timestamp()).cmp(&funded) {
            Ordering::Less => false,
            Ordering::Greater => true,
            // Fast chains make several blocks in a second. Asked for only here: old states are not kept everywhere.
            Ordering::Equal => self.job_at(job, block.header.hash.into()).await?.is_some(),
        })
    }

    /// The terms of a job, cached: they never change. `None` if there is no such job.
    pub async fn terms(&self, job: JobId) -> Result<Option<Terms>, Error> {
        if let Some(known) = self.cached_terms(job) {
            return Ok(Some(known));
        }
        let found = self.job(job).await?;
        if let Some(found) = &found {
            self.cache_terms(job, &found.terms);
        }
        Ok(found.map(|found| found.terms))
    }

    /// The terms of a job that `host` is about to open for the first time: refused unless it is active, names this host, pays what
    /// the host asks in the registry, wants no verifier, and has no claims that the ledger does not know.
    pub async fn terms_to_open(&self, job: JobId, host: Address) -> Result<Option<Terms>, Error> {
        let Some(found) = self.job(job).await? else { return Ok(None) };
        if found.terms.host != host {
            return Err(Error::AnotherHost { job, expected: host, found: found.terms.host });
        }
        match found.status {
            ChainStatus::Active => {}
            ChainStatus::Closing { .. } => return Err(Error::NotActive { job, status: "closing" }),
            ChainStatus::Completed => return Err(Error::NotActive { job, status: "paid out" }),
        }
        if found.verifier != Address::ZERO {
            return Err(Error::VerifierDemanded { job, verifier: found.verifier });
        }
        if found.used > TokenCount::ZERO {
            return Err(Error::ChainAhead { job, used: found.used.0 });
        }
        let Terms { token, price: paid, .. } = found.terms;
        let asked = if self.generation().await?.is_ours() {
            self.asked(host, found.terms.model, token).await?
        } else {
            if self.deployed().model.is_none() {
                return Err(Error::Config("deployed.model is needed: this marketplace does not say which model a job is for".to_owned()));
            }
            Some(self.deployed().min_price.unwrap_or_default())
        };
        if asked.is_none_or(|asked| paid < asked) {
            return Err(Error::Price { job, token, paid, asked });
        }
        self.cache_terms(job, &found.terms);
        Ok(Some(found.terms))
    }

    /// What a host asks per token of a model, in this payment token; `None` if it does not take it. The contract lets a depositor
    /// write any price into a session's terms: it is the host that must not serve below its own.
    async fn asked(&self, host: Address, model: Digest, token: Address) -> Result<Option<milepost_ledger::TokenAmount>, Error> {
        let call = HostRegistry::priceOfCall { host: evm(host), modelDigest: b256(model), token: evm(token) };
        let registry = self.constants().await?.registry;
        let asked = amount("priceOf", self.call("the host's price", registry, call, latest()).await?)?;
        Ok((asked.0 > 0).then_some(asked))
    }

    /// What a host can withdraw of a token.
    pub async fn earned(&self, host: Address, token: Address) -> Result<milepost_ledger::TokenAmount, Error> {
        let call = crate::bindings::HostEarnings::getBalanceCall { host: evm(host), token: evm(token) };
        let earnings = self.constants().await?.earnings;
        amount("getBalance", self.call("the host's earnings", earnings, call, latest()).await?)
    }

    /// How many jobs the marketplace ever had.
    pub async fn job_count(&self) -> Result<u64, Error> {
        small("jobCount", self.call("the number of jobs", self.marketplace(), JobMarketplace::jobCountCall {}, latest()).await?)
    }
}
