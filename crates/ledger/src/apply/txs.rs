//! Transactions, and what their fate does to claims and sessions.

use milepost_statement::{Digest, TokenSeq};

use super::Ledger;
use crate::effect::Effect;
use crate::{Account, Attempt, BlockRef, ClaimState, Error, Outcome, Positions, Purpose, RevertClass, Tx, TxId, TxState};

impl Ledger {
    pub(super) fn tx_signed(&mut self, id: TxId, purpose: Purpose, attempt: Attempt) -> Result<Vec<Effect>, Error> {
        if let Some(tx) = self.txs.get_mut(&id) {
            if tx.purpose != purpose {
                return Err(Error::NonceTaken(id));
            }
            if !matches!(tx.state, TxState::Signed | TxState::Sent) {
                return Err(tx.wrong_state("signed again"));
            }
            if tx.attempts.len() >= Tx::MAX_ATTEMPTS {
                return Err(Error::TooManyAttempts(id));
            }
            tx.attempts.push(attempt);
            return Ok(vec![Effect::PutTx(Box::new(tx.clone()))]);
        }
        let tx = Tx { id, purpose, attempts: vec![attempt], state: TxState::Signed };
        let account = self.job_mut(purpose.job())?;
        let taken = |other: TxId| Error::WrongState { what: format!("{purpose:?}"), event: "signed", state: format!("carried by nonce {}", other.nonce) };
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
            Purpose::RequestClose(_) => match account.record.close {
                Some(other) => return Err(taken(other)),
                None => account.record.close = Some(id),
            },
            Purpose::Finalize(_) => match account.record.finalize {
                Some(other) => return Err(taken(other)),
                None => account.record.finalize = Some(id),
            },
        }
        effects.push(account.put());
        self.txs.insert(id, tx);
        Ok(effects)
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
            return Err(Error::WrongState { what: format!("nonce {}", id.nonce), event: "included", state: format!("unaware of transaction {hash}") });
        }
        let purpose = tx.purpose;
        let mut effects = Vec::new();
        if matches!((&purpose, &outcome), (Purpose::Claim(_), Outcome::Done { .. })) {
            let account = self.job_mut(purpose.job())?;
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
        let purpose = tx.purpose;
        let mut effects = Vec::new();
        if let Purpose::Claim(_) = purpose {
            let account = self.job_mut(purpose.job())?;
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
        let purpose = tx.purpose;
        let account = self.job_mut(purpose.job())?;
        let mut effects = match (purpose, &outcome) {
            (Purpose::Claim(_), Outcome::Done { .. }) => account.claim_final(id)?,
            (Purpose::Claim(_), Outcome::Reverted { reason, class, .. }) => account.claim_reverted(reason, *class)?,
            (Purpose::RequestClose(_) | Purpose::Finalize(_), Outcome::Done { .. }) => Vec::new(),
            (Purpose::RequestClose(_), Outcome::Reverted { .. }) => {
                account.record.close = None;
                vec![account.put()]
            }
            (Purpose::Finalize(_), Outcome::Reverted { .. }) => {
                account.record.finalize = None;
                vec![account.put()]
            }
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
        let purpose = tx.purpose;
        let account = self.job_mut(purpose.job())?;
        let mut effects = match purpose {
            Purpose::Claim(_) => {
                account.unsubmit()?;
                account.drop_claim(ClaimState::Replaced)
            }
            Purpose::RequestClose(_) => {
                account.record.close = None;
                vec![account.put()]
            }
            Purpose::Finalize(_) => {
                account.record.finalize = None;
                vec![account.put()]
            }
        };
        effects.insert(0, self.set_tx(id, TxState::Replaced)?);
        self.txs.remove(&id);
        Ok(effects)
    }

    fn set_tx(&mut self, id: TxId, state: TxState) -> Result<Effect, Error> {
        let tx = self.txs.get_mut(&id).ok_or(Error::UnknownTx(id))?;
        tx.state = state;
        Ok(Effect::PutTx(Box::new(tx.clone())))
    }
}

impl Account {
    fn claim_end(&self, tx: TxId) -> Result<TokenSeq, Error> {
        let claim = self.claim.as_ref().filter(|claim| claim.state == ClaimState::Submitted(tx));
        claim.map(|claim| claim.statement.end()).ok_or(Error::UnknownTx(tx))
    }

    fn claim_final(&mut self, tx: TxId) -> Result<Vec<Effect>, Error> {
        let end = self.claim_end(tx)?;
        let positions = Positions { finalized: end, ..self.record.positions };
        self.advance(positions)?;
        while self.pending.front().is_some_and(|checkpoint| checkpoint.end() <= end) {
            self.pending.pop_front();
        }
        if let Some(claim) = &self.claim {
            self.record.final_head = claim.statement.head_after;
        }
        self.record.plans = 0;
        Ok(self.drop_claim(ClaimState::Final(tx)))
    }

    fn claim_reverted(&mut self, reason: &str, class: RevertClass) -> Result<Vec<Effect>, Error> {
        self.unsubmit()?;
        match class {
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
