//! The transaction, the block and the event; and the same claim as a chain has it.

use milepost_bundle::{
    Bundle, ChainError, Class, Countersigned, Error, Event, Facts, Header, Job, LandingError, Options, Reader, Report, Verdict, check,
    check_on_chain, rpc,
};
use milepost_statement::{Address, ChainId, Digest, JobId, ProofKind, Statement, TokenCount, keccak256};
use serde_json::json;

use crate::sample::{self, Landed, batch_call, call, claim, host, sign};

fn accepting() -> Options {
    Options { accept_mock: true, ..Options::default() }
}

/// The refusal of a landing of the sample's claim.
fn refusal(change: impl FnOnce(&mut Bundle)) -> Error {
    let mut bundle = sample::mock();
    change(&mut bundle);
    check(&bundle, &accepting()).error().expect("refused").clone()
}

fn transaction(input: &[u8]) -> Error {
    refusal(|bundle| bundle.landing.as_mut().expect("landed").transaction = sign(31337, sample::MARKETPLACE, input))
}

#[test]
fn a_transaction_alone_or_in_a_batch_submits_exactly_this_claim() {
    let (statement, _) = claim();
    for input in [call(&statement, ProofKind::Mock), batch_call(&statement, ProofKind::Mock)] {
        let landing = Landed::with(&statement, ProofKind::Mock, &input, 1).landing();
        let found = landing.check_transaction(&statement, ProofKind::Mock).expect("it does");
        assert_eq!((found.signer, found.hash), (host().address(), keccak256(&landing.transaction)));
    }
}

#[test]
fn a_voucher_in_the_transaction_says_who_countersigned_how_many_tokens() {
    let (statement, _) = claim();
    let countersigned = |input: &[u8]| {
        Landed::with(&statement, ProofKind::Mock, input, 1).landing().check_transaction(&statement, ProofKind::Mock).map(|it| it.voucher)
    };
    let expected = Countersigned { tokens: TokenCount(8), signer: sample::client().address() };
    assert_eq!(countersigned(&call(&statement, ProofKind::Mock)), Ok(Some(expected)));
    assert_eq!(countersigned(&batch_call(&statement, ProofKind::Mock)), Ok(None));
    // Another total was signed by somebody else, as far as the signature tells.
    let mut raised = call(&statement, ProofKind::Mock);
    let signature = sample::voucher(&statement, 8);
    let at = raised.windows(signature.len()).position(|bytes| bytes == signature).expect("the voucher");
    raised[at + 31] = 9;
    assert_ne!(countersigned(&raised).expect("a signature is somebody's").expect("a voucher").signer, expected.signer);
    raised[at + 63] = 65;
    assert_eq!(countersigned(&raised), Err(LandingError::Voucher));
}

#[test]
fn a_transaction_that_does_something_else_is_refused() {
    let (statement, _) = claim();
    let other = |change: fn(&mut Statement)| {
        let mut other = statement;
        change(&mut other);
        transaction(&call(&other, ProofKind::Mock))
    };
    let submits = |why| Error::Landing(LandingError::Submits(why));
    assert_eq!(other(|it| it.job_id = JobId(8)), submits("it is about another job"));
    assert_eq!(other(|it| it.count = TokenCount(11)), submits("it claims another number of tokens"));
    assert_eq!(other(|it| it.head_after = Digest([1; 32])), submits("its journal is another"));
    assert_eq!(transaction(&call(&statement, ProofKind::Composite)), submits("its proof is of another kind"));
    assert_eq!(transaction(b"\x01\x02\x03\x04"), submits("it calls something else"));
    assert_eq!(transaction(b""), submits("it calls something else"));
    let cut = call(&statement, ProofKind::Mock);
    assert_eq!(transaction(&cut[..cut.len() - 64]), submits("it calls something else"));
    let to = |chain, to| {
        refusal(|bundle| bundle.landing.as_mut().expect("landed").transaction = sign(chain, to, &call(&statement, ProofKind::Mock)))
    };
    assert_eq!(to(1, sample::MARKETPLACE), LandingError::TransactionChain { expected: 31337, found: 1 }.into());
    assert_eq!(to(31337, Address([1; 20])), LandingError::Recipient { expected: sample::MARKETPLACE, found: Address([1; 20]) }.into());
    assert_eq!(refusal(|bundle| bundle.landing.as_mut().expect("landed").transaction[0] = 1), LandingError::Transaction.into());
    let class = transaction(b"").class();
    assert_eq!((class, class.exit_code()), (Class::ChainDiffers, 3));
}

