//! Opening, ending, paying and forgetting accounts.

use milepost_statement::{JobId, MAX_CHECKPOINT_TOKENS, TokenCount, TokenSeq, salt_commitment};

use super::Ledger;
use crate::effect::Effect;
use crate::event::{EndReason, OpenAccount, SessionEnd, WriteOff};
use crate::{Account, AccountId, ClaimState, Error, Payout, Phase, UnixSeconds};

impl Ledger {
    pub(super) fn open(&mut self, open: OpenAccount) -> Result<Vec<Effect>, Error> {
        if self.accounts.contains_key(&open.id) {
            return Err(Error::AccountExists(open.id));
        }
        if self.retired.contains(&open.id) {
            return Err(Error::NotOpen(open.id));
        }
        if let Some(terms) = &open.terms {
            if open.id.job().is_none() {
                return Err(Error::NotSettling(open.id));
            }
            if terms.model != open.model {
                return Err(Error::WrongModel { expected: terms.model, found: open.model });
            }
            if salt_commitment(&open.salt) != terms.salt_commitment {
                return Err(Error::WrongSalt { expected: terms.salt_commitment });
            }
        }
        let threshold = open.threshold;
        if threshold == 0 || u64::from(threshold) > MAX_CHECKPOINT_TOKENS {
            return Err(Error::WrongState {
                what: format!("account {}", open.id),
                event: "opened",
                state: format!("given a checkpoint threshold of {threshold}, outside 1 to {MAX_CHECKPOINT_TOKENS}"),
            });
        }
        let account = Account::open(open);
        let effects = vec![account.put()];
        self.accounts.insert(account.id(), account);
        Ok(effects)
    }

    pub(super) fn end_session(&mut self, id: AccountId, reason: SessionEnd, at: UnixSeconds) -> Result<Vec<Effect>, Error> {
        let account = self.account_mut(id)?;
        if account.record.phase != Phase::Open {
            return Err(Error::NotOpen(id));
        }
        account.end(reason, at)
    }

    pub(super) fn voucher(&mut self, id: AccountId, tokens: TokenCount, signature: Vec<u8>) -> Result<Vec<Effect>, Error> {
        let account = self.account_mut(id)?;
        let terms = account.record.terms.as_ref().ok_or(Error::NotSettling(id))?;
        if terms.voucher.is_none() {
            return Err(Error::NotSettling(id));
        }
        let metered = account.record.positions.metered - TokenSeq::ZERO;
        if tokens > metered {
            return Err(Error::OutOfOrder { account: id, expected: account.record.positions.metered, found: TokenSeq(tokens.0) });
        }
        if tokens <= account.record.voucher {
            return Ok(Vec::new());
        }
        account.record.voucher = tokens;
        account.record.voucher_signature = signature;
        Ok(vec![account.put()])
    }

    pub(super) fn closing_seen(&mut self, job: JobId, until: UnixSeconds, at: UnixSeconds) -> Result<Vec<Effect>, Error> {
        let account = self.job_mut(job)?;
        if matches!(account.record.phase, Phase::Paid(_)) {
            return Err(Error::NotOpen(account.id()));
        }
        if account.record.claim_until == Some(until) && account.record.phase != Phase::Open {
            return Ok(Vec::new());
        }
        account.record.claim_until = Some(until);
        if account.record.phase == Phase::Open { account.end(SessionEnd::OnChain, at) } else { Ok(vec![account.put()]) }
    }

    pub(super) fn paid(&mut self, job: JobId, payout: Payout, rest: Option<WriteOff>) -> Result<Vec<Effect>, Error> {
        let account = self.job_mut(job)?;
        let id = account.id();
        let terms = account.record.terms.as_ref().ok_or(Error::NotSettling(id))?;
        let mut positions = account.record.positions;
        let wrong = |expected: String| Error::Payout { account: id, found: format!("{payout:?}"), expected };
        if matches!(account.record.phase, Phase::Paid(_)) {
            return Err(wrong("none: the job is paid already".to_owned()));
        }
        if account.record.phase == Phase::Open {
            return Err(Error::WrongState {
                what: format!("account {id}"),
                event: "paid",
                state: "open here: its session ends first".to_owned(),
            });
        }
        if payout.tokens != positions.finalized - TokenSeq::ZERO {
            return Err(wrong(format!("{} final tokens", positions.finalized)));
        }
        let expected = terms.payout(payout.tokens).ok_or_else(|| wrong("no more than the deposit".to_owned()))?;
        if payout != expected {
            return Err(wrong(format!("{expected:?}")));
        }
        let lost = positions.metered - positions.finalized;
        if (lost > TokenCount::ZERO) != rest.is_some() {
            return Err(wrong(format!("a reason for {lost} tokens written off")));
        }
        positions.paid = positions.finalized;
        positions.landed = positions.finalized;
        positions.submitted = positions.finalized;
        positions.written_off = lost;
        let mut effects = Vec::new();
        account.advance(positions)?;
        // The session is over on chain: a claim that was still under way can never land.
        if let Some(mut claim) = account.claim.take() {
            claim.state = ClaimState::Abandoned { reason: "the session was completed first".to_owned() };
            account.record.claim = None;
            effects.push(Effect::PutClaim(Box::new(claim)));
        }
        account.record.write_off = rest;
        account.record.phase = Phase::Paid(payout);
        effects.push(account.put());
        Ok(effects)
    }

    pub(super) fn halt(&mut self, id: AccountId, reason: String) -> Result<Vec<Effect>, Error> {
        let account = self.account_mut(id)?;
        account.record.halted.get_or_insert(reason);
        Ok(vec![account.put()])
    }

    pub(super) fn resume(&mut self, id: AccountId) -> Result<Vec<Effect>, Error> {
        let account = self.account_mut(id)?;
        if account.record.halted.take().is_none() {
            return Ok(Vec::new());
        }
        account.record.closing_reverts = 0;
        Ok(vec![account.put()])
    }

    pub(super) fn retire(&mut self, id: AccountId) -> Result<Vec<Effect>, Error> {
        let watched = id.job().is_some_and(|job| self.txs.values().any(|tx| tx.purpose.concerns(job)));
        let account = self.account_mut(id)?;
        let idle_free = matches!(id, AccountId::Free(_)) && account.record.active.is_none();
        if watched || !idle_free && !matches!(account.record.phase, Phase::Paid(_)) {
            return Err(Error::WrongState {
                what: format!("account {id}"),
                event: "retired",
                state: "still owed something, or watching a transaction".to_owned(),
            });
        }
        self.accounts.remove(&id);
        self.retired.insert(id);
        Ok(Vec::new())
    }

    /// Lets go of the name of a retired account whose records are deleted with this call: it may be opened anew, from token 0.
    /// `false`, and nothing done, for jobs, of which claims and payouts speak for good, and for accounts that are still here.
    pub fn forget(&mut self, id: AccountId) -> bool {
        let may = matches!(id, AccountId::Free(_)) && !self.accounts.contains_key(&id);
        if may {
            self.retired.remove(&id);
        }
        may
    }
}

impl Account {
    /// Ends the active turn, seals the rest, and serves nothing more.
    fn end(&mut self, reason: SessionEnd, at: UnixSeconds) -> Result<Vec<Effect>, Error> {
        let mut effects: Vec<Effect> = self.finish_turn(EndReason::SessionEnded, at).into_iter().collect();
        let rest = self.open.ids.len();
        if rest > 0 {
            effects.push(self.seal(rest)?);
        }
        self.record.phase = Phase::Ending { reason, since: at };
        effects.push(self.put());
        Ok(effects)
    }
}
