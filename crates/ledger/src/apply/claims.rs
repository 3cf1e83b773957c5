//! Claims up to their proof; from the signature on they follow their transaction (`txs.rs`).

use milepost_statement::{JobId, Statement, TokenSeq};

use super::Ledger;
use crate::effect::Effect;
use crate::{Account, AccountId, Claim, ClaimId, ClaimState, Error, Phase, ProofMeta, UnixSeconds};

impl Ledger {
    pub(super) fn plan_claim(&mut self, job: JobId, until: TokenSeq, at: UnixSeconds) -> Result<Vec<Effect>, Error> {
        let account = self.job_mut(job)?;
        let id = account.id();
        if let Some(claim) = &account.claim {
            return Err(Error::ClaimInFlight(claim.id));
        }
        let terms = account.record.terms.as_ref().ok_or(Error::NotSettling(id))?;
        // Once finalize is signed, a further claim would race it.
        if account.record.halted.is_some() || account.record.finalize.is_some() || matches!(account.record.phase, Phase::Paid(_)) {
            return Err(Error::NotOpen(id));
        }
        let first = account.record.positions.finalized;
        let last = account
            .pending
            .iter()
            .position(|checkpoint| checkpoint.end() == until)
            .ok_or(Error::NotACheckpoint { account: id, asked: until })?;
        let (begin, end) = (&account.pending[0], &account.pending[last]);
        let claim = Claim {
            id: ClaimId { job, first, plan: account.record.plans },
            statement: Statement {
                chain_id: terms.chain,
                marketplace: terms.marketplace,
                job_id: job,
                host: terms.host,
                model_digest: terms.model,
                first_seq: first,
                count: until - first,
                head_before: account.record.final_head,
                head_after: end.head,
            },
            first_checkpoint: begin.number,
            checkpoints: u32::try_from(end.number - begin.number + 1).map_err(|_| Error::NotACheckpoint { account: id, asked: until })?,
            state: ClaimState::Planned,
            proof: None,
            planned: at,
        };
        account.record.plans += 1;
        account.record.claim = Some(claim.id);
        account.claim = Some(claim.clone());
        Ok(vec![Effect::PutClaim(Box::new(claim)), account.put()])
    }

    pub(super) fn proving(&mut self, id: ClaimId) -> Result<Vec<Effect>, Error> {
        let claim = self.claim_mut(id)?;
        match claim.state {
            ClaimState::Planned => claim.state = ClaimState::Proving,
            ClaimState::Proving => return Ok(Vec::new()),
            _ => return Err(claim.wrong_state("proving")),
        }
        Ok(vec![Effect::PutClaim(Box::new(claim.clone()))])
    }

    pub(super) fn proved(&mut self, id: ClaimId, proof: ProofMeta) -> Result<Vec<Effect>, Error> {
        let claim = self.claim_mut(id)?;
        if !matches!(claim.state, ClaimState::Planned | ClaimState::Proving) {
            return Err(claim.wrong_state("proven"));
        }
        let end = claim.statement.end();
        let account = self.job_mut(id.job)?;
        let mut positions = account.record.positions;
        positions.proven = positions.proven.max(end);
        account.advance(positions)?;
        let put = account.put();
        let claim = self.claim_mut(id)?;
        claim.state = ClaimState::Proven;
        claim.proof = Some(proof);
        Ok(vec![Effect::PutClaim(Box::new(claim.clone())), put])
    }

    pub(super) fn abandon_claim(&mut self, id: ClaimId, reason: String) -> Result<Vec<Effect>, Error> {
        let claim = self.claim_mut(id)?;
        if matches!(claim.state, ClaimState::Submitted(_)) {
            return Err(claim.wrong_state("abandoned"));
        }
        let account = self.job_mut(id.job)?;
        Ok(account.drop_claim(ClaimState::Abandoned { reason }))
    }

    pub(super) fn claim_mut(&mut self, id: ClaimId) -> Result<&mut Claim, Error> {
        let account = self.accounts.get_mut(&AccountId::Job(id.job)).ok_or(Error::UnknownClaim(id))?;
        account.claim.as_mut().filter(|claim| claim.id == id).ok_or(Error::UnknownClaim(id))
    }
}

impl Account {
    /// Resolves the claim without landing: its tokens are owed again.
    pub(super) fn drop_claim(&mut self, state: ClaimState) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(mut claim) = self.claim.take() {
            claim.state = state;
            self.record.claim = None;
            effects.push(Effect::PutClaim(Box::new(claim)));
        }
        effects.push(self.put());
        effects
    }
}

impl Claim {
    pub(super) fn wrong_state(&self, event: &'static str) -> Error {
        Error::WrongState { what: format!("claim {}", self.id), event, state: format!("{:?}", self.state) }
    }
}
