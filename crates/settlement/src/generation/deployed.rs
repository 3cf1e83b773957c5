//! A marketplace that others deployed: one adapter, put together from what its code answers.

use alloy::eips::BlockId;
use alloy::primitives::{B256, Bytes, U256, keccak256};
use alloy::rpc::types::Log;
use alloy::signers::SignerSync as _;
use alloy::sol_types::{SolCall as _, SolEvent as _};
use milepost_ledger::{Address, ChainStatus, Deployed, Digest, JobId, Payout, Terms, TokenAmount, TokenCount};
use milepost_prover::BoxFuture;

use super::forms::{
    BytesForm, CompletedBy, Completes, CompletesWithContent, DeltaForm, Form, Getters, HashForm, Session as Sessions, SignedDeltaForm,
    SignedForm, function,
};
use super::session::{Session, Status};
use super::{Adapter, ClaimLog, ClaimParts, Function, malformed, rate, session};
use crate::chain::{Chain, Constants, OnChain, latest};
use crate::convert::{address, b256, small};
use crate::{Error, SubmitterKey};

/// The chain id of development chains: there alone are mock proofs taken, which these contracts could not tell from others.
const DEV_CHAIN: u64 = 31_337;

/// How a getter is spelled: constants in capitals, variables not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Getter {
    Capital,
    Small,
}

/// A deployed marketplace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeployedMarket {
    pub(super) form: Form,
    /// `completeSessionJob` takes a content id of the conversation.
    pub(super) with_conversation: bool,
    pub(super) fee: Getter,
    pub(super) window: Getter,
    /// It divides prices by `PRICE_PRECISION`.
    pub(super) precision: bool,
    /// It names a registry.
    pub(super) registry: bool,
}

impl DeployedMarket {
    async fn read_constants(self, chain: &Chain) -> Result<Constants, Error> {
        let market = chain.marketplace();
        let fee = match self.fee {
            Getter::Capital => chain.call("FEE_BASIS_POINTS", market, Getters::FEE_BASIS_POINTSCall {}, latest()).await?,
            Getter::Small => chain.call("feeBasisPoints", market, Getters::feeBasisPointsCall {}, latest()).await?,
        };
        let fee_bps = u16::try_from(fee).ok().filter(|bps| *bps <= 10_000);
        let fee_bps = fee_bps.ok_or(Error::Answer { what: "the fee", answer: format!("{fee}, more than the whole") })?;
        let window = match self.window {
            Getter::Capital => chain.call("DISPUTE_WINDOW", market, Getters::DISPUTE_WINDOWCall {}, latest()).await?,
            Getter::Small => chain.call("disputeWindow", market, Getters::disputeWindowCall {}, latest()).await?,
        };
        let min_claim = chain.call("MIN_PROVEN_TOKENS", market, Getters::MIN_PROVEN_TOKENSCall {}, latest()).await?;
        let precision = if self.precision {
            small("PRICE_PRECISION", chain.call("PRICE_PRECISION", market, Getters::PRICE_PRECISIONCall {}, latest()).await?)?
        } else {
            1
        };
        if precision == 0 {
            return Err(Error::Answer { what: "PRICE_PRECISION", answer: "0".to_owned() });
        }
        let registry = if self.registry {
            address(chain.call("nodeRegistry", market, Getters::nodeRegistryCall {}, latest()).await?)
        } else {
            Address::ZERO
        };
        Ok(Constants {
            fee_bps,
            min_claim: TokenCount(small("MIN_PROVEN_TOKENS", min_claim)?),
            claim_window: 0,
            burst: TokenCount::ZERO,
            image_id: Digest::ZERO,
            test_deployment: chain.chain_id().0 == DEV_CHAIN,
            registry,
            earnings: address(chain.call("hostEarnings", market, Getters::hostEarningsCall {}, latest()).await?),
            price_precision: precision,
            dispute_window: small("the dispute window", window)?,
            max_batch: 1,
        })
    }

    async fn read_job(self, chain: &Chain, job: JobId, block: BlockId) -> Result<Option<OnChain>, Error> {
        let call = Bytes::from(Sessions::sessionJobsCall { jobId: U256::from(job.0) }.abi_encode());
        let answer = chain.ask_raw("a session", chain.marketplace(), call, block).await?;
        let Some(found) = session::read(job, &answer)? else { return Ok(None) };
        let constants = chain.constants().await?;
        let rate = match (chain.known_rate(), found.status) {
            (Some(rate), _) => rate,
            (None, Status::Active) => rate::of(chain, job, &found, block, |tokens| self.trial(job, tokens)).await?,
            // What it was is of no more use.
            (None, Status::Over) => 0,
        };
        let paid = (found.status == Status::Over).then(|| Payout {
            tokens: TokenCount(found.used),
            host: found.to_host,
            // Charged is what neither came back nor went to the host.
            treasury: TokenAmount(found.deposit.0.saturating_sub(found.to_host.0).saturating_sub(found.to_depositor.0)),
            refund: found.to_depositor,
        });
        Ok(Some(OnChain {
            status: if paid.is_some() { ChainStatus::Completed } else { ChainStatus::Active },
            verifier: Address::ZERO,
            used: TokenCount(found.used),
            head: None,
            closed_to_claims: false,
            last_proof: Some(found.last_proof),
            paid,
            terms: terms(chain, &found, &constants, rate),
        }))
    }

