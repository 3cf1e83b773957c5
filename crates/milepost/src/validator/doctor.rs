//! What there is to mend about a validator: `milepost validator doctor`, and a part of `milepost doctor` where one is configured.
//!
//! Every part is asked what the validator itself asks it. Of one that runs here, its own `/status` is asked; the database is then left alone.
//!
//! Exit codes: 0 nothing to mend · 1 something must be mended · 3 it works, and something should be looked at.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use finality_gadget::persistence::Standing;
use finality_gadget::{ChainId, FinalityRule};
use milepost_canonical_chain::EvmChain;
use milepost_validator_net::set_file::Agreement;
use serde::Serialize;
use serde_json::{Value, json};

use super::args::reachable;
use super::chain::Endpoints;
use super::membership::{self, Membership};
use super::{Error, db, process};
use crate::config::{Url, Validator};
use crate::output::{Output, table};

/// Below this the database may fail to write at any moment, and the validator ends.
const LEAST_FREE: u64 = 64 * MIB;
/// Below this it should be looked at: a hundred times what a thousand checkpoints take.
const ENOUGH_FREE: u64 = 1024 * MIB;
const MIB: u64 = 1 << 20;
/// A peer that takes longer to take a connection is as good as gone.
const PATIENCE: Duration = Duration::from_secs(3);
/// A block may lie this far ahead of the clock: proposers' clocks differ by a few seconds.
const MOST_BEHIND: u64 = 15;
/// The newest block may be so old on a healthy chain: ten blocks of the slowest in use.
const MOST_AHEAD: u64 = 120;
/// Development chains keep a time of their own.
const DEV_CHAIN: ChainId = ChainId(31_337);

/// What a check amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// Not looked at: something before it failed, or it does not apply.
    Skipped,
    /// It works, and should be looked at.
    Warning,
    /// It must be mended.
    Failure,
}

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// Which check.
    pub(crate) check: &'static str,
    /// What it amounts to.
    pub(crate) verdict: Verdict,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it; empty where there is nothing to do.
    pub(crate) advice: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, check: &'static str, verdict: Verdict, found: impl Into<String>, advice: impl Into<String>) {
        self.0.push(Finding { check, verdict, found: found.into(), advice: advice.into() });
    }

    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(check, Verdict::Ok, found, "");
    }

    fn warning(&mut self, check: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Verdict::Warning, found, advice);
    }

    fn failure(&mut self, check: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Verdict::Failure, found, advice);
    }
}

/// `milepost validator doctor`
pub(super) async fn run(settings: &Validator, output: Output) -> ExitCode {
    let findings = check(settings).await;
    let any = |verdict| findings.iter().any(|finding| finding.verdict == verdict);
    let code = match (any(Verdict::Failure), any(Verdict::Warning)) {
        (true, _) => 1,
        (false, true) => 3,
        (false, false) => 0,
    };
    let text = || {
        let rows = findings.iter().map(|finding| {
            let mark = match finding.verdict {
                Verdict::Ok => "ok",
                Verdict::Skipped => "--",
                Verdict::Warning => "WARN",
                Verdict::Failure => "FAIL",
            };
            [mark.to_owned(), finding.check.to_owned(), finding.found.clone()]
        });
        let advice = findings.iter().filter(|finding| !finding.advice.is_empty());
        let advice: Vec<String> = advice.map(|finding| format!("{}: {}", finding.check, finding.advice)).collect();
        format!("{}\n{}", table(["", "CHECK", "FOUND"], rows), advice.join("\n"))
    };
    match output.show(|| json!({ "exit_code": code, "checks": findings }), text) {
        Ok(()) => ExitCode::from(code),
        Err(error) => super::exit(Err(Error::System(error))),
    }
}

