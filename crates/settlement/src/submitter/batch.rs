//! Claims of several jobs in one transaction.
//!
//! # The protocol
//!
//! Every claim is looked at as if it went alone: its job is read, its own call is tried, and one that is not as expected or would be
//! refused is left out. The others are put into one call. What that call answers, within the very gas that it will be given, must be that
//! it accepts all of them; then it is signed once, stored with all of its claims, and sent. From there on it is a transaction like any
//! other. What is too much for one (bytes, gas, the key's means) is halved, the least urgent claims wait for the next round.
//!
//! # Guarantees
//!
//! No claim is signed here that would not be signed alone, save that its gas is held against what it adds rather than against a whole
//! transaction. Where claims cannot go together for whatever reason, they go alone.

use alloy::primitives::Bytes;
use milepost_ledger::{ClaimId, Purpose, TxId};

use super::{Expect, Signed, Submission, Submitter, with_margin};
use crate::Error;
use crate::chain::Head;

/// Most bytes of a call: pools refuse transactions of more than 128 KiB, and fees, address and signature take some hundred of them.
const MAX_DATA: usize = 128 * 1024 - 1024;
/// Most gas of a transaction: half of what EIP-7825 lets any have, and little enough for a block that others want to be in too.
const MAX_GAS: u64 = 1 << 23;

/// A claim that may be sent now.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) claim: ClaimId,
    /// The call that makes it alone.
    pub(crate) call: Bytes,
    pub(crate) expect: Expect,
}

/// What became of each claim.
type Answers = Vec<(ClaimId, Result<Submission, Error>)>;

/// What became of claims that were to go together.
enum Together {
    /// They do.
    Signed(TxId),
    /// Half of them might.
    TooMuch,
    /// These are to wait.
    Without(Vec<(ClaimId, Error)>),
    /// Not these: each for itself.
    Never,
}

impl Submitter {
    /// Sends claims, each of another job and the most urgent first: in one transaction as far as that can be. An error is one of the chain
    /// or of the ledger that says nothing of any single claim.
    pub(crate) async fn submit_claims(&mut self, offers: Vec<Offer>) -> Result<Answers, Error> {
        let mut answers = Answers::new();
        let mut good = if offers.len() > 1 { self.worthy(offers, &mut answers).await? } else { offers };
        while good.len() > 1 {
            match self.together(&good).await? {
                Together::Signed(id) => answers.extend(good.drain(..).map(|offer| (offer.claim, Ok(Submission::Signed(id))))),
                Together::TooMuch => {
                    let rest = good.split_off(good.len() / 2);
                    answers.extend(rest.into_iter().map(|offer| (offer.claim, Ok(Submission::Later))));
                }
                Together::Without(waiting) => {
                    good.retain(|offer| waiting.iter().all(|(claim, _)| *claim != offer.claim));
                    answers.extend(waiting.into_iter().map(|(claim, error)| (claim, Err(error))));
                }
                Together::Never => break,
            }
        }
        for Offer { claim, call, expect } in good {
            let answer = self.submit(Purpose::Claim(claim), call, expect).await;
            answers.push((claim, of_this_claim(answer)?));
        }
        Ok(answers)
    }

    /// Those that would be signed if each went alone.
    async fn worthy(&self, offers: Vec<Offer>, answers: &mut Answers) -> Result<Vec<Offer>, Error> {
        let head = self.chain.head().await?;
        let mut good = Vec::new();
        for offer in offers {
            match of_this_claim(self.stands(&offer, &head).await)? {
                Ok(None) => good.push(offer),
                Ok(Some(submission)) => answers.push((offer.claim, Ok(submission))),
                Err(error) => answers.push((offer.claim, Err(error))),
            }
        }
        Ok(good)
    }

    /// Why a claim is not to be sent now, if so: by its job, as it is read, and by a trial of its own call.
    async fn stands(&self, offer: &Offer, head: &Head) -> Result<Option<Submission>, Error> {
        if let Some(moved) = self.moved(offer.claim.job, offer.expect, head).await? {
            return Ok(Some(Submission::Moved(moved)));
        }
        Ok(self.chain.tried(self.key.address(), &offer.call).await?.map(Submission::Refused))
    }

    async fn together(&mut self, offers: &[Offer]) -> Result<Together, Error> {
        let adapter = self.chain.adapter().await?;
        let calls: Vec<_> = offers.iter().map(|offer| offer.call.clone()).collect();
        let Some(data) = adapter.claims(&calls)? else { return Ok(Together::Never) };
        if data.len() > MAX_DATA {
            return Ok(Together::TooMuch);
        }
        let (head, key) = (self.chain.head().await?, self.key.address());
        let gas = match self.chain.simulate(key, &data).await? {
            Ok(gas) => with_margin(gas),
            Err(revert) => {
                tracing::warn!(
                    event = "claims_not_together",
                    claims = offers.len(),
                    reason = revert.text,
                    "these claims cannot share a transaction: each goes alone"
                );
                return Ok(Together::Never);
            }
        };
        if gas > MAX_GAS {
            return Ok(Together::TooMuch);
        }
        // The estimate is the least gas with which the whole does not revert; a claim that is refused for want of gas does not make it
        // revert. So it is tried with what it will have.
        let accepted = self.chain.answer_within(key, &data, gas).await?.ok().and_then(|answer| adapter.accepted(&answer));
        if accepted != Some(offers.len()) {
            tracing::warn!(
                event = "claims_not_together",
                claims = offers.len(),
                accepted,
                "not all of these claims would be accepted in one transaction: each goes alone"
            );
            return Ok(Together::Never);
        }
        let Signed { id, attempt, likely } = match self.sign(&head, data, gas).await {
            // It may do for fewer.
            Err(Error::NoGas { .. }) => return Ok(Together::TooMuch),
            signed => signed?,
        };
        let claims: Vec<_> = offers.iter().map(|offer| offer.claim).collect();
        let waiting = self.not_worth(&claims, likely, gas).await?;
        if !waiting.is_empty() {
            return Ok(Together::Without(waiting));
        }
        self.store_and_send(id, Purpose::Claims(claims), attempt).await?;
        Ok(Together::Signed(id))
    }
}

/// An error that says nothing of this claim alone is the caller's.
fn of_this_claim<T>(answer: Result<T, Error>) -> Result<Result<T, Error>, Error> {
    match answer {
        Err(error) if error.is_fatal() || matches!(error, Error::Unreachable { .. }) => Err(error),
        answer => Ok(answer),
    }
}