#[test]
fn an_event_of_another_claim_is_refused_by_the_field_that_differs() {
    let (statement, _) = claim();
    let event = |change: fn(&mut Statement)| {
        let mut other = statement;
        change(&mut other);
        let mut landed = Landed::with(&other, ProofKind::Mock, b"", 1);
        // The event is looked for by contract and job; the rest is for the check to tell.
        landed.statement = other;
        refusal(|bundle| bundle.landing.as_mut().expect("landed").inclusion = landed.landing().inclusion)
    };
    let differs = |field| Error::Landing(LandingError::Event(field));
    assert_eq!(event(|it| it.marketplace = Address([1; 20])), differs("the contract"));
    assert_eq!(event(|it| it.job_id = JobId(8)), differs("the job"));
    assert_eq!(event(|it| it.host = Address([1; 20])), differs("the host"));
    assert_eq!(event(|it| it.count = TokenCount(9)), differs("tokensClaimed"));
    assert_eq!(event(|it| it.head_after = Digest([1; 32])), differs("headAfter"));
    let position = |position| {
        refusal(|bundle| {
            let inclusion = bundle.landing.as_mut().and_then(|landing| landing.inclusion.as_mut()).expect("landed");
            inclusion.log_position = position;
        })
    };
    assert_eq!(position(0), differs("the contract"), "the transfer before it");
    assert_eq!(position(2), LandingError::NoLog(2).into());
}

#[test]
fn a_reverted_transaction_claims_nothing() {
    let (statement, _) = claim();
    let reverted = Landed::with(&statement, ProofKind::Mock, &call(&statement, ProofKind::Mock), 0);
    assert_eq!(refusal(|bundle| bundle.landing = Some(reverted.landing())), LandingError::Reverted.into());
}

#[test]
fn a_receipt_that_is_not_in_the_block_is_refused() {
    let change = |change: fn(&mut milepost_bundle::Inclusion)| {
        refusal(|bundle| change(bundle.landing.as_mut().and_then(|landing| landing.inclusion.as_mut()).expect("landed")))
    };
    let shown = |error: &Error| matches!(error, Error::Landing(LandingError::Proof(_)));
    // Gas used is no part of the event: only the proof knows.
    assert!(shown(&change(|it| it.receipt[7] ^= 1)));
    assert!(shown(&change(|it| it.transaction_index = 1)));
    assert!(shown(&change(|it| it.header[170] ^= 1)), "the sixth field, receiptsRoot");
    assert!(shown(&change(|it| it.proof.truncate(1))));
    assert!(shown(&change(|it| it.proof.push(vec![0xc0]))));
    assert_eq!(change(|it| it.header.truncate(50)), LandingError::Header.into());
}

#[test]
fn what_an_endpoint_answers_is_not_believed() {
    let (statement, _) = claim();
    let landed = Landed::of(&statement, ProofKind::Mock);
    let hash = keccak256(&landed.transaction);
    let shown = rpc::inclusion(&landed.block, &landed.receipts, hash, &statement).expect("shown");
    assert_eq!((shown.transaction_index, shown.log_position, shown.proof.is_empty()), (2, 1, false));

    // A header with a field that is not known here, or one that was altered, has another hash.
    let mut block = landed.block.clone();
    block["gasUsed"] = json!("0x1");
    assert!(matches!(rpc::inclusion(&block, &landed.receipts, hash, &statement), Err(rpc::Error::Hash { .. })));
    // Receipts that do not lead to the root show nothing, and the bundle says so.
    for (at, field, value) in [(1, "cumulativeGasUsed", "0x1"), (3, "status", "0x1"), (0, "transactionIndex", "0x5")] {
        let mut receipts = landed.receipts.clone();
        receipts[at][field] = json!(value);
        let asserted = rpc::inclusion(&landed.block, &receipts, hash, &statement).expect("the event is there");
        assert!(asserted.proof.is_empty());
        let mut bundle = sample::mock();
        bundle.landing.as_mut().expect("landed").inclusion = Some(asserted);
        let report = check(&bundle, &accepting());
        assert!(line(&report, "event").contains("asserted"), "{report:?}");
    }
    assert_eq!(rpc::inclusion(&landed.block, &landed.receipts, Digest([9; 32]), &statement), Err(rpc::Error::NoReceipt));
    let elsewhere = Statement { job_id: JobId(8), ..statement };
    assert_eq!(rpc::inclusion(&landed.block, &landed.receipts, hash, &elsewhere), Err(rpc::Error::NoEvent));
    assert!(matches!(rpc::inclusion(&json!({}), &landed.receipts, hash, &statement), Err(rpc::Error::Field("parentHash"))));
}

