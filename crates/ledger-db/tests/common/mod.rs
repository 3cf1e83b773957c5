//! A scripted life of a few accounts, and a model of what must be durable after each of its calls.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;

use milepost_ledger::{
    AccountId, AccountRecord, Address, Attempt, BlockRef, ChainId, ClaimId, Digest, EndReason, Event, JobId, Ledger, OpenAccount, Outcome,
    Phase, ProofKind, ProofMeta, Purpose, Salt, Sampler, SessionEnd, StartTurn, Terms, TokenAmount, TokenCount, TokenId, TokenSeq, TxId,
    UnixSeconds, VoucherTerms,
};
use milepost_ledger_db::{Blob, Error, LedgerDb, Options};
use milepost_statement::salt_commitment;

pub(crate) const NOW: UnixSeconds = UnixSeconds(1_000_000);
pub(crate) const KEY: Address = Address([0xaa; 20]);
pub(crate) const OTHER_KEY: Address = Address([0xab; 20]);
pub(crate) const SALT: Salt = Salt([7; 32]);
pub(crate) const MODEL: Digest = Digest([0x55; 32]);
pub(crate) const FREE: AccountId = AccountId::Free(Digest([9; 32]));

/// No priority games in tests: many threads share two cores.
pub(crate) const OPTIONS: Options = Options { raise_priority: false };

pub(crate) fn job(number: u64) -> AccountId {
    AccountId::Job(JobId(number))
}

pub(crate) fn terms(tokens: u64) -> Terms {
    Terms {
        chain: ChainId(31_337),
        marketplace: Address([0x11; 20]),
        host: Address([0x22; 20]),
        depositor: Address([0x33; 20]),
        token: Address([0x44; 20]),
        deposit: TokenAmount(u128::from(tokens) * 2_000),
        price: TokenAmount(2_000),
        model: MODEL,
        rate: 10,
        burst: TokenCount(200),
        started: NOW,
        max_duration: 86_400,
        idle_timeout: 3_600,
        claim_window: 3_600,
        minimum_charge: TokenAmount(0),
        min_claim: TokenCount(100),
        fee_bps: 1_000,
        voucher: Some(VoucherTerms { signer: Address([0x66; 20]), allowance: TokenCount(1_000) }),
        salt_commitment: salt_commitment(&SALT),
        deployed: None,
    }
}

pub(crate) fn open(id: AccountId, tokens: Option<u64>) -> Event {
    Event::Open(Box::new(OpenAccount { id, terms: tokens.map(terms), salt: SALT, model: MODEL, threshold: 100, at: NOW }))
}

pub(crate) fn start(account: AccountId, request: &str) -> Event {
    Event::StartTurn(Box::new(StartTurn {
        account,
        request: request.to_owned(),
        body: Digest([1; 32]),
        prompt: Digest([2; 32]),
        prompt_tokens: 5,
        sampler: Sampler { temperature: 0.7, top_p: 1.0, top_k: 0, seed: 9, max_tokens: 1_000 },
        at: NOW,
    }))
}

/// Token ids that tell their own position.
pub(crate) fn ids(at: u64, count: u64) -> Vec<TokenId> {
    (at..at + count).map(|seq| u32::try_from(seq % 50_000).unwrap()).collect()
}

pub(crate) fn metered(account: AccountId, at: u64, count: u64) -> Event {
    Event::Metered { account, at: TokenSeq(at), ids: ids(at, count) }
}

pub(crate) fn end_turn(account: AccountId) -> Event {
    Event::EndTurn { account, reason: EndReason::Stop, at: NOW }
}

pub(crate) fn tx(nonce: u64) -> TxId {
    TxId { key: KEY, nonce }
}

pub(crate) fn signed(id: TxId, purpose: Purpose) -> Event {
    Event::TxSigned { id, purpose, attempt: attempt(id) }
}

pub(crate) fn attempt(id: TxId) -> Attempt {
    let mut hash = id.key.0[0..1].repeat(32);
    hash[..8].copy_from_slice(&id.nonce.to_be_bytes());
    Attempt { hash: Digest(hash.try_into().unwrap()), raw: vec![2; 300], max_fee: 10, max_tip: 1, at: NOW }
}

pub(crate) fn included(id: TxId) -> Event {
    let block = BlockRef { number: 100 + id.nonce, hash: Digest([u8::try_from(id.nonce % 256).unwrap(); 32]) };
    Event::TxIncluded { id, hash: attempt(id).hash, block, outcome: Outcome::Done { gas: 50_000 } }
}

pub(crate) fn proof(receipt: &[u8]) -> ProofMeta {
    ProofMeta { kind: ProofKind::Mock, receipt: Digest([3; 32]), receipt_bytes: receipt.len() as u64, seconds: 1.5 }
}

/// One call: events that apply together, and a receipt with them.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) events: Vec<Event>,
    pub(crate) receipt: Option<(ClaimId, Vec<u8>)>,
}

impl Call {
    fn blobs(&self) -> Vec<Blob> {
        self.receipt.iter().map(|(claim, bytes)| Blob::Receipt { claim: *claim, bytes: bytes.clone() }).collect()
    }

    pub(crate) async fn apply(&self, db: &LedgerDb) -> Result<(), Error> {
        db.apply_with(self.events.clone(), self.blobs()).await.map(drop)
    }
}

