//! A host in small: it generates what admission allows, does what the planner says, and tells the ledger what the chain shows.

use milepost_ledger::{
    Account, AccountId, ChainStatus, ClaimId, ClaimState, Event, JobId, Ledger, Limits, PlanConfig, Purpose, SessionEnd, Step, TxId,
    TxState, UnixSeconds, WaitFor, plan,
};

use crate::chain::{Call, Chain};
use crate::common::tables::Tables;
use crate::common::{KEY, attempt, ids, proof, start_turn};

/// Steps at one moment before it is called a livelock.
const MAX_STEPS_AT_ONCE: u32 = 12;

pub(crate) struct Host {
    pub(crate) ledger: Ledger,
    pub(crate) tables: Tables,
    pub(crate) config: PlanConfig,
    pub(crate) limits: Limits,
    pub(crate) confirmations: u64,
    pub(crate) job: JobId,
    /// When the prover will be ready with which claim.
    proving: Option<(ClaimId, UnixSeconds)>,
    /// The planner said not to look again before, and what the chain looked like then.
    sleep: Option<(UnixSeconds, ChainStatus)>,
    /// How often an operator had to look.
    pub(crate) operator: u32,
}

impl Host {
    pub(crate) fn new(open: Event, config: PlanConfig, limits: Limits, confirmations: u64, job: JobId) -> Self {
        let mut host = Self {
            ledger: Ledger::new(),
            tables: Tables::default(),
            config,
            limits,
            confirmations,
            job,
            proving: None,
            sleep: None,
            operator: 0,
        };
        host.tell(open);
        host
    }

    pub(crate) fn id(&self) -> AccountId {
        AccountId::Job(self.job)
    }

    pub(crate) fn account(&self) -> Option<&Account> {
        self.ledger.job(self.job)
    }

    pub(crate) fn tell(&mut self, event: Event) {
        let name = format!("{event:?}");
        let effects = self.ledger.apply(event).unwrap_or_else(|error| panic!("{name}: {error}"));
        if !effects.is_empty() {
            self.tables.write(&effects);
            self.sleep = None;
        }
    }

    /// The process dies and starts again.
    pub(crate) fn crash(&mut self) {
        self.ledger = self.tables.restore(false).expect("the rows fit together");
        self.proving = None;
        self.sleep = None;
    }

    /// Generates up to `wanted` tokens, as many as admission allows. Returns how many.
    pub(crate) fn generate(&mut self, now: UnixSeconds, wanted: u64) -> u64 {
        let id = self.id();
        let Some(account) = self.account() else { return 0 };
        let count = account.admissible(now, &self.limits).tokens.0.min(wanted);
        if count == 0 {
            return 0;
        }
        if account.record.active.is_none() {
            let request = format!("r{}", account.record.turns);
            self.tell(start_turn(id, &request));
        }
        let at = self.account().expect("open").record.positions.metered;
        self.tell(Event::Metered { account: id, at, ids: ids(at, count) });
        count
    }

    /// The client countersigns all but the last `lag` tokens.
    pub(crate) fn countersign(&mut self, lag: u64) {
        let Some(account) = self.account() else { return };
        let metered = account.record.positions.metered.0;
        if account.record.terms.as_ref().is_some_and(|terms| terms.voucher.is_some()) {
            let tokens = milepost_ledger::TokenCount(metered.saturating_sub(lag));
            self.tell(Event::Voucher { account: self.id(), tokens, signature: vec![1; 65] });
        }
    }

    pub(crate) fn end(&mut self, now: UnixSeconds) {
        if self.account().is_some_and(Account::is_open) {
            self.tell(Event::EndSession { account: self.id(), reason: SessionEnd::ByClient, at: now });
        }
    }

    /// What the chain shows of our transactions.
    pub(crate) fn watch(&mut self, chain: &mut Chain) {
        let txs: Vec<_> = self.ledger.txs().cloned().collect();
        for tx in txs {
            let id = tx.id;
            if let TxState::Included { block, .. } = tx.state
                && !chain.is_canonical(block)
            {
                self.tell(Event::TxReorged { id });
            }
            let Some((block, outcome)) = chain.find(id) else {
                // Unknown is not failed: the stored bytes are sent again.
                chain.pool.entry(id).or_insert_with(|| self.call(&tx.purpose));
                self.tell(Event::TxSent { id });
                continue;
            };
            self.tell(Event::TxIncluded { id, hash: attempt(id, 0).hash, block, outcome: outcome.clone() });
            if chain.depth(block.number) >= self.confirmations {
                self.tell(Event::TxFinal { id });
            }
        }
    }

