//! A chain of blocks with one job on it: a pool, reorganisations, and other people who close and finalize.

use std::collections::BTreeMap;

use milepost_ledger::{BlockRef, ChainStatus, ChainView, Digest, Outcome, RevertClass, Statement, TokenCount, TxId, UnixSeconds};

use crate::contract::{Caller, Contract, Refusal};

/// What a transaction of ours does.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Claim { statement: Statement, voucher: u64 },
    RequestClose,
    Finalize,
}

#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) at: BlockRef,
    pub(crate) time: UnixSeconds,
    pub(crate) contract: Contract,
    pub(crate) txs: BTreeMap<TxId, Outcome>,
}

/// What other people do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Others {
    /// The depositor requests the close from then on.
    pub(crate) depositor_closes: Option<u64>,
    /// Anybody closes and finalizes as soon as the contract lets them.
    pub(crate) anybody: bool,
    /// They come before our transactions in a block.
    pub(crate) first: bool,
}

pub(crate) struct Chain {
    pub(crate) blocks: Vec<Block>,
    pub(crate) pool: BTreeMap<TxId, Call>,
    pub(crate) others: Others,
    /// Why our transactions were refused, all in all, reorganised ones too.
    pub(crate) refusals: BTreeMap<(&'static str, Refusal), u32>,
    confirmations: u64,
    /// Blocks up to this height were final once: no reorganisation goes below.
    settled: u64,
    hashes: u64,
}

impl Chain {
    pub(crate) fn new(contract: Contract, others: Others, confirmations: u64) -> Self {
        let time = contract.terms.started;
        let genesis = Block { at: BlockRef { number: 1, hash: Digest([1; 32]) }, time, contract, txs: BTreeMap::new() };
        Self { blocks: vec![genesis], pool: BTreeMap::new(), others, refusals: BTreeMap::new(), confirmations, settled: 1, hashes: 0 }
    }

    pub(crate) fn head(&self) -> &Block {
        &self.blocks[self.blocks.len() - 1]
    }

    pub(crate) fn view(&self) -> ChainView {
        let Block { at, time, contract, .. } = self.head();
        ChainView {
            block: *at,
            time: *time,
            status: contract.status,
            used: TokenCount(contract.used),
            head: contract.head,
            closed_to_claims: contract.closed_to_claims,
        }
    }

    /// The canonical block that holds a transaction, and what it did.
    pub(crate) fn find(&self, id: TxId) -> Option<(BlockRef, &Outcome)> {
        self.blocks.iter().rev().find_map(|block| Some((block.at, block.txs.get(&id)?)))
    }

    pub(crate) fn is_canonical(&self, block: BlockRef) -> bool {
        self.blocks.iter().any(|known| known.at == block)
    }

    /// Blocks on top of this one.
    pub(crate) fn depth(&self, number: u64) -> u64 {
        self.head().at.number - number
    }

    /// Removes the newest blocks, none that was ever final; their transactions are gone until they are sent again.
    pub(crate) fn reorganise(&mut self, depth: u64) {
        let keep = (self.head().at.number - depth.min(self.head().at.number)).max(self.settled);
        self.blocks.retain(|block| block.at.number <= keep);
    }

    /// Mines all that is in the pool. `fails`: our transactions run out of gas, for a reason that is not the contract's.
    pub(crate) fn mine(&mut self, time: UnixSeconds, fails: bool) {
        self.hashes += 1;
        let parent = self.head();
        let mut hash = [0xbb; 32];
        hash[..8].copy_from_slice(&self.hashes.to_be_bytes());
        let mut block = Block {
            at: BlockRef { number: parent.at.number + 1, hash: Digest(hash) },
            time,
            contract: parent.contract.clone(),
            txs: BTreeMap::new(),
        };
        if self.others.first {
            act(&mut block.contract, self.others, time);
        }
        for (id, call) in std::mem::take(&mut self.pool) {
            let outcome = if fails {
                Outcome::Reverted { reason: "out of gas".to_owned(), class: RevertClass::Replan, gas: 100_000 }
            } else {
                self.execute(&mut block.contract, time, &call)
            };
            block.txs.insert(id, outcome);
        }
        if !self.others.first {
            act(&mut block.contract, self.others, time);
        }
        self.blocks.push(block);
        self.settled = self.settled.max(self.head().at.number.saturating_sub(self.confirmations));
    }

    fn execute(&mut self, contract: &mut Contract, time: UnixSeconds, call: &Call) -> Outcome {
        let (name, result) = match call {
            Call::Claim { statement, voucher } => ("claim", contract.claim(time, statement, *voucher)),
            Call::RequestClose => ("requestClose", contract.request_close(time, Caller::Host)),
            Call::Finalize => ("finalize", contract.finalize(time, Caller::Host)),
        };
        match result {
            Ok(()) => Outcome::Done { gas: 50_000 },
            Err(refusal) => {
                *self.refusals.entry((name, refusal)).or_default() += 1;
                // The session moved on without us (a tail is too small again when a reorganisation took the close back); all
                // else must not happen.
                let moved_on = matches!(refusal, Refusal::WrongStatus | Refusal::ClaimWindowOver | Refusal::BelowMinimum);
                let class = if moved_on { RevertClass::Replan } else { RevertClass::Stop };
                Outcome::Reverted { reason: format!("{refusal:?}"), class, gas: 30_000 }
            }
        }
    }
}

fn act(contract: &mut Contract, others: Others, time: UnixSeconds) {
    // Each of them tries in every block; the contract says no until it is time.
    if others.depositor_closes.is_some_and(|at| time.0 >= at) && contract.status == ChainStatus::Active {
        let _ = contract.request_close(time, Caller::Depositor);
    }
    if others.anybody {
        let _ = contract.request_close(time, Caller::Anybody);
        let _ = contract.finalize(time, Caller::Anybody);
    }
}
