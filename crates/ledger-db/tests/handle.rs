//! What the handle promises when nothing fails.

mod common;

use std::sync::Arc;

use common::{FREE, KEY, MODEL, Model, OPTIONS, OTHER_KEY, end_turn, ids, job, life, metered, open, runtime, signed, start, tx};
use milepost_ledger::{
    self as ledger, ClaimId, EndReason, Event, JobId, Outcome, Phase, Purpose, Refused, RevertClass, SessionEnd, TokenCount, TokenSeq,
    TurnState, TxId,
};
use milepost_ledger_db::{Append, Blob, Error, Forget, LedgerDb, LedgerStore, MAX_TOKENS_READ, Problem};
use milepost_store::{Batch, Corruption, Durability, Error as StoreError, Memory, Order, Range, Storage, Table, entries};

async fn played(store: &Memory) -> LedgerDb {
    let db = LedgerDb::open(Arc::new(store.clone()), OPTIONS).unwrap();
    for call in life() {
        call.apply(&db).await.unwrap();
    }
    db
}

fn memory() -> Memory {
    Memory::new(LedgerDb::tables())
}

#[test]
fn a_refused_list_changes_nothing_and_harms_nobody_else() {
    runtime().block_on(async {
        let store = memory();
        let db = LedgerDb::open(Arc::new(store.clone()), OPTIONS).unwrap();
        db.apply(vec![open(job(1), None), start(job(1), "r")]).await.unwrap();
        let before = db.query(ledger::Ledger::clone).await.unwrap();
        let writes = store.operations();
        // Three good events, then one that skips a token.
        let list = vec![open(job(2), None), start(job(2), "r"), metered(job(1), 0, 150), metered(job(1), 151, 1)];
        let refused = db.apply(list).await.unwrap_err();
        let (expected, found) = (TokenSeq(150), TokenSeq(151));
        assert_eq!(refused, Error::Refused(ledger::Error::OutOfOrder { account: job(1), expected, found }));
        assert!(db.query(ledger::Ledger::clone).await.unwrap() == before, "a refused list left a trace in memory");
        assert_eq!(store.operations(), writes, "a refused list was written");
        assert_eq!(db.account(job(2)).unwrap(), None);
        let committed = db.apply(vec![metered(job(1), 0, 150)]).await.unwrap();
        assert_eq!(committed.account().unwrap().positions.metered, TokenSeq(150));
        assert_eq!(committed.sealed().map(|checkpoint| checkpoint.count).collect::<Vec<_>>(), [TokenCount(100)]);
    });
}

#[test]
fn records_can_be_read_back_as_they_were_told() {
    runtime().block_on(async {
        let db = played(&memory()).await;
        let account = db.account(job(7)).unwrap().unwrap();
        assert!(matches!(account.phase, Phase::Paid(payout) if payout.tokens == TokenCount(250)));
        for range in [0..250, 0..1, 99..103, 100..100, 249..300, 250..300, 1_000..1_001] {
            let expected: Vec<u32> = ids(range.start, range.end - range.start).into_iter().filter(|id| *id < 250).collect();
            assert_eq!(db.tokens(job(7), TokenSeq(range.start)..TokenSeq(range.end)).unwrap(), expected, "{range:?}");
        }
        let too_long = db.tokens(job(7), TokenSeq(0)..TokenSeq(MAX_TOKENS_READ as u64 + 1));
        assert!(matches!(too_long, Err(Error::TooMuch { limit: MAX_TOKENS_READ, .. })));

        let turns = db.turns(job(7)).unwrap();
        assert_eq!(turns.iter().map(|turn| turn.request.as_str()).collect::<Vec<_>>(), ["first", "second"]);
        assert_eq!((turns[0].start, turns[0].end, turns[0].state), (TokenSeq(0), TokenSeq(201), TurnState::Ended(EndReason::Stop)));
        assert_eq!(
            (turns[1].start, turns[1].end, turns[1].state),
            (TokenSeq(201), TokenSeq(250), TurnState::Ended(EndReason::SessionEnded))
        );
        assert_eq!(db.turn_by_request(job(7), "second").unwrap().as_ref(), Some(&turns[1]));
        assert_eq!(db.turn_by_request(job(7), "third").unwrap(), None);
        assert_eq!(db.turn(job(7), 0).unwrap().as_ref(), Some(&turns[0]));

        let firsts = |from, limit| -> Vec<u64> { db.checkpoints(job(7), from, limit).unwrap().iter().map(|row| row.first.0).collect() };
        assert_eq!((firsts(0, 10), firsts(1, 1), firsts(3, 1)), (vec![0, 100, 200], vec![100], vec![]));
        let claims = db.claims(JobId(7)).unwrap();
        assert_eq!(claims.iter().map(|claim| claim.id.first.0).collect::<Vec<_>>(), [0, 200]);
        assert_eq!(db.claim(claims[1].id).unwrap().as_ref(), Some(&claims[1]));
        assert_eq!(db.receipt(claims[0].id).unwrap().unwrap().len(), 5_000);
        assert_eq!(db.receipt(ClaimId { plan: 9, ..claims[0].id }).unwrap(), None);
        assert_eq!(db.txs().unwrap().iter().map(|tx| tx.id).collect::<Vec<_>>(), [tx(3), tx(4), TxId { key: OTHER_KEY, nonce: 0 }]);
        assert_eq!(db.accounts().unwrap().len(), 3);
    });
}

