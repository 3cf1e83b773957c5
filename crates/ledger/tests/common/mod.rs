//! Shared by the ledger's tests: terms and events in short form, and how many cases a property runs.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod tables;

use milepost_ledger::{
    AccountId, Address, Attempt, BlockRef, ChainId, Digest, Event, JobId, Ledger, OpenAccount, Outcome, ProofKind, ProofMeta, Purpose,
    Refused, RevertClass, Salt, Sampler, StartTurn, Terms, TokenAmount, TokenCount, TokenId, TokenSeq, TxId, UnixSeconds,
};
use milepost_statement::salt_commitment;
use proptest::test_runner::Config;

/// Block time at which every session of these tests starts.
pub(crate) const START: UnixSeconds = UnixSeconds(1_000_000);
/// The host's submitter key.
pub(crate) const KEY: Address = Address([0xaa; 20]);
/// Price of a token in the payment token's smallest unit.
pub(crate) const PRICE: u128 = 2_000;

/// `cases` by default, twenty times as many with `FULL=1`, or what `PROPTEST_CASES` says.
pub(crate) fn cases(cases: u32) -> Config {
    let full = std::env::var("FULL").is_ok_and(|full| full == "1");
    let default = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() { default } else { Config { cases: if full { cases * 20 } else { cases }, ..default } }
}

/// Terms of a session that pays for `tokens` tokens, with the constants of our own marketplace.
pub(crate) fn terms(tokens: u64) -> Terms {
    Terms {
        chain: ChainId(31_337),
        marketplace: Address([0x11; 20]),
        host: Address([0x22; 20]),
        depositor: Address([0x33; 20]),
        token: Address([0x44; 20]),
        deposit: TokenAmount(u128::from(tokens) * PRICE),
        price: TokenAmount(PRICE),
        model: Digest([0x55; 32]),
        rate: 10,
        burst: TokenCount(200),
        started: START,
        max_duration: 86_400,
        idle_timeout: 3_600,
        claim_window: 3_600,
        minimum_charge: TokenAmount(0),
        min_claim: TokenCount(100),
        fee_bps: 1_000,
        voucher: None,
        salt_commitment: salt_commitment(&SALT),
        deployed: None,
    }
}

/// The client's salt.
pub(crate) const SALT: Salt = Salt([7; 32]);

pub(crate) fn open(job: u64, terms: Terms, threshold: u32) -> Event {
    let model = terms.model;
    Event::Open(Box::new(OpenAccount { id: AccountId::Job(JobId(job)), terms: Some(terms), salt: SALT, model, threshold, at: START }))
}

pub(crate) fn start_turn(account: AccountId, request: &str) -> Event {
    Event::StartTurn(Box::new(StartTurn {
        account,
        request: request.to_owned(),
        body: Digest([1; 32]),
        prompt: Digest([2; 32]),
        prompt_tokens: 5,
        sampler: Sampler { temperature: 0.7, top_p: 1.0, top_k: 0, seed: 9, max_tokens: 1_000 },
        at: START,
    }))
}

/// Token ids that tell their own position.
pub(crate) fn ids(at: TokenSeq, count: u64) -> Vec<TokenId> {
    (at.0..at.0 + count).map(|seq| u32::try_from(seq % 50_000).unwrap_or_default()).collect()
}

pub(crate) fn proof() -> ProofMeta {
    ProofMeta { kind: ProofKind::Mock, receipt: Digest([3; 32]), receipt_bytes: 320, seconds: 1.0 }
}

/// The `number`th signed form of a transaction.
pub(crate) fn attempt(id: TxId, number: u8) -> Attempt {
    let mut hash = [number; 32];
    hash[..8].copy_from_slice(&id.nonce.to_be_bytes());
    hash[8] = id.key.0[0];
    Attempt { hash: Digest(hash), raw: vec![2, number], max_fee: 10 + u128::from(number), max_tip: 1, at: START }
}

