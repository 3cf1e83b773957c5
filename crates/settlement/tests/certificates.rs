//! Claims that become final by the certificates of validators, and by nothing else.

mod common;
#[path = "common/validators.rs"]
mod validators;

use std::time::Duration;

use common::{Done, World, eventually};
use finality_gadget::BlockNumber;
use milepost_ledger::{ChainId, Digest, JobId, TokenSeq, TxState};
use milepost_settlement::{Certificates, Chain, Endpoint, Error, Finality, Handle, SettlementConfig, why};
use milepost_test_support::{ChainOptions, DevChain, SessionOptions};
use milepost_validator_net::light::{Light, Options};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use validators::{INTERVAL, Validators};

/// A world whose finality is that of four validators.
struct Certified {
    world: World,
    validators: Validators,
    /// Asks the chain what this test wants to know.
    chain: Chain,
    folder: TempDir,
}

impl Certified {
    async fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let mut world = World::new().await?;
        let folder = tempfile::tempdir()?;
        let chain = Chain::new(&world.config)?;
        let genesis = chain.block_at(0).await?.expect("every chain has a first block");
        let validators = Validators::new(folder.path(), genesis).await?;
        world.config.finality = Finality::Certificate;
        let mut section = Certificates::new(&validators.set_file, folder.path().join("certificates"));
        section.poll_ms = 30;
        world.config.certificates = Some(section);
        Ok(Self { world, validators, chain, folder })
    }

    /// A job whose funding is certified, as it must be before anything is claimed.
    async fn funded(&self) -> Result<JobId, Box<dyn std::error::Error>> {
        let job = self.world.session(SessionOptions::default()).await?;
        let (head, _) = self.world.chain.head().await?;
        self.certify_above(head).await?;
        Ok(job)
    }

    /// Its first claim is in a block; that block's height.
    async fn landed(&self, job: JobId) -> Result<u64, Box<dyn std::error::Error>> {
        // So that what was certified so far lies below the claim.
        self.world.chain.mine(INTERVAL).await?;
        self.world.generate(job, 100).await?;
        self.world.until(job, "landed", |record| record.positions.landed.0 == 100).await;
        let txs = self.world.txs(job);
        let TxState::Included { block, .. } = &txs[0].state else { panic!("{txs:?}") };
        Ok(block.number)
    }

    /// Mines until checkpoint `number` is there; its block's hash.
    async fn checkpoint(&self, number: u64) -> Result<Digest, Box<dyn std::error::Error>> {
        let (head, _) = self.world.chain.head().await?;
        self.world.chain.mine((number * INTERVAL).saturating_sub(head)).await?;
        Ok(self.chain.block_at(number * INTERVAL).await?.expect("it was mined"))
    }

    /// Certifies the first checkpoint at or above a height, as the chain has it.
    async fn certify_above(&self, height: u64) -> Result<u64, Box<dyn std::error::Error>> {
        let number = height.div_ceil(INTERVAL);
        self.validators.certify(number, self.checkpoint(number).await?);
        Ok(number)
    }
}

fn section(config: &mut SettlementConfig) -> &mut Certificates {
    config.certificates.as_mut().expect("it has the section")
}