#[test]
fn a_restart_knows_what_it_must_and_loads_nothing_that_is_finished() {
    runtime().block_on(async {
        let (store, models) = (memory(), Model::after_each(&life()));
        played(&store).await.close().await;
        let db = LedgerDb::open(Arc::new(store.crash().reopen()), OPTIONS).unwrap();
        assert!(models[models.len() - 1].is_held_by(&db).await.unwrap());
        let loaded = db.query(|ledger| ledger.accounts().map(|account| account.record.id).collect::<Vec<_>>()).await.unwrap();
        assert_eq!(loaded, [job(8), FREE], "the paid job stays on the disk");
        assert_eq!(db.query(|ledger| ledger.txs().count()).await.unwrap(), 0);
        // Resolved transactions are not loaded, but no nonce is used twice.
        assert_eq!(db.query(|ledger| (ledger.next_nonce(KEY), ledger.next_nonce(OTHER_KEY))).await.unwrap(), (Some(5), Some(1)));
        // A finished job is not begun again over its own records.
        let again = db.apply(vec![open(job(7), Some(1_000))]).await;
        assert_eq!(again.unwrap_err(), Error::Refused(ledger::Error::NotOpen(job(7))));
        // The turn that was active is still there to be ended, as the caller sees fit.
        let active = db.query(|ledger| ledger.account(job(8)).unwrap().record.active.clone()).await.unwrap().unwrap();
        assert_eq!(active.request, "second");
        db.apply(vec![Event::EndTurn { account: job(8), reason: EndReason::Interrupted, at: common::NOW }]).await.unwrap();
        let turn = db.turn_by_request(job(8), "second").unwrap().unwrap();
        assert_eq!((turn.state, turn.end, turn.prompt), (TurnState::Ended(EndReason::Interrupted), TokenSeq(141), ledger::Digest([2; 32])));
    });
}

#[test]
fn a_retired_account_is_not_loaded_again() {
    runtime().block_on(async {
        let store = memory();
        let db = LedgerDb::open(Arc::new(store.clone()), OPTIONS).unwrap();
        db.apply(vec![open(FREE, None), start(FREE, "r"), metered(FREE, 0, 5), end_turn(FREE)]).await.unwrap();
        db.apply(vec![Event::Retire { account: FREE }]).await.unwrap();
        db.close().await;
        let db = LedgerDb::open(Arc::new(store.crash().reopen()), OPTIONS).unwrap();
        assert_eq!(db.query(|ledger| ledger.accounts().count()).await.unwrap(), 0);
        assert_eq!(db.account(FREE).unwrap().unwrap().positions.metered, TokenSeq(5));
        assert_eq!(db.apply(vec![open(FREE, None)]).await.unwrap_err(), Error::Refused(ledger::Error::NotOpen(FREE)));
    });
}

