//! Transactions, and what their fate does to claims and sessions.

use milepost_statement::{Digest, TokenSeq};

use super::Ledger;
use crate::effect::Effect;
use crate::{
    Account, AccountId, Attempt, BlockRef, Claim, ClaimState, Error, MAX_CLOSING_REVERTS, Outcome, Phase, Positions, Purpose, RevertClass,
    Tx, TxId, TxState,
};

impl Ledger {
    pub(super) fn tx_signed(&mut self, id: TxId, purpose: Purpose, attempt: Attempt) -> Result<Vec<Effect>, Error> {
        if let Some(tx) = self.txs.get_mut(&id) {
            if tx.purpose != purpose {
                return Err(Error::NonceTaken(id));
            }
            if !matches!(tx.state, TxState::Signed | TxState::Sent) {
                return Err(tx.wrong_state("signed again"));
            }
            if tx.attempts.iter().any(|known| known.hash == attempt.hash) {
                return Ok(Vec::new());
            }
            if tx.attempts.len() >= Tx::MAX_ATTEMPTS {
                return Err(Error::TooManyAttempts(id));
            }
            tx.attempts.push(attempt);
            return Ok(vec![Effect::PutTx(Box::new(tx.clone()))]);
        }
        if matches!(purpose, Purpose::Fill(_)) {
            return self.fill_signed(id, purpose, attempt);
        }
        if self.next_nonce(id.key).is_some_and(|floor| id.nonce < floor) {
            return Err(Error::NonceTaken(id));
        }
        let tx = Tx { id, purpose, attempts: vec![attempt], state: TxState::Signed };
        let account = self.job_mut(purpose.job())?;
        let refused = |state: String| Error::WrongState { what: format!("{purpose:?}"), event: "signed", state };
        account.may_sign(purpose).map_err(refused)?;
        let mut effects = vec![Effect::PutTx(Box::new(tx.clone()))];
        match purpose {
            Purpose::Claim(claim_id) => {
                let claim = account.claim.as_ref().filter(|claim| claim.id == claim_id).ok_or(Error::UnknownClaim(claim_id))?;
                if claim.state != ClaimState::Proven {
                    return Err(claim.wrong_state("signed"));
                }
                let mut positions = account.record.positions;
                positions.submitted = claim.statement.end();
                account.advance(positions)?;
                if let Some(claim) = &mut account.claim {
                    claim.state = ClaimState::Submitted(id);
                    effects.push(Effect::PutClaim(Box::new(claim.clone())));
                }
            }
            Purpose::RequestClose(_) => account.record.close = Some(id),
            Purpose::Finalize(_) => account.record.finalize = Some(id),
            Purpose::Fill(_) => {}
        }
        effects.push(account.put());
        self.txs.insert(id, tx);
        self.raise_floor(id);
        Ok(effects)
    }

    /// A gap is filled only while one of ours waits behind it. The caller has looked that no record of the nonce exists: resolved
    /// ones are not in memory.
    fn fill_signed(&mut self, id: TxId, purpose: Purpose, attempt: Attempt) -> Result<Vec<Effect>, Error> {
        let waits = |tx: &Tx| tx.id.key == id.key && tx.id.nonce > id.nonce && !matches!(tx.purpose, Purpose::Fill(_));
        if !self.txs.values().any(waits) {
            return Err(Error::WrongState {
                what: format!("{purpose:?}"),
                event: "signed",
                state: "needed by nothing behind it".to_owned(),
            });
        }
        let tx = Tx { id, purpose, attempts: vec![attempt], state: TxState::Signed };
        let put = Effect::PutTx(Box::new(tx.clone()));
        self.txs.insert(id, tx);
        Ok(vec![put])
    }

    pub(super) fn tx_sent(&mut self, id: TxId) -> Result<Vec<Effect>, Error> {
        let tx = self.txs.get_mut(&id).ok_or(Error::UnknownTx(id))?;
        if tx.state != TxState::Signed {
            return Ok(Vec::new());
        }
        tx.state = TxState::Sent;
        Ok(vec![Effect::PutTx(Box::new(tx.clone()))])
    }