/// Waits until settlement has looked at the chain from `head` on.
async fn looked(settlement: &Handle, head: u64) {
    eventually("a look at the newest block", || match settlement.status().head {
        Some(block) if block.number >= head => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// Waits until settlement says that nothing becomes final, with this code; what it says.
async fn told(settlement: &Handle, code: &str) -> String {
    eventually(code, || match settlement.status().finality.trouble {
        Some(trouble) if trouble.code == code => Ok(trouble.message),
        other => Err(format!("{other:?}")),
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_become_final_by_certificates_alone() -> Done {
    let setting = Certified::new().await?;
    let world = &setting.world;
    let job = setting.funded().await?;
    let settlement = world.start().await?;
    let block = setting.landed(job).await?;

    // However many blocks are built, and whatever is certified below it.
    let below = (block - 1) / INTERVAL;
    setting.validators.certify(below, setting.checkpoint(below).await?);
    world.chain.mine(5 * INTERVAL).await?;
    eventually("the certificate below is taken", || match settlement.status().finality.certified {
        Some(certified) if certified.checkpoint == below => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let (head, _) = world.chain.head().await?;
    looked(&settlement, head).await;
    world.chain.mine(1).await?;
    looked(&settlement, head + 1).await;
    assert_eq!(world.record(job).positions.finalized, TokenSeq(0), "confirmations are not certificates");
    let answers = why(&world.db, Some(settlement.chain()), job).await?;
    let waits = answers.iter().find(|answer| answer.question == "What does it wait for?").expect("why says what it waits for");
    assert!(waits.answer.contains("for a certificate at or above"), "{}", waits.answer);

    let number = setting.certify_above(block).await?;
    world.until(job, "final", |record| record.positions.finalized.0 == 100).await;
    let certified = settlement.chain().certificate_of(block).expect("a certificate covers it");
    assert_eq!((certified.checkpoint().number.0, certified.height().0), (number, number * INTERVAL));
    setting.validators.agreement.schedule.verify_certificate(certified.certificate())?;

    // The payout, too.
    world.end(job).await?;
    let paid = eventually("a finished session", || {
        let found = world.txs(job).into_iter().rev().find_map(|tx| match tx.state {
            TxState::Included { block, .. } => Some(block.number),
            _ => None,
        });
        found.filter(|found| *found > block).ok_or_else(|| format!("{:?}", world.txs(job)))
    })
    .await;
    setting.certify_above(paid).await?;
    let record = world.until_paid(job).await;
    assert_eq!(record.positions.paid.0, 100);
    assert_eq!(settlement.status().finality.trouble, None);
    settlement.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_that_contradicts_the_certificates_makes_nothing_final() -> Done {
    let setting = Certified::new().await?;
    let world = &setting.world;
    let job = setting.funded().await?;
    let settlement = world.start().await?;
    let block = setting.landed(job).await?;
    let number = block.div_ceil(INTERVAL);
    let here = setting.checkpoint(number).await?;
    let elsewhere = Digest([0x77; 32]);
    setting.validators.certify(number, elsewhere);
    let message = told(&settlement, "MP-S-050").await;
    assert!(message.contains(&here.to_string()) && message.contains(&elsewhere.to_string()), "{message}");
    world.chain.mine(3 * INTERVAL).await?;
    let (head, _) = world.chain.head().await?;
    looked(&settlement, head).await;
    assert_eq!(world.record(job).positions.finalized, TokenSeq(0));
    assert!(!settlement.status().can_settle(), "money does not move");
    let answers = why(&world.db, Some(settlement.chain()), job).await?;
    assert!(answers.iter().any(|answer| answer.answer.contains("MP-S-050")), "{answers:?}");
    settlement.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_validators_claims_stay_pending_and_become_final_when_they_are_back() -> Done {
    let mut setting = Certified::new().await?;
    setting.world.config.certificates.as_mut().expect("it has the section").stale_seconds = 1;
    let job = setting.funded().await?;
    let settlement = setting.world.start().await?;
    let block = setting.landed(job).await?;
    setting.validators.close().await;
    setting.world.chain.mine(3 * INTERVAL).await?;
    let message = told(&settlement, "MP-S-051").await;
    assert!(message.contains("validator 1 cannot be reached") && message.contains("validator 2 cannot be reached"), "{message}");
    assert_eq!(setting.world.record(job).positions.finalized, TokenSeq(0), "nothing takes the certificates' place");
    let status = settlement.status().finality;
    assert_eq!(status.validators.iter().filter(|validator| validator.trouble.is_some()).count(), 2, "{status:?}");

    setting.validators.open().await?;
    setting.certify_above(block).await?;
    setting.world.until(job, "final", |record| record.positions.finalized.0 == 100).await;
    eventually("well again", || match settlement.status().finality.trouble {
        None => Ok(()),
        Some(trouble) => Err(trouble.message),
    })
    .await;
    settlement.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_certified_before_a_restart_counts_after_it_with_nobody_to_ask() -> Done {
    let mut setting = Certified::new().await?;
    let job = setting.funded().await?;
    let settlement = setting.world.start().await?;
    let block = setting.landed(job).await?;
    settlement.stop().await?;
    // What follows certificates outlives settlement by a moment: they are on disk, the claim is not final yet.
    let section = setting.world.config.certificates.clone().expect("it has the section");
    let (agreement, folder) = (setting.validators.agreement.clone(), section.folder.expect("it is named"));
    let options = Options { sources: agreement.sources(), agreement, folder, poll: Duration::from_millis(30) };
    let (light, handle) = Light::new(options)?;
    let stop = CancellationToken::new();
    let following = tokio::spawn(light.run(stop.clone()));
    setting.certify_above(block).await?;
    eventually("the certificate is taken", || handle.state().covering(BlockNumber(block)).map(|_| ()).ok_or_else(String::new)).await;
    stop.cancel();
    following.await??;
    assert_eq!(setting.world.record(job).positions.finalized, TokenSeq(0));
    setting.validators.close().await;
    setting.world.lose_power()?;
    let settlement = setting.world.start().await?;
    setting.world.until(job, "final", |record| record.positions.finalized.0 == 100).await;
    settlement.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validators_that_contradict_themselves_are_believed_no_more() -> Done {
    let setting = Certified::new().await?;
    let world = &setting.world;
    let job = setting.funded().await?;
    let settlement = world.start().await?;
    let block = setting.landed(job).await?;
    let number = (block - 1) / INTERVAL;
    setting.validators.certify_at(0, number, setting.checkpoint(number).await?);
    eventually("the first is taken", || match settlement.status().finality.certified {
        Some(certified) if certified.checkpoint == number => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    setting.validators.certify_at(1, number, Digest([0x77; 32]));
    told(&settlement, "MP-S-052").await;
    let later = block.div_ceil(INTERVAL);
    setting.validators.certify_at(0, later, setting.checkpoint(later).await?);
    world.chain.mine(3 * INTERVAL).await?;
    let (head, _) = world.chain.head().await?;
    looked(&settlement, head).await;
    assert_eq!(world.record(job).positions.finalized, TokenSeq(0));
    settlement.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_contradicts_is_left_for_one_that_does_not() -> Done {
    let setting = Certified::new().await?;
    let other = DevChain::start(ChainOptions { genesis: Some(1_700_000_000), ..ChainOptions::default() }).await?;
    other.mine(10 * INTERVAL).await?;
    let settlement = setting.world.start().await?;
    setting.validators.certify(2, setting.checkpoint(2).await?);
    eventually("certified", || settlement.status().finality.certified.filter(|found| found.checkpoint == 2).ok_or_else(String::new)).await;
    settlement.stop().await?;

    let mut config: SettlementConfig = setting.world.config.clone();
    config.rpc_url = "".into();
    let endpoint = |chain: &DevChain, weight| Endpoint { url: chain.url().into(), weight };
    config.rpc_urls = vec![endpoint(&other, u32::MAX), endpoint(&setting.world.chain, 1)];
    let chain = Chain::new(&config)?;
    let head = chain.head().await?;
    assert_eq!(chain.final_height(&head).await?, None, "the heavier endpoint is asked first, and not believed");
    assert_eq!(chain.finality().trouble.map(|trouble| trouble.code), Some("MP-S-050"));
    let head = chain.head().await?;
    assert_eq!(chain.final_height(&head).await?, Some(2 * INTERVAL), "the other one shows what was certified");
    assert_eq!(chain.finality().trouble, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_followed_is_refused_before_anything_is_signed() -> Done {
    let setting = Certified::new().await?;
    let refused = |change: &dyn Fn(&mut SettlementConfig)| {
        let mut config = setting.world.config.clone();
        change(&mut config);
        Chain::new(&config).map(|_| ()).expect_err("it is refused")
    };
    assert!(matches!(refused(&|config| config.certificates = None), Error::Config(_)));
    assert!(matches!(refused(&|config| config.finality = Finality::Confirmations), Error::Config(_)), "a section that does not count");
    assert!(matches!(refused(&|config| config.chain_id = ChainId(1)), Error::Certificates(_)), "validators of another chain");
    assert!(matches!(refused(&|config| section(config).validators = vec![1, 3]), Error::Certificates(_)), "3 gives no certificates");
    let nowhere = setting.folder.path().join("nowhere.toml");
    assert!(matches!(refused(&|config| section(config).set_file.clone_from(&nowhere)), Error::Certificates(_)));
    let error = refused(&|config| section(config).agreement = Some("00".repeat(32)));
    assert!(error.to_string().contains("digest") && error.code() == "MP-S-053", "{error}");
    let digest = hex::encode(setting.validators.agreement.digest());
    let mut config = setting.world.config.clone();
    section(&mut config).agreement = Some(format!("0x{digest}"));
    Chain::new(&config)?;
    Ok(())
}