#[test]
fn a_forgotten_account_leaves_no_row_and_its_name_may_be_used_again() {
    runtime().block_on(async {
        let store = memory();
        let db = LedgerDb::open(Arc::new(store.clone()), OPTIONS).unwrap();
        let rows = |store: &Memory| {
            let count = |table: &Table| entries(store, *table, Range::all(), Order::Ascending).count();
            LedgerDb::tables().iter().map(count).collect::<Vec<_>>()
        };
        db.apply(vec![open(job(1), None), start(job(1), "r"), metered(job(1), 0, 5)]).await.unwrap();
        let before = rows(&store);
        let receipt = Blob::Meta { name: "receipts/free/0".to_owned(), bytes: vec![1] };
        let life = vec![open(FREE, None), start(FREE, "r"), metered(FREE, 0, 250), end_turn(FREE)];
        db.apply_with(life.clone(), vec![receipt]).await.unwrap();
        let forget = |account| vec![Forget { account, names: Some("receipts/free/".to_owned()) }];
        let full = rows(&store);
        for (events, id) in [(vec![], FREE), (vec![], job(1)), (vec![end_turn(job(1))], job(1))] {
            let refused = db.apply_and_forget(events, forget(id)).await;
            assert!(matches!(refused, Err(Error::Refused(ledger::Error::WrongState { .. }))), "{refused:?}");
        }
        assert_eq!(rows(&store), full, "refused, and nothing was touched");
        assert_eq!(db.free_accounts().unwrap().len(), 1);
        db.apply_and_forget(vec![Event::Retire { account: FREE }], forget(FREE)).await.unwrap();
        assert_eq!((rows(&store), db.free_accounts().unwrap()), (before, vec![]));
        assert_eq!(db.account(job(1)).unwrap().unwrap().positions.metered, TokenSeq(5));
        db.apply(life).await.unwrap();
        assert_eq!(db.tokens(FREE, TokenSeq(0)..TokenSeq(250)).unwrap().len(), 250);
        assert!(db.check().unwrap().is_clean());
        drop(db);
        let db = LedgerDb::open(Arc::new(store.crash().reopen()), OPTIONS).unwrap();
        assert_eq!(db.account(FREE).unwrap().unwrap().positions.metered, TokenSeq(250));
    });
}

#[test]
fn an_append_by_another_owner_or_at_another_place_is_fenced() {
    runtime().block_on(async {
        let db = LedgerDb::open_memory(OPTIONS).unwrap();
        db.apply(vec![open(job(1), None), start(job(1), "r"), metered(job(1), 0, 3)]).await.unwrap();
        let append = |epoch, at| db.append(job(1), epoch, TokenSeq(at), vec![metered(job(1), at, 2)]);
        let fenced = |append: Result<Append, Error>| match append.unwrap() {
            Append::Fenced { epoch, metered } => (epoch, metered),
            Append::Committed(committed) => panic!("{committed:?}"),
        };
        assert_eq!(fenced(append(1, 3).await), (0, TokenSeq(3)), "another owner");
        assert_eq!(fenced(append(0, 2).await), (0, TokenSeq(3)), "another place");
        assert!(matches!(append(0, 3).await, Ok(Append::Committed(_))));
        assert_eq!(fenced(append(0, 3).await), (0, TokenSeq(5)), "the same append again");
        let unknown = db.append(job(2), 0, TokenSeq(0), vec![metered(job(2), 0, 1)]).await;
        assert_eq!(unknown.unwrap_err(), Error::Refused(ledger::Error::UnknownAccount(job(2))));
    });
}

