//! A marketplace of a deployed generation in a world of its own: deployed, proxied, funded.
#![allow(unreachable_pub, dead_code, unused_imports)] // as in `common`

use std::error::Error;

use alloy::primitives::Address as EvmAddress;
use alloy::rpc::types::Log;
use milepost_ledger::{AccountId, Address, Digest, JobId};
use milepost_settlement::{Chain, Deps, Handle, Settlement, SubmitterKey};
use milepost_test_support::elsewhere::Elsewhere;
pub use milepost_test_support::elsewhere::{Around, Generation, HashForm, SignedDeltaForm};

use crate::common::{Done, World};

/// A world whose marketplace is of a deployed generation.
pub struct Market {
    pub world: World,
    elsewhere: Elsewhere,
}

impl Market {
    pub async fn new(generation: Generation, around: Around) -> Result<Self, Box<dyn Error>> {
        let mut world = World::new().await?;
        let elsewhere = Elsewhere::deploy(&world.chain, world.deployed.actors.owner.address, generation, around).await?;
        world.config.marketplace = Address(elsewhere.market.into_array());
        world.config.deployed.model = Some(Digest(world.deployed.model.0));
        Ok(Self { world, elsewhere })
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
        let actors = &self.world.deployed.actors;
        let usdc = self.world.deployed.usdc;
        self.open(self.elsewhere.fund(&self.world.chain, actors.depositor.address, actors.host.address, usdc).await?).await
    }

    /// Funds a session in the chain's coin, and opens its account.
    pub async fn session_in_coin(&self) -> Result<JobId, Box<dyn Error>> {
        let actors = &self.world.deployed.actors;
        self.open(self.elsewhere.fund_in_coin(&self.world.chain, actors.depositor.address, actors.host.address).await?).await
    }

    async fn open(&self, job: u64) -> Result<JobId, Box<dyn Error>> {
        let job = JobId(job);
        let terms = Chain::new(&self.world.config)?.terms_to_open(job, self.world.host()).await?.ok_or("no such job")?;
        self.world.open(job, terms).await?;
        assert!(self.world.db.account(AccountId::Job(job))?.is_some());
        Ok(job)
    }

    pub async fn time_out(&self, job: JobId) -> Done {
        Ok(self.elsewhere.time_out(&self.world.chain, self.world.deployed.actors.stranger.address, job.0).await?)
    }

    /// What the host can withdraw.
    pub async fn earned(&self, token: EvmAddress) -> Result<u64, Box<dyn Error>> {
        Ok(self.elsewhere.earned(&self.world.chain, self.world.deployed.actors.host.address, token).await?)
    }

    /// Logs of a job with that signature.
    pub async fn logs(&self, job: JobId, signature: &str) -> Result<Vec<Log>, Box<dyn Error>> {
        Ok(self.elsewhere.logs(&self.world.chain, job.0, signature).await?)
    }
}
