//! Transactions, and what their fate does to claims and sessions.

use std::collections::BTreeSet;

use milepost_statement::{Digest, JobId, TokenSeq};

use super::Ledger;
use crate::effect::Effect;
use crate::{
    Account, AccountId, Attempt, BlockRef, Claim, ClaimId, ClaimState, Error, MAX_CLOSING_REVERTS, Outcome, Phase, Positions, Purpose,
    RevertClass, Tx, TxId, TxState,
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
        check_claims(&purpose)?;
        // Each account is asked before the first is changed: all of them sign, or none.
        let signs = purpose.jobs().map(|job| Ok((job, self.may_sign(job, &purpose)?))).collect::<Result<Vec<_>, Error>>()?;
        let tx = Tx { id, purpose, attempts: vec![attempt], state: TxState::Signed };
        let mut effects = vec![Effect::PutTx(Box::new(tx.clone()))];
        for (job, positions) in signs {
            let account = self.job_mut(job)?;
            account.advance(positions)?;
            match tx.purpose {
                Purpose::Claim(_) | Purpose::Claims(_) => {
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
        }
        self.txs.insert(id, tx);
        self.raise_floor(id);
        Ok(effects)
    }

    /// Whether a transaction for this purpose may be signed as far as this job goes, and where its account then stands.
    fn may_sign(&self, job: JobId, purpose: &Purpose) -> Result<Positions, Error> {
        let account = self.job(job).ok_or(Error::UnknownAccount(AccountId::Job(job)))?;
        let refused = |state: String| Error::WrongState { what: format!("{purpose:?}"), event: "signed", state };
        account.may_sign(purpose).map_err(refused)?;
        let mut positions = account.record.positions;
        if let Some(claim_id) = purpose.claim_of(job) {
            let claim = account.claim.as_ref().filter(|claim| claim.id == claim_id).ok_or(Error::UnknownClaim(claim_id))?;
            if claim.state != ClaimState::Proven {
                return Err(claim.wrong_state("signed"));
            }
            positions.submitted = claim.statement.end();
            account.may_advance(&positions)?;
        }
        Ok(positions)
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
        check_refused(tx, &outcome)?;
        let landed: Vec<_> = tx.purpose.claims().iter().filter(|claim| outcome.refusal_of(**claim).is_none()).collect();
        if matches!(tx.purpose, Purpose::Claim(_)) && landed.iter().any(|claim| self.carrier(id, **claim).is_none()) {
            return Err(Error::UnknownTx(id));
        }
        let forth = |account: &Account| Ok((account.id(), Positions { landed: account.claim_end(id)?, ..account.record.positions }));
        let moves = landed.into_iter().filter_map(|claim| self.carrier(id, *claim)).map(forth).collect::<Result<Vec<_>, Error>>()?;
        let mut effects = self.move_all(moves)?;
        effects.insert(0, self.set_tx(id, TxState::Included { block, hash, outcome })?);
        Ok(effects)
    }

    pub(super) fn tx_reorged(&mut self, id: TxId) -> Result<Vec<Effect>, Error> {
        let tx = self.txs.get(&id).ok_or(Error::UnknownTx(id))?;
        if !matches!(tx.state, TxState::Included { .. }) {
            return Err(tx.wrong_state("reorganised away"));
        }
        let back = |account: &Account| {
            let positions = account.record.positions;
            (account.id(), Positions { landed: positions.finalized, ..positions })
        };
        let moves = tx.purpose.claims().iter().filter_map(|claim| self.carrier(id, *claim)).map(back).collect();
        let mut effects = self.move_all(moves)?;
        effects.insert(0, self.set_tx(id, TxState::Sent)?);
        Ok(effects)
    }

    pub(super) fn tx_final(&mut self, id: TxId) -> Result<Vec<Effect>, Error> {
        let tx = self.txs.get(&id).ok_or(Error::UnknownTx(id))?;
        let TxState::Included { block, hash, outcome } = tx.state.clone() else {
            return Err(tx.wrong_state("final"));
        };
        let purpose = tx.purpose.clone();
        let mut effects = match (&purpose, &outcome) {
            (Purpose::Claim(_) | Purpose::Claims(_), _) => self.claims_final(id, &purpose, block, &outcome)?,
            (Purpose::Fill(_), _) | (_, Outcome::Done { .. } | Outcome::Partly { .. }) => Vec::new(),
            (Purpose::RequestClose(_) | Purpose::Finalize(_), Outcome::Reverted { class, .. }) => {
                self.closing_failed(id, &purpose, Some(*class))
            }
        };
        effects.insert(0, self.set_tx(id, TxState::Final { block, hash, outcome })?);
        self.txs.remove(&id);
        Ok(effects)
    }

    /// Each claim's own fate: final, or owed again.
    fn claims_final(&mut self, id: TxId, purpose: &Purpose, block: BlockRef, outcome: &Outcome) -> Result<Vec<Effect>, Error> {
        let carried: Vec<_> = purpose.claims().iter().copied().filter(|claim| self.carrier(id, *claim).is_some()).collect();
        if carried.is_empty() && matches!((purpose, outcome), (Purpose::Claim(_), Outcome::Done { .. })) {
            return Err(Error::UnknownTx(id));
        }
        // None is changed before all are found to be able to.
        for account in carried.iter().filter_map(|claim| self.carrier(id, *claim)) {
            let positions = account.record.positions;
            let refused = account.claim.as_ref().is_some_and(|claim| outcome.refusal_of(claim.id).is_some());
            account.may_advance(&if refused {
                Positions { submitted: positions.landed, ..positions }
            } else {
                Positions { finalized: account.claim_end(id)?, ..positions }
            })?;
        }
        let mut effects = Vec::new();
        for claim in carried {
            let account = self.job_mut(claim.job)?;
            effects.extend(match outcome.refusal_of(claim) {
                None => account.claim_final(id, block)?,
                Some((reason, class)) => account.claim_reverted(reason, class)?,
            });
        }
        Ok(effects)
    }

    pub(super) fn tx_replaced(&mut self, id: TxId) -> Result<Vec<Effect>, Error> {
        let tx = self.txs.get(&id).ok_or(Error::UnknownTx(id))?;
        if !matches!(tx.state, TxState::Signed | TxState::Sent) {
            return Err(tx.wrong_state("replaced"));
        }
        let purpose = tx.purpose.clone();
        let mut effects = match &purpose {
            Purpose::Claim(_) | Purpose::Claims(_) => self.claims_replaced(id, &purpose)?,
            Purpose::Fill(_) => Vec::new(),
            Purpose::RequestClose(_) | Purpose::Finalize(_) => self.closing_failed(id, &purpose, None),
        };
        effects.insert(0, self.set_tx(id, TxState::Replaced)?);
        self.txs.remove(&id);
        Ok(effects)
    }

    fn claims_replaced(&mut self, id: TxId, purpose: &Purpose) -> Result<Vec<Effect>, Error> {
        let carried: Vec<_> = purpose.claims().iter().filter_map(|claim| self.carrier(id, *claim)).collect();
        for account in &carried {
            account.may_advance(&Positions { submitted: account.record.positions.landed, ..account.record.positions })?;
        }
        let carried: Vec<_> = carried.into_iter().map(Account::id).collect();
        let mut effects = Vec::new();
        for account in carried {
            let account = self.account_mut(account)?;
            account.unsubmit()?;
            effects.extend(account.drop_claim(ClaimState::Replaced));
        }
        Ok(effects)
    }

    /// The account whose unresolved claim is this one, if this transaction carries it. There is none once the job is paid: then the
    /// claim was given up, and the account may not be in memory any more, but the nonce must still be followed to its end, for the
    /// claims beside it too.
    fn carrier(&self, id: TxId, claim: ClaimId) -> Option<&Account> {
        let carries = |own: &Claim| own.id == claim && own.state == ClaimState::Submitted(id);
        self.job(claim.job).filter(|account| account.claim.as_ref().is_some_and(carries))
    }

    /// Moves several accounts, or none of them.
    fn move_all(&mut self, moves: Vec<(AccountId, Positions)>) -> Result<Vec<Effect>, Error> {
        for (id, positions) in &moves {
            self.account(*id).ok_or(Error::UnknownAccount(*id))?.may_advance(positions)?;
        }
        let mut effects = Vec::new();
        for (id, positions) in moves {
            let account = self.account_mut(id)?;
            account.advance(positions)?;
            effects.push(account.put());
        }
        Ok(effects)
    }

    /// A close or finalize that did not happen: somebody else was first, or it must be sent again.
    fn closing_failed(&mut self, id: TxId, purpose: &Purpose, class: Option<RevertClass>) -> Vec<Effect> {
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

/// Several claims in one transaction are at least two, no more than a contract takes, and of as many jobs.
fn check_claims(purpose: &Purpose) -> Result<(), Error> {
    let Purpose::Claims(claims) = purpose else { return Ok(()) };
    let jobs: BTreeSet<_> = purpose.jobs().collect();
    if jobs.len() == claims.len() && (2..=Purpose::MAX_CLAIMS).contains(&claims.len()) {
        return Ok(());
    }
    let state = format!("of {} claims of {} jobs, not one of each of 2 to {}", claims.len(), jobs.len(), Purpose::MAX_CLAIMS);
    Err(Error::WrongState { what: "a transaction".to_owned(), event: "signed", state })
}

/// What was refused is some of what was submitted, each claim once.
fn check_refused(tx: &Tx, outcome: &Outcome) -> Result<(), Error> {
    let Outcome::Partly { refused, .. } = outcome else { return Ok(()) };
    let names: BTreeSet<_> = refused.iter().map(|refused| refused.claim).collect();
    let submitted = matches!(tx.purpose, Purpose::Claims(_)) && names.iter().all(|claim| tx.purpose.claims().contains(claim));
    if submitted && names.len() == refused.len() && !names.is_empty() {
        return Ok(());
    }
    let state = format!("{:?}, of which not exactly these claims can be refused: {names:?}", tx.purpose);
    Err(Error::WrongState { what: format!("nonce {}", tx.id.nonce), event: "included", state })
}

impl Account {
    /// What must hold before a new transaction is signed, or why it must not be.
    fn may_sign(&self, purpose: &Purpose) -> Result<(), String> {
        let record = &self.record;
        if let Some(reason) = &record.halted {
            return Err(format!("halted: {reason}"));
        }
        let (carrier, ending) = match purpose {
            // Once finalize is signed, a claim would race it.
            Purpose::Claim(_) | Purpose::Claims(_) => (record.finalize, true),
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