/// Checks everything.
pub(crate) async fn check(settings: &Validator) -> Vec<Finding> {
    let mut findings = Findings::default();
    let agreement = match membership::agreement(settings) {
        Ok(agreement) => agreement,
        Err(error) => {
            findings.failure("set file", error.to_string(), "get the file that all operators agreed on (docs/validators.md)");
            disk(settings, &mut findings);
            return findings.0;
        }
    };
    set_file(settings, &agreement, &mut findings);
    let membership = identity(settings, &mut findings).await;
    let path = settings.database();
    let running = db::holder(&path);
    let status = match running {
        Some(pid) => node(settings, pid, &mut findings).await,
        None => None,
    };
    if running.is_none() {
        findings.add("validator", Verdict::Skipped, "none runs here", "");
        let checked = process::blocking("reading the database", move || database(&path)).await;
        findings.0.extend(checked.unwrap_or_else(|error| {
            vec![Finding { check: "database", verdict: Verdict::Failure, found: error.to_string(), advice: String::new() }]
        }));
    }
    chain(settings, &agreement, &mut findings).await;
    if let Some(membership) = &membership {
        peers(membership, status.as_ref(), &mut findings).await;
    }
    disk(settings, &mut findings);
    findings.0
}

fn set_file(settings: &Validator, agreement: &Agreement, findings: &mut Findings) {
    let digest = membership::digest(agreement);
    let sets = agreement.schedule.sets().count();
    let found = format!("chain {}, {sets} set(s), agreement {digest}", agreement.schedule.domain().chain);
    if settings.agreement.is_some() {
        findings.ok("set file", found);
    } else {
        findings.warning("set file", found, "compare the digest with the other operators', and pin it: validator.agreement");
    }
}

/// Opens both keys as the validator would.
async fn identity(settings: &Validator, findings: &mut Findings) -> Option<Membership> {
    let of = settings.clone();
    let loaded = process::blocking("opening the keys", move || {
        let membership = Membership::load(&of)?;
        let signer = membership.signer(&of);
        Ok::<_, Error>((membership, signer))
    });
    match loaded.await.and_then(|loaded| loaded) {
        Ok((membership, signer)) => {
            findings.ok("identity", format!("validator {}", membership.me));
            match signer {
                Ok(Some(key)) => findings.ok("vote key", format!("opens, and is the one that the set file gives it ({:?})", key.scheme())),
                Ok(None) => findings.warning("vote key", "none is used: it observes and never signs", "set validator.keystore"),
                Err(error) => findings.failure("vote key", error.to_string(), "mend it, or name another keystore"),
            }
            Some(membership)
        }
        Err(error) => {
            findings.failure(
                "identity",
                error.to_string(),
                "name the transport key whose pin the set file has (milepost keys validator show)",
            );
            None
        }
    }
}

/// The process that holds the database tells how it is doing.
async fn node(settings: &Validator, pid: i32, findings: &mut Findings) -> Option<Value> {
    let Some(listen) = settings.metrics_listen else {
        findings.add("validator", Verdict::Skipped, format!("process {pid} runs, and metrics_listen is not set"), "");
        return None;
    };
    let address = reachable(listen);
    let Some(status) = page(address, "/status").await else {
        findings.failure(
            "validator",
            format!("process {pid} has the database open, and nothing answers at {address}"),
            "look at its log; validator.metrics_listen may differ from the one it was started with",
        );
        return None;
    };
    let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
    let found = format!("process {pid} is {}, {} is final, lag {}", text("standing"), status["finalized"]["number"], text("lag"));
    if text("standing") == "refused" {
        findings.failure("validator", format!("{found}: {}", text("reason")), text("advice"));
    } else {
        findings.ok("validator", found);
    }
    if let Some(reasons) = status["stuck"]["reasons"].as_array() {
        let reasons: Vec<&str> = reasons.iter().filter_map(Value::as_str).collect();
        findings.failure("finality", format!("stands still: {}", reasons.join("; ")), "the likeliest reason comes first");
    }
    Some(status)
}

