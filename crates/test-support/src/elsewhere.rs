//! Small marketplaces after the generations that others have deployed, proxied and not, on a development chain.
//!
//! What is built here follows the facts about the deployed ones (`contracts/README.md`), not their code. **Does not** know what the
//! node makes of them: selectors, words and events are the contracts' own.

use alloy::network::ReceiptResponse as _;
use alloy::primitives::{Address, Bytes, TxKind, U256};
use alloy::providers::Provider as _;
use alloy::rpc::types::{Filter, Log, TransactionReceipt};
use alloy::sol_types::{SolCall as _, SolEvent as _};

use crate::bindings::TestUSDC;
use crate::{DevChain, Error};

pub use forms::{
    BeaconedProxy, BytesForm, Cloner, DeployedEarnings, Ending, Funding, FundingWithTimeout, HashForm, PreciseHashForm, SignedDeltaForm,
    SignedForm, StorageProxy, TimeoutForm,
};

/// The contracts as types.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod forms {
    use alloy::sol;

    sol!(BytesForm, "../../contracts/artifacts/generations/BytesForm.json");
    sol!(HashForm, "../../contracts/artifacts/generations/HashForm.json");
    sol!(PreciseHashForm, "../../contracts/artifacts/generations/PreciseHashForm.json");
    sol!(SignedForm, "../../contracts/artifacts/generations/SignedForm.json");
    sol!(SignedDeltaForm, "../../contracts/artifacts/generations/SignedDeltaForm.json");
    sol!(TimeoutForm, "../../contracts/artifacts/generations/TimeoutForm.json");
    sol!(DeployedEarnings, "../../contracts/artifacts/generations/DeployedEarnings.json");
    sol!(StorageProxy, "../../contracts/artifacts/generations/StorageProxy.json");
    sol!(BeaconedProxy, "../../contracts/artifacts/generations/BeaconedProxy.json");
    sol!(Cloner, "../../contracts/artifacts/generations/Cloner.json");
    sol! {
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
}

/// The treasury's part, in basis points.
pub const FEE: u64 = 1_000;
/// Seconds from the start before which a host cannot complete.
pub const DISPUTE_WINDOW: u64 = 30;
/// 2 USDC (or so many wei) at 0.002 for each token: a thousand tokens.
pub const DEPOSIT: u64 = 2_000_000;
/// Price of a token; a contract with a precision is told that many times it.
pub const PRICE: u64 = 2_000;
/// Seconds after which a session is over, and proof interval.
const DURATION: u64 = 3_600;
const INTERVAL: u64 = 1_000;

/// A generation, by its form of claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// September 2025.
    Bytes,
    /// October 2025.
    Hash,
    /// December 2025.
    PreciseHash,
    /// January 2026.
    Signed,
    /// January 2026, with two content ids.
    SignedDelta,
    /// February 2026, with a timeout of its own.
    Timeout,
}

/// What stands before the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Around {
    /// Nothing.
    Nothing,
    /// EIP-1967 with an implementation.
    StorageProxy,
    /// EIP-1967 with a beacon.
    BeaconProxy,
    /// EIP-1167.
    Clone,
    /// EIP-1167, and EIP-1967 behind it.
    CloneOfProxy,
}

impl Generation {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Bytes, Self::Hash, Self::PreciseHash, Self::Signed, Self::SignedDelta, Self::Timeout];

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

    /// Whether its claims name what they prove by content id.
    pub fn wants_content(self) -> bool {
        self != Self::Bytes
    }
}

/// A marketplace of a deployed generation, and the purse that it pays hosts into.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere {
    /// Which one.
    pub generation: Generation,
    /// The address that people know: the outermost proxy's, if there is one.
    pub market: Address,
    /// `DeployedEarnings`.
    pub earnings: Address,
}

impl Elsewhere {
    /// Deploys one from `owner`'s account.
    pub async fn deploy(chain: &DevChain, owner: Address, generation: Generation, around: Around) -> Result<Self, Error> {
        let earnings = create(chain, owner, &DeployedEarnings::BYTECODE, &[]).await?;
        let arguments = [word(earnings), U256::from(FEE), U256::from(DISPUTE_WINDOW)];
        let inner = create(chain, owner, generation.code(), &arguments).await?;
        let market = match around {
            Around::Nothing => inner,
            Around::StorageProxy => create(chain, owner, &StorageProxy::BYTECODE, &[word(inner)]).await?,
            Around::BeaconProxy => create(chain, owner, &BeaconedProxy::BYTECODE, &[word(inner)]).await?,
            Around::Clone => clone_of(chain, owner, inner).await?,
            Around::CloneOfProxy => {
                let proxy = create(chain, owner, &StorageProxy::BYTECODE, &[word(inner)]).await?;
                clone_of(chain, owner, proxy).await?
            }
        };
        chain.transact(owner, earnings, DeployedEarnings::admitCall { marketplace: market }).await?;
        Ok(Self { generation, market, earnings })
    }

