//! Transactions that an operator sends with a key of this ledger, beside it: a withdrawal by the host's own key.
//!
//! The guard would take them for the work of another copy. So they are explained before they are sent, as everything that leaves the
//! process is: a command that is killed in between leaves a node that goes on signing.

use milepost_ledger::Address;
use milepost_ledger_db::LedgerDb;

use super::guard::{blob, explained};
use crate::chain::latest;
use crate::{Chain, Error};

/// Whether this ledger counts the transactions of a key: it signed with it, or was started with it.
pub async fn knows_key(db: &LedgerDb, key: Address) -> Result<bool, Error> {
    Ok(floor(db, key).await?.is_some() || explained(db, key)?.is_some())
}

/// Explains one further transaction of a key before it is sent. [`Error::KeyAhead`] if the chain knows of others that are not
/// explained: those an operator must look at first, and not with this.
///
/// Where the transaction is not sent after all, the guard would overlook one stranger's transaction; [`super::accept_nonces`]
/// afterwards makes the count exact again.
pub async fn expect_nonce(db: &LedgerDb, chain: &Chain, key: Address) -> Result<(), Error> {
    let count = chain.nonce(key, latest()).await?;
    let known = floor(db, key).await?.unwrap_or(0).max(explained(db, key)?.unwrap_or(0));
    if count > known {
        return Err(Error::KeyAhead { key, count, known });
    }
    db.apply_with(Vec::new(), vec![blob(key, count.saturating_add(1))]).await.map_err(crate::books::error)?;
    Ok(())
}

async fn floor(db: &LedgerDb, key: Address) -> Result<Option<u64>, Error> {
    db.query(move |ledger| ledger.next_nonce(key)).await.map_err(crate::books::error)
}
