//! The fixture itself, against real anvil and the real contracts.

use std::process::Command;
use std::time::Duration;

use alloy::primitives::U256;
use milepost_test_support::bindings::JobMarketplace::JobMarketplaceEvents;
use milepost_test_support::{ChainOptions, DeployOptions, DevChain, Moment, SessionOptions, Victim};

type Done = Result<(), Box<dyn std::error::Error>>;

#[tokio::test]
async fn a_session_is_funded_and_refunded_whole_when_nothing_was_claimed() -> Done {
    let chain = DevChain::start(ChainOptions::default()).await?;
    let deployed = chain.deploy(DeployOptions::default()).await?;
    let before = deployed.usdc_of(&chain, deployed.actors.depositor.address).await?;
    let job = deployed.create_session(&chain, SessionOptions::default()).await?;
    assert_eq!(job, 1);
    let session = deployed.session(&chain, job).await?;
    assert_eq!((session.terms.deposit, session.maxTokens), (U256::from(2_000_000), 1_000));
    deployed.finalize(&chain, deployed.actors.submitter.address, job).await?;
    assert_eq!(deployed.usdc_of(&chain, deployed.actors.depositor.address).await?, before);
    let events = deployed.events(&chain, job).await?;
    assert!(matches!(events[0].event, JobMarketplaceEvents::SessionCreated(_)));
    assert!(matches!(&events[1].event, JobMarketplaceEvents::SessionCompleted(paid) if paid.refund == U256::from(2_000_000)));
    assert_eq!((events.len(), deployed.earned(&chain).await?, deployed.treasury(&chain).await?), (2, 0, 0));
    Ok(())
}

#[tokio::test]
async fn a_reorganisation_takes_a_transaction_back_and_a_snapshot_restores() -> Done {
    let chain = DevChain::start(ChainOptions::default()).await?;
    let deployed = chain.deploy(DeployOptions::default()).await?;
    chain.mine(5).await?;
    let snapshot = chain.snapshot().await?;
    let job = deployed.create_session(&chain, SessionOptions::default()).await?;
    let height = chain.head().await?.0;
    chain.reorg(1).await?;
    assert_eq!(chain.head().await?.0, height, "a reorganisation keeps the height");
    assert!(deployed.events(&chain, job).await?.is_empty());
    chain.revert(snapshot).await?;
    assert_eq!(chain.head().await?.0, height - 2);
    Ok(())
}

#[tokio::test]
async fn time_passes_on_request() -> Done {
    let chain = DevChain::start(ChainOptions { genesis: Some(1_800_000_000), ..ChainOptions::default() }).await?;
    let before = chain.head().await?.1;
    chain.increase_time(3_600).await?;
    assert!(chain.head().await?.1 >= before + 3_600);
    chain.set_time(before + 10_000).await?;
    assert_eq!(chain.head().await?.1, before + 10_000);
    Ok(())
}

#[tokio::test]
async fn the_chain_is_gone_when_it_is_dropped() -> Done {
    let chain = DevChain::start(ChainOptions::default()).await?;
    let port = chain.port();
    drop(chain);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    Ok(())
}

#[test]
fn a_victim_is_killed_at_the_line_that_was_named() -> Done {
    let mut command = Command::new("sh");
    command.args(["-c", "echo one; echo two; exec sleep 60"]);
    let status = Victim::spawn(command)?.kill_at(Moment::Line("two".to_owned()), Duration::from_secs(10))?;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    Ok(())
}

#[test]
fn a_victim_that_ends_by_itself_is_not_called_killed() -> Done {
    let mut command = Command::new("sh");
    command.args(["-c", "echo one"]);
    let killed = Victim::spawn(command)?.kill_at(Moment::Line("two".to_owned()), Duration::from_secs(10));
    assert!(killed.is_err());
    Ok(())
}

/// Set for the process that [`a_chain_does_not_outlive_a_parent_that_is_killed`] kills.
const HOLD: &str = "MILEPOST_TEST_HOLDS_A_CHAIN";

#[tokio::test]
async fn a_chain_does_not_outlive_a_parent_that_is_killed() -> Done {
    if std::env::var_os(HOLD).is_some() {
        let chain = DevChain::start(ChainOptions::default()).await?;
        println!("\nholding port {}", chain.port());
        tokio::time::sleep(Duration::from_mins(10)).await;
        return Ok(());
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["a_chain_does_not_outlive_a_parent_that_is_killed", "--exact", "--nocapture"]).env(HOLD, "1");
    let mut victim = Victim::spawn(command)?;
    let line = victim.wait_for_line("holding port", Duration::from_mins(1))?;
    let port: u16 = line.rsplit(' ').next().unwrap_or_default().parse()?;
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    victim.kill_at(Moment::Now, Duration::from_secs(10))?;
    for _ in 0..200 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(format!("anvil still listens on port {port}").into())
}