    /// A claim that is refused for nothing but its tokens, or for its proof after them.
    fn trial(self, job: JobId, tokens: u64) -> Bytes {
        let (hash, id) = (B256::repeat_byte(0x5a), "trial");
        self.call(job, TokenCount(tokens), hash, &[0x5a; 64], Bytes::from_static(&[0x5a; 65]), id, id)
    }

    #[allow(clippy::too_many_arguments)] // the fields of all forms
    fn call(self, job: JobId, tokens: TokenCount, hash: B256, bytes: &[u8], signature: Bytes, receipt: &str, delta: &str) -> Bytes {
        let (job, tokens) = (U256::from(job.0), U256::from(tokens.0));
        let (receipt, delta) = (receipt.to_owned(), delta.to_owned());
        let data = match self.form {
            Form::Bytes => {
                BytesForm::submitProofOfWorkCall { jobId: job, tokensClaimed: tokens, proof: bytes.to_vec().into() }.abi_encode()
            }
            Form::Hash => {
                HashForm::submitProofOfWorkCall { jobId: job, tokensClaimed: tokens, proofHash: hash, proofCID: receipt }.abi_encode()
            }
            Form::Signed => {
                SignedForm::submitProofOfWorkCall { jobId: job, tokensClaimed: tokens, proofHash: hash, signature, proofCID: receipt }
                    .abi_encode()
            }
            Form::SignedDelta => SignedDeltaForm::submitProofOfWorkCall {
                jobId: job,
                tokensClaimed: tokens,
                proofHash: hash,
                signature,
                proofCID: receipt,
                deltaCID: delta,
            }
            .abi_encode(),
            Form::Delta => {
                DeltaForm::submitProofOfWorkCall { jobId: job, tokensClaimed: tokens, proofHash: hash, proofCID: receipt, deltaCID: delta }
                    .abi_encode()
            }
        };
        data.into()
    }
}

/// The terms in the ledger's words. The contract knows no model: the one that the operator serves is agreed on.
fn terms(chain: &Chain, found: &Session, constants: &Constants, rate: u32) -> Terms {
    Terms {
        chain: chain.chain_id(),
        marketplace: chain.marketplace(),
        host: found.host,
        depositor: found.depositor,
        token: found.token,
        deposit: found.deposit,
        price: found.price,
        // Zero for who only looks; no session is opened without one.
        model: chain.deployed().model.unwrap_or_default(),
        rate,
        burst: TokenCount::ZERO,
        started: found.start,
        max_duration: found.max_duration,
        idle_timeout: found.idle,
        claim_window: 0,
        minimum_charge: TokenAmount(0),
        min_claim: constants.min_claim,
        fee_bps: constants.fee_bps,
        voucher: None,
        salt_commitment: Digest::ZERO,
        deployed: Some(Deployed { price_precision: constants.price_precision, dispute_window: constants.dispute_window }),
    }
}

/// The host's signature as the signed forms check it: hash, host and number of tokens, tightly packed, as `personal_sign` signs them.
fn signature(key: &SubmitterKey, host: Address, hash: B256, tokens: TokenCount) -> Result<Bytes, Error> {
    let tokens = U256::from(tokens.0).to_be_bytes::<32>();
    let said = keccak256([&hash.0[..], &host.0, &tokens].concat());
    let signature = key.0.sign_message_sync(said.as_slice()).map_err(|_| Error::BadKey)?;
    Ok(signature.as_bytes().to_vec().into())
}