/// What a question was answered with.
fn line<'a>(report: &'a Report, name: &str) -> &'a str {
    &report.lines.iter().find(|line| line.name == name).unwrap_or_else(|| panic!("no line {name}: {report:?}")).words
}

/// A chain that says this.
struct Says(Result<Facts, String>);

impl Reader for Says {
    async fn facts(&self, _: &Statement, header: Option<&Header>) -> Result<Facts, String> {
        assert!(header.is_some(), "the bundle names a block");
        self.0.clone()
    }
}

/// The sample's claim, as a chain has it on which it landed.
fn facts() -> Facts {
    let (statement, _) = claim();
    let landing = Landed::of(&statement, ProofKind::Mock).landing();
    let header = Header::read(&landing.inclusion.expect("included").header).expect("a header");
    Facts {
        chain_id: ChainId(31337),
        job: Some(Job {
            host: statement.host,
            model_digest: statement.model_digest,
            salt_commitment: sample::mock().salt_commitment,
            voucher_signer: Some(sample::client().address()),
            tokens_used: statement.count,
            head: statement.head_after,
        }),
        block: Some(header.hash),
        events: vec![Event {
            count: statement.count,
            used: statement.count,
            head: statement.head_after,
            kind: ProofKind::Mock.code(),
            transaction: keccak256(&landing.transaction),
        }],
        height: header.number + 5,
    }
}

async fn on_chain(change: impl FnOnce(&mut Facts)) -> Report {
    let mut facts = facts();
    change(&mut facts);
    check_on_chain(&sample::mock(), &accepting(), &Says(Ok(facts))).await
}

fn job(facts: &mut Facts) -> &mut Job {
    facts.job.as_mut().expect("a job")
}

#[tokio::test]
async fn a_claim_that_landed_is_found_on_its_chain() {
    let report = on_chain(|_| {}).await;
    assert_eq!(report.error(), None);
    assert!(line(&report, "block on chain").contains("5 blocks deep"));
    let later = on_chain(|it| job(it).tokens_used = TokenCount(25)).await;
    assert_eq!(later.error(), None);
    assert!(line(&later, "tokensUsed on chain").contains("15 were claimed after this claim"));
}

#[tokio::test]
async fn each_difference_on_the_chain_has_its_own_name() {
    let refused = async |change: fn(&mut Facts)| match on_chain(change).await.error() {
        Some(Error::Chain(error)) => error.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(|it| it.chain_id = ChainId(1)).await, ChainError::ChainId { expected: 31337, found: 1 });
    assert_eq!(refused(|it| it.job = None).await, ChainError::NoJob(7));
    for (change, what) in [
        ((|it| job(it).host = Address([1; 20])) as fn(&mut Facts), "host"),
        (|it| job(it).model_digest = Digest([1; 32]), "model digest"),
        (|it| job(it).salt_commitment = Digest([1; 32]), "salt commitment"),
        (|it| job(it).voucher_signer = Some(Address([1; 20])), "voucher signer"),
    ] {
        assert!(matches!(refused(change).await, ChainError::Terms { what: found, .. } if found == what));
    }
    assert!(matches!(refused(|it| it.block = Some(Digest([1; 32]))).await, ChainError::Block { .. }));
    assert!(matches!(refused(|it| it.block = None).await, ChainError::Block { found: None, .. }));
    assert_eq!(refused(|it| it.events.clear()).await, ChainError::Event { job: 7, end: 10 });
    assert!(matches!(refused(|it| it.events[0].head = Digest([1; 32])).await, ChainError::Event { .. }));
    assert!(matches!(refused(|it| it.events[0].kind = 1).await, ChainError::Event { .. }));
    assert!(matches!(refused(|it| it.events[0].transaction = Digest([1; 32])).await, ChainError::Transaction { .. }));
    assert_eq!(refused(|it| job(it).tokens_used = TokenCount(9)).await, ChainError::TokensUsed { expected: 10, found: 9 });
    assert!(matches!(refused(|it| job(it).head = Digest([1; 32])).await, ChainError::Head { .. }));
}

#[tokio::test]
async fn a_chain_that_does_not_answer_decides_nothing() {
    let report = check_on_chain(&sample::mock(), &accepting(), &Says(Err("no route".into()))).await;
    assert_eq!(report.class(), Some(Class::CannotLook));
    assert_eq!(report.class().map(Class::exit_code), Some(69));
    assert!(report.lines.iter().filter(|line| matches!(line.verdict, Verdict::Fails(_))).count() == 1);
}
