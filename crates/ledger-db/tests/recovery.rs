//! Starting with ten thousand open jobs.

mod common;

use std::sync::Arc;
use std::time::Instant;

use common::{KEY, OPTIONS, job, metered, open, runtime, start};
use milepost_ledger::{Event, JobId, Purpose, SessionEnd, TokenSeq, TxId};
use milepost_ledger_db::LedgerDb;
use milepost_store::{Memory, Storage};

const JOBS: u64 = 10_000;
/// Goal for a start beyond loading the model, in milliseconds, on an idle machine.
const GOAL_MS: u128 = 1_000;

/// Each job with a turn, one sealed checkpoint and 50 open tokens; every tenth with a transaction under way.
async fn fill(store: Arc<dyn Storage>) {
    let db = LedgerDb::open(store, OPTIONS).unwrap();
    for chunk in (0..JOBS).collect::<Vec<_>>().chunks(100) {
        let events = chunk
            .iter()
            .flat_map(|n| [open(job(*n), Some(1_000)), start(job(*n), "request"), metered(job(*n), 0, 80), metered(job(*n), 80, 70)]);
        db.apply(events.collect()).await.unwrap();
        for n in chunk.iter().filter(|n| *n % 10 == 0) {
            let id = TxId { key: KEY, nonce: n / 10 };
            let end = Event::EndSession { account: job(*n), reason: SessionEnd::Idle, at: common::NOW };
            db.apply(vec![end, common::signed(id, Purpose::RequestClose(JobId(*n)))]).await.unwrap();
        }
    }
    db.close().await;
}

async fn recover(store: Arc<dyn Storage>, engine: &str, opened: Instant) {
    let db = LedgerDb::open(store, OPTIONS).unwrap();
    let millis = opened.elapsed().as_millis();
    let (jobs, txs, tokens) = db
        .query(|ledger| {
            let tokens: u64 = ledger.accounts().map(|account| account.record.positions.metered.0).sum();
            (ledger.accounts().count() as u64, ledger.txs().count() as u64, tokens)
        })
        .await
        .unwrap();
    assert_eq!((jobs, txs, tokens), (JOBS, JOBS / 10, JOBS * 150));
    let account = db.query(|ledger| ledger.job(JobId(4_321)).cloned()).await.unwrap().unwrap();
    assert_eq!((account.open.ids, account.pending.len(), account.requests.len()), (common::ids(100, 50), 1, 1));
    assert_eq!(db.tokens(job(JOBS - 1), TokenSeq(0)..TokenSeq(150)).unwrap(), common::ids(0, 150));
    println!("{engine}: {JOBS} open jobs recovered in {millis} ms (goal {GOAL_MS} ms)");
    db.close().await;
}

#[test]
fn ten_thousand_open_jobs_are_recovered_from_memory() {
    runtime().block_on(async {
        let store = Memory::new(LedgerDb::tables());
        fill(Arc::new(store.clone())).await;
        let store = store.crash().reopen();
        recover(Arc::new(store), "memory", Instant::now()).await;
    });
}

#[cfg(feature = "rocksdb")]
#[test]
fn ten_thousand_open_jobs_are_recovered_from_rocksdb() {
    use milepost_store::Rocks;
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        fill(Arc::new(Rocks::open(dir.path(), LedgerDb::tables()).unwrap())).await;
        let opened = Instant::now();
        recover(Arc::new(Rocks::open(dir.path(), LedgerDb::tables()).unwrap()), "rocksdb", opened).await;
    });
}
