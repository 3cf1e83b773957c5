//! A failed write ends it: nobody is told that something is durable which may not be.

mod common;

use std::sync::Arc;

use common::{Model, OPTIONS, hold, life, runtime, until_queued};
use milepost_ledger_db::{Error, LedgerDb};
use milepost_store::{Fault, FaultPlan, Memory, Survival};

#[test]
fn a_failed_write_is_told_to_its_caller_and_stops_the_database_for_good() {
    let (life, runtime) = (life(), runtime());
    let models = Model::after_each(&life);
    for (fault, words) in [(Fault::SyncError, "EIO on sync"), (Fault::NoSpace, "no space left"), (Fault::ShortWrite, "short write")] {
        // Write 0 is the schema's; call n is write n + 1.
        for failing in [0, 1, 4, 12, life.len() - 1] {
            for survival in [Survival::Nothing, Survival::Everything] {
                let case = format!("{fault:?} at call {failing}, {survival:?} survived");
                runtime.block_on(async {
                    let plan = FaultPlan::none().at(failing as u64 + 1, fault).surviving(survival, 1);
                    let store = Memory::with_faults(LedgerDb::tables(), plan);
                    let db = LedgerDb::open(Arc::new(store.clone()), OPTIONS).unwrap();
                    for call in &life[..failing] {
                        call.apply(&db).await.unwrap();
                    }
                    let answer = life[failing].apply(&db).await;
                    assert!(answer.is_err(), "a call was acknowledged although its write failed: {case}");
                    let reason = db.stopped().await;
                    assert!(reason.contains(words), "{case}: {reason}");
                    assert_eq!(answer, Err(Error::Stopped { reason: reason.clone() }), "{case}");
                    // For good: neither the same call nor another, nor a look at what memory believes.
                    for call in [&life[failing], &life[0]] {
                        assert_eq!(call.apply(&db).await, Err(Error::Stopped { reason: reason.clone() }), "{case}");
                    }
                    assert_eq!(db.query(|ledger| ledger.accounts().count()).await, Err(Error::Stopped { reason }), "{case}");
                    drop(db);

                    let store = store.crash().reopen();
                    let db = LedgerDb::open(Arc::new(store), OPTIONS).unwrap();
                    let whole = models[failing + 1].is_held_by(&db).await.unwrap();
                    assert!(whole || models[failing].is_held_by(&db).await.unwrap(), "what was acknowledged is there: {case}");
                    assert!(!whole || fault == Fault::SyncError, "a write that never reached the log cannot be there: {case}");
                });
            }
        }
    }
}

#[test]
fn everybody_in_a_failed_round_is_told() {
    runtime().block_on(async {
        let store = Memory::with_faults(LedgerDb::tables(), FaultPlan::none().at(1, Fault::SyncError));
        let db = LedgerDb::open(Arc::new(store), OPTIONS).unwrap();
        let release = hold(&db).await;
        let apply = |n| {
            let db = db.clone();
            tokio::spawn(async move { db.apply(vec![common::open(common::job(n), None)]).await })
        };
        let callers: Vec<_> = (0..20).map(apply).collect();
        until_queued(&db, callers.len()).await;
        release.send(()).unwrap();
        for caller in callers {
            let answer = caller.await.unwrap();
            assert!(matches!(&answer, Err(Error::Stopped { reason }) if reason.contains("EIO on sync")), "{answer:?}");
        }
    });
}
