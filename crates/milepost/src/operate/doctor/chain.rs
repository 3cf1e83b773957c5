//! The chain's part: endpoint, chain id, contract, its generation, selectors, host, key, gas, model on offer, clock.
//!
//! Settlement's preflight asks these questions in this order and stops at the first that fails; its error says which one that was.
//! So what came before holds, and what comes after was not reached.

use std::time::{SystemTime, UNIX_EPOCH};

use milepost_ledger::{ChainId, TokenAmount};
use milepost_settlement::generation::{Hop, Identified};
use milepost_settlement::{Chain, Constants, Error, Head, HostRecord, Preflight};
use milepost_statement::{Address, Digest};

use super::Findings;
use crate::config::Config;
use crate::output::money;

/// The preflight's questions, in its order.
const STAGES: [&str; 7] = ["endpoint", "chain id", "contract", "generation", "functions", "host", "submitter"];
/// How many of them ask nothing about the host.
const OF_THE_CONTRACT: usize = 5;
/// What the preflight calls the second contract that it looks at.
const REGISTRY: &str = "the host registry";
/// Gas of a claim, generously: `contracts/README.md` has the measured figures.
const CLAIM_GAS: u128 = 100_000;
/// Claims that the key should be able to pay for before somebody must send it coins: a day of a busy host.
const CLAIMS_AHEAD: u128 = 100;
/// Wei of one claim where the chain asks no base fee: a tenth of a gwei for each gas.
const LEAST_FEE: u128 = 100_000_000;
/// Development chains keep a time of their own.
const DEV_CHAIN: ChainId = ChainId(31_337);
/// A block may lie this far ahead of the clock: proposers' clocks differ by a few seconds.
const MOST_BEHIND: u64 = 15;
/// The newest block may be so old on a healthy chain: ten blocks of the slowest in use.
const MOST_AHEAD: u64 = 120;

/// What the chain said.
pub(super) struct Seen {
    pub(super) chain: Chain,
    pub(super) constants: Option<Constants>,
    /// Which generation the contract is, where that could be told.
    pub(super) generation: Option<Identified>,
    /// All questions answered well.
    pub(super) preflight: Option<Preflight>,
    head: Option<Head>,
}

/// Asks the chain. `None` in log mode.
pub(super) async fn check(config: &Config, key: Option<Address>, model: Option<Digest>, findings: &mut Findings) -> Option<Seen> {
    let Some(settlement) = &config.chain else {
        findings.skipped("chain", "no chain is configured: log mode, nothing is settled and nothing is earned");
        return None;
    };
    let chain = match Chain::new(settlement) {
        Ok(chain) => chain,
        Err(error) => {
            findings.coded("endpoint", error.to_string(), error.code(), error.advice());
            return None;
        }
    };
    let Some(host) = settlement.host.or(key) else {
        // Without a key nothing says whose jobs these are; the contract can be looked at all the same.
        let outcome = chain.preflight_contract().await;
        let seen = Seen::of(chain, outcome.as_ref().ok().copied(), None).await;
        report(&seen, outcome.as_ref().err(), &STAGES[..OF_THE_CONTRACT], None, findings);
        findings.skipped("host", "no key could be opened and chain.host is not set");
        return Some(seen);
    };
    // The host's own address needs no entry as a submitter: with it, only the questions before that are asked.
    let outcome = chain.preflight(host, key.unwrap_or(host)).await;
    let stages = if key.is_some() { &STAGES[..] } else { &STAGES[..=OF_THE_CONTRACT] };
    let constants = chain.constants().await.ok();
    let seen = Seen::of(chain, constants, outcome.as_ref().ok().cloned()).await;
    report(&seen, outcome.as_ref().err(), stages, Some((host, key)), findings);
    if let Some(found) = &seen.preflight {
        if key.is_some() {
            gas(found, seen.head.as_ref(), findings);
        }
        match &seen.generation {
            Some(generation) if !generation.is_ours() => elsewhere(settlement.deployed.min_price, findings),
            _ => record(&seen.chain, host, key, model, findings).await,
        }
    }
    Some(seen)
}

impl Seen {
    async fn of(chain: Chain, constants: Option<Constants>, preflight: Option<Preflight>) -> Self {
        let (generation, head) = (chain.generation().await.ok().cloned(), chain.head().await.ok());
        Self { chain, constants, generation, preflight, head }
    }

    /// Another generation than ours: no registry of ours, no guest, no submitter keys.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.generation.as_ref().is_some_and(|generation| !generation.is_ours())
    }
}

