//! Money: the split to the unit, and that it really moved.

use milepost_client::Amount;
use milepost_client::abi::Status;
use milepost_client::session::split;
use milepost_statement::Address;

use super::chain::Completed;
use super::evidence::Evidence;
use super::{CheckOutcome, equal, expect};

pub(super) fn check(evidence: &Evidence, outcome: &mut CheckOutcome) {
    outcome.note("paid once", once(evidence));
    outcome.note("fee", fee(evidence));
    outcome.note("split", parts(evidence));
    outcome.note("payout reported", reported(evidence));
    outcome.note("deposit taken", deposit(evidence));
    outcome.note("host's share moved", host(evidence));
    outcome.note("treasury's fee kept", treasury(evidence));
    outcome.note("refund moved", refund(evidence));
}

fn completed(evidence: &Evidence) -> Result<&Completed, String> {
    match evidence.facts.completed.as_slice() {
        [completed] => Ok(completed),
        others => Err(format!("{} SessionCompleted events of the job, expected one", others.len())),
    }
}

fn once(evidence: &Evidence) -> Result<String, String> {
    let completed = completed(evidence)?;
    let created = evidence.created()?;
    equal("host of payout and session", &completed.host, &created.host)?;
    equal("depositor of payout and session", &completed.depositor, &created.depositor)?;
    equal("tokens of payout and claims", &completed.tokens_used, &evidence.facts.tokens_used)?;
    expect(
        evidence.facts.status == Status::Completed,
        format!("{} tokens in transaction {}", completed.tokens_used, completed.tx),
        format!("the job is {:?}", evidence.facts.status),
    )
}

fn fee(evidence: &Evidence) -> Result<String, String> {
    equal("fee of report and contract (basis points)", &evidence.report.payout.fee_bps, &evidence.facts.fee_bps)?;
    Ok(format!("{} basis points, as the contract says", evidence.facts.fee_bps))
}

fn parts(evidence: &Evidence) -> Result<String, String> {
    let (completed, created) = (completed(evidence)?, evidence.created()?);
    let computed = split(completed.tokens_used, created.price, created.deposit, created.minimum_charge, evidence.facts.fee_bps);
    let (host, fee, refund) = computed.ok_or_else(|| format!("{} tokens cost more than the deposit", completed.tokens_used))?;
    equal("host's share in the event and recomputed", &completed.host_paid, &host)?;
    equal("fee in the event and recomputed", &completed.fee, &fee)?;
    equal("refund in the event and recomputed", &completed.refund, &refund)?;
    Ok(format!(
        "{} × {} → host {host} + treasury {fee} + refund {refund} = deposit {}",
        completed.tokens_used, created.price, created.deposit
    ))
}

fn reported(evidence: &Evidence) -> Result<String, String> {
    let (said, seen) = (&evidence.report.payout, completed(evidence)?);
    equal("host's share reported and on chain", &said.host, &seen.host_paid)?;
    equal("fee reported and on chain", &said.treasury, &seen.fee)?;
    equal("refund reported and on chain", &said.refund, &seen.refund)?;
    Ok(format!("host {}, treasury {}, refund {}", said.host, said.treasury, said.refund))
}

fn deposit(evidence: &Evidence) -> Result<String, String> {
    let created = evidence.created()?;
    if created.token == Address::ZERO {
        return Ok(format!("{} wei with the call", created.deposit));
    }
    let moved = moved(evidence, created.tx, created.depositor, evidence.facts.marketplace);
    equal("transferred in by the depositor, and the deposit", &moved, &created.deposit)?;
    Ok(format!("{moved} of token {}", created.token))
}

fn host(evidence: &Evidence) -> Result<String, String> {
    let (completed, created) = (completed(evidence)?, evidence.created()?);
    if created.token != Address::ZERO {
        let moved = moved(evidence, completed.tx, evidence.facts.marketplace, evidence.facts.earnings);
        equal("transferred to HostEarnings, and the host's share", &moved, &completed.host_paid)?;
    }
    let change = evidence.facts.host_earned;
    let gained = change.gained().ok_or_else(|| format!("the host's balance fell from {} to {}", change.before, change.after))?;
    equal("added to the host's balance, and its share", &gained, &completed.host_paid)?;
    Ok(format!("{gained} withdrawable in HostEarnings"))
}

fn treasury(evidence: &Evidence) -> Result<String, String> {
    let change = evidence.facts.treasury;
    let gained = change.gained().ok_or_else(|| format!("the treasury's balance fell from {} to {}", change.before, change.after))?;
    equal("added to the treasury, and the fee", &gained, &completed(evidence)?.fee)?;
    Ok(format!("{gained} in the marketplace"))
}

fn refund(evidence: &Evidence) -> Result<String, String> {
    let (completed, created) = (completed(evidence)?, evidence.created()?);
    equal("owed to the depositor because a push failed, and nothing", &evidence.facts.credit, &Amount(0))?;
    if created.token != Address::ZERO {
        let moved = moved(evidence, completed.tx, evidence.facts.marketplace, created.depositor);
        equal("transferred to the depositor, and the refund", &moved, &completed.refund)?;
    }
    let change = evidence.facts.depositor;
    let gained = change.gained().ok_or_else(|| format!("the depositor's balance fell from {} to {}", change.before, change.after))?;
    equal("added to the depositor's balance, and the refund", &gained, &completed.refund)?;
    Ok(format!("{gained} back to {}", created.depositor))
}

/// What moved from one to the other in a transaction.
fn moved(evidence: &Evidence, tx: milepost_statement::Digest, from: Address, to: Address) -> Amount {
    let transfers = evidence.facts.transfers.iter().filter(|transfer| (transfer.tx, transfer.from, transfer.to) == (tx, from, to));
    Amount(transfers.map(|transfer| transfer.value.0).sum())
}
