//! The power fails at every write of a scripted life, in every way.

mod common;

use std::sync::Arc;

use common::{Model, OPTIONS, life, runtime};
use milepost_ledger_db::{Error, LedgerDb};
use milepost_store::{Fault, FaultPlan, Memory, Moment, Survival};

/// Opens and plays a life from call `from` on; answers how many calls were acknowledged in all, and what went wrong, if
/// anything did.
async fn play(store: &Memory, life: &[common::Call], from: usize) -> (usize, Option<Error>) {
    let db = match LedgerDb::open(Arc::new(store.clone()), OPTIONS) {
        Ok(db) => db,
        Err(error) => return (from, Some(error)),
    };
    for (number, call) in life.iter().enumerate().skip(from) {
        if let Err(error) = call.apply(&db).await {
            return (number, Some(error));
        }
    }
    db.close().await;
    (life.len(), None)
}

/// Which prefix of the life a database holds: the one acknowledged, or one call more, which was under way.
async fn position(store: &Memory, models: &[Model], acknowledged: usize, case: &str) -> usize {
    let db = LedgerDb::open(Arc::new(store.clone()), OPTIONS).unwrap_or_else(|error| panic!("{case}: {error}"));
    let report = db.check().unwrap();
    assert!(report.is_clean(), "{case}: {:?}", report.problems);
    let mut held = None;
    for number in (acknowledged..models.len().min(acknowledged + 2)).rev() {
        if models[number].is_held_by(&db).await.unwrap() {
            held = Some(number);
        }
    }
    db.close().await;
    assert!(held.is_some(), "an acknowledged call was lost, or one was half there: {case}, {acknowledged} acknowledged");
    held.unwrap_or_default()
}

#[test]
fn whatever_was_acknowledged_survives_a_power_loss_at_every_write() {
    let (life, runtime) = (life(), runtime());
    let models = Model::after_each(&life);
    let (mut losses, mut kept_unacknowledged, mut lost_unacknowledged) = (0, 0, 0);
    for at in 0..=life.len() as u64 + 1 {
        for moment in [Moment::Before, Moment::During, Moment::After] {
            for survival in [Survival::Nothing, Survival::Everything] {
                let case = format!("power lost at write {at}, {moment:?}, {survival:?} survived");
                runtime.block_on(async {
                    let plan = FaultPlan::none().at(at, Fault::PowerLoss(moment)).surviving(survival, at);
                    let store = Memory::with_faults(LedgerDb::tables(), plan);
                    let (acknowledged, error) = play(&store, &life, 0).await;
                    losses += u32::from(error.is_some());
                    // A second loss some writes later, in the middle of going on.
                    let again = FaultPlan::none().at(at % 7, Fault::PowerLoss(moment)).surviving(survival, at + 1);
                    let store = store.crash().reopen();
                    let number = position(&store, &models, acknowledged, &case).await;
                    if error.is_some() {
                        *if number > acknowledged { &mut kept_unacknowledged } else { &mut lost_unacknowledged } += 1;
                    }
                    let store = store.crash().reopen_with(again);
                    let (acknowledged, _) = play(&store, &life, number).await;
                    let store = store.crash().reopen();
                    let number = position(&store, &models, acknowledged, &case).await;
                    // Going on where it stands leads to the same end as if the power had never failed: nothing twice.
                    assert_eq!(play(&store, &life, number).await, (life.len(), None), "{case}");
                    assert_eq!(position(&store.crash().reopen(), &models, life.len(), &case).await, life.len());
                });
            }
        }
    }
    println!(
        "{losses} power losses over {} writes: {kept_unacknowledged} unacknowledged calls were found whole, {lost_unacknowledged} were gone",
        life.len() + 1
    );
    assert!(losses as usize >= (life.len() + 1) * 6, "the power failed at every write");
    assert!(kept_unacknowledged > 0 && lost_unacknowledged > 0, "both fates of a call under way were met");
}
