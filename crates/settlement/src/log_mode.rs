//! Settlement without a chain: what would be submitted is printed.

use milepost_ledger::Address;
use milepost_ledger_db::{Change, LedgerDb};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

/// Prints, for each sealed checkpoint, what would be submitted. Dropping it stops the task.
pub struct LogSettler {
    task: JoinHandle<()>,
}

impl LogSettler {
    /// Begins to follow the ledger. `contract` is what the operator configured, if anything: it is printed, never called.
    pub fn start(db: &LedgerDb, contract: Option<Address>) -> Self {
        let mut changes = db.subscribe();
        let contract = contract.map_or_else(|| "none (log mode)".to_owned(), |contract| contract.to_string());
        let task = tokio::spawn(async move {
            loop {
                match changes.recv().await {
                    Ok(change) => print(&change, &contract),
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!(
                            event = "log_mode_lagged",
                            missed,
                            "some checkpoints were sealed faster than they could be printed; they are all in the database"
                        );
                    }
                    Err(RecvError::Closed) => return,
                }
            }
        });
        Self { task }
    }
}

impl Drop for LogSettler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn print(change: &Change, contract: &str) {
    for checkpoint in &change.sealed {
        tracing::info!(
            event = "would_submit",
            job = %change.account.job().map_or_else(|| "none (unbilled)".to_owned(), |job| job.to_string()),
            tokens = %checkpoint.count,
            session = %change.account,
            contract,
            checkpoint = checkpoint.number,
            first_seq = %checkpoint.first,
            head = %checkpoint.head_after,
            "checkpoint triggered: in log mode, this is what would be submitted"
        );
    }
}
