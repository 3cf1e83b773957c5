//! One sync for many callers.

mod common;

use common::{OPTIONS, hold, job, metered, open, runtime, start, until_queued};
use milepost_ledger::TokenSeq;
use milepost_ledger_db::LedgerDb;

#[test]
fn callers_that_wait_together_share_one_sync() {
    const CALLERS: u64 = 64;
    runtime().block_on(async {
        let db = LedgerDb::open_memory(OPTIONS).unwrap();
        for n in 0..CALLERS {
            db.apply(vec![open(job(n), None), start(job(n), "r")]).await.unwrap();
        }
        let before = db.stats().unwrap().synced_writes;
        // The thread is held until all of them wait.
        let release = hold(&db).await;
        let apply = |n| {
            let db = db.clone();
            tokio::spawn(async move { db.apply(vec![metered(job(n), 0, 1)]).await })
        };
        let callers: Vec<_> = (0..CALLERS).map(apply).collect();
        until_queued(&db, callers.len()).await;
        release.send(()).unwrap();
        for caller in callers {
            assert_eq!(caller.await.unwrap().unwrap().account().unwrap().positions.metered, TokenSeq(1));
        }
        let syncs = db.stats().unwrap().synced_writes - before;
        println!("{CALLERS} callers, {syncs} syncs");
        assert_eq!(syncs, 1, "callers of one round share one sync");
    });
}
