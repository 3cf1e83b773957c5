//! What the chain says about a job: logs, transactions, balances before and after the payout. Nothing of it comes from the host.

use std::collections::BTreeMap;

use alloy::consensus::Transaction as _;
use alloy::eips::BlockId;
use alloy::primitives::{B256, Bytes};
use alloy::providers::Provider;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::{SolCall, SolEvent};
use milepost_client::abi::{Erc20, HostEarnings, HostRegistry, JobMarketplace, Status};
use milepost_client::chain::{Chain, address, digest, eth_address, job_word};
use milepost_client::{Amount, Error};
use milepost_statement::{Address, ChainId, Digest, JobId, TokenCount};

/// The chain's side of the story.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) chain_id: ChainId,
    pub(crate) marketplace: Address,
    pub(crate) fee_bps: u16,
    pub(crate) submitters: Vec<Address>,
    pub(crate) created: Vec<Created>,
    pub(crate) claims: Vec<Landed>,
    pub(crate) completed: Vec<Completed>,
    /// Transfers of the payment token to or from the marketplace since the session began.
    pub(crate) transfers: Vec<Transfer>,
    pub(crate) status: Status,
    pub(crate) tokens_used: TokenCount,
    pub(crate) head: Digest,
    pub(crate) earnings: Address,
    /// Balances around the block of the payout.
    pub(crate) host_earned: Change,
    pub(crate) treasury: Change,
    pub(crate) depositor: Change,
    /// What the marketplace owes the depositor because a push failed.
    pub(crate) credit: Amount,
}

/// `SessionCreated`.
#[derive(Clone, Debug)]
pub(crate) struct Created {
    pub(crate) depositor: Address,
    pub(crate) host: Address,
    pub(crate) token: Address,
    pub(crate) deposit: Amount,
    pub(crate) price: Amount,
    pub(crate) minimum_charge: Amount,
    pub(crate) model: Digest,
    pub(crate) salt_commitment: Digest,
    pub(crate) head: Digest,
    pub(crate) tx: Digest,
    pub(crate) block: u64,
}

/// `ProofOfWork` with its transaction.
#[derive(Clone, Debug)]
pub(crate) struct Landed {
    pub(crate) tokens_claimed: TokenCount,
    pub(crate) tokens_used: TokenCount,
    pub(crate) head_after: Digest,
    pub(crate) kind: u8,
    pub(crate) tx: Digest,
    pub(crate) block: u64,
    pub(crate) gas: u64,
    pub(crate) succeeded: bool,
    pub(crate) to: Option<Address>,
    /// The proof bytes as they were submitted for this job.
    pub(crate) proof: Option<Vec<u8>>,
}

/// `SessionCompleted`.
#[derive(Clone, Debug)]
pub(crate) struct Completed {
    pub(crate) host: Address,
    pub(crate) depositor: Address,
    pub(crate) tokens_used: TokenCount,
    pub(crate) host_paid: Amount,
    pub(crate) fee: Amount,
    pub(crate) refund: Amount,
    pub(crate) tx: Digest,
    pub(crate) block: u64,
}

/// ERC-20 `Transfer`.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) value: Amount,
    pub(crate) tx: Digest,
}

/// A balance before and after a block.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Change {
    pub(crate) before: Amount,
    pub(crate) after: Amount,
}

impl Change {
    /// What was added, if nothing was taken away.
    pub(crate) fn gained(self) -> Option<Amount> {
        self.after.0.checked_sub(self.before.0).map(Amount)
    }
}

/// Reads everything from an endpoint.
pub(crate) async fn read(rpc: &str, marketplace: Address, job: JobId) -> Result<Facts, Error> {
    let chain = Chain::connect(rpc, marketplace).await?;
    let state = chain.session(job).await?;
    let host = address(state.view.terms.host);
    let token = address(state.view.terms.token);
    let registry = chain.registry().await?;
    let record = chain.read("getHost", registry, HostRegistry::getHostCall { host: eth_address(host) }).await?;
    let earnings = address(chain.read("hostEarnings", marketplace, JobMarketplace::hostEarningsCall {}).await?);

    let created = created(&chain, job).await?;
    let from = created.first().map_or(0, |created| created.block);
    let completed = completed(&chain, job).await?;
    let mut facts = Facts {
        chain_id: chain.id(),
        marketplace,
        fee_bps: chain.fee_bps().await?,
        submitters: record.submitters.into_iter().map(address).collect(),
        created,
        claims: claims(&chain, job).await?,
        transfers: transfers(&chain, token, from).await?,
        status: state.status,
        tokens_used: state.tokens_used,
        head: state.head,
        earnings,
        host_earned: Change::default(),
        treasury: Change::default(),
        depositor: Change::default(),
        credit: chain.credit(state.depositor, token).await?,
        completed,
    };
    if let Some(block) = facts.completed.first().map(|completed| completed.block) {
        let payout = Around { chain: &chain, block };
        facts.host_earned = payout.earned(earnings, host, token).await?;
        facts.treasury = payout.treasury(token).await?;
        facts.depositor = payout.balance(state.depositor, token).await?;
    }
    Ok(facts)
}

