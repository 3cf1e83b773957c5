//! What an operator asked for.
//!
//! A wish that is told to a running process lives as long as that. One that is recorded in the ledger's database, while no process
//! runs on it, is taken up by each start until the transaction is resolved.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use milepost_ledger::{Address, TxId};
use milepost_ledger_db::{Blob, LedgerDb};

use crate::Error;

/// Under this name the database keeps which nonces of a key are to be cancelled, with blanks between them.
fn name(key: Address) -> String {
    format!("settlement.cancel.{key}")
}

/// Records the wish that a transaction be cancelled. Wishes about transactions that are resolved are forgotten with it.
pub async fn record_cancel(db: &LedgerDb, id: TxId) -> Result<(), Error> {
    let mut nonces: BTreeSet<u64> = recorded_cancels(db, id.key)?.into_iter().map(|id| id.nonce).collect();
    nonces.insert(id.nonce);
    let text: Vec<_> = nonces.iter().map(u64::to_string).collect();
    let blob = Blob::Meta { name: name(id.key), bytes: text.join(" ").into_bytes() };
    db.apply_with(Vec::new(), vec![blob]).await.map_err(crate::books::error)?;
    Ok(())
}

/// The unresolved transactions of a key whose cancelling is recorded.
pub fn recorded_cancels(db: &LedgerDb, key: Address) -> Result<Vec<TxId>, Error> {
    let bytes = db.meta(&name(key)).map_err(crate::books::error)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let nonces = text.split_whitespace().map(str::parse).collect::<Result<BTreeSet<u64>, _>>();
    let nonces = nonces.map_err(|_| Error::LedgerStopped(format!("{} holds no numbers: {text:?}", name(key))))?;
    let mut open = Vec::new();
    for nonce in nonces {
        let id = TxId { key, nonce };
        let tx = db.tx(id).map_err(crate::books::error)?;
        open.extend(tx.filter(milepost_ledger::Tx::is_unresolved).map(|tx| tx.id));
    }
    Ok(open)
}

/// Transactions that an operator wants cancelled. Shared by the handle and the task that owns the key; a wish lasts until it is
/// done, or until the process ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes(Arc<Mutex<BTreeSet<TxId>>>);

impl Wishes {
    pub(crate) fn cancel(&self, id: TxId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    pub(super) fn has(&self, id: TxId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    pub(super) fn done(&self, id: TxId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Forgets wishes about transactions that are resolved.
    pub(super) fn keep(&self, open: impl Fn(TxId) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| open(*id));
    }
}
