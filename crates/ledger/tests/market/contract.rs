//! One job on the marketplace, as the contract keeps it (SPEC §2.4, "our own marketplace").

use milepost_ledger::{ChainStatus, Digest, Payout, Statement, Terms, TokenAmount, TokenCount, UnixSeconds};

/// Why the contract refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    WrongStatus,
    ClaimWindowOver,
    ClosedToClaims,
    BelowMinimum,
    DepositExceeded,
    RateCapExceeded,
    WrongFirstSeq,
    WrongHeadBefore,
    VoucherExceeded,
    TooEarly,
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Host,
    Depositor,
    Anybody,
}

#[derive(Clone, Debug)]
pub(crate) struct Contract {
    pub(crate) terms: Terms,
    pub(crate) status: ChainStatus,
    pub(crate) used: u64,
    pub(crate) head: Digest,
    pub(crate) last_proof: UnixSeconds,
    pub(crate) closed_to_claims: bool,
    pub(crate) voucher: u64,
    /// Sizes of the claims that landed.
    pub(crate) claims: Vec<u64>,
    pub(crate) payout: Option<Payout>,
}

impl Contract {
    pub(crate) fn new(terms: Terms, head: Digest) -> Self {
        let last_proof = terms.started;
        Self {
            terms,
            status: ChainStatus::Active,
            used: 0,
            head,
            last_proof,
            closed_to_claims: false,
            voucher: 0,
            claims: Vec::new(),
            payout: None,
        }
    }

    pub(crate) fn claim(&mut self, now: UnixSeconds, statement: &Statement, voucher: u64) -> Result<(), Refusal> {
        let count = statement.count.0;
        match self.status {
            ChainStatus::Completed => return Err(Refusal::WrongStatus),
            ChainStatus::Closing { until } if now > until => return Err(Refusal::ClaimWindowOver),
            ChainStatus::Closing { .. } if self.closed_to_claims => return Err(Refusal::ClosedToClaims),
            ChainStatus::Active if count < self.terms.min_claim.0 => return Err(Refusal::BelowMinimum),
            _ if count == 0 => return Err(Refusal::BelowMinimum),
            _ => {}
        }
        let total = self.used + count;
        if u128::from(total) * self.terms.price.0 > self.terms.deposit.0 {
            return Err(Refusal::DepositExceeded);
        }
        if total > 2 * u64::from(self.terms.rate) * (now.0 - self.terms.started.0) + self.terms.burst.0 {
            return Err(Refusal::RateCapExceeded);
        }
        if statement.first_seq.0 != self.used {
            return Err(Refusal::WrongFirstSeq);
        }
        if statement.head_before != self.head {
            return Err(Refusal::WrongHeadBefore);
        }
        let voucher = voucher.max(self.voucher);
        if self.terms.voucher.is_some_and(|terms| total > voucher + terms.allowance.0) {
            return Err(Refusal::VoucherExceeded);
        }
        self.voucher = voucher;
        self.closed_to_claims |= count < self.terms.min_claim.0;
        self.used = total;
        self.head = statement.head_after;
        self.last_proof = now;
        self.claims.push(count);
        Ok(())
    }

    pub(crate) fn request_close(&mut self, now: UnixSeconds, caller: Caller) -> Result<(), Refusal> {
        if self.status != ChainStatus::Active {
            return Err(Refusal::WrongStatus);
        }
        let idle = self.last_proof.plus(self.terms.idle_timeout);
        if caller == Caller::Anybody && now < idle.min(self.terms.started.plus(self.terms.max_duration)) {
            return Err(Refusal::TooEarly);
        }
        self.status = ChainStatus::Closing { until: now.plus(self.terms.claim_window) };
        Ok(())
    }

    pub(crate) fn finalize(&mut self, now: UnixSeconds, caller: Caller) -> Result<(), Refusal> {
        match self.status {
            ChainStatus::Completed => return Err(Refusal::WrongStatus),
            ChainStatus::Closing { until } if caller != Caller::Host && now <= until => return Err(Refusal::TooEarly),
            ChainStatus::Active if caller != Caller::Host => return Err(Refusal::WrongStatus),
            _ => {}
        }
        let deposit = self.terms.deposit.0;
        let least = if self.used > 0 { self.terms.minimum_charge.0.min(deposit) } else { 0 };
        let charge = (u128::from(self.used) * self.terms.price.0).max(least);
        let fee = charge * u128::from(self.terms.fee_bps) / 10_000;
        self.status = ChainStatus::Completed;
        self.payout = Some(Payout {
            tokens: TokenCount(self.used),
            host: TokenAmount(charge - fee),
            treasury: TokenAmount(fee),
            refund: TokenAmount(deposit - charge),
        });
        Ok(())
    }
}