/// Hashes of the canonical blocks at these heights.
pub(super) async fn block_hashes(rpc: &str, marketplace: Address, heights: &[u64]) -> Result<BTreeMap<u64, Digest>, Error> {
    let chain = Chain::connect(rpc, marketplace).await?;
    let mut hashes = BTreeMap::new();
    for height in heights {
        let block = chain.provider().get_block_by_number((*height).into()).await.map_err(|error| Error::Rpc(error.to_string()))?;
        if let Some(block) = block {
            hashes.insert(*height, digest(block.header.hash));
        }
    }
    Ok(hashes)
}

async fn logs<E: SolEvent>(chain: &Chain, job: JobId) -> Result<Vec<(Log, E)>, Error> {
    let filter =
        Filter::new().address(eth_address(chain.marketplace())).event_signature(E::SIGNATURE_HASH).topic1(job_word(job)).from_block(0);
    let logs = chain.provider().get_logs(&filter).await.map_err(|error| Error::Rpc(error.to_string()))?;
    let decode = |log: Log| {
        let event = E::decode_log(&log.inner).map_err(|error| Error::Rpc(format!("{}: {error}", E::SIGNATURE)))?;
        Ok((log, event.data))
    };
    logs.into_iter().map(decode).collect()
}

fn place(log: &Log) -> Result<(B256, u64), Error> {
    log.transaction_hash.zip(log.block_number).ok_or_else(|| Error::Rpc("a log without transaction or block".into()))
}

fn amount(what: &str, word: alloy::primitives::U256) -> Result<Amount, Error> {
    Amount::from_word(word).ok_or_else(|| Error::Rpc(format!("{what} is larger than the contract can make it")))
}

fn count(what: &str, word: alloy::primitives::U256) -> Result<TokenCount, Error> {
    u64::try_from(word).map(TokenCount).map_err(|_| Error::Rpc(format!("{what} is larger than the contract can make it")))
}

async fn created(chain: &Chain, job: JobId) -> Result<Vec<Created>, Error> {
    let decode = |(log, event): (Log, JobMarketplace::SessionCreated)| {
        let (tx, block) = place(&log)?;
        Ok(Created {
            depositor: address(event.depositor),
            host: address(event.host),
            token: address(event.terms.token),
            deposit: amount("deposit", event.terms.deposit)?,
            price: amount("price", event.terms.pricePerToken)?,
            minimum_charge: amount("minimumCharge", event.terms.minimumCharge)?,
            model: digest(event.terms.modelDigest),
            salt_commitment: digest(event.terms.saltCommitment),
            head: digest(event.head),
            tx: digest(tx),
            block,
        })
    };
    logs(chain, job).await?.into_iter().map(decode).collect()
}

async fn completed(chain: &Chain, job: JobId) -> Result<Vec<Completed>, Error> {
    let decode = |(log, event): (Log, JobMarketplace::SessionCompleted)| {
        let (tx, block) = place(&log)?;
        Ok(Completed {
            host: address(event.host),
            depositor: address(event.depositor),
            tokens_used: count("tokensUsed", event.tokensUsed)?,
            host_paid: amount("hostPaid", event.hostPaid)?,
            fee: amount("treasuryFee", event.treasuryFee)?,
            refund: amount("refund", event.refund)?,
            tx: digest(tx),
            block,
        })
    };
    logs(chain, job).await?.into_iter().map(decode).collect()
}

