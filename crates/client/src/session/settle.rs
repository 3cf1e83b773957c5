//! The end of a session: close, payout, refund.

use std::time::Duration;

use alloy::primitives::{B256, U256};
use alloy::sol_types::SolCall;
use milepost_statement::TokenCount;

use super::{Session, payout::split};
use crate::abi::{JobMarketplace, Status};
use crate::chain::{Completed, SessionState, eth_address, job_word};
use crate::file::Funding;
use crate::{Amount, Error, transcript};

/// How often a host that cannot be reached is asked to close before the chain is.
const CLOSE_ATTEMPTS: u32 = 3;
/// Pause between two such attempts.
const CLOSE_PAUSE: Duration = Duration::from_secs(1);
/// Pause between two looks at the chain while waiting for the payout.
const PAID_POLL: Duration = Duration::from_millis(500);

/// Who ends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseOutcome {
    /// The host was told; it claims the rest and finalizes.
    ByHost,
    /// The host is gone: the close is requested on chain, and from `claim_until` on anyone may finalize.
    OnChain {
        /// The transaction; `None` where the job was closing or paid already.
        tx: Option<B256>,
        /// Unix seconds until which the host may still claim.
        claim_until: u64,
    },
}

/// The payout, checked to the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paid {
    /// Tokens paid for.
    pub tokens: TokenCount,
    /// To the host.
    pub host: Amount,
    /// To the treasury.
    pub treasury: Amount,
    /// Back to us.
    pub refund: Amount,
    /// The transaction.
    pub tx: B256,
}

/// How far the money is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundState {
    /// The session is open.
    Open,
    /// Claims are accepted until then, Unix seconds of the chain; then anyone may finalize.
    Closing {
        /// Until when.
        claim_until: u64,
    },
    /// Paid out.
    Paid,
}

/// What comes back to the depositor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund {
    /// How far it is.
    pub state: RefundState,
    /// What comes back: what the contract paid, or before that what it would pay for the claims so far.
    pub amount: Amount,
    /// What the contract could not push and keeps for us: [`Session::reclaim`] withdraws it.
    pub credit: Amount,
}

impl Session {
    /// Ends the session: by the host, or on chain where the host cannot be reached.
    pub async fn close(&mut self) -> Result<CloseOutcome, Error> {
        self.socket = None;
        for attempt in 1..=CLOSE_ATTEMPTS {
            match self.close_by_host().await {
                Ok(()) => {
                    // The end of the session sealed the rest. Where this fails it is made good before the payout is checked.
                    if let Err(error) = self.sync_checkpoints().await {
                        tracing::debug!(%error, "checkpoints are fetched later");
                    }
                    return Ok(CloseOutcome::ByHost);
                }
                Err(Error::HostUnreachable { .. }) if attempt < CLOSE_ATTEMPTS => tokio::time::sleep(CLOSE_PAUSE).await,
                Err(Error::HostUnreachable { reason, .. }) => tracing::warn!(%reason, "the host is gone: closing on chain"),
                Err(error) => return Err(error),
            }
        }
        self.close_on_chain().await
    }

    async fn close_by_host(&mut self) -> Result<(), Error> {
        if self.access_token().is_none() {
            self.authenticate(None).await?;
        }
        let token = self.access_token().ok_or(Error::NotAuthenticated)?;
        match self.host.close_session(token, self.job_id()).await {
            Err(Error::Host { status: 401, .. }) => {
                self.authenticate(None).await?;
                let token = self.access_token().ok_or(Error::NotAuthenticated)?;
                self.host.close_session(token, self.job_id()).await
            }
            result => result,
        }
    }

    /// Requests the close at the contract: the depositor's right at any time.
    pub async fn close_on_chain(&mut self) -> Result<CloseOutcome, Error> {
        let job = self.job_id();
        let wallet = self.wallet.clone();
        let chain = self.chain().await?;
        let state = chain.session(job).await?;
        if state.status != Status::Active {
            return Ok(CloseOutcome::OnChain { tx: None, claim_until: state.claim_until });
        }
        let call = JobMarketplace::requestCloseCall { jobId: job_word(job) }.abi_encode();
        let mined = chain.transact("requestClose", &wallet, chain.marketplace(), call.into(), U256::ZERO).await?;
        let state = chain.session(job).await?;
        Ok(CloseOutcome::OnChain { tx: Some(mined.transaction_hash), claim_until: state.claim_until })
    }