/// One line for each question: those before the failure hold, those after it were not reached.
fn report(seen: &Seen, error: Option<&Error>, stages: &[&'static str], who: Option<(Address, Option<Address>)>, findings: &mut Findings) {
    let failed = error.map(|error| stage(error).min(stages.len() - 1));
    for (at, name) in stages.iter().enumerate() {
        match (failed, error) {
            (Some(failed), Some(error)) if at == failed => findings.coded(name, error.to_string(), error.code(), error.advice()),
            (Some(failed), _) if at > failed => findings.skipped(name, "not reached"),
            _ if *name == "host" && seen.is_elsewhere() => {
                findings.skipped(name, "this generation asks its own registry when a session is funded, and nobody else");
            }
            _ => findings.ok(name, holds(name, seen, who)),
        }
    }
}

/// Which of [`STAGES`] an error of the preflight is about.
fn stage(error: &Error) -> usize {
    match error {
        Error::WrongChain { .. } => 1,
        Error::NoContract { name, .. } if *name == REGISTRY => 4,
        Error::NoContract { .. } => 2,
        Error::UnknownGeneration { .. } => 3,
        Error::NoFunction { .. } => 4,
        Error::HostNotActive { .. } => 5,
        Error::NotSubmitter { .. } | Error::HostKeyOnly { .. } => 6,
        _ => 0,
    }
}

fn holds(name: &str, seen: &Seen, who: Option<(Address, Option<Address>)>) -> String {
    let host = who.map(|(host, _)| host).unwrap_or_default();
    match (name, &seen.constants) {
        ("endpoint", _) => format!("{} answers", seen.chain.endpoint()),
        ("chain id", _) => seen.chain.chain_id().to_string(),
        ("contract", _) => format!("marketplace {} has code", seen.chain.marketplace()),
        ("generation", _) => seen.generation.as_ref().map_or_else(String::new, generation),
        ("functions", Some(constants)) => functions(constants, seen.is_elsewhere()),
        ("functions", None) => "every function that is called is there".to_owned(),
        ("host", _) => format!("{host} is registered and active"),
        _ => match who.and_then(|(_, key)| key) {
            Some(key) if key == host => "the key is the host's own".to_owned(),
            Some(key) => format!("{key} may claim for the host"),
            None => "not asked".to_owned(),
        },
    }
}

/// What the contract is, and the way to its code.
fn generation(found: &Identified) -> String {
    let hop = |hop: &Hop| match hop {
        Hop::Storage { proxy } => format!("EIP-1967 proxy {proxy}"),
        Hop::Beacon { proxy, beacon } => format!("EIP-1967 proxy {proxy} with beacon {beacon}"),
        Hop::Clone { proxy } => format!("EIP-1167 clone {proxy}"),
    };
    let route: Vec<_> = found.route.iter().map(hop).collect();
    if route.is_empty() {
        found.name().to_owned()
    } else {
        format!("{}; its code is at {}, behind {}", found.name(), found.implementation, route.join(", then "))
    }
}

fn functions(constants: &Constants, elsewhere: bool) -> String {
    let told = format!("every function that is called is there; fee {} bps, least claim {} tokens", constants.fee_bps, constants.min_claim);
    if elsewhere {
        return format!(
            "{told}, prices for {} tokens, no closing window: what is unclaimed when a session ends is lost; the host completes from {} s after its start",
            constants.price_precision, constants.dispute_window
        );
    }
    let test = if constants.test_deployment { ", TEST DEPLOYMENT (takes mock proofs)" } else { "" };
    format!("{told}, closing window {} s{test}", constants.claim_window)
}

/// What does not apply where the contract is of another generation.
fn elsewhere(min_price: Option<TokenAmount>, findings: &mut Findings) {
    findings.skipped("key's power", "no choice: this generation takes claims from the host's own key alone");
    match min_price {
        Some(price) => findings.ok("offer", format!("sessions are opened from a price of {price}, in the contract's own unit")),
        None => findings.warning(
            "offer",
            "sessions are opened at whatever price the contract let through",
            "set chain.deployed.min_price to the least price, in the contract's own unit",
        ),
    }
}

fn gas(found: &Preflight, head: Option<&Head>, findings: &mut Findings) {
    let balance = found.gas_balance;
    // Twice the base fee is what a claim offers.
    let claim = head.map_or(LEAST_FEE, |head| head.base_fee.saturating_mul(2).max(LEAST_FEE)).saturating_mul(CLAIM_GAS);
    let claims = balance / claim;
    let text = format!("key {} holds {} coins: gas for some {claims} claims at today's price", found.key, money(balance, Some(18)));
    if claims == 0 {
        let error = Error::NoGas { key: found.key, balance, needed: claim };
        findings.coded("gas", error.to_string(), error.code(), error.advice());
    } else if claims < CLAIMS_AHEAD {
        findings.warning("gas", text, "send some of the chain's coin to the key before it runs dry");
    } else {
        findings.ok("gas", text);
    }
}

/// What the registry says of the host beyond the preflight's questions: is the key a mere submitter, and can a job name the model?
async fn record(chain: &Chain, host: Address, key: Option<Address>, model: Option<Digest>, findings: &mut Findings) {
    if key == Some(host) {
        findings.warning(
            "key's power",
            "the node holds the host's own key, which can withdraw",
            "make a submitter key for this box (`milepost keys new`, `milepost keys submitter add`) and keep the host's key off it",
        );
    }
    let offer = async {
        let record: Option<HostRecord> = chain.host_record(host).await?;
        let offered = match (&record, model) {
            (Some(record), Some(model)) if record.models.contains(&model) => chain.prices_of(host, model).await?,
            _ => Vec::new(),
        };
        Ok::<_, Error>((record, offered))
    };
    match (offer.await, model) {
        (Err(error), _) => findings.coded("offer", error.to_string(), error.code(), error.advice()),
        (_, None) => findings.skipped("offer", "the model's digest is not known"),
        (Ok((_, offered)), Some(model)) if offered.is_empty() => findings.failure(
            "offer",
            format!("the registry has no price of {host} for model {model}: no job can be opened for it"),
            "let the host account call HostRegistry.setPrice(model, token, price)",
        ),
        (Ok((record, offered)), Some(_)) => {
            let prices: Vec<_> = offered.iter().map(|(token, price)| format!("{price} of token {token}")).collect();
            let record = record.map(|record| format!("; payout address {}, URL {}", record.payout, record.api_url)).unwrap_or_default();
            findings.ok("offer", format!("the model is offered at {}{record}", prices.join(", ")));
        }
    }
}

/// Deadlines are in the chain's time, records in this machine's: they must not drift apart.
pub(super) fn clock(seen: Option<&Seen>, findings: &mut Findings) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let Some((seen, head)) = seen.and_then(|seen| seen.head.as_ref().map(|head| (seen, head))) else {
        return findings.skipped("clock", "no block to compare it with");
    };
    if seen.chain.chain_id() == DEV_CHAIN {
        return findings.skipped("clock", "a development chain keeps a time of its own");
    }
    judge_clock(now, head.time.0, findings);
}

