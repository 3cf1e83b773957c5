//! Depositors who mean ill.

mod common;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use common::{Done, World};
use milepost_ledger::JobId;
use milepost_prover::{BoxFuture, Proof, ProofRequest, Prover};
use milepost_settlement::{Chain, Clock, Deps, Error, Settlement};
use milepost_statement::ProofKind;
use milepost_test_support::{DeployOptions, SessionOptions};
use tokio::sync::Semaphore;

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

/// The doors keep vouchers with v of 27 or 28: the contract knows no other form.
#[tokio::test]
async fn the_contract_takes_a_voucher_in_one_form_alone() -> Done {
    use milepost_ledger::{AccountId, Event, TokenCount};
    use milepost_statement::{Domain, SigningKey, Voucher};
    let world = World::new().await?;
    let settlement = world.start().await?;
    let depositor = SigningKey::from_bytes(&world.deployed.actors.depositor.key.0).expect("a key");
    for (less, claimed) in [(0, vec![200]), (27, vec![])] {
        let options = SessionOptions { voucher_signer: world.deployed.actors.depositor.address, ..SessionOptions::default() };
        let job = world.session(options).await?;
        world.generate(job, 200).await?;
        let (tokens, domain) = (TokenCount(200), Domain { chain_id: world.config.chain_id, marketplace: world.config.marketplace });
        let mut signature = depositor.sign(&Voucher { job_id: job, tokens }.digest(&domain)).to_vec();
        signature[64] -= less;
        world.db.apply(vec![Event::Voucher { account: AccountId::Job(job), tokens, signature }]).await?;
        if claimed.is_empty() {
            common::eventually("refused", || {
                let status = settlement.status();
                let trouble = format!("{:?}", status.trouble);
                if trouble.contains("WrongVoucherSignature") { Ok(()) } else { Err(trouble) }
            })
            .await;
        } else {
            world.until(job, "final", |record| record.positions.finalized.0 == 200).await;
        }
        assert_eq!(world.claimed(job).await?, claimed);
    }
    settlement.stop().await?;
    Ok(())
}

/// A prover that works off its queue one by one, each when it is let, and remembers the order.
struct Turnstile {
    inner: Arc<dyn Prover>,
    turn: Semaphore,
    let_through: Semaphore,
    order: Mutex<Vec<JobId>>,
}

impl Prover for Turnstile {
    fn prove(&self, request: ProofRequest) -> BoxFuture<'_, Result<Proof, milepost_prover::Error>> {
        Box::pin(async move {
            let _turn = self.turn.acquire().await.expect("never closed");
            self.let_through.acquire().await.expect("never closed").forget();
            self.order.lock().expect("unpoisoned").push(request.statement.job_id);
            self.inner.prove(request).await
        })
    }

    fn kind(&self) -> ProofKind {
        self.inner.kind()
    }

    fn fingerprint(&self) -> BoxFuture<'_, Result<Option<String>, milepost_prover::Error>> {
        self.inner.fingerprint()
    }
}

/// Jobs that run on and on, with lower numbers, must not keep the prover from one whose closing window runs out.
#[tokio::test]
async fn a_job_whose_window_runs_out_is_proven_before_those_that_have_time() -> Done {
    const RUNNING: usize = 20;
    let world = World::new().await?;
    let prover =
        Arc::new(Turnstile { inner: world.mock(), turn: Semaphore::new(1), let_through: Semaphore::new(0), order: Mutex::default() });
    let deps = Deps { prover: prover.clone(), ..world.deps() };
    let settlement = Settlement::start(world.config.clone(), deps).await?;
    let mut running = Vec::new();
    for _ in 0..RUNNING {
        let job = world.session(SessionOptions::default()).await?;
        world.generate(job, 100).await?;
        running.push(job);
    }
    let closing = world.session(SessionOptions::default()).await?;
    world.generate(closing, 100).await?;
    for job in running.iter().chain([&closing]) {
        world.until(*job, "planned", |record| record.claim.is_some()).await;
    }
    world.deployed.depositor_closes(&world.chain, closing.0).await?;
    world.until(closing, "closing", |record| record.claim_until.is_some()).await;
    // One is being proven, one may wait behind it; then it is the closing one's turn.
    prover.let_through.add_permits(3);
    world.until(closing, "proven", |record| record.positions.proven.0 == 100).await;
    assert_eq!(prover.order.lock().expect("unpoisoned").iter().position(|job| *job == closing), Some(2));
    prover.let_through.add_permits(RUNNING);
    world.until_paid(closing).await;
    for job in running {
        world.until(job, "final", |record| record.positions.finalized.0 == 100).await;
    }
    settlement.stop().await?;
    Ok(())
}

/// Job numbers are given out in order: after a reorganisation the same number may be somebody else's. Without salts both sessions
/// begin with the same head, so that the contract would take the claim.
#[tokio::test]
async fn what_one_session_generated_is_never_claimed_from_another_that_got_its_number() -> Done {
    let world = World::new().await?;
    let job = world.session(SessionOptions::default()).await?;
    world.generate(job, 100).await?;
    // The funding and its approval are taken back; another session is first this time.
    world.chain.reorg(2).await?;
    let other = SessionOptions { deposit: 5_000_000, ..SessionOptions::default() };
    assert_eq!(world.deployed.create_session(&world.chain, other).await?, job.0, "it has the same number");
    let settlement = world.start().await?;
    let record = world.until(job, "stopped", |record| record.halted.is_some() || record.positions.landed.0 > 0).await;
    assert!(world.claimed(job).await?.is_empty(), "claimed from another's deposit");
    assert!(record.halted.unwrap_or_default().contains("another session"));
    assert!(world.txs(job).is_empty(), "nothing was signed");
    settlement.stop().await?;
    Ok(())
}

/// A signed claim can be sent again by anybody, for ever: none is made before the session it is for is there to stay.
#[tokio::test]
async fn nothing_is_signed_for_a_session_whose_funding_is_not_final() -> Done {
    let mut world = World::new().await?;
    world.config.confirmations = 4;
    let job = world.session(SessionOptions::default()).await?;
    world.generate(job, 100).await?;
    let looks = Arc::new(AtomicU32::new(0));
    let counted = looks.clone();
    let clock = Clock::new(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        Clock::system().now()
    });
    let settlement = Settlement::start(world.config.clone(), Deps { clock, ..world.deps() }).await?;
    world.until(job, "proven", |record| record.positions.proven.0 == 100).await;
    let before = looks.load(Ordering::SeqCst);
    common::eventually("looked at again and again", || {
        assert!(world.txs(job).is_empty(), "signed for a session that may yet vanish");
        if looks.load(Ordering::SeqCst) - before < 10 { Err("few looks".to_owned()) } else { Ok(()) }
    })
    .await;
    world.chain.mine(3).await?;
    world.until(job, "landed", |record| record.positions.landed.0 == 100).await;
    settlement.stop().await?;
    Ok(())
}
