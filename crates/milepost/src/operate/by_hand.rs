//! `milepost claims cancel` and `milepost jobs resume`: what an operator decides after a look.
//!
//! Both write to the ledger's database, and so want the node stopped: there is no door into a running one for this, which nobody
//! could misuse then either.
//!
//! Guarantees: without `--yes` nothing is written; what is written is durable when the command ends.
//! Does not: send anything. A cancel is signed by the node at its next start, at the same nonce and with a higher fee, and
//! the first of all forms that is mined counts.

use std::process::ExitCode;

use milepost_ledger::{AccountId, Event, Purpose, TxId, TxState};
use milepost_settlement::record_cancel;
use milepost_statement::JobId;
use serde_json::json;

use crate::books;
use crate::cli::{CancelArgs, ResumeArgs};
use crate::config::Config;
use crate::keys;
use crate::output::Output;

/// It was shown, and nothing was done.
const SHOWN: u8 = 3;

/// Records that a transaction is to be cancelled.
pub(crate) async fn cancel(config: &Config, args: &CancelArgs, output: Output) -> Result<ExitCode, String> {
    books::refuse_if_running(config)?;
    let key = match args.key {
        Some(key) => key,
        None => keys::configured_address(&config.keys).map_err(|why| format!("--key is not given, and {why}"))?,
    };
    let id = TxId { key, nonce: args.nonce };
    let tx = books::ledger(config)?.tx(id).map_err(|error| error.to_string())?;
    let tx =
        tx.ok_or_else(|| format!("this ledger has no transaction with nonce {} of {key}: `milepost claims` shows them", args.nonce))?;
    match tx.state {
        TxState::Signed | TxState::Sent => {}
        TxState::Included { .. } => return Err("it is in a block already: nothing is left to cancel".to_owned()),
        TxState::Final { .. } | TxState::Replaced => return Err("its fate is final already: nothing is left to cancel".to_owned()),
    }
    let what = match &tx.purpose {
        Purpose::Claim(claim) => format!("claim {claim}: its tokens are owed again, and planned anew"),
        Purpose::Claims(claims) => {
            let claims: Vec<String> = claims.iter().map(ToString::to_string).collect();
            format!("claims {}: the tokens of each are owed again, and planned anew", claims.join(", "))
        }
        Purpose::RequestClose(job) => format!("the request to close job {job}"),
        Purpose::Finalize(job) => format!("the payout of job {job}"),
        Purpose::Fill(job) => format!("a transfer of nothing before a transaction of job {job}"),
    };
    if args.yes {
        let db = crate::host::open_ledger(config).map_err(|error| error.to_string())?;
        let done = record_cancel(&db, id).await.map_err(|error| format!("{error}; {}", error.advice()));
        db.close().await;
        done?;
    }
    let attempts: Vec<_> = tx.attempts.iter().map(|attempt| attempt.hash).collect();
    output.show(
        || json!({ "key": key, "nonce": args.nonce, "jobs": tx.purpose.jobs().collect::<Vec<_>>(), "what": what, "attempts": attempts, "recorded": args.yes }),
        || {
            let then = if args.yes {
                "recorded: the node puts a transfer of nothing in its place when it is started; if an earlier form is mined first, that counts"
            } else {
                "nothing was written; --yes does it"
            };
            format!("nonce {} of {key}, in {} forms: {what}\n{then}", args.nonce, attempts.len())
        },
    )?;
    Ok(if args.yes { ExitCode::SUCCESS } else { ExitCode::from(SHOWN) })
}

/// Lets a job that waits for an operator go on.
pub(crate) async fn resume(config: &Config, args: &ResumeArgs, output: Output) -> Result<ExitCode, String> {
    books::refuse_if_running(config)?;
    let account = AccountId::Job(JobId(args.job));
    let record = books::ledger(config)?.account(account).map_err(|error| error.to_string())?;
    let record = record.ok_or_else(|| format!("no session was opened for job {} on this node", args.job))?;
    let reason = record.halted.ok_or_else(|| format!("job {} does not wait for anybody", args.job))?;
    if args.yes {
        let db = crate::host::open_ledger(config).map_err(|error| error.to_string())?;
        let done = db.apply(vec![Event::Resume { account }]).await.map(|_| ()).map_err(|error| error.to_string());
        db.close().await;
        done?;
    }
    output.show(
        || json!({ "job": args.job, "reason": reason, "resumed": args.yes }),
        || {
            let then = if args.yes {
                "it goes on when the node is started, and stops again if the cause is still there"
            } else {
                "nothing was written. When the cause is gone: the same with --yes"
            };
            format!("job {} was stopped: {reason}\n{then}", args.job)
        },
    )?;
    Ok(if args.yes { ExitCode::SUCCESS } else { ExitCode::from(SHOWN) })
}