async fn claims(chain: &Chain, job: JobId) -> Result<Vec<Landed>, Error> {
    let rpc = |error: alloy::transports::TransportError| Error::Rpc(error.to_string());
    let mut claims = Vec::new();
    for (log, event) in logs::<JobMarketplace::ProofOfWork>(chain, job).await? {
        let (tx, block) = place(&log)?;
        let receipt = chain.provider().get_transaction_receipt(tx).await.map_err(rpc)?;
        let receipt = receipt.ok_or_else(|| Error::Rpc(format!("no receipt of {tx}")))?;
        let sent = chain.provider().get_transaction_by_hash(tx).await.map_err(rpc)?;
        let input = sent.map(|sent| sent.input().clone()).unwrap_or_default();
        claims.push(Landed {
            tokens_claimed: count("tokensClaimed", event.tokensClaimed)?,
            tokens_used: count("tokensUsed", event.tokensUsed)?,
            head_after: digest(event.headAfter),
            kind: event.kind,
            tx: digest(tx),
            block,
            gas: receipt.gas_used,
            succeeded: receipt.status(),
            to: receipt.to.map(address),
            proof: submitted(&input, job, event.tokensClaimed),
        });
    }
    Ok(claims)
}

/// The proof bytes of a job's claim in a transaction's input, single or in a batch.
fn submitted(input: &Bytes, job: JobId, tokens: alloy::primitives::U256) -> Option<Vec<u8>> {
    if let Ok(call) = JobMarketplace::submitProofOfWorkCall::abi_decode(input) {
        return (call.jobId == job_word(job) && call.tokensClaimed == tokens).then(|| call.proof.to_vec());
    }
    let batch = JobMarketplace::submitProofsOfWorkCall::abi_decode(input).ok()?;
    let claim = batch.claims.into_iter().find(|claim| claim.jobId == job_word(job) && claim.tokensClaimed == tokens)?;
    Some(claim.proof.to_vec())
}

async fn transfers(chain: &Chain, token: Address, from: u64) -> Result<Vec<Transfer>, Error> {
    if token == Address::ZERO {
        return Ok(Vec::new());
    }
    let filter = Filter::new().address(eth_address(token)).event_signature(Erc20::Transfer::SIGNATURE_HASH).from_block(from);
    let logs = chain.provider().get_logs(&filter).await.map_err(|error| Error::Rpc(error.to_string()))?;
    let mut transfers = Vec::new();
    for log in logs {
        let event = Erc20::Transfer::decode_log(&log.inner).map_err(|error| Error::Rpc(format!("Transfer: {error}")))?.data;
        let (from, to) = (address(event.from), address(event.to));
        if from == chain.marketplace() || to == chain.marketplace() {
            transfers.push(Transfer { from, to, value: amount("value", event.value)?, tx: digest(place(&log)?.0) });
        }
    }
    Ok(transfers)
}

/// Balances before and after a block.
struct Around<'a> {
    chain: &'a Chain,
    block: u64,
}

impl Around<'_> {
    async fn read<C: SolCall + Clone>(&self, what: &'static str, to: Address, call: C) -> Result<(C::Return, C::Return), Error> {
        let before = self.chain.read_at(what, to, call.clone(), BlockId::number(self.block.saturating_sub(1))).await?;
        let after = self.chain.read_at(what, to, call, BlockId::number(self.block)).await?;
        Ok((before, after))
    }

    async fn earned(&self, earnings: Address, host: Address, token: Address) -> Result<Change, Error> {
        let call = HostEarnings::getBalanceCall { host: eth_address(host), token: eth_address(token) };
        let (before, after) = self.read("getBalance", earnings, call).await?;
        Ok(Change { before: amount("getBalance", before)?, after: amount("getBalance", after)? })
    }

    async fn treasury(&self, token: Address) -> Result<Change, Error> {
        let call = JobMarketplace::treasuryBalanceCall { token: eth_address(token) };
        let (before, after) = self.read("treasuryBalance", self.chain.marketplace(), call).await?;
        Ok(Change { before: amount("treasuryBalance", before)?, after: amount("treasuryBalance", after)? })
    }

    async fn balance(&self, account: Address, token: Address) -> Result<Change, Error> {
        if token == Address::ZERO {
            let at = |block: u64| async move {
                let word = self.chain.provider().get_balance(eth_address(account)).number(block).await;
                amount("balance", word.map_err(|error| Error::Rpc(error.to_string()))?)
            };
            return Ok(Change { before: at(self.block.saturating_sub(1)).await?, after: at(self.block).await? });
        }
        let (before, after) = self.read("balanceOf", token, Erc20::balanceOfCall { account: eth_address(account) }).await?;
        Ok(Change { before: amount("balanceOf", before)?, after: amount("balanceOf", after)? })
    }
}
