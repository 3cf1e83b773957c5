//! Locks that a panic elsewhere cannot take away.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock. Every critical section here only moves values in or out of a collection, so that what a panicking holder left
/// behind is whole; and the node must not die of a poisoned lock, as its predecessor did.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
