//! What settlement would do next with a job, in words: the planner asked as the driver asks it, and nothing done.

use milepost_ledger::{JobId, Step, WaitFor};
use milepost_ledger_db::LedgerDb;

use crate::books::Books;
use crate::{Answer, Chain, Error, SettlementConfig};

/// The question that it answers.
const QUESTION: &str = "What comes next?";

/// The next step for a job that is not paid; `None` if the ledger does not hold it in memory, or the chain does not know it.
pub async fn next_step(db: &LedgerDb, chain: &Chain, config: &SettlementConfig, job: JobId) -> Result<Option<Answer>, Error> {
    if chain.job(job).await?.is_none() {
        return Ok(None);
    }
    let head = chain.head().await?;
    let seen = chain.view(job, &head).await?;
    let now = seen.view.time;
    let Some(planned) = Books::new(db.clone(), None).plan(job, &seen, config.plan()).await? else { return Ok(None) };
    let (answer, good) = match planned.step {
        Step::Wait(WaitFor::Tokens) => ("it waits for more tokens, or for the end of the session".to_owned(), None),
        Step::Wait(WaitFor::Claim) => ("it waits for the claim that is under way".to_owned(), None),
        Step::Wait(WaitFor::Transaction) => ("it waits for requestClose or finalize, which are under way".to_owned(), None),
        Step::Wait(WaitFor::Until(at)) => {
            (format!("it waits {} s: for the rate cap, after a revert, or for the window's end", at.since(now)), None)
        }
        Step::Wait(WaitFor::Block(number)) => (format!("it waits for an endpoint that knows block {number}: this one lags"), None),
        Step::Wait(WaitFor::Operator) => ("it waits for an operator".to_owned(), Some(false)),
        Step::Wait(WaitFor::Nothing) => ("nothing: it is paid".to_owned(), Some(true)),
        Step::Claim { until } => (format!("a claim of tokens {} to {until}", planned.record.positions.finalized), None),
        Step::SeeClosing { until } => {
            (format!("the session ends here: the chain closes it, claims until {} (Unix seconds)", until.0), None)
        }
        Step::End(reason) => (format!("the session ends here: {reason:?}"), None),
        Step::RequestClose => ("requestClose".to_owned(), None),
        Step::Finalize => ("finalize".to_owned(), None),
        Step::Settle { rest: None } => ("the chain has paid: it is recorded once that is final".to_owned(), None),
        Step::Settle { rest: Some(reason) } => (format!("the chain has paid: recorded once final, the rest lost: {reason:?}"), None),
        Step::Halt { reason } => (format!("it will be stopped: {reason}"), Some(false)),
    };
    Ok(Some(Answer { question: QUESTION, answer, good }))
}
