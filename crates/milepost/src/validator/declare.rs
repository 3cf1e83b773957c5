//! `milepost validator declare`: what only a person can know of a key.

use std::sync::Arc;

use checkpoint_db::{CheckpointDB, CheckpointStorageAdapter};
use finality_gadget::persistence::{self, Declaration, NotSafe};
use finality_gadget::{CanonicalChainClient, CheckpointNumber};
use serde_json::json;

use super::args::DeclareArgs;
use super::chain::Endpoints;
use super::membership::agreement;
use super::{Error, db, driver, process};
use crate::config::Validator;
use crate::output::Output;

/// Checkpoints beyond the chain's head that the old process may have seen before we did: clocks differ, endpoints lag.
const MARGIN: u64 = 2;

/// Writes the declaration into the record of own votes, synced.
pub(super) async fn run(settings: &Validator, args: &DeclareArgs, output: Output) -> Result<(), Error> {
    let agreement = agreement(settings)?;
    let path = settings.database();
    db::refuse_if_held(&path)?;
    let declaration = if args.old_process_stopped {
        let mark = match args.mark {
            Some(mark) => CheckpointNumber(mark),
            None => offered(settings, &agreement).await?.plus(MARGIN),
        };
        Declaration::OldProcessStopped { mark }
    } else {
        Declaration::NeverSigned
    };
    let domain = agreement.schedule.domain_digest();
    let state = process::blocking("the database", move || {
        process::make_folder(&path)?;
        let storage = CheckpointStorageAdapter::new(Arc::new(CheckpointDB::new(&path)?));
        persistence::declare(&storage, domain, declaration).map_err(|why| refused(why, declaration))
    })
    .await??;
    let shown = json!({
        "declared": if args.old_process_stopped { "old process stopped" } else { "never signed" },
        "max_source": state.max_source.0,
        "max_target": state.max_target.0,
        "signs": format!("sources from {} and targets above {}", state.max_source, state.max_target),
    });
    db::show(&shown, output)
}

/// The highest checkpoint number that the chain offers now.
async fn offered(settings: &Validator, agreement: &milepost_validator_net::set_file::Agreement) -> Result<CheckpointNumber, Error> {
    let endpoints = Endpoints::new(settings, agreement.schedule.domain().chain, agreement.rule)?;
    let mut last = None;
    for _ in endpoints.each() {
        match endpoints.head().await {
            Ok(head) => return Ok(driver::eligible(head.best, agreement.interval)),
            Err(error) => last = Some(error.to_string()),
        }
    }
    let reason = last.unwrap_or_default();
    Err(Error::Chain(format!("{reason}; without it, give the highest number that the old process can have signed: --mark")))
}

fn refused(why: NotSafe, declaration: Declaration) -> Error {
    match (why, declaration) {
        (NotSafe::Target { max_target, .. }, Declaration::NeverSigned) => Error::Refused(format!(
            "there is a record already, with targets up to {max_target}: this key is not new. If it does not sign, --old-process-stopped may be what you mean"
        )),
        (NotSafe::Domain(found), _) => Error::Refused(format!(
            "the record of own votes belongs to another chain or trusted checkpoint ({found}): a new one comes with a folder of its own (validator.data); keep the old one"
        )),
        (other, _) => Error::Refused(other.to_string()),
    }
}