    /// Waits until the payout is on chain, and checks it: tokens received, head recomputed, split to the unit.
    pub async fn wait_paid(&mut self, limit: Duration) -> Result<Paid, Error> {
        let job = self.job_id();
        let from = self.created_block();
        let deadline = tokio::time::Instant::now() + limit;
        let mut last: Option<Status>;
        let (state, completed) = loop {
            let chain = self.chain().await?;
            let state = chain.session(job).await?;
            last = Some(state.status);
            if state.status == Status::Completed
                && let Some(completed) = chain.completed(job, from).await?
            {
                break (state, completed);
            }
            if tokio::time::Instant::now() >= deadline {
                let status = last.map_or_else(|| "unknown".into(), |status| format!("{status:?}").to_lowercase());
                return Err(Error::NotPaid { job, seconds: limit.as_secs(), status });
            }
            tokio::time::sleep(PAID_POLL).await;
        };
        self.check_paid(&state, &completed).await
    }

    async fn check_paid(&mut self, state: &SessionState, completed: &Completed) -> Result<Paid, Error> {
        let mut checked = self.transcript.check_chain(state.tokens_used, state.head);
        if let Err(transcript::Error::MissingCheckpoints { .. }) = checked {
            self.sync_checkpoints().await?;
            checked = self.transcript.check_chain(state.tokens_used, state.head);
        }
        checked.map_err(|error| self.stop(error))?;

        let fee_bps = self.chain().await?.fee_bps().await?;
        let record = self.record();
        let (host, treasury, refund) = split(completed.tokens_used, record.price, record.deposit, record.minimum_charge, fee_bps)
            .ok_or(Error::Payout { what: "charge", chain: completed.host, computed: record.deposit })?;
        for (what, chain, computed) in
            [("host's share", completed.host, host), ("fee", completed.treasury, treasury), ("refund", completed.refund, refund)]
        {
            if chain != computed {
                return Err(Error::Payout { what, chain, computed });
            }
        }
        if completed.tokens_used != state.tokens_used {
            let (chain, computed) = (Amount(completed.tokens_used.0.into()), Amount(state.tokens_used.0.into()));
            return Err(Error::Payout { what: "number of tokens", chain, computed });
        }
        Ok(Paid { tokens: completed.tokens_used, host, treasury, refund, tx: completed.tx })
    }

    /// How far the refund is.
    pub async fn refund(&mut self) -> Result<Refund, Error> {
        let job = self.job_id();
        let from = self.created_block();
        let (depositor, token) = (self.record().depositor, self.record().token);
        let chain = self.chain().await?;
        let state = chain.session(job).await?;
        let credit = chain.credit(depositor, token).await?;
        let fee_bps = chain.fee_bps().await?;
        let completed = if state.status == Status::Completed { chain.completed(job, from).await? } else { None };
        let record = self.record();
        let expected = split(state.tokens_used, record.price, record.deposit, record.minimum_charge, fee_bps)
            .map_or(Amount(0), |(_, _, refund)| refund);
        let refund_state = match state.status {
            Status::Completed => RefundState::Paid,
            Status::Closing => RefundState::Closing { claim_until: state.claim_until },
            _ => RefundState::Open,
        };
        Ok(Refund { state: refund_state, amount: completed.map_or(expected, |completed| completed.refund), credit })
    }

    /// Does what can be done now to get the money back from a host that is gone: requests the close, finalizes once the window is
    /// over, withdraws a credit. Call it again at the time it names.
    pub async fn reclaim(&mut self) -> Result<Refund, Error> {
        let job = self.job_id();
        let wallet = self.wallet.clone();
        let token = self.record().token;
        let refund = self.refund().await?;
        match refund.state {
            RefundState::Open => {
                self.close_on_chain().await?;
            }
            RefundState::Closing { claim_until } => {
                let chain = self.chain().await?;
                if chain.now().await? > claim_until {
                    let call = JobMarketplace::finalizeCall { jobId: job_word(job) }.abi_encode();
                    chain.transact("finalize", &wallet, chain.marketplace(), call.into(), U256::ZERO).await?;
                }
            }
            RefundState::Paid if refund.credit.0 > 0 => {
                let chain = self.chain().await?;
                let call = JobMarketplace::withdrawCreditCall { token: eth_address(token) }.abi_encode();
                chain.transact("withdrawCredit", &wallet, chain.marketplace(), call.into(), U256::ZERO).await?;
            }
            RefundState::Paid => {}
        }
        self.refund().await
    }

    /// Block of its creation, from which its logs begin; 0 where that is not known yet.
    pub fn created_block(&self) -> u64 {
        match self.record().funding {
            Funding::Funded { block, .. } => block,
            Funding::Signed { .. } => 0,
        }
    }
}
