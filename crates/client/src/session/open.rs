//! Funding a session: salt, approval, `createSession`, and the proof that the contract understood the same.

use std::path::PathBuf;

use alloy::primitives::U256;
use alloy::sol_types::{SolCall, SolEvent};
use milepost_statement::{Address, Digest, JobId, Salt, SignedQuote, TokenCount, salt_commitment};

use super::Session;
use crate::abi::{Erc20, JobMarketplace, SessionTerms};
use crate::chain::{Chain, Mined, Prepared, address, digest, eth_address, eth_hash};
use crate::file::{Funding, Record, SessionFile, VoucherState};
use crate::transcript::JobIdentity;
use crate::{Amount, Error, Wallet};

/// What to fund.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    /// RPC endpoint.
    pub rpc: String,
    /// The marketplace.
    pub marketplace: Address,
    /// The host.
    pub host: Address,
    /// Where it serves; `None`: as the registry says.
    pub host_url: Option<String>,
    /// Payment token; zero for the chain's coin.
    pub token: Address,
    /// Deposit in the token's smallest unit.
    pub deposit: Amount,
    /// Price of a token; `None`: the registry's. A host that asks more is refused.
    pub price: Option<Amount>,
    /// SHA-256 of the model file.
    pub model_digest: Digest,
    /// Expected tokens per second; 0 for the contract's default of 10. Claims may run at twice this rate.
    pub expected_rate: u32,
    /// Seconds after which anyone may request the close.
    pub max_duration: u64,
    /// Seconds without a claim after which anyone may request the close.
    pub timeout_seconds: u64,
    /// Least charge once anything was claimed.
    pub minimum_charge: Amount,
    /// Contract that must verify each claim's seal; zero for none.
    pub verifier: Address,
    /// Countersign the running total; the host may claim this many tokens beyond the last voucher.
    pub voucher_allowance: Option<TokenCount>,
    /// The host's quote, checked: its price is paid and it is shown to the host again.
    pub quote: Option<SignedQuote>,
    /// What the client spends at most, where that is less than the deposit.
    pub ceiling: Option<Amount>,
    /// Where the session is kept. Never replaced.
    pub file: PathBuf,
}

impl OpenRequest {
    /// A request with the usual terms: a day, an hour of idleness, no minimum, no verifier, no vouchers.
    pub fn new(
        rpc: &str,
        marketplace: Address,
        host: Address,
        token: Address,
        deposit: Amount,
        model_digest: Digest,
        file: PathBuf,
    ) -> Self {
        Self {
            rpc: rpc.to_owned(),
            marketplace,
            host,
            host_url: None,
            token,
            deposit,
            price: None,
            model_digest,
            expected_rate: 0,
            max_duration: 86_400,
            timeout_seconds: 3_600,
            minimum_charge: Amount(0),
            verifier: Address::ZERO,
            voucher_allowance: None,
            quote: None,
            ceiling: None,
            file,
        }
    }

    fn terms(&self, price: Amount, signer: Address, salt: &Salt) -> SessionTerms {
        SessionTerms {
            host: eth_address(self.host),
            token: eth_address(self.token),
            deposit: self.deposit.word(),
            pricePerToken: price.word(),
            modelDigest: eth_hash(self.model_digest),
            expectedRate: self.expected_rate,
            maxDuration: self.max_duration,
            timeoutSeconds: self.timeout_seconds,
            minimumCharge: self.minimum_charge.word(),
            verifier: eth_address(self.verifier),
            voucherSigner: eth_address(self.voucher_allowance.map_or(Address::ZERO, |_| signer)),
            voucherAllowance: self.voucher_allowance.map_or(0, |allowance| allowance.0),
            saltCommitment: eth_hash(salt_commitment(salt)),
        }
    }
}

impl Session {
    /// Funds a session and waits until it exists on chain.
    ///
    /// The signed transaction is in the session file before it is sent: a client killed in between finds its deposit again with
    /// [`Session::load`].
    pub async fn open(wallet: Wallet, request: OpenRequest) -> Result<Self, Error> {
        let chain = Chain::connect(&request.rpc, request.marketplace).await?;
        let offer = chain.offer(request.host, request.model_digest, request.token).await?;
        let promised = request.quote.as_ref().map_or(offer.price, |signed| Amount(signed.quote.price));
        let price = match request.price {
            Some(price) if price < promised => return Err(Error::Price { asked: promised, offered: price }),
            Some(price) => price,
            None => promised,
        };
        approve(&chain, &wallet, &request).await?;

        let salt = Salt(rand::random());
        let terms = request.terms(price, wallet.address(), &salt);
        let value = if request.token == Address::ZERO { request.deposit.word() } else { U256::ZERO };
        let call = JobMarketplace::createSessionCall { terms }.abi_encode();
        let prepared = chain.prepare("createSession", &wallet, request.marketplace, call.into(), value).await?;
        let record = Record {
            format: Record::FORMAT,
            rpc: request.rpc.clone(),
            chain_id: chain.id(),
            marketplace: request.marketplace,
            host: request.host,
            host_url: request.host_url.clone().unwrap_or(offer.url),
            model_digest: request.model_digest,
            token: request.token,
            deposit: request.deposit,
            price,
            minimum_charge: request.minimum_charge,
            depositor: wallet.address(),
            salt,
            funding: Funding::Signed { hash: digest(prepared.hash), raw: hex::encode(&prepared.raw) },
            access: None,
            quote: request.quote.clone(),
            ceiling: request.ceiling,
            voucher: request.voucher_allowance.map(|allowance| VoucherState { allowance, given: TokenCount::ZERO }),
            ids: Vec::new(),
            checkpoints: Vec::new(),
            turns: Vec::new(),
            active: None,
            stopped: None,
        };
        let file = SessionFile::create(&request.file, record).map_err(|error| Error::File { path: request.file.clone(), error })?;
        confirm(wallet, file, chain, &prepared).await
    }
}

