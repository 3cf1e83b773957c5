//! Depositors who mean ill.

mod common;

use common::{Done, World};
use milepost_ledger::JobId;
use milepost_settlement::{Chain, Error};
use milepost_test_support::{DeployOptions, SessionOptions};

/// The contract takes any price that a depositor writes into the terms.
#[tokio::test]
async fn a_job_that_pays_less_than_the_host_asks_is_not_served() -> Done {
    let world = World::new().await?;
    let chain = Chain::new(&world.config)?;
    let asked = world.deployed.price;
    for (price, served) in [(1, false), (asked - 1, false), (asked, true), (asked + 1, true)] {
        let options = SessionOptions { price: Some(price), ..SessionOptions::default() };
        let job = JobId(world.deployed.create_session(&world.chain, options).await?);
        let found = chain.terms_to_open(job, world.host()).await;
        assert_eq!(found.is_ok(), served, "at a price of {price}: {found:?}");
    }
    // A token that the host has no price for is one that it does not take.
    let options = DeployOptions { price: 0, ..DeployOptions::default() };
    let world = World::with(options).await?;
    let options = SessionOptions { price: Some(1_000_000), deposit: 100_000_000, ..SessionOptions::default() };
    let job = JobId(world.deployed.create_session(&world.chain, options).await?);
    let refused = Chain::new(&world.config)?.terms_to_open(job, world.host()).await;
    assert!(matches!(refused, Err(Error::Price { asked: None, .. })), "{refused:?}");
    Ok(())
}
