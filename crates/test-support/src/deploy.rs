//! The contracts on a development chain, and who is who there.

use alloy::network::ReceiptResponse as _;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::sol_types::SolConstructor;

use crate::bindings::{HostEarnings, HostRegistry, JobMarketplace, TestUSDC};
use crate::{DevAccount, DevChain, Error};

/// The accounts of the development mnemonic in their roles.
#[derive(Clone, Copy, Debug)]
pub struct Actors {
    /// Deploys, allows tokens, owns the treasury (account 0).
    pub owner: DevAccount,
    /// The host; registers, earns (account 1).
    pub host: DevAccount,
    /// The host's submitter key, which the node holds (account 2).
    pub submitter: DevAccount,
    /// The client who pays (account 3).
    pub depositor: DevAccount,
    /// Somebody without any role (account 4).
    pub stranger: DevAccount,
    /// Where the host withdraws to (account 5).
    pub payout: DevAccount,
}

/// What to deploy.
#[derive(Clone, Debug)]
pub struct DeployOptions {
    /// Accept mock proofs.
    pub test_deployment: bool,
    /// The treasury's part in basis points.
    pub fee_bps: u64,
    /// The guest's image id.
    pub image_id: B256,
    /// Length of the closing window in seconds.
    pub claim_window: u64,
    /// SHA-256 of the model file that the host offers.
    pub model: B256,
    /// The host's price per token in 10⁻⁶ USDC.
    pub price: u64,
    /// Where the host says it serves.
    pub api_url: String,
    /// USDC given to the depositor, in 10⁻⁶.
    pub funds: u64,
}

impl Default for DeployOptions {
    /// A test deployment as SPEC 2.4 describes it: 10 % fee, one hour to claim, 0.002 USDC per token, 1,000 USDC to spend.
    fn default() -> Self {
        Self {
            test_deployment: true,
            fee_bps: 1_000,
            image_id: B256::ZERO,
            claim_window: 3_600,
            model: B256::repeat_byte(0x4d),
            price: 2_000,
            api_url: "http://127.0.0.1:8080".to_owned(),
            funds: 1_000_000_000,
        }
    }
}

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// The marketplace.
    pub marketplace: Address,
    /// Hosts' earnings.
    pub earnings: Address,
    /// The registry.
    pub registry: Address,
    /// The test USDC.
    pub usdc: Address,
    /// Who is who.
    pub actors: Actors,
    /// The model offered.
    pub model: B256,
    /// Its price per token in 10⁻⁶ USDC.
    pub price: u64,
}

impl DevChain {
    /// The accounts in their roles.
    pub fn actors(&self) -> Actors {
        Actors {
            owner: self.account(0),
            host: self.account(1),
            submitter: self.account(2),
            depositor: self.account(3),
            stranger: self.account(4),
            payout: self.account(5),
        }
    }

    /// Deploys the contracts, registers the host with its submitter key and price, and funds the depositor. The chain must
    /// mine by itself.
    pub async fn deploy(&self, options: DeployOptions) -> Result<Deployment, Error> {
        let actors = self.actors();
        let owner = actors.owner.address;
        let registry = self.create("HostRegistry", &HostRegistry::BYTECODE, Vec::new()).await?;
        let arguments = HostEarnings::constructorCall { registry_: registry }.abi_encode();
        let earnings = self.create("HostEarnings", &HostEarnings::BYTECODE, arguments).await?;
        let arguments = JobMarketplace::constructorCall {
            earnings,
            registry,
            owner_: owner,
            feeBps_: U256::from(options.fee_bps),
            imageId_: options.image_id,
            claimWindow_: U256::from(options.claim_window),
            testDeployment_: options.test_deployment,
        };
        let marketplace = self.create("JobMarketplace", &JobMarketplace::BYTECODE, arguments.abi_encode()).await?;
        let usdc = self.create("TestUSDC", &TestUSDC::BYTECODE, Vec::new()).await?;

        self.transact(owner, earnings, HostEarnings::bindMarketplaceCall { marketplace_: marketplace }).await?;
        self.transact(owner, marketplace, JobMarketplace::allowTokenCall { token: usdc }).await?;
        let host = actors.host.address;
        let register = HostRegistry::registerCall { payout: actors.payout.address, apiUrl: options.api_url, metadata: String::new() };
        self.transact(host, registry, register).await?;
        self.transact(host, registry, HostRegistry::addSubmitterCall { key: actors.submitter.address }).await?;
        let price = HostRegistry::setPriceCall { modelDigest: options.model, token: usdc, pricePerToken: U256::from(options.price) };
        self.transact(host, registry, price).await?;
        self.transact(owner, usdc, TestUSDC::mintCall { to: actors.depositor.address, amount: U256::from(options.funds) }).await?;
        Ok(Deployment { marketplace, earnings, registry, usdc, actors, model: options.model, price: options.price })
    }

    async fn create(&self, name: &str, bytecode: &Bytes, arguments: Vec<u8>) -> Result<Address, Error> {
        let code = [bytecode.as_ref(), &arguments].concat();
        let receipt = self.send(name, self.account(0).address, TxKind::Create, code.into(), U256::ZERO).await?;
        receipt.contract_address().ok_or_else(|| Error::Answer { what: name.to_owned(), answer: "no address".to_owned() })
    }
}
