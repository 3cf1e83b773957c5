//! A block with its receipts, for those who show others what landed in it.

use alloy::providers::Provider;
use milepost_ledger::Digest;
use serde_json::Value;

use super::Chain;
use crate::Error;
use crate::convert::b256;

impl Chain {
    /// The block of this hash without its transactions, and all its receipts, as the endpoint has them: nothing of it is checked
    /// here. `None` where the endpoint does not have the block.
    pub async fn block_with_receipts(&self, block: Digest) -> Result<Option<(Value, Value)>, Error> {
        let provider = self.provider();
        let hash = b256(block);
        let header: Value = self.ask("a block", provider.raw_request("eth_getBlockByHash".into(), (hash, false))).await?;
        if header.is_null() {
            return Ok(None);
        }
        let receipts: Value = self.ask("a block's receipts", provider.raw_request("eth_getBlockReceipts".into(), (hash,))).await?;
        Ok((!receipts.is_null()).then_some((header, receipts)))
    }
}
