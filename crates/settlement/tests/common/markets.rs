//! A marketplace of a deployed generation in a world of its own: deployed, proxied, funded.
#![allow(unreachable_pub)] // as in `common`

use std::error::Error;

use alloy::network::ReceiptResponse as _;
use alloy::primitives::{Address as EvmAddress, Bytes, TxKind, U256};
use alloy::providers::Provider as _;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent as _;
use milepost_ledger::{AccountId, Address, Digest, JobId};
use milepost_settlement::{Chain, Deps, Handle, Settlement, SubmitterKey};
use milepost_test_support::bindings::TestUSDC;

use super::{Done, World};

alloy::sol!(
    #[allow(missing_docs)]
    BytesForm,
    "../../contracts/artifacts/generations/BytesForm.json"
);
alloy::sol!(
    #[allow(missing_docs)]
    HashForm,
    "../../contracts/artifacts/generations/HashForm.json"
);
alloy::sol!(
    #[allow(missing_docs)]
    PreciseHashForm,
    "../../contracts/artifacts/generations/PreciseHashForm.json"
);
alloy::sol!(
    #[allow(missing_docs)]
    SignedForm,
    "../../contracts/artifacts/generations/SignedForm.json"
);
alloy::sol!(
    #[allow(missing_docs)]
    SignedDeltaForm,
    "../../contracts/artifacts/generations/SignedDeltaForm.json"
);
alloy::sol!(
    #[allow(missing_docs)]
    TimeoutForm,
    "../../contracts/artifacts/generations/TimeoutForm.json"
);
alloy::sol!(
    #[allow(missing_docs)]
    DeployedEarnings,
    "../../contracts/artifacts/generations/DeployedEarnings.json"
);
alloy::sol!(
    #[allow(missing_docs)]
    StorageProxy,
    "../../contracts/artifacts/generations/StorageProxy.json"
);
alloy::sol!(
    #[allow(missing_docs)]
    BeaconedProxy,
    "../../contracts/artifacts/generations/BeaconedProxy.json"
);
alloy::sol!(
    #[allow(missing_docs)]
    Cloner,
    "../../contracts/artifacts/generations/Cloner.json"
);
alloy::sol! {
    interface Funding {
        function createSessionJob(address host, uint256 pricePerToken, uint256 maxDuration, uint256 proofInterval) external payable;
        function createSessionJobWithToken(address host, address token, uint256 deposit, uint256 pricePerToken, uint256 maxDuration, uint256 proofInterval) external;
    }
    interface FundingWithTimeout {
        function createSessionJobWithToken(address host, address token, uint256 deposit, uint256 pricePerToken, uint256 maxDuration, uint256 proofInterval, uint256 proofTimeoutWindow) external;
    }
    interface Ending {
        function triggerSessionTimeout(uint256 jobId) external;
    }
}

/// The treasury's part, in basis points.
const FEE: u64 = 1_000;
/// Seconds from the start before which a host cannot complete.
const WINDOW: u64 = 30;
/// 2 USDC at 0.002 for each token: a thousand tokens.
const DEPOSIT: u64 = 2_000_000;
const PRICE: u64 = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    Bytes,
    Hash,
    PreciseHash,
    Signed,
    SignedDelta,
    Timeout,
}