fn judge_clock(now: u64, block: u64, findings: &mut Findings) {
    let (behind, ahead) = (block.saturating_sub(now), now.saturating_sub(block));
    if behind > MOST_BEHIND {
        findings.failure(
            "clock",
            format!("this machine's clock is {behind} s behind the newest block"),
            "set the clock (NTP): deadlines would be missed",
        );
    } else if ahead > MOST_AHEAD {
        findings.warning(
            "clock",
            format!("the newest block is {ahead} s old by this machine's clock"),
            "set the clock (NTP) if it is wrong; else the endpoint lags, or the chain stands still",
        );
    } else {
        findings.ok("clock", format!("the newest block is {ahead} s old"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{self, Failure, Ok, Skipped};
    use super::*;

    #[test]
    fn a_clock_behind_the_chain_must_be_set_and_an_old_block_is_looked_at() {
        for (now, block, verdict) in
            [(1_000, 998, Ok), (1_000, 1_010, Ok), (1_000, 1_016, Failure), (1_121, 1_000, Verdict::Warning), (1_120, 1_000, Ok)]
        {
            let mut findings = Findings::default();
            judge_clock(now, block, &mut findings);
            assert_eq!(findings.0[0].verdict, verdict, "now {now}, block {block}");
        }
    }

    #[test]
    fn what_comes_before_a_failure_holds_and_what_comes_after_was_not_reached() {
        let settlement = milepost_settlement::SettlementConfig::new("http://127.0.0.1:1", DEV_CHAIN, Address([1; 20]));
        let chain = Chain::new(&settlement).expect("a chain");
        let error = Error::NoContract { contract: Address([1; 20]), chain: DEV_CHAIN, name: "the marketplace" };
        let mut findings = Findings::default();
        let seen = Seen { chain, constants: None, generation: None, preflight: None, head: None };
        report(&seen, Some(&error), &STAGES, None, &mut findings);
        let verdicts: Vec<_> = findings.0.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Ok, Ok, Failure, Skipped, Skipped, Skipped, Skipped]);
        assert_eq!(findings.0[2].code, Some("MP-S-003"));
    }

    #[test]
    fn every_refusal_of_the_preflight_has_its_own_question() {
        let (contract, key, host) = (Address([1; 20]), Address([2; 20]), Address([3; 20]));
        let unknown = Error::UnknownGeneration { contract, code: contract, found: String::new(), missing: String::new() };
        for (error, question) in [
            (Error::WrongChain { endpoint: String::new(), expected: DEV_CHAIN, found: 1 }, "chain id"),
            (Error::NoContract { contract, chain: DEV_CHAIN, name: "the marketplace" }, "contract"),
            (unknown, "generation"),
            (Error::NoContract { contract, chain: DEV_CHAIN, name: REGISTRY }, "functions"),
            (Error::NoFunction { contract, function: "f()", selector: 1 }, "functions"),
            (Error::HostNotActive { host, registry: contract }, "host"),
            (Error::NotSubmitter { key, host, registry: contract }, "submitter"),
            (Error::HostKeyOnly { key, host, contract }, "submitter"),
            (Error::Unreachable { endpoint: String::new(), what: "the chain id", reason: String::new() }, "endpoint"),
        ] {
            assert_eq!(STAGES[stage(&error)], question, "{error}");
        }
    }
}