/// What a start would find.
fn database(path: &Path) -> Vec<Finding> {
    let mut findings = Findings::default();
    if !path.exists() {
        let advice = "once in the life of a key: `milepost validator declare --never-signed`; any other: docs/validators.md";
        findings.warning("database", format!("none at {} yet: the key has no record and will not sign", path.display()), advice);
        return findings.0;
    }
    let looked = db::inspect(path).and_then(|inspection| {
        let records = inspection.db.check()?;
        let state = inspection.db.sign_state()?;
        let doubt = inspection.doubt.or(inspection.db.doubt()?);
        Ok((records, state, doubt))
    });
    let stopped = "make sure that no other process uses this key, then `milepost validator declare --old-process-stopped`";
    match looked {
        Err(error) => {
            findings.failure("database", error.to_string(), "keep it as it is: the next start sets it aside, whole, and rebuilds it");
        }
        Ok((records, state, doubt)) => {
            findings.ok("database", format!("{}: {records} records whole", path.display()));
            match (doubt, state) {
                (Some(doubt), _) => findings.failure("sign-state", doubt, stopped),
                (None, None) => findings.failure(
                    "sign-state",
                    "there is no record of what this key has signed",
                    format!("a new key: `milepost validator declare --never-signed`; any other: {stopped}"),
                ),
                (None, Some(state)) => match state.standing {
                    Standing::Clear => findings.ok("sign-state", format!("targets up to {} are signed", state.max_target)),
                    Standing::Refused(refusal) => findings.failure("sign-state", refusal.reason, stopped),
                },
            }
        }
    }
    findings.0
}

/// Each endpoint: its chain, its tags, and whether it has the block where trust begins.
async fn chain(settings: &Validator, agreement: &Agreement, findings: &mut Findings) {
    let id = agreement.schedule.domain().chain;
    let endpoints = match Endpoints::new(settings, id, agreement.rule) {
        Ok(endpoints) => endpoints,
        Err(error) => return findings.failure("endpoint", error.to_string(), "mend validator.rpc_url, rpc_urls or follow"),
    };
    for (url, client) in endpoints.each() {
        match asked(client, agreement).await {
            Ok(found) => findings.ok("endpoint", format!("{url}: {found}")),
            Err(why) => {
                findings.failure("endpoint", format!("{url}: {why}"), "ask a node of your own, of the chain that the set file names");
            }
        }
    }
    if id == DEV_CHAIN {
        return findings.add("clock", Verdict::Skipped, "a development chain keeps a time of its own", "");
    }
    let Ok(urls) = settings.endpoints() else { return };
    match newest(&urls[0]).await {
        Some(block) => clock(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()), block, findings),
        None => findings.add("clock", Verdict::Skipped, "no block to compare it with", ""),
    }
}

async fn asked(client: &EvmChain, agreement: &Agreement) -> Result<String, String> {
    let head = client.read_head().await.map_err(|error| error.to_string())?;
    let trusted = agreement.schedule.domain().trusted.checkpoint;
    let height = agreement.height(trusted.number).ok_or("the trusted checkpoint lies beyond every block")?;
    let hashes = client.read_hashes(&[height]).await.map_err(|error| error.to_string())?;
    match hashes.first().copied().flatten() {
        Some(hash) if hash == trusted.hash => {}
        Some(hash) => return Err(format!("block {height} is {hash}, the trusted checkpoint is {}", trusted.hash)),
        None => return Err(format!("it has no block {height}, where trust begins")),
    }
    let finalized = match (head.finalized, agreement.rule) {
        (Some(block), _) => format!("finalized {block}"),
        (None, FinalityRule::Ffg) => "no `finalized` tag, and none is needed".to_owned(),
        (None, FinalityRule::Single) => return Err("it has no `finalized` block, and the rule `single` needs one".to_owned()),
    };
    Ok(format!("block {}, {finalized}, trusted checkpoint there", head.best))
}

/// Time of the newest block in Unix seconds.
async fn newest(url: &Url) -> Option<u64> {
    let client = reqwest::Client::builder().timeout(PATIENCE).build().ok()?;
    let question = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["latest", false] });
    let answer: Value = client.post(url.expose()).json(&question).send().await.ok()?.json().await.ok()?;
    let digits = answer["result"]["timestamp"].as_str()?.strip_prefix("0x")?;
    u64::from_str_radix(digits, 16).ok()
}

