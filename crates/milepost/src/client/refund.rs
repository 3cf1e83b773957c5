//! `milepost client refund`: everything that is the depositor's, as far as it can be had now.

use std::process::ExitCode;

use milepost_client::{Amount, Refund, RefundState, Session};
use serde_json::json;

use super::PENDING;
use super::args::RefundArgs;

/// Steps from an open session to the money: close, finalize, withdraw, and one look more.
const MAX_STEPS: u32 = 4;

pub(super) async fn run(args: &RefundArgs, json: bool) -> Result<ExitCode, String> {
    let mut session = super::load(&args.of).await?;
    let told = |error: milepost_client::Error| error.to_string();
    let mut refund = session.refund().await.map_err(told)?;
    if refund.state == RefundState::Open {
        if !args.close {
            return Err(format!("job {} is open: close it first (`milepost client close`), or give --close", session.job_id()));
        }
        // The host, where it answers, claims what is its own at once; where it does not, the chain's window begins.
        session.close().await.map_err(told)?;
        refund = session.refund().await.map_err(told)?;
    }
    for _ in 0..MAX_STEPS {
        let before = refund;
        refund = session.reclaim().await.map_err(told)?;
        if refund == before {
            break;
        }
    }
    show(&session, &refund, json);
    let back = refund.state == RefundState::Paid && refund.credit == Amount(0);
    Ok(if back { ExitCode::SUCCESS } else { ExitCode::from(PENDING) })
}

fn show(session: &Session, refund: &Refund, json: bool) {
    let (state, until) = match refund.state {
        RefundState::Open => ("open", None),
        RefundState::Closing { claim_until } => ("closing", Some(claim_until)),
        RefundState::Paid => ("paid", None),
    };
    if json {
        let amounts = json!({ "amount": refund.amount, "credit": refund.credit });
        println!("{}", json!({ "job_id": session.job_id().0, "state": state, "claim_until": until, "refund": amounts }));
        return;
    }
    let job = session.job_id();
    match refund.state {
        RefundState::Paid if refund.credit == Amount(0) => {
            println!("job {job} is paid out: {} came back to {}", refund.amount, session.record().depositor);
        }
        RefundState::Paid => println!("job {job} is paid out; {} are owed to you and could not be withdrawn: try again", refund.credit),
        RefundState::Closing { claim_until } => {
            println!("job {job} is closing: the host may claim until {claim_until} (Unix seconds of the chain); then run this again");
            println!("as things stand {} come back", refund.amount);
        }
        RefundState::Open => println!("job {job} is still open: run this again"),
    }
}