    /// Funds a session of [`DEPOSIT`] in a token that `depositor` has; the job's number.
    pub async fn fund(&self, chain: &DevChain, depositor: Address, host: Address, token: Address) -> Result<u64, Error> {
        let deposit = U256::from(DEPOSIT);
        chain.transact(depositor, token, TestUSDC::approveCall { spender: self.market, value: deposit }).await?;
        let (price, duration, interval) = (self.price(), U256::from(DURATION), U256::from(INTERVAL));
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
            chain.transact(depositor, self.market, call).await?
        } else {
            let call = Funding::createSessionJobWithTokenCall {
                host,
                token,
                deposit,
                pricePerToken: price,
                maxDuration: duration,
                proofInterval: interval,
            };
            chain.transact(depositor, self.market, call).await?
        };
        created(&receipt)
    }

    /// Funds a session of [`DEPOSIT`] wei in the chain's coin; the job's number.
    pub async fn fund_in_coin(&self, chain: &DevChain, depositor: Address, host: Address) -> Result<u64, Error> {
        let call = Funding::createSessionJobCall {
            host,
            pricePerToken: self.price(),
            maxDuration: U256::from(DURATION),
            proofInterval: U256::from(INTERVAL),
        };
        let data = call.abi_encode().into();
        created(&chain.send("createSessionJob", depositor, TxKind::Call(self.market), data, U256::from(DEPOSIT)).await?)
    }

    fn price(&self) -> U256 {
        U256::from(PRICE * self.generation.precision())
    }

    /// Ends a session that ran too long, or saw no proof for too long.
    pub async fn time_out(&self, chain: &DevChain, stranger: Address, job: u64) -> Result<(), Error> {
        chain.transact(stranger, self.market, Ending::triggerSessionTimeoutCall { jobId: U256::from(job) }).await.map(|_| ())
    }

    /// What a host can withdraw of a token; zero for the chain's coin.
    pub async fn earned(&self, chain: &DevChain, host: Address, token: Address) -> Result<u64, Error> {
        let balance = chain.view(self.earnings, DeployedEarnings::getBalanceCall { host, token }).await?;
        u64::try_from(balance).map_err(|_| Error::Answer { what: "getBalance".to_owned(), answer: balance.to_string() })
    }

    /// Logs of a job with that signature, oldest first.
    pub async fn logs(&self, chain: &DevChain, job: u64, signature: &str) -> Result<Vec<Log>, Error> {
        let filter = Filter::new().address(self.market).from_block(0).event(signature).topic1(U256::from(job));
        let logs = chain.provider().get_logs(&filter).await;
        logs.map_err(|source| Error::Rpc { what: "eth_getLogs".to_owned(), source: Box::new(source) })
    }
}

fn word(address: Address) -> U256 {
    U256::from_be_slice(address.as_slice())
}

fn missing(what: &str) -> Error {
    Error::Answer { what: what.to_owned(), answer: "nothing".to_owned() }
}

fn created(receipt: &TransactionReceipt) -> Result<u64, Error> {
    // Every generation logs it alike.
    let created = receipt.inner.logs().iter().find_map(|log| BytesForm::SessionJobCreated::decode_log(&log.inner).ok());
    created.and_then(|event| u64::try_from(event.jobId).ok()).ok_or_else(|| missing("SessionJobCreated"))
}

async fn create(chain: &DevChain, owner: Address, code: &Bytes, arguments: &[U256]) -> Result<Address, Error> {
    let data: Vec<u8> = code.iter().copied().chain(arguments.iter().flat_map(U256::to_be_bytes::<32>)).collect();
    let receipt = chain.send("a contract", owner, TxKind::Create, data.into(), U256::ZERO).await?;
    receipt.contract_address().ok_or_else(|| missing("a contract's address"))
}

async fn clone_of(chain: &DevChain, owner: Address, implementation: Address) -> Result<Address, Error> {
    let cloner = create(chain, owner, &Cloner::BYTECODE, &[]).await?;
    let receipt = chain.transact(owner, cloner, Cloner::cloneCall { implementation }).await?;
    let made = receipt.inner.logs().iter().find_map(|log| Cloner::Cloned::decode_log(&log.inner).ok());
    made.map(|event| event.clone).ok_or_else(|| missing("Cloned"))
}