fn clock(now: u64, block: u64, findings: &mut Findings) {
    let (behind, ahead) = (block.saturating_sub(now), now.saturating_sub(block));
    if behind > MOST_BEHIND {
        findings.failure("clock", format!("this machine's clock is {behind} s behind the newest block"), "set the clock (NTP)");
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

/// A running validator says whom it reaches and hears; otherwise connections are tried.
async fn peers(membership: &Membership, status: Option<&Value>, findings: &mut Findings) {
    let told = status.and_then(|status| status["peers"].as_array());
    let mut missing = Vec::new();
    let (mut reached, mut all) = (0, 0);
    if let Some(told) = told {
        for peer in told {
            all += 1;
            let why = ["failure", "refused"].iter().find_map(|name| peer[*name].as_str()).unwrap_or("not heard");
            if peer["reached"] == true && peer["heard"] == true {
                reached += 1;
            } else {
                missing.push(format!("{} at {}: {why}", peer["validator"], peer["address"].as_str().unwrap_or_default()));
            }
        }
    } else {
        for peer in membership.agreement.peers(membership.me) {
            all += 1;
            let tried = tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect(&peer.address)).await;
            match tried {
                Ok(Ok(_)) => reached += 1,
                Ok(Err(error)) => missing.push(format!("{} at {}: {error}", peer.validator, peer.address)),
                Err(_) => missing.push(format!("{} at {}: no connection in time", peer.validator, peer.address)),
            }
        }
    }
    let needed = membership.agreement.schedule.set_at(finality_gadget::CheckpointNumber(u64::MAX)).quorum() - 1;
    let list = missing.join("; ");
    let advice = "compare the set files; look at the firewalls on both sides";
    if reached < needed {
        findings.failure("peers", format!("{reached} of {all} are there where {needed} are needed: {list}"), advice);
    } else if missing.is_empty() {
        findings.ok("peers", format!("all {all} are there"));
    } else {
        findings.warning("peers", format!("{reached} of {all} are there: {list}"), advice);
    }
}

/// Room for the database.
fn disk(settings: &Validator, findings: &mut Findings) {
    // The folder may not be made yet: its disk is that of the nearest folder above it that is.
    let wanted = std::path::absolute(&settings.data).unwrap_or_else(|_| settings.data.clone());
    let there = wanted.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match nix::sys::statvfs::statvfs(there) {
        Ok(disk) => room(&there.display().to_string(), disk.fragment_size().saturating_mul(disk.blocks_available()), findings),
        Err(error) => findings.failure("disk", format!("{}: {error}", there.display()), "set validator.data to a folder on a disk"),
    }
}

fn room(place: &str, free: u64, findings: &mut Findings) {
    let found = format!("{place}: {} MiB free", free / MIB);
    let advice = "make room before it runs out: a validator whose record cannot be written ends";
    if free < LEAST_FREE {
        findings.failure("disk", found, advice);
    } else if free < ENOUGH_FREE {
        findings.warning("disk", found, advice);
    } else {
        findings.ok("disk", found);
    }
}

/// A JSON page of a validator that runs here.
async fn page(address: SocketAddr, page: &str) -> Option<Value> {
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().ok()?;
    client.get(format!("http://{address}{page}")).send().await.ok()?.json().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(judge: impl FnOnce(&mut Findings)) -> Verdict {
        let mut findings = Findings::default();
        judge(&mut findings);
        findings.0[0].verdict
    }

    #[test]
    fn a_clock_behind_the_chain_must_be_set_and_an_old_block_is_looked_at() {
        for (now, block, expected) in
            [(1_000, 998, Verdict::Ok), (1_000, 1_015, Verdict::Ok), (1_000, 1_016, Verdict::Failure), (1_121, 1_000, Verdict::Warning)]
        {
            assert_eq!(verdict(|findings| clock(now, block, findings)), expected, "now {now}, block {block}");
        }
    }

    #[test]
    fn a_full_disk_is_told_from_one_that_fills() {
        for (free, expected) in [(0, Verdict::Failure), (LEAST_FREE, Verdict::Warning), (ENOUGH_FREE, Verdict::Ok)] {
            assert_eq!(verdict(|findings| room("/", free, findings)), expected, "{free}");
        }
    }

    #[test]
    fn a_key_without_a_database_is_told_that_it_will_not_sign() {
        let found = database(Path::new("/nowhere/finality"));
        assert_eq!(found[0].verdict, Verdict::Warning);
        assert!(found[0].advice.contains("--never-signed"));
    }
}