#[test]
fn changes_are_announced_when_they_are_durable() {
    runtime().block_on(async {
        let store = memory();
        let db = LedgerDb::open(Arc::new(store.clone()), OPTIONS).unwrap();
        let mut changes = db.subscribe();
        db.apply(vec![open(job(1), Some(1_000)), start(job(1), "r"), metered(job(1), 0, 250)]).await.unwrap();
        let change = changes.recv().await.unwrap();
        assert_eq!((change.account, change.positions.metered, change.positions.sealed), (job(1), TokenSeq(250), TokenSeq(200)));
        assert_eq!(change.sealed.iter().map(|checkpoint| checkpoint.number).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(store.crash().reopen().stats().unwrap().tables[0].records, 1, "announced, hence durable");
    });
}

#[test]
fn a_transaction_alone_announces_its_job() {
    runtime().block_on(async {
        let db = LedgerDb::open_memory(OPTIONS).unwrap();
        db.apply(vec![open(job(1), Some(1_000)), Event::EndSession { account: job(1), reason: SessionEnd::Idle, at: common::NOW }])
            .await
            .unwrap();
        db.apply(vec![signed(tx(0), Purpose::RequestClose(JobId(1)))]).await.unwrap();
        let mut changes = db.subscribe();
        db.apply(vec![Event::TxSent { id: tx(0) }]).await.unwrap();
        assert_eq!(changes.recv().await.unwrap().account, job(1));
    });
}

#[test]
fn a_transaction_with_claims_of_several_jobs_survives_power_loss_and_is_announced_to_each() {
    runtime().block_on(async {
        let store = memory();
        let db = LedgerDb::open(Arc::new(store.clone()), OPTIONS).unwrap();
        let claims = [1, 2, 3].map(|n| ClaimId { job: JobId(n), first: TokenSeq(0), plan: 0 });
        for claim in claims {
            let account = job(claim.job.0);
            db.apply(vec![open(account, Some(1_000)), start(account, "r"), metered(account, 0, 150)]).await.unwrap();
            let receipt = b"receipt".to_vec();
            let plan = Event::PlanClaim { job: claim.job, until: TokenSeq(100), at: common::NOW };
            let proved = Event::Proved { claim, proof: common::proof(&receipt) };
            db.apply_with(vec![plan, proved], vec![Blob::Receipt { claim, bytes: receipt }]).await.unwrap();
        }
        db.apply(vec![signed(tx(0), Purpose::Claims(claims.to_vec()))]).await.unwrap();
        let mut changes = db.subscribe();
        db.apply(vec![Event::TxSent { id: tx(0) }]).await.unwrap();
        for claim in claims {
            assert_eq!(changes.recv().await.unwrap().account, job(claim.job.0));
        }
        let refused = Refused { claim: claims[1], reason: "WrongStatus".to_owned(), class: RevertClass::Replan };
        let Event::TxIncluded { id, hash, block, .. } = common::included(tx(0)) else { unreachable!("an inclusion") };
        let outcome = Outcome::Partly { refused: vec![refused], gas: 90_000 };
        db.apply(vec![Event::TxIncluded { id, hash, block, outcome: outcome.clone() }]).await.unwrap();

        let db = LedgerDb::open(Arc::new(store.crash().reopen()), OPTIONS).unwrap();
        assert_eq!(db.tx(tx(0)).unwrap().and_then(|tx| tx.outcome().cloned()), Some(outcome));
        db.apply(vec![Event::TxFinal { id: tx(0) }]).await.unwrap();
        let finals = claims.map(|claim| db.account(job(claim.job.0)).unwrap().unwrap().positions.finalized.0);
        assert_eq!(finals, [100, 0, 100]);
        let report = db.check().unwrap();
        assert!(report.is_clean(), "{:?}", report.problems);
    });
}

#[test]
fn meta_is_durable_with_its_events_and_lists_too_large_are_refused() {
    runtime().block_on(async {
        let store = memory();
        let db = LedgerDb::open(Arc::new(store.clone()), OPTIONS).unwrap();
        let cursor = |bytes: &[u8]| vec![Blob::Meta { name: "cursor".into(), bytes: bytes.to_vec() }];
        db.apply_with(vec![open(job(1), None)], cursor(b"block 7")).await.unwrap();
        db.apply_with(vec![open(job(1), None)], cursor(b"block 8")).await.unwrap_err();
        let large = Blob::Receipt {
            claim: ClaimId { job: JobId(1), first: TokenSeq(0), plan: 0 },
            bytes: vec![0; milepost_store::MAX_VALUE_BYTES],
        };
        assert!(matches!(db.apply_with(vec![], vec![large]).await, Err(Error::TooMuch { .. })));
        assert!(matches!(
            db.apply_with(vec![], vec![Blob::Meta { name: "n".repeat(2_000), bytes: vec![] }]).await,
            Err(Error::TooMuch { .. })
        ));
        assert!(matches!(db.apply(vec![open(job(2), None); 2_000]).await, Err(Error::TooMuch { .. })));
        assert!(matches!(db.apply(vec![metered(job(1), 0, 2_000_000)]).await, Err(Error::TooMuch { .. })));
        db.close().await;
        let db = LedgerDb::open(Arc::new(store.crash().reopen()), OPTIONS).unwrap();
        assert_eq!(db.meta("cursor").unwrap().unwrap(), b"block 7", "the refused list's blob was not written");
        assert_eq!(db.meta("other").unwrap(), None);
    });
}

#[test]
fn a_query_that_panics_harms_its_caller_alone() {
    runtime().block_on(async {
        let db = LedgerDb::open_memory(OPTIONS).unwrap();
        assert_eq!(db.query(|_| -> u32 { panic!("on purpose") }).await, Err(Error::QueryPanicked));
        db.apply(vec![open(job(1), None)]).await.unwrap();
        assert_eq!(db.query(|ledger| ledger.accounts().count()).await, Ok(1));
    });
}

#[test]
fn a_blocking_caller_needs_no_runtime() {
    let db = LedgerDb::open_memory(OPTIONS).unwrap();
    let committed = db.apply_blocking(vec![open(job(1), None)]).unwrap();
    assert_eq!(committed.account().unwrap().model, MODEL);
    assert!(matches!(db.apply_blocking(vec![open(job(1), None)]), Err(Error::Refused(_))));
}

#[test]
fn the_last_handle_waits_until_the_store_is_let_go() {
    for _ in 0..200 {
        let store: Arc<dyn Storage> = Arc::new(memory());
        let watched = Arc::downgrade(&store);
        let db = LedgerDb::open(store, OPTIONS).unwrap();
        let other = db.clone();
        db.apply_blocking(vec![open(job(1), None)]).unwrap();
        drop(db);
        assert!(watched.upgrade().is_some(), "one handle is left");
        drop(other);
        assert!(watched.upgrade().is_none(), "the commit thread still holds the store");
    }
}

#[test]
fn a_query_may_hold_the_last_handle() {
    runtime().block_on(async {
        let db = LedgerDb::open_memory(OPTIONS).unwrap();
        let (held, (go, gate), (tell, told)) = (db.clone(), std::sync::mpsc::channel(), std::sync::mpsc::channel());
        let query = db.query(move |_| {
            gate.recv().unwrap();
            drop(held);
            tell.send(()).unwrap();
        });
        tokio::select! {
            biased;
            _ = query => panic!("answered before it may go on"),
            () = std::future::ready(()) => {} // asked; nobody waits for the answer
        }
        drop(db);
        go.send(()).unwrap();
        told.recv().expect("the commit thread does not wait for itself");
    });
}

#[test]
fn whoever_waits_is_served_before_a_close() {
    runtime().block_on(async {
        let db = LedgerDb::open_memory(OPTIONS).unwrap();
        let other = db.clone();
        db.close().await;
        assert_eq!(other.stopped().await, "it was closed");
        assert_eq!(other.apply(vec![open(job(1), None)]).await.unwrap_err(), Error::Stopped { reason: "it was closed".into() });
        assert_eq!(other.account(job(1)), Ok(None), "reads go on");
    });
}

#[test]
fn a_backup_opens_with_everything_in_it() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let (db, models) = (played(&memory()).await, Model::after_each(&life()));
        db.backup(&dir.path().join("copy")).unwrap();
        db.apply(vec![open(job(99), None)]).await.unwrap();
        let copy = Memory::open_backup(LedgerDb::tables(), &dir.path().join("copy")).unwrap();
        let copy = LedgerDb::open(Arc::new(copy), OPTIONS).unwrap();
        assert!(models[models.len() - 1].is_held_by(&copy).await.unwrap());
        assert!(copy.check().unwrap().is_clean());
    });
}