/// A claim of job 7 from `first` to `until`, planned, proven, signed, sent, included and final.
fn claim_calls(first: u64, until: u64, nonce: u64) -> Vec<Call> {
    let (job, claim) = (JobId(7), ClaimId { job: JobId(7), first: TokenSeq(first), plan: 0 });
    let receipt: Vec<u8> = (0..5_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let one = |event| Call { events: vec![event], receipt: None };
    vec![
        one(Event::PlanClaim { job, until: TokenSeq(until), at: NOW }),
        one(Event::Proving { claim }),
        Call { events: vec![Event::Proved { claim, proof: proof(&receipt) }], receipt: Some((claim, receipt)) },
        one(signed(tx(nonce), Purpose::Claim(claim))),
        one(Event::TxSent { id: tx(nonce) }),
        one(included(tx(nonce))),
        one(Event::TxFinal { id: tx(nonce) }),
    ]
}

/// The whole of a paid session of 250 tokens (job 7), beside a job in log mode (8) and a free label, interleaved.
pub(crate) fn life() -> Vec<Call> {
    let (paying, log) = (job(7), job(8));
    let calls = |lists: Vec<Vec<Event>>| lists.into_iter().map(|events| Call { events, receipt: None }).collect::<Vec<_>>();
    let mut life = calls(vec![
        vec![open(paying, Some(1_000))],
        vec![open(log, None), open(FREE, None)],
        vec![start(paying, "first")],
        vec![start(log, "first"), start(FREE, "first")],
        // One step over three sequences, then single tokens.
        vec![metered(paying, 0, 1), metered(log, 0, 1), metered(FREE, 0, 1)],
        vec![metered(paying, 1, 1)],
        vec![metered(paying, 2, 97)],
        vec![metered(log, 1, 130), end_turn(log)],
        // The seal falls inside a step.
        vec![metered(paying, 99, 3)],
        vec![metered(paying, 102, 99), end_turn(paying)],
        vec![Event::Voucher { account: paying, tokens: TokenCount(200), signature: vec![1; 65] }],
    ]);
    life.extend(claim_calls(0, 200, 3));
    life.extend(calls(vec![
        vec![start(paying, "second"), metered(paying, 201, 49)],
        vec![end_turn(FREE)],
        vec![Event::EndSession { account: paying, reason: SessionEnd::ByClient, at: NOW }],
        vec![signed(TxId { key: OTHER_KEY, nonce: 0 }, Purpose::RequestClose(JobId(7)))],
        vec![included(TxId { key: OTHER_KEY, nonce: 0 })],
        vec![Event::TxFinal { id: TxId { key: OTHER_KEY, nonce: 0 } }],
        vec![Event::ClosingSeen { job: JobId(7), until: UnixSeconds(2_000_000), at: NOW }],
    ]));
    life.extend(claim_calls(200, 250, 4));
    life.extend(calls(vec![
        vec![Event::Paid { job: JobId(7), payout: terms(1_000).payout(TokenCount(250)).unwrap(), rest: None }],
        vec![start(log, "second"), metered(log, 131, 10)],
        vec![Event::Halt { account: log, reason: "an operator must look".into() }],
    ]));
    life
}

/// What must be there after some calls: the ledger, and what the ledger forgets and the database keeps.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) ledger: Ledger,
    pub(crate) tokens: BTreeMap<AccountId, Vec<TokenId>>,
    pub(crate) receipts: BTreeMap<ClaimId, Vec<u8>>,
}

impl Model {
    /// The model after each prefix of a life; the first is empty.
    pub(crate) fn after_each(life: &[Call]) -> Vec<Self> {
        let mut models = vec![Self::default()];
        for call in life {
            let mut model = models[models.len() - 1].clone();
            for event in &call.events {
                drop(model.ledger.apply(event.clone()).expect("the life is valid"));
                if let Event::Metered { account, ids, .. } = event {
                    model.tokens.entry(*account).or_default().extend(ids);
                }
            }
            model.receipts.extend(call.receipt.clone());
            models.push(model);
        }
        models
    }

    /// Whether a database holds exactly this. `Err` only where reading fails.
    pub(crate) async fn is_held_by(&self, db: &LedgerDb) -> Result<bool, Error> {
        let expected: Vec<AccountRecord> = self.ledger.accounts().map(|account| account.record.clone()).collect();
        if db.accounts()? != expected {
            return Ok(false);
        }
        for record in &expected {
            let ids = self.tokens.get(&record.id).cloned().unwrap_or_default();
            if db.tokens(record.id, TokenSeq::ZERO..TokenSeq(1_000))? != ids {
                return Ok(false);
            }
        }
        for (claim, bytes) in &self.receipts {
            if db.receipt(*claim)?.as_ref() != Some(bytes) {
                return Ok(false);
            }
        }
        // What was loaded is what the ledger would be, less the accounts that are paid.
        let (mine, paid) = (self.ledger.clone(), |phase: &Phase| matches!(phase, Phase::Paid(_)));
        db.query(move |ledger| {
            let expected: Vec<_> = mine.accounts().filter(|account| !paid(&account.record.phase)).collect();
            let found: Vec<_> = ledger.accounts().filter(|account| !paid(&account.record.phase)).collect();
            let txs = mine.txs().eq(ledger.txs());
            let nonces = [KEY, OTHER_KEY].iter().all(|key| mine.next_nonce(*key) == ledger.next_nonce(*key));
            expected == found && txs && nonces
        })
        .await
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// Holds the commit thread in a query until the sender is used; answers once it is held.
pub(crate) async fn hold(db: &LedgerDb) -> std::sync::mpsc::Sender<()> {
    let (release, gate) = std::sync::mpsc::channel();
    let (held, holding) = tokio::sync::oneshot::channel();
    let db = db.clone();
    tokio::spawn(async move {
        db.query(move |_| {
            held.send(()).unwrap();
            gate.recv().unwrap();
        })
        .await
    });
    holding.await.unwrap();
    release
}

/// Waits until so many callers wait for the commit thread.
pub(crate) async fn until_queued(db: &LedgerDb, callers: usize) {
    while db.queued() < callers {
        tokio::task::yield_now().await;
    }
}