    pub(super) fn tx_included(&mut self, id: TxId, hash: Digest, block: BlockRef, outcome: Outcome) -> Result<Vec<Effect>, Error> {
        let tx = self.txs.get(&id).ok_or(Error::UnknownTx(id))?;
        match &tx.state {
            TxState::Signed | TxState::Sent => {}
            TxState::Included { block: known, hash: same, .. } if *known == block && *same == hash => return Ok(Vec::new()),
            _ => return Err(tx.wrong_state("included")),
        }
        if !tx.attempts.iter().any(|attempt| attempt.hash == hash) {
            return Err(Error::WrongState {
                what: format!("nonce {}", id.nonce),
                event: "included",
                state: format!("unaware of transaction {hash}"),
            });
        }
        let mut effects = Vec::new();
        if matches!((&tx.purpose, &outcome), (Purpose::Claim(_), Outcome::Done { .. })) {
            let account = self.carried(id).ok_or(Error::UnknownTx(id))?;
            let mut positions = account.record.positions;
            positions.landed = account.claim_end(id)?;
            account.advance(positions)?;
            effects.push(account.put());
        }
        effects.insert(0, self.set_tx(id, TxState::Included { block, hash, outcome })?);
        Ok(effects)
    }

    pub(super) fn tx_reorged(&mut self, id: TxId) -> Result<Vec<Effect>, Error> {
        let tx = self.txs.get(&id).ok_or(Error::UnknownTx(id))?;
        if !matches!(tx.state, TxState::Included { .. }) {
            return Err(tx.wrong_state("reorganised away"));
        }
        let mut effects = Vec::new();
        if let Some(account) = self.carried(id) {
            let mut positions = account.record.positions;
            positions.landed = positions.finalized;
            account.advance(positions)?;
            effects.push(account.put());
        }
        effects.insert(0, self.set_tx(id, TxState::Sent)?);
        Ok(effects)
    }

    pub(super) fn tx_final(&mut self, id: TxId) -> Result<Vec<Effect>, Error> {
        let tx = self.txs.get(&id).ok_or(Error::UnknownTx(id))?;
        let TxState::Included { block, hash, outcome } = tx.state.clone() else {
            return Err(tx.wrong_state("final"));
        };
        let mut effects = match (tx.purpose, &outcome) {
            (Purpose::Claim(_), Outcome::Done { .. }) => self.carried(id).ok_or(Error::UnknownTx(id))?.claim_final(id, block)?,
            (Purpose::Claim(_), Outcome::Reverted { reason, class, .. }) => match self.carried(id) {
                Some(account) => account.claim_reverted(reason, *class)?,
                None => Vec::new(),
            },
            (Purpose::RequestClose(_) | Purpose::Finalize(_), Outcome::Done { .. }) | (Purpose::Fill(_), _) => Vec::new(),
            (purpose, Outcome::Reverted { class, .. }) => self.closing_failed(id, purpose, Some(*class)),
        };
        effects.insert(0, self.set_tx(id, TxState::Final { block, hash, outcome })?);
        self.txs.remove(&id);
        Ok(effects)
    }

    pub(super) fn tx_replaced(&mut self, id: TxId) -> Result<Vec<Effect>, Error> {
        let tx = self.txs.get(&id).ok_or(Error::UnknownTx(id))?;
        if !matches!(tx.state, TxState::Signed | TxState::Sent) {
            return Err(tx.wrong_state("replaced"));
        }
        let mut effects = match (tx.purpose, self.carried(id)) {
            (_, Some(account)) => {
                account.unsubmit()?;
                account.drop_claim(ClaimState::Replaced)
            }
            (Purpose::Claim(_) | Purpose::Fill(_), None) => Vec::new(),
            (purpose, None) => self.closing_failed(id, purpose, None),
        };
        effects.insert(0, self.set_tx(id, TxState::Replaced)?);
        self.txs.remove(&id);
        Ok(effects)
    }

    /// The account whose unresolved claim this transaction carries. There is none once the job is paid: then the claim was
    /// given up, and the account may not be in memory any more, but the nonce must still be followed to its end.
    fn carried(&mut self, id: TxId) -> Option<&mut Account> {
        let purpose = self.txs.get(&id)?.purpose;
        let account = self.accounts.get_mut(&AccountId::Job(purpose.job()))?;
        let carries =
            account.claim.as_ref().is_some_and(|claim| Purpose::Claim(claim.id) == purpose && claim.state == ClaimState::Submitted(id));
        carries.then_some(account)
    }

