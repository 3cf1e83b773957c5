//! What all jobs together would ask of the one prover if every session were closed now.
//!
//! Each job's part is taken from the changes that the database announces, and counted anew with each sweep, which also leaves out
//! jobs that were stopped. Between a commit and its announcement the sum is behind by that step's tokens: the reserve of the
//! closing window holds a whole claim, many times more.

use std::collections::HashMap;
use std::sync::Mutex;

use milepost_ledger::{AccountId, AccountRecord, JobId, Phase, Positions, SharedProver, TokenCount};

use crate::sync::lock;

/// See the module. Empty where proofs take no time.
#[derive(Debug)]
pub(crate) struct ProverLoad {
    /// Tokens of a full claim; `None`: nothing is counted.
    max_claim: Option<TokenCount>,
    load: Mutex<Load>,
}

#[derive(Debug, Default)]
struct Load {
    jobs: HashMap<JobId, u64>,
    total: u64,
}

impl ProverLoad {
    pub(crate) fn new(max_claim: Option<TokenCount>) -> Self {
        Self { max_claim, load: Mutex::default() }
    }

    /// Whether anything is counted.
    pub(crate) fn is_counted(&self) -> bool {
        self.max_claim.is_some()
    }

    /// Quarter claims that all jobs but this one need.
    pub(crate) fn others(&self, account: AccountId) -> u64 {
        let load = lock(&self.load);
        let own = account.job().and_then(|job| load.jobs.get(&job)).copied().unwrap_or(0);
        load.total - own
    }

    /// A job moved.
    pub(crate) fn moved(&self, account: AccountId, positions: &Positions, phase: &Phase) {
        let (Some(job), Some(max_claim)) = (account.job(), self.max_claim) else { return };
        let needs = if matches!(phase, Phase::Paid(_)) { 0 } else { quarters(positions, max_claim) };
        let mut load = lock(&self.load);
        let before = if needs == 0 { load.jobs.remove(&job) } else { load.jobs.insert(job, needs) };
        load.total = load.total + needs - before.unwrap_or(0);
    }

    /// Counts anew, from the records of all jobs in memory.
    pub(crate) fn recount<'a>(&self, records: impl Iterator<Item = &'a AccountRecord>) {
        let Some(max_claim) = self.max_claim else { return };
        // A job that is stopped, and one that nobody pays for, is not proven.
        let proven = |record: &&AccountRecord| record.terms.is_some() && record.halted.is_none() && !matches!(record.phase, Phase::Paid(_));
        let needs = records.filter(proven).filter_map(|record| Some((record.id.job()?, quarters(&record.positions, max_claim))));
        let jobs: HashMap<_, _> = needs.filter(|(_, needs)| *needs > 0).collect();
        *lock(&self.load) = Load { total: jobs.values().sum(), jobs };
    }
}

fn quarters(positions: &Positions, max_claim: TokenCount) -> u64 {
    SharedProver::quarters(positions.metered - positions.submitted, max_claim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use milepost_ledger::TokenSeq;

    fn at(metered: u64, submitted: u64) -> Positions {
        Positions { metered: TokenSeq(metered), submitted: TokenSeq(submitted), ..Positions::default() }
    }

    #[test]
    fn each_job_sees_what_all_others_need() {
        let load = ProverLoad::new(Some(TokenCount(4_000)));
        let [one, two, free] = [AccountId::Job(JobId(1)), AccountId::Job(JobId(2)), AccountId::Job(JobId(3))];
        load.moved(one, &at(1, 0), &Phase::Open);
        load.moved(two, &at(5_001, 1_000), &Phase::Open);
        assert_eq!((load.others(one), load.others(two), load.others(free)), (5, 1, 6), "the smallest claim is a quarter");
        load.moved(two, &at(5_001, 5_001), &Phase::Open);
        assert_eq!((load.others(one), load.others(free)), (0, 1), "what is submitted needs no proof any more");
        load.moved(one, &at(1, 0), &Phase::Open);
        assert_eq!(load.others(free), 1, "the same news twice counts once");
        load.recount(std::iter::empty());
        assert_eq!(load.others(free), 0);
    }

    #[test]
    fn where_proofs_take_no_time_nothing_is_counted() {
        let load = ProverLoad::new(None);
        load.moved(AccountId::Job(JobId(1)), &at(1_000_000, 0), &Phase::Open);
        assert_eq!(load.others(AccountId::Job(JobId(2))), 0);
    }
}
