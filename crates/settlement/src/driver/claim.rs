//! A claim's call data, in the language of the marketplace at hand.

use alloy::primitives::Bytes;
use milepost_ledger::{AccountRecord, Claim, ProofMeta};
use milepost_ledger_db::ContentPart;

use super::Driver;
use crate::Error;
use crate::generation::{ClaimParts, Content, ContentId};

impl Driver {
    /// Publishes what the claim names, where the marketplace wants that; what is sent is durable before.
    pub(super) async fn claim_call(&self, claim: &Claim, proof: &ProofMeta, record: &AccountRecord) -> Result<Bytes, Error> {
        let adapter = self.chain.adapter().await?;
        let published = if adapter.wants_content() { Some(self.publish(claim, proof).await?) } else { None };
        let with_voucher = record.terms.as_ref().is_some_and(|terms| terms.voucher.is_some()) && !record.voucher_signature.is_empty();
        let voucher = with_voucher.then_some((record.voucher, record.voucher_signature.as_slice()));
        adapter.claim(&ClaimParts { claim, proof, voucher, key: &self.signer, published })
    }

    async fn publish(&self, claim: &Claim, proof: &ProofMeta) -> Result<(ContentId, ContentId), Error> {
        let receipt = self.books.db.receipt(claim.id).map_err(crate::books::error)?;
        let receipt = receipt.ok_or_else(|| Error::Publish(format!("the receipt of claim {} is not in the database", claim.id)))?;
        let content = |part, bytes| Content { claim: claim.id, part, bytes };
        let receipt = self.publisher.publish(content(ContentPart::Receipt, receipt)).await?;
        // The claim names the receipt by the same digest as its hash: a store that answers another id has stored something else.
        if receipt != ContentId::from(proof.receipt) {
            return Err(Error::Publish(format!(
                "claim {} has a receipt of id {}, published was {receipt}",
                claim.id,
                ContentId::from(proof.receipt)
            )));
        }
        let statement = self.publisher.publish(content(ContentPart::Statement, claim.statement.journal().to_vec())).await?;
        self.books.pass("published")?;
        Ok((receipt, statement))
    }
}