    fn call(&self, purpose: &Purpose) -> Call {
        match purpose {
            Purpose::Claim(claim) => {
                Call::Claim { statement: self.tables.claims[claim].statement, voucher: self.tables.accounts[&self.id()].voucher.0 }
            }
            Purpose::RequestClose(_) => Call::RequestClose,
            Purpose::Finalize(_) => Call::Finalize,
            Purpose::Fill(_) | Purpose::Claims(_) => panic!("this host has one job and signs in order: {purpose:?}"),
        }
    }

    fn sign(&mut self, purpose: Purpose) {
        let id = TxId { key: KEY, nonce: self.ledger.next_nonce(KEY).unwrap_or(0) };
        self.tell(Event::TxSigned { id, purpose, attempt: attempt(id, 0) });
    }

    /// The prover, and the signature once the contract would accept the claim.
    fn claim(&mut self, chain: &Chain, now: UnixSeconds, prove_seconds: u64) {
        let Some(claim) = self.account().and_then(|account| account.claim.clone()) else { return };
        match claim.state {
            ClaimState::Planned | ClaimState::Proving => {
                let (asked, ready) = *self.proving.get_or_insert((claim.id, now.plus(prove_seconds)));
                if asked != claim.id {
                    self.proving = Some((claim.id, now.plus(prove_seconds)));
                } else if now >= ready {
                    self.tell(Event::Proved { claim: claim.id, proof: proof() });
                    self.proving = None;
                } else {
                    self.tell(Event::Proving { claim: claim.id });
                }
            }
            ClaimState::Proven => {
                // The chain's view is read before each send; a claim the contract would refuse is not signed.
                let mut trial = chain.head().contract.clone();
                let voucher = self.tables.accounts[&self.id()].voucher.0;
                if trial.claim(chain.head().time, &claim.statement, voucher).is_ok()
                    && self.account().is_some_and(|account| account.record.finalize.is_none())
                {
                    self.sign(Purpose::Claim(claim.id));
                }
            }
            _ => {}
        }
    }

    /// One wake-up: watch, prove, plan, act.
    pub(crate) fn wake(&mut self, chain: &mut Chain, now: UnixSeconds, prove_seconds: u64) {
        self.watch(chain);
        if self.account().is_some_and(|account| account.record.halted.is_some()) {
            self.operator += 1;
            self.tell(Event::Resume { account: self.id() });
        }
        self.claim(chain, now, prove_seconds);
        for _ in 0..MAX_STEPS_AT_ONCE {
            let view = chain.view();
            if self.sleep.is_some_and(|(until, status)| view.time < until && view.status == status) {
                return;
            }
            let Some(account) = self.account() else { return };
            match plan(account, &view, &self.config) {
                Step::Wait(WaitFor::Until(until)) => {
                    assert!(until > view.time, "told to wait for a time that has passed: {until:?} at {:?}", view.time);
                    self.sleep = Some((until, view.status));
                    return;
                }
                Step::Wait(_) => return,
                Step::Claim { until } => {
                    self.tell(Event::PlanClaim { job: self.job, until, at: now });
                    self.claim(chain, now, prove_seconds);
                }
                Step::SeeClosing { until } => self.tell(Event::ClosingSeen { job: self.job, until, at: now }),
                Step::End(reason) => self.tell(Event::EndSession { account: self.id(), reason, at: now }),
                Step::RequestClose => self.sign(Purpose::RequestClose(self.job)),
                Step::Finalize => self.sign(Purpose::Finalize(self.job)),
                Step::Settle { rest } => {
                    let first = chain.blocks.iter().find(|block| block.contract.payout.is_some()).expect("completed");
                    if chain.depth(first.at.number) < self.confirmations {
                        return;
                    }
                    let payout = first.contract.payout.expect("completed");
                    self.tell(Event::Paid { job: self.job, payout, rest });
                }
                Step::Halt { reason } => {
                    // Only our own transactions running out of gas again and again may stop a job here.
                    assert!(reason.contains("reverted"), "halted: {reason}");
                    self.tell(Event::Halt { account: self.id(), reason });
                }
            }
            self.watch(chain);
        }
        panic!("a livelock at {now:?}: {:?}", self.account().map(|account| account.record.clone()));
    }
}