pub(crate) fn block(number: u64) -> BlockRef {
    let mut hash = [0xbb; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    BlockRef { number, hash: Digest(hash) }
}

pub(crate) fn done() -> Outcome {
    Outcome::Done { gas: 50_000 }
}

pub(crate) fn reverted(class: RevertClass) -> Outcome {
    Outcome::Reverted { reason: "RateCapExceeded".to_owned(), class, gas: 30_000 }
}

/// These claims were refused for that, whatever else the transaction carried.
pub(crate) fn partly(refused: &[milepost_ledger::ClaimId], class: RevertClass) -> Outcome {
    let refused = refused.iter().map(|claim| Refused { claim: *claim, reason: "WrongStatus".to_owned(), class });
    Outcome::Partly { refused: refused.collect(), gas: 80_000 }
}

/// A ledger with one funded job, driven by hand.
pub(crate) struct Desk {
    pub(crate) ledger: Ledger,
    pub(crate) job: JobId,
    pub(crate) nonce: u64,
}

impl Desk {
    pub(crate) fn new(terms: Terms, threshold: u32) -> Self {
        let mut desk = Self { ledger: Ledger::new(), job: JobId(7), nonce: 0 };
        desk.ok(open(7, terms, threshold));
        desk
    }

    pub(crate) fn id(&self) -> AccountId {
        AccountId::Job(self.job)
    }

    pub(crate) fn account(&self) -> &milepost_ledger::Account {
        self.ledger.job(self.job).expect("the job is open")
    }

    pub(crate) fn ok(&mut self, event: Event) -> Vec<milepost_ledger::Effect> {
        self.ledger.apply(event).expect("accepted")
    }

    pub(crate) fn refused(&mut self, event: Event) -> milepost_ledger::Error {
        let before = self.ledger.clone();
        let error = self.ledger.apply(event).expect_err("refused");
        assert!(self.ledger == before, "a refused event changed something");
        error
    }

    /// One turn of `count` tokens.
    pub(crate) fn meter(&mut self, count: u64) {
        let (account, at) = (self.id(), self.account().record.positions.metered);
        self.ok(start_turn(account, &format!("request at {at}")));
        self.ok(Event::Metered { account, at, ids: ids(at, count) });
        self.ok(Event::EndTurn { account, reason: milepost_ledger::EndReason::Stop, at: START });
    }

    pub(crate) fn end(&mut self) {
        let account = self.id();
        self.ok(Event::EndSession { account, reason: milepost_ledger::SessionEnd::ByClient, at: START });
    }

    /// Plans and proves a claim up to `until`.
    pub(crate) fn prove(&mut self, until: u64) -> milepost_ledger::ClaimId {
        self.ok(Event::PlanClaim { job: self.job, until: TokenSeq(until), at: START });
        let claim = self.account().record.claim.expect("just planned");
        self.ok(Event::Proving { claim });
        self.ok(Event::Proved { claim, proof: proof() });
        claim
    }

    /// Signs and sends a transaction under the next nonce.
    pub(crate) fn send(&mut self, purpose: Purpose) -> TxId {
        let id = TxId { key: KEY, nonce: self.nonce };
        self.nonce += 1;
        self.ok(Event::TxSigned { id, purpose, attempt: attempt(id, 0) });
        self.ok(Event::TxSent { id });
        id
    }

    pub(crate) fn include(&mut self, id: TxId, outcome: Outcome) {
        self.ok(Event::TxIncluded { id, hash: attempt(id, 0).hash, block: block(100 + id.nonce), outcome });
    }

    /// A claim up to `until`, all the way to finality.
    pub(crate) fn land(&mut self, until: u64) -> TxId {
        let claim = self.prove(until);
        let id = self.send(Purpose::Claim(claim));
        self.include(id, done());
        self.ok(Event::TxFinal { id });
        id
    }

    /// The payout that the contract makes for what is final.
    pub(crate) fn paid(&self) -> Event {
        let record = &self.account().record;
        let tokens = TokenCount(record.positions.finalized.0);
        let payout = record.terms.as_ref().and_then(|terms| terms.payout(tokens)).expect("within the deposit");
        let rest = (record.positions.metered > record.positions.finalized).then_some(milepost_ledger::WriteOff::ClosedEarly);
        Event::Paid { job: self.job, payout, rest }
    }

    /// Rebuilt from its records as a database does it that does not load paid accounts.
    pub(crate) fn restart(&mut self, tables: &tables::Tables) {
        self.ledger = tables.restore(false).expect("records fit together");
    }
}
