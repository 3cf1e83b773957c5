//! The client against the real contracts on a development chain.

use std::path::PathBuf;
use std::time::Duration;

use milepost_client::abi::{Erc20, JobMarketplace, Status};
use milepost_client::chain::{Chain, address, eth_address, job_word};
use milepost_client::file::{Entry, Funding, SessionFile};
use milepost_client::transcript::{self, Checkpoint};
use milepost_client::{Amount, CloseOutcome, Error, OpenRequest, Paid, RefundState, Session, Wallet, find_offers};
use milepost_statement::{
    Address, Digest, JobId, ProofKind, Statement, TokenCount, TokenId, TokenSeq, checkpoint_head, encode_proof, turns_digest,
};
use milepost_test_support::{ChainOptions, DeployOptions, Deployment, DevChain};

const DEPOSIT: Amount = Amount(2_000_000);
const MODEL: Digest = Digest([0x4d; 32]);

struct Rig {
    chain: DevChain,
    contracts: Deployment,
    wallet: Wallet,
    folder: tempfile::TempDir,
}

impl Rig {
    async fn start() -> Self {
        let chain = DevChain::start(ChainOptions::default()).await.expect("anvil");
        // A host that nobody answers for: these tests are about the chain.
        let options = DeployOptions { api_url: "http://127.0.0.1:1".into(), ..DeployOptions::default() };
        let contracts = chain.deploy(options).await.expect("the contracts");
        let wallet = Wallet::development(3).expect("the depositor's account");
        Self { chain, contracts, wallet, folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("session.json")
    }

    fn request(&self) -> OpenRequest {
        let (host, usdc) = (address(self.contracts.actors.host.address), address(self.contracts.usdc));
        OpenRequest::new(self.chain.url(), self.marketplace(), host, usdc, DEPOSIT, MODEL, self.path())
    }

    fn marketplace(&self) -> Address {
        address(self.contracts.marketplace)
    }

    async fn open(&self) -> Session {
        Session::open(self.wallet.clone(), self.request()).await.expect("a funded session")
    }

    async fn held(&self) -> u64 {
        self.contracts.usdc_of(&self.chain, self.contracts.actors.depositor.address).await.expect("a balance")
    }

    /// A session whose file holds `count` tokens in one checkpoint, as if they had been streamed.
    async fn with_tokens(&self, count: u64) -> (Session, Checkpoint) {
        let session = self.open().await;
        let (genesis, salt) = (session.transcript().head(), session.record().salt);
        drop(session);
        let ids: Vec<TokenId> = (0..u32::try_from(count).expect("small")).collect();
        let turns_digest = turns_digest(&salt, TokenSeq::ZERO, &[]);
        let head = checkpoint_head(&genesis, TokenSeq::ZERO, &turns_digest, &ids);
        let checkpoint = Checkpoint { number: 0, first_seq: TokenSeq::ZERO, count: TokenCount(count), turns_digest, head, turns: None };
        let mut file = SessionFile::open(&self.path()).expect("the session file");
        file.append(Entry::Tokens { at: TokenSeq::ZERO, ids }).expect("stored");
        file.append(Entry::Checkpoint(checkpoint.clone())).expect("stored");
        drop(file);
        (Session::load(self.wallet.clone(), &self.path()).await.expect("it loads"), checkpoint)
    }

    /// The host claims and finalizes.
    async fn claim_and_finalize(&self, session: &Session, count: u64, head_after: Digest) {
        let job = *session.transcript().job();
        let statement = Statement {
            chain_id: job.chain_id,
            marketplace: job.marketplace,
            job_id: job.job_id,
            host: job.host,
            model_digest: job.model_digest,
            first_seq: TokenSeq::ZERO,
            count: TokenCount(count),
            head_before: job.genesis(&session.record().salt),
            head_after,
        };
        let proof = encode_proof(ProofKind::Mock, &statement.journal(), &[], &[]);
        let call = JobMarketplace::submitProofOfWorkCall {
            jobId: job_word(job.job_id),
            tokensClaimed: alloy::primitives::U256::from(count),
            proof: proof.into(),
        };
        let submitter = self.contracts.actors.submitter.address;
        self.chain.transact(submitter, self.contracts.marketplace, call).await.expect("the claim lands");
        self.contracts.finalize(&self.chain, submitter, job.job_id.0).await.expect("it is paid");
    }
}

#[tokio::test]
async fn a_funded_session_has_the_head_that_its_terms_give() {
    let rig = Rig::start().await;
    let before = rig.held().await;
    let mut session = rig.open().await;
    assert_eq!(session.job_id(), JobId(1));
    assert_eq!(before - rig.held().await, 2_000_000);
    let head = session.transcript().head();
    let chain = session.chain().await.expect("connected").clone();
    let state = chain.session(JobId(1)).await.expect("it exists");
    assert_eq!((state.status, state.head, state.depositor), (Status::Active, head, rig.wallet.address()));
    let left = Erc20::allowanceCall { owner: eth_address(rig.wallet.address()), spender: rig.contracts.marketplace };
    assert_eq!(chain.read("allowance", address(rig.contracts.usdc), left).await.expect("read"), alloy::primitives::U256::ZERO);

    let offers = find_offers(&chain, MODEL, address(rig.contracts.usdc)).await.expect("offers");
    assert_eq!((offers.len(), offers[0].price, offers[0].host), (1, Amount(2_000), address(rig.contracts.actors.host.address)));
    assert!(find_offers(&chain, Digest([1; 32]), address(rig.contracts.usdc)).await.expect("none").is_empty());
    // The salt is secret, and another one each time.
    assert_ne!(session.record().salt.0, [0; 32]);
}

#[tokio::test]
async fn what_cannot_be_funded_is_refused_by_name_and_leaves_no_file() {
    let rig = Rig::start().await;
    let open = |request: OpenRequest| Session::open(rig.wallet.clone(), request);
    let cheap = open(OpenRequest { price: Some(Amount(1_999)), ..rig.request() }).await.expect_err("the host asks more");
    assert!(matches!(cheap, Error::Price { asked: Amount(2_000), offered: Amount(1_999) }), "{cheap}");
    let rich = open(OpenRequest { deposit: Amount(1_000_000_001), ..rig.request() }).await.expect_err("it has less");
    assert!(matches!(rich, Error::Funds { .. }), "{rich}");
    let model = open(OpenRequest { model_digest: Digest([1; 32]), ..rig.request() }).await.expect_err("not offered");
    assert!(matches!(model, Error::NotOffered { .. }), "{model}");
    let host = open(OpenRequest { host: Address([7; 20]), ..rig.request() }).await.expect_err("nobody");
    assert!(matches!(host, Error::HostNotActive(_)), "{host}");
    let nowhere = open(OpenRequest { marketplace: Address([7; 20]), ..rig.request() }).await.expect_err("no code");
    assert!(matches!(nowhere, Error::NoContract(_)), "{nowhere}");
    let small = open(OpenRequest { deposit: Amount(199_999), ..rig.request() }).await.expect_err("below the minimum");
    assert!(matches!(&small, Error::Reverted { reason, .. } if reason.contains("DepositTooSmall")), "{small}");
    let dead = Chain::connect("http://127.0.0.1:1", rig.marketplace()).await.expect_err("nobody answers");
    assert!(matches!(dead, Error::Rpc(_)), "{dead}");
    assert!(!rig.path().exists());
}

#[tokio::test]
async fn a_deposit_whose_client_died_before_seeing_it_is_found_again() {
    for forgotten in [false, true] {
        let rig = Rig::start().await;
        let approve = Erc20::approveCall { spender: rig.contracts.marketplace, value: DEPOSIT.word() };
        rig.chain.transact(rig.contracts.actors.depositor.address, rig.contracts.usdc, approve).await.expect("approved");
        // A block is made a moment before its transactions leave the pool.
        while !rig.chain.pool().await.expect("the pool").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        rig.chain.set_automine(false).await.expect("set");
        let opening = tokio::spawn(Session::open(rig.wallet.clone(), rig.request()));
        while rig.chain.pool().await.expect("the pool").is_empty() {
            assert!(!opening.is_finished(), "it waits for its block");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        opening.abort();
        let _ = opening.await;
        let file = SessionFile::open(&rig.path()).expect("the file was written before the transaction was sent");
        let Funding::Signed { hash, .. } = file.record().funding.clone() else { panic!("not seen yet") };
        drop(file);
        if forgotten {
            rig.chain.drop_transaction(alloy::primitives::B256::from(hash.0)).await.expect("dropped");
        }
        rig.chain.set_automine(true).await.expect("set");
        rig.chain.mine(1).await.expect("mined");
        let mut session = Session::load(rig.wallet.clone(), &rig.path()).await.expect("it is taken up");
        assert_eq!(session.job_id(), JobId(1));
        let second = session.chain().await.expect("connected").session(JobId(2)).await;
        assert!(matches!(second, Err(Error::NoJob(JobId(2)))), "funded once");
    }
}

#[tokio::test]
async fn a_host_that_vanished_does_not_keep_the_money() {
    let rig = Rig::start().await;
    let before = rig.held().await;
    let mut session = rig.open().await;
    let CloseOutcome::OnChain { tx: Some(_), claim_until } = session.close().await.expect("closed on chain") else {
        panic!("nobody answers for the host")
    };
    let refund = session.reclaim().await.expect("too early");
    assert_eq!((refund.state, refund.amount), (RefundState::Closing { claim_until }, DEPOSIT));
    rig.chain.increase_time(3_601).await.expect("the window passes");
    let refund = session.reclaim().await.expect("finalized");
    assert_eq!((refund.state, refund.amount, refund.credit), (RefundState::Paid, DEPOSIT, Amount(0)));
    assert_eq!(rig.held().await, before);
    let paid = session.wait_paid(Duration::ZERO).await.expect("nothing was charged");
    assert_eq!((paid.tokens, paid.host, paid.refund), (TokenCount(0), Amount(0), DEPOSIT));
    // Closing what is closed changes nothing.
    assert!(matches!(session.close_on_chain().await, Ok(CloseOutcome::OnChain { tx: None, .. })));
}

#[tokio::test]
async fn a_payout_is_checked_to_the_unit_and_against_the_tokens_held() {
    let rig = Rig::start().await;
    let (mut session, checkpoint) = rig.with_tokens(200).await;
    let waiting = session.wait_paid(Duration::ZERO).await.expect_err("not yet");
    assert!(matches!(&waiting, Error::NotPaid { status, .. } if status == "active"), "{waiting}");
    rig.claim_and_finalize(&session, 200, checkpoint.head).await;
    let paid = session.wait_paid(Duration::from_secs(10)).await.expect("paid");
    let Paid { tokens, host, treasury, refund, .. } = paid;
    assert_eq!((tokens, host, treasury, refund), (TokenCount(200), Amount(360_000), Amount(40_000), Amount(1_600_000)));
    assert_eq!(session.refund().await.expect("read").state, RefundState::Paid);
}

#[tokio::test]
async fn a_host_that_claims_other_tokens_than_it_delivered_is_found_out() {
    let rig = Rig::start().await;
    let (mut session, _) = rig.with_tokens(150).await;
    rig.claim_and_finalize(&session, 150, Digest([9; 32])).await;
    let error = session.wait_paid(Duration::from_secs(10)).await.expect_err("another head");
    assert!(matches!(error, Error::Transcript(transcript::Error::ChainHead { .. })), "{error}");

    let rig = Rig::start().await;
    let (mut session, checkpoint) = rig.with_tokens(150).await;
    rig.claim_and_finalize(&session, 151, checkpoint.head).await;
    let error = session.wait_paid(Duration::from_secs(10)).await.expect_err("a token more");
    let beyond = transcript::Error::ChainBeyond { chain: TokenCount(151), captured: TokenCount(150) };
    assert!(matches!(&error, Error::Transcript(found) if *found == beyond), "{error}");
}