impl Generation {
    fn code(self) -> &'static Bytes {
        match self {
            Self::Bytes => &BytesForm::BYTECODE,
            Self::Hash => &HashForm::BYTECODE,
            Self::PreciseHash => &PreciseHashForm::BYTECODE,
            Self::Signed => &SignedForm::BYTECODE,
            Self::SignedDelta => &SignedDeltaForm::BYTECODE,
            Self::Timeout => &TimeoutForm::BYTECODE,
        }
    }

    /// Tokens that a price pays for.
    pub fn precision(self) -> u64 {
        if matches!(self, Self::Bytes | Self::Hash) { 1 } else { 1_000 }
    }

    /// Expected tokens per second.
    pub fn rate(self) -> u32 {
        match self {
            Self::Bytes | Self::Hash => 10,
            Self::PreciseHash | Self::Signed | Self::SignedDelta => 1_000,
            Self::Timeout => 2_000,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Around {
    Nothing,
    StorageProxy,
    BeaconProxy,
    Clone,
    CloneOfProxy,
}

/// A world whose marketplace is of a deployed generation.
pub struct Market {
    pub world: World,
    pub generation: Generation,
    pub earnings: EvmAddress,
}

impl Market {
    pub async fn new(generation: Generation, around: Around) -> Result<Self, Box<dyn Error>> {
        let mut world = World::new().await?;
        let earnings = deploy(&world, DeployedEarnings::BYTECODE.to_vec(), &[]).await?;
        let arguments = [word(earnings), U256::from(FEE), U256::from(WINDOW)];
        let inner = deploy(&world, generation.code().to_vec(), &arguments).await?;
        let market = match around {
            Around::Nothing => inner,
            Around::StorageProxy => deploy(&world, StorageProxy::BYTECODE.to_vec(), &[word(inner)]).await?,
            Around::BeaconProxy => deploy(&world, BeaconedProxy::BYTECODE.to_vec(), &[word(inner)]).await?,
            Around::Clone => clone_of(&world, inner).await?,
            Around::CloneOfProxy => {
                let proxy = deploy(&world, StorageProxy::BYTECODE.to_vec(), &[word(inner)]).await?;
                clone_of(&world, proxy).await?
            }
        };
        let owner = world.deployed.actors.owner.address;
        world.chain.transact(owner, earnings, DeployedEarnings::admitCall { marketplace: market }).await?;
        world.config.marketplace = Address(market.into_array());
        world.config.deployed.model = Some(Digest(world.deployed.model.0));
        Ok(Self { world, generation, earnings })
    }

    pub fn market(&self) -> EvmAddress {
        EvmAddress::from(self.world.config.marketplace.0)
    }

    /// These marketplaces know no submitter keys: the host's own.
    pub fn key(&self) -> SubmitterKey {
        SubmitterKey::from_bytes(&self.world.deployed.actors.host.key.0).expect("a development key is a key")
    }

    pub async fn start(&self) -> Result<Handle, milepost_settlement::Error> {
        Settlement::start(self.world.config.clone(), Deps { key: self.key(), ..self.world.deps() }).await
    }

    /// Funds a session in USDC, and opens its account as the doors do.
    pub async fn session(&self) -> Result<JobId, Box<dyn Error>> {
        let (world, market) = (&self.world, self.market());
        let (host, token, depositor) = (world.deployed.actors.host.address, world.deployed.usdc, world.deployed.actors.depositor.address);
        let deposit = U256::from(DEPOSIT);
        world.chain.transact(depositor, token, TestUSDC::approveCall { spender: market, value: deposit }).await?;
        let price = U256::from(PRICE * self.generation.precision());
        let (duration, interval) = (U256::from(3_600), U256::from(1_000));
        let receipt = if self.generation == Generation::Timeout {
            let call = FundingWithTimeout::createSessionJobWithTokenCall {
                host,
                token,
                deposit,
                pricePerToken: price,
                maxDuration: duration,
                proofInterval: interval,
                proofTimeoutWindow: interval,
            };
            world.chain.transact(depositor, market, call).await?
        } else {
            let call = Funding::createSessionJobWithTokenCall {
                host,
                token,
                deposit,
                pricePerToken: price,
                maxDuration: duration,
                proofInterval: interval,
            };
            world.chain.transact(depositor, market, call).await?
        };
        self.open(receipt.inner.logs()).await
    }

    /// Funds a session in the chain's coin, and opens its account.
    pub async fn session_in_coin(&self) -> Result<JobId, Box<dyn Error>> {
        use alloy::sol_types::SolCall as _;
        let call = Funding::createSessionJobCall {
            host: self.world.deployed.actors.host.address,
            pricePerToken: U256::from(PRICE * self.generation.precision()),
            maxDuration: U256::from(3_600),
            proofInterval: U256::from(1_000),
        };
        let depositor = self.world.deployed.actors.depositor.address;
        let data = call.abi_encode().into();
        let receipt = self.world.chain.send("createSessionJob", depositor, TxKind::Call(self.market()), data, U256::from(DEPOSIT)).await?;
        self.open(receipt.inner.logs()).await
    }

    async fn open(&self, logs: &[Log]) -> Result<JobId, Box<dyn Error>> {
        let created = logs.iter().find_map(|log| BytesForm::SessionJobCreated::decode_log(&log.inner).ok());
        let job = JobId(u64::try_from(created.ok_or("no SessionJobCreated")?.jobId)?);
        let terms = Chain::new(&self.world.config)?.terms_to_open(job, self.world.host()).await?.ok_or("no such job")?;
        self.world.open(job, terms).await?;
        assert!(self.world.db.account(AccountId::Job(job))?.is_some());
        Ok(job)
    }

    pub async fn time_out(&self, job: JobId) -> Done {
        let stranger = self.world.deployed.actors.stranger.address;
        self.world.chain.transact(stranger, self.market(), Ending::triggerSessionTimeoutCall { jobId: U256::from(job.0) }).await?;
        Ok(())
    }

    /// What the host can withdraw.
    pub async fn earned(&self, token: EvmAddress) -> Result<u64, Box<dyn Error>> {
        let call = DeployedEarnings::getBalanceCall { host: self.world.deployed.actors.host.address, token };
        Ok(u64::try_from(self.world.chain.view(self.earnings, call).await?)?)
    }

    /// Logs of a job with that signature.
    pub async fn logs(&self, job: JobId, signature: &str) -> Result<Vec<Log>, Box<dyn Error>> {
        let filter = Filter::new().address(self.market()).from_block(0).event(signature).topic1(U256::from(job.0));
        Ok(self.world.chain.provider().get_logs(&filter).await?)
    }
}

fn word(address: EvmAddress) -> U256 {
    U256::from_be_slice(address.as_slice())
}

async fn deploy(world: &World, code: Vec<u8>, arguments: &[U256]) -> Result<EvmAddress, Box<dyn Error>> {
    let words = arguments.iter().flat_map(U256::to_be_bytes::<32>);
    let data: Vec<u8> = code.into_iter().chain(words).collect();
    let owner = world.deployed.actors.owner.address;
    let receipt = world.chain.send("a contract", owner, TxKind::Create, data.into(), U256::ZERO).await?;
    Ok(receipt.contract_address().ok_or("no address")?)
}

async fn clone_of(world: &World, implementation: EvmAddress) -> Result<EvmAddress, Box<dyn Error>> {
    let cloner = deploy(world, Cloner::BYTECODE.to_vec(), &[]).await?;
    let owner = world.deployed.actors.owner.address;
    let receipt = world.chain.transact(owner, cloner, Cloner::cloneCall { implementation }).await?;
    let made = receipt.inner.logs().iter().find_map(|log| Cloner::Cloned::decode_log(&log.inner).ok());
    Ok(made.ok_or("no clone")?.clone)
}