#[test]
fn every_damaged_record_is_named_by_the_check_and_none_is_loaded() {
    runtime().block_on(async {
        let store = memory();
        let report = played(&store).await.check().unwrap();
        assert_eq!((report.accounts, report.tokens, report.is_clean()), (3, 250 + 141 + 1, true));
        let mut damaged = 0;
        for table in LedgerDb::tables() {
            for (key, value) in milepost_store::entries(&store, *table, milepost_store::Range::all(), milepost_store::Order::Ascending).map(Result::unwrap) {
                let mut bad = value.clone();
                let middle = bad.len() / 2;
                bad[middle] ^= 1;
                let mut batch = Batch::new();
                batch.put(*table, key.clone(), bad);
                store.write(batch, Durability::Synced).unwrap();
                let names_it = |error: &Error| matches!(error, Error::Store(StoreError::Corrupt { table: t, key: k, reason: Corruption::Checksum { .. } }) if t == table && *k == key);
                match LedgerDb::open(Arc::new(store.clone()), OPTIONS) {
                    // What is read at the start stops it, by name; what is not is found by the check.
                    Err(error) => assert!(names_it(&error), "{error}"),
                    Ok(db) => {
                        let report = db.check().unwrap();
                        assert!(report.problems.iter().any(|problem| matches!(problem, Problem::Record(error) if names_it(error))), "{table}: {:?}", report.problems);
                        db.close().await;
                    }
                }
                let mut batch = Batch::new();
                batch.put(*table, key, value);
                store.write(batch, Durability::Synced).unwrap();
                damaged += 1;
            }
        }
        assert_eq!(damaged, report.records);
        assert!(LedgerDb::open(Arc::new(store), OPTIONS).unwrap().check().unwrap().is_clean());
    });
}

