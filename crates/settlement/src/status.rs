//! How settlement stands, for `/ready`, the status page and alerts.

use milepost_ledger::BlockRef;
use serde::Serialize;

use crate::Error;
use crate::chain::{EndpointHealth, FinalityStatus};
use crate::submitter::Stuck;

/// A failure as an operator needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// The code that stays.
    pub code: &'static str,
    /// What happened.
    pub message: String,
    /// What to do.
    pub advice: &'static str,
}

impl From<&Error> for Trouble {
    fn from(error: &Error) -> Self {
        Self { code: error.code(), message: error.to_string(), advice: error.advice() }
    }
}

/// Whether the chain can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ChainState {
    /// Not reached yet since the start.
    Connecting {
        /// Why, after a first attempt.
        trouble: Option<Trouble>,
    },
    /// Checked and answering.
    Ready,
    /// It answered before, and does not now.
    Down {
        /// Why.
        trouble: Trouble,
        /// Attempts since.
        attempts: u32,
    },
}

/// How settlement stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The chain.
    pub chain: ChainState,
    /// How each endpoint does.
    pub endpoints: Vec<EndpointHealth>,
    /// The newest block seen.
    pub head: Option<BlockRef>,
    /// What makes blocks final, and how that stands.
    pub finality: FinalityStatus,
    /// What the key holds for gas, in wei, when last looked.
    pub gas_wei: Option<u128>,
    /// Jobs that are settled and not paid yet.
    pub open_jobs: usize,
    /// Of those, how many wait for an operator.
    pub halted_jobs: usize,
    /// Transactions whose fate is not final.
    pub unresolved_transactions: usize,
    /// Claims being proven.
    pub proving: usize,
    /// Why nothing is signed with the key, if that is so.
    pub key_ahead: Option<Trouble>,
    /// A transaction that holds up all others of the key.
    pub stuck: Option<Stuck>,
    /// What went wrong last with a job or a claim, until the next success of the same job.
    pub trouble: Option<Trouble>,
}

impl Status {
    /// Nothing is known yet.
    pub(crate) fn connecting() -> Self {
        Self {
            chain: ChainState::Connecting { trouble: None },
            endpoints: Vec::new(),
            head: None,
            finality: FinalityStatus::default(),
            gas_wei: None,
            open_jobs: 0,
            halted_jobs: 0,
            unresolved_transactions: 0,
            proving: 0,
            key_ahead: None,
            stuck: None,
            trouble: None,
        }
    }

    /// Money can move: the chain answers, no job waits for an operator, and nothing is in trouble.
    pub fn can_settle(&self) -> bool {
        self.chain == ChainState::Ready
            && self.halted_jobs == 0
            && self.stuck.is_none()
            && self.key_ahead.is_none()
            && self.finality.trouble.is_none()
            && self.trouble.is_none()
    }
}