    /// A close or finalize that did not happen: somebody else was first, or it must be sent again.
    fn closing_failed(&mut self, id: TxId, purpose: Purpose, class: Option<RevertClass>) -> Vec<Effect> {
        let Some(account) = self.accounts.get_mut(&AccountId::Job(purpose.job())) else { return Vec::new() };
        let record = &mut account.record;
        let slot = if matches!(purpose, Purpose::Finalize(_)) { &mut record.finalize } else { &mut record.close };
        slot.take_if(|carrier| *carrier == id);
        match class {
            Some(RevertClass::Stop) => record.closing_reverts = MAX_CLOSING_REVERTS,
            Some(RevertClass::Pace(until)) => {
                record.not_before = until;
                record.closing_reverts += 1;
            }
            Some(RevertClass::Replan) => record.closing_reverts += 1,
            None => {}
        }
        vec![account.put()]
    }

    fn set_tx(&mut self, id: TxId, state: TxState) -> Result<Effect, Error> {
        let tx = self.txs.get_mut(&id).ok_or(Error::UnknownTx(id))?;
        tx.state = state;
        Ok(Effect::PutTx(Box::new(tx.clone())))
    }
}

impl Account {
    /// What must hold before a new transaction is signed, or why it must not be.
    fn may_sign(&self, purpose: Purpose) -> Result<(), String> {
        let record = &self.record;
        if let Some(reason) = &record.halted {
            return Err(format!("halted: {reason}"));
        }
        let (carrier, ending) = match purpose {
            // Once finalize is signed, a claim would race it.
            Purpose::Claim(_) => (record.finalize, true),
            Purpose::Fill(_) => (None, true),
            Purpose::RequestClose(_) => (record.close, matches!(record.phase, Phase::Ending { .. })),
            Purpose::Finalize(_) => (record.finalize, matches!(record.phase, Phase::Ending { .. })),
        };
        if let Some(carrier) = carrier {
            return Err(format!("carried or overtaken by nonce {}", carrier.nonce));
        }
        if !ending {
            return Err(format!("not ending but {:?}", record.phase));
        }
        // A payout before the claim has landed would lose the claim.
        match &self.claim {
            Some(claim) if matches!(purpose, Purpose::Finalize(_)) && matches!(claim.state, ClaimState::Submitted(_)) => {
                Err(format!("preceded by claim {}, which is not resolved", claim.id))
            }
            _ => Ok(()),
        }
    }

    fn claim_end(&self, tx: TxId) -> Result<TokenSeq, Error> {
        let claim = self.claim.as_ref().filter(|claim| claim.state == ClaimState::Submitted(tx));
        claim.map(|claim| claim.statement.end()).ok_or(Error::UnknownTx(tx))
    }

    fn claim_final(&mut self, tx: TxId, block: BlockRef) -> Result<Vec<Effect>, Error> {
        let end = self.claim_end(tx)?;
        let positions = Positions { finalized: end, ..self.record.positions };
        self.advance(positions)?;
        while self.pending.front().is_some_and(|checkpoint| checkpoint.end() <= end) {
            self.pending.pop_front();
        }
        if let Some(claim) = &self.claim {
            self.record.final_head = claim.statement.head_after;
            self.record.last_claim = claim.planned;
        }
        self.record.final_block = Some(block);
        self.record.plans = 0;
        Ok(self.drop_claim(ClaimState::Final(tx)))
    }

    fn claim_reverted(&mut self, reason: &str, class: RevertClass) -> Result<Vec<Effect>, Error> {
        self.unsubmit()?;
        match class {
            RevertClass::Replan | RevertClass::Pace(_) if self.record.plans >= Claim::MAX_PLANS => {
                self.record.halted.get_or_insert_with(|| format!("claim reverted again after {} plans: {reason}", self.record.plans));
            }
            RevertClass::Replan => {}
            RevertClass::Pace(until) => self.record.not_before = until,
            RevertClass::Stop => {
                self.record.halted.get_or_insert_with(|| format!("claim reverted: {reason}"));
            }
        }
        Ok(self.drop_claim(ClaimState::Reverted { reason: reason.to_owned() }))
    }

    /// U falls to L: the claim that held it up is resolved without landing.
    fn unsubmit(&mut self) -> Result<(), Error> {
        let positions = Positions { submitted: self.record.positions.landed, ..self.record.positions };
        self.advance(positions)
    }
}

impl Tx {
    fn wrong_state(&self, event: &'static str) -> Error {
        Error::WrongState { what: format!("nonce {} of {}", self.id.nonce, self.id.key), event, state: format!("{:?}", self.state) }
    }
}