#[test]
fn every_missing_row_is_noticed() {
    runtime().block_on(async {
        let (store, mut seen) = (memory(), 0);
        played(&store).await.close().await;
        db_with_a_pending_transaction(&store).await;
        // Receipts and meta are the callers' own: nothing in the ledger says that they must be there.
        for table in LedgerDb::tables().iter().filter(|table| !["receipt", "meta"].contains(&table.name())) {
            for (key, value) in
                milepost_store::entries(&store, *table, milepost_store::Range::all(), milepost_store::Order::Ascending).map(Result::unwrap)
            {
                let mut batch = Batch::new();
                batch.delete(*table, key.clone());
                store.write(batch, Durability::Synced).unwrap();
                // That a free label is not loaded any more is how a retired one looks.
                let retired = table.name() == "live" && key[0] == 2;
                if let Ok(db) = LedgerDb::open(Arc::new(store.clone()), OPTIONS) {
                    assert!(retired || !db.check().unwrap().is_clean(), "{table}: a row is missing and nothing was noticed");
                    db.close().await;
                }
                seen += 1;
                let mut batch = Batch::new();
                batch.put(*table, key, value);
                store.write(batch, Durability::Synced).unwrap();
            }
        }
        assert!(seen > 30, "{seen} rows were taken away");
    });
}

/// A job whose close is signed and not resolved.
async fn db_with_a_pending_transaction(store: &Memory) {
    let db = LedgerDb::open(Arc::new(store.clone()), OPTIONS).unwrap();
    db.apply(vec![open(job(20), Some(1_000)), Event::EndSession { account: job(20), reason: SessionEnd::Idle, at: common::NOW }])
        .await
        .unwrap();
    db.apply(vec![signed(tx(9), Purpose::RequestClose(JobId(20)))]).await.unwrap();
    db.close().await;
}