/// Goes on with a session file: to the session, or first to its funding.
pub(super) async fn take_up(wallet: Wallet, file: SessionFile) -> Result<Session, Error> {
    let Funding::Signed { hash, raw } = &file.record().funding else {
        return Session::from_file(wallet, file, None);
    };
    let raw = hex::decode(raw).map_err(|error| Error::Protocol { what: "stored transaction", reason: error.to_string() })?;
    let prepared = Prepared { hash: eth_hash(*hash), raw: raw.into() };
    let chain = Chain::connect(&file.record().rpc, file.record().marketplace).await?;
    chain.expect_id(file.record().chain_id)?;
    confirm(wallet, file, chain, &prepared).await
}

/// Sends the funding, waits for it, and holds the contract's event against what was asked.
async fn confirm(wallet: Wallet, mut file: SessionFile, chain: Chain, prepared: &Prepared) -> Result<Session, Error> {
    let mined = chain.send("createSession", prepared).await?;
    let created = created(&mined, chain.marketplace())?;
    let record = file.record();
    let job_id = JobId(u64::try_from(created.jobId).map_err(|_| Error::Rpc("a job number beyond u64".into()))?);
    let same = [
        ("host", address(created.host) == record.host),
        ("depositor", address(created.depositor) == record.depositor),
        ("token", address(created.terms.token) == record.token),
        ("deposit", created.terms.deposit == record.deposit.word()),
        ("price", created.terms.pricePerToken == record.price.word()),
        ("model", digest(created.terms.modelDigest) == record.model_digest),
        ("salt commitment", digest(created.terms.saltCommitment) == salt_commitment(&record.salt)),
    ];
    if let Some((what, _)) = same.into_iter().find(|(_, same)| !same) {
        return Err(Error::Terms { what });
    }
    let job = JobIdentity {
        chain_id: chain.id(),
        marketplace: chain.marketplace(),
        job_id,
        host: record.host,
        model_digest: record.model_digest,
    };
    let computed = job.genesis(&record.salt);
    if digest(created.head) != computed {
        return Err(Error::Genesis { chain: digest(created.head), computed });
    }
    let block = mined.block_number.ok_or_else(|| Error::Rpc("a receipt without a block".into()))?;
    let stored = file.update(|record| record.funding = Funding::Funded { job_id, block });
    stored.map_err(|error| Error::File { path: file.path().to_owned(), error })?;
    tracing::info!(job = job_id.0, deposit = %file.record().deposit, "session funded");
    Session::from_file(wallet, file, Some(chain))
}

fn created(mined: &Mined, marketplace: Address) -> Result<JobMarketplace::SessionCreated, Error> {
    let log = mined
        .logs()
        .iter()
        .find(|log| address(log.address()) == marketplace && log.topic0() == Some(&JobMarketplace::SessionCreated::SIGNATURE_HASH))
        .ok_or_else(|| Error::Rpc("createSession was mined without its event".into()))?;
    let event = log.log_decode::<JobMarketplace::SessionCreated>().map_err(|error| Error::Rpc(format!("SessionCreated: {error}")))?;
    Ok(event.inner.data)
}

/// Lets the marketplace take the deposit, exactly that and no more.
async fn approve(chain: &Chain, wallet: &Wallet, request: &OpenRequest) -> Result<(), Error> {
    let (token, owner) = (request.token, wallet.address());
    let has = chain.balance(owner, token).await?;
    if has < request.deposit {
        return Err(Error::Funds { wallet: owner, token, has, needs: request.deposit });
    }
    if token == Address::ZERO {
        return Ok(());
    }
    let spender = eth_address(request.marketplace);
    let allowance = chain.read("allowance", token, Erc20::allowanceCall { owner: eth_address(owner), spender }).await?;
    if allowance >= request.deposit.word() {
        return Ok(());
    }
    if allowance != U256::ZERO {
        // Some tokens refuse to change an allowance that is not zero.
        let reset = Erc20::approveCall { spender, value: U256::ZERO }.abi_encode();
        chain.transact("approve", wallet, token, reset.into(), U256::ZERO).await?;
    }
    let call = Erc20::approveCall { spender, value: request.deposit.word() }.abi_encode();
    chain.transact("approve", wallet, token, call.into(), U256::ZERO).await?;
    Ok(())
}
