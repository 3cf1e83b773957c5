//! The ledger, rebuilt from its records.

use std::time::Instant;

use milepost_ledger::{AccountId, CheckpointMeta, Ledger, Restored};

use crate::Error;
use crate::rows::Rows;
use crate::writes::Writer;

/// Reads what is not finished and rebuilds the ledger from it. [`Ledger::restore`] asserts the line of every account.
pub(crate) fn recover(rows: &Rows) -> Result<(Ledger, Writer), Error> {
    let begun = Instant::now();
    let mut writer = Writer::default();
    let live = rows.live()?;
    let accounts = live.iter().map(|id| restored(rows, *id, &mut writer)).collect::<Result<Vec<_>, _>>()?;
    let txs = rows.txs_to_restore()?;
    let (accounts_read, txs_read) = (accounts.len(), txs.len());
    let ledger = Ledger::restore(accounts, txs).map_err(Error::Recovery)?;
    tracing::info!(accounts = accounts_read, transactions = txs_read, millis = begun.elapsed().as_millis(), "recovered the ledger");
    Ok((ledger, writer))
}

fn restored(rows: &Rows, id: AccountId, writer: &mut Writer) -> Result<Restored, Error> {
    let misfit = |what: &str| Error::Rows { account: id, what: what.to_owned() };
    let record = rows.account(id)?.ok_or_else(|| misfit("it is listed as live and has no record"))?;
    if record.id != id {
        return Err(misfit("its record names another account"));
    }
    let positions = record.positions;
    let open = rows.tokens(id, positions.sealed..positions.metered)?;
    let mut pending = Vec::new();
    if positions.finalized < positions.sealed {
        let checkpoints = rows.checkpoints_since(id, positions.finalized)?;
        pending = checkpoints
            .into_iter()
            .map(|row| CheckpointMeta { number: row.number, first: row.first, count: row.count, head: row.head_after })
            .collect();
    }
    let turns = if record.turns == 0 { Vec::new() } else { rows.turns(id)? };
    if turns.len() != record.turns as usize {
        return Err(misfit(&format!("it began {} turns, {} are there", record.turns, turns.len())));
    }
    let requests = turns.iter().map(|turn| (turn.request.clone(), turn.number)).collect();
    if let Some(active) = &record.active {
        let turn = turns.into_iter().find(|turn| turn.number == active.number).ok_or_else(|| misfit("its active turn has no record"))?;
        writer.remember(turn);
    }
    let claim = record.claim.map(|claim| rows.claim(claim)).transpose()?.flatten();
    Ok(Restored { record, open, pending, requests, claim })
}
