//! What an operator asked for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use milepost_ledger::TxId;

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