impl Adapter for DeployedMarket {
    fn name(&self) -> &'static str {
        match (self.form, self.precision) {
            (Form::Bytes, _) => "deployed marketplace, bytes form (September 2025)",
            (Form::Hash, false) => "deployed marketplace, hash form (October 2025)",
            (Form::Hash, true) => "deployed marketplace, hash form with price precision (December 2025)",
            (Form::Signed, _) => "deployed marketplace, signed form (January 2026)",
            (Form::SignedDelta, _) => "deployed marketplace, signed form with two content ids (January 2026)",
            (Form::Delta, _) => "deployed marketplace, hash form with two content ids (February 2026)",
        }
    }

    fn is_ours(&self) -> bool {
        false
    }

    fn wants_content(&self) -> bool {
        self.form != Form::Bytes
    }

    fn functions(&self) -> Vec<Function> {
        let mut functions = vec![
            self.form.function(),
            function::<Sessions::sessionJobsCall>(),
            function::<Getters::MIN_PROVEN_TOKENSCall>(),
            function::<Getters::hostEarningsCall>(),
            if self.with_conversation {
                function::<CompletesWithContent::completeSessionJobCall>()
            } else {
                function::<Completes::completeSessionJobCall>()
            },
            match self.fee {
                Getter::Capital => function::<Getters::FEE_BASIS_POINTSCall>(),
                Getter::Small => function::<Getters::feeBasisPointsCall>(),
            },
            match self.window {
                Getter::Capital => function::<Getters::DISPUTE_WINDOWCall>(),
                Getter::Small => function::<Getters::disputeWindowCall>(),
            },
        ];
        functions.extend(self.precision.then(function::<Getters::PRICE_PRECISIONCall>));
        functions.extend(self.registry.then(function::<Getters::nodeRegistryCall>));
        functions
    }

    fn constants<'a>(&'a self, chain: &'a Chain) -> BoxFuture<'a, Result<Constants, Error>> {
        Box::pin(self.read_constants(chain))
    }

    fn job<'a>(&'a self, chain: &'a Chain, job: JobId, block: BlockId) -> BoxFuture<'a, Result<Option<OnChain>, Error>> {
        Box::pin(self.read_job(chain, job, block))
    }

    fn claim(&self, parts: &ClaimParts<'_>) -> Result<Bytes, Error> {
        let statement = &parts.claim.statement;
        // The digest that content ids of the receipt carry as well: whoever fetches the receipt can hold both against it.
        let hash = b256(parts.proof.receipt);
        let bytes = milepost_statement::encode_proof(parts.proof.kind, &statement.journal(), &[], &[]);
        let signature = match self.form {
            Form::Signed | Form::SignedDelta => signature(parts.key, statement.host, hash, statement.count)?,
            Form::Bytes | Form::Hash | Form::Delta => Bytes::new(),
        };
        let (receipt, delta) = match parts.published {
            Some((receipt, delta)) => (receipt.to_string(), delta.to_string()),
            None if self.wants_content() => return Err(Error::Publish("the claim's receipt was not published".to_owned())),
            None => (String::new(), String::new()),
        };
        Ok(self.call(parts.claim.id.job, statement.count, hash, &bytes, signature, &receipt, &delta))
    }

    fn request_close(&self, _: JobId) -> Option<Bytes> {
        None
    }

    /// Without a content id: conversations belong to the client, and are published by nobody here.
    fn complete(&self, job: JobId) -> Bytes {
        let job = U256::from(job.0);
        if self.with_conversation {
            CompletesWithContent::completeSessionJobCall { jobId: job, conversationCID: String::new() }.abi_encode().into()
        } else {
            Completes::completeSessionJobCall { jobId: job }.abi_encode().into()
        }
    }

    fn claim_topics(&self) -> Vec<B256> {
        vec![
            BytesForm::ProofSubmitted::SIGNATURE_HASH,
            HashForm::ProofSubmitted::SIGNATURE_HASH,
            SignedDeltaForm::ProofSubmitted::SIGNATURE_HASH,
        ]
    }

    /// The overload that names who completed comes second in the same transaction; either tells that the session is over, and the
    /// job itself tells the split.
    fn end_topics(&self) -> Vec<B256> {
        vec![
            Sessions::SessionCompleted::SIGNATURE_HASH,
            CompletedBy::SessionCompleted::SIGNATURE_HASH,
            Sessions::SessionTimedOut::SIGNATURE_HASH,
        ]
    }

    fn claim_of(&self, log: &Log) -> Result<ClaimLog, Error> {
        let topic = log.topic0().copied().unwrap_or_default();
        let tokens = if topic == BytesForm::ProofSubmitted::SIGNATURE_HASH {
            BytesForm::ProofSubmitted::decode_log(&log.inner).map(|event| event.tokensClaimed)
        } else if topic == HashForm::ProofSubmitted::SIGNATURE_HASH {
            HashForm::ProofSubmitted::decode_log(&log.inner).map(|event| event.tokensClaimed)
        } else {
            SignedDeltaForm::ProofSubmitted::decode_log(&log.inner).map(|event| event.tokensClaimed)
        };
        let tokens = tokens.map_err(|error| malformed(&error))?;
        Ok(ClaimLog { count: TokenCount(small("tokensClaimed", tokens)?), used: None, head: None, kind: 0 })
    }

    fn payout_of(&self, _: &Log) -> Result<Option<Payout>, Error> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_signature_is_the_one_that_the_signed_forms_recover() {
        let key = SubmitterKey::from_bytes(&[7; 32]).unwrap();
        let (hash, tokens) = (B256::repeat_byte(3), TokenCount(100));
        let signature = signature(&key, key.address(), hash, tokens).unwrap();
        assert_eq!(signature.len(), 65);
        assert!(matches!(signature[64], 27 | 28), "as ecrecover wants it");
        let parsed = alloy::primitives::Signature::from_raw(&signature).unwrap();
        let said = keccak256([&hash.0[..], &key.address().0, &U256::from(100).to_be_bytes::<32>()].concat());
        let prefixed = keccak256([&b"\x19Ethereum Signed Message:\n32"[..], said.as_slice()].concat());
        assert_eq!(address(parsed.recover_address_from_prehash(&prefixed).unwrap()), key.address());
    }
}
