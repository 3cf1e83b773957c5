//! Each endpoint by itself: does it answer, with the right chain, and how new is what it knows? One that fails is left alone by the
//! node, which then lives on the others: nobody notices until the last one fails.

use std::time::{Duration, Instant};

use futures::future::join_all;
use milepost_settlement::{Chain, Endpoint, Error, RpcUrl, SettlementConfig};

use super::Findings;

/// Endpoints of one chain differ by a block or two at any moment; one that is further behind shows what was.
const MOST_BLOCKS_BEHIND: u64 = 5;
/// Questions of one look: the chain's id, its newest block, the pending one.
const QUESTIONS: u128 = 3;

/// What one endpoint showed.
struct Look {
    /// Scheme, host and port; the rest may hold an access key.
    endpoint: RpcUrl,
    weight: u32,
    /// Its newest block, and how long it took to tell.
    outcome: Result<(u64, Duration), Error>,
}

/// Asks every endpoint at once. Where there is one only, the preflight has asked it.
pub(super) async fn check(settlement: &SettlementConfig, findings: &mut Findings) {
    let endpoints: Vec<_> = settlement.endpoints().collect();
    if endpoints.len() > 1 {
        judge(&join_all(endpoints.into_iter().map(|endpoint| look(settlement, endpoint))).await, findings);
    }
}

async fn look(settlement: &SettlementConfig, endpoint: Endpoint) -> Look {
    let alone = SettlementConfig { rpc_url: endpoint.url.clone(), rpc_urls: Vec::new(), ..settlement.clone() };
    let ask = async {
        let chain = Chain::new(&alone)?;
        let begin = Instant::now();
        chain.check_id().await?;
        Ok((chain.head().await?.block.number, begin.elapsed()))
    };
    Look { outcome: ask.await, endpoint: endpoint.url, weight: endpoint.weight }
}

fn judge(looks: &[Look], findings: &mut Findings) {
    let newest = looks.iter().filter_map(|look| look.outcome.as_ref().ok()).map(|(block, _)| *block).max();
    for Look { endpoint, weight, outcome } in looks {
        match (outcome, newest) {
            // All answers are of one chain: another one would be asked for money matters of this one.
            (Err(error @ (Error::WrongChain { .. } | Error::Config(_))), _) => {
                findings.coded("endpoints", error.to_string(), error.code(), error.advice());
            }
            (Err(error), Some(_)) => findings.warning("endpoints", error.to_string(), "the others are used; mend or remove this one"),
            (Err(error), None) => findings.coded("endpoints", error.to_string(), error.code(), error.advice()),
            (Ok((block, _)), Some(newest)) if newest - block > MOST_BLOCKS_BEHIND => findings.warning(
                "endpoints",
                format!("{endpoint} is at block {block}, {} behind another", newest - block),
                "its answers are old: give it less weight, or remove it",
            ),
            (Ok((block, took)), _) => findings
                .ok("endpoints", format!("{endpoint} answers in {} ms, weight {weight}, block {block}", took.as_millis() / QUESTIONS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use milepost_ledger::ChainId;

    use super::super::Verdict;
    use super::*;

    fn seen(outcomes: Vec<Result<(u64, Duration), Error>>) -> Vec<(Verdict, Option<&'static str>)> {
        let look = |outcome| Look { endpoint: "https://rpc.example/v1/secret".into(), weight: 2, outcome };
        let mut findings = Findings::default();
        judge(&outcomes.into_iter().map(look).collect::<Vec<_>>(), &mut findings);
        assert!(findings.0.iter().all(|finding| !finding.found.contains("secret")), "{findings:?}");
        findings.0.iter().map(|finding| (finding.verdict, finding.code)).collect()
    }

    #[test]
    fn one_endpoint_that_fails_is_a_warning_and_all_of_them_are_a_failure() {
        let silent = || Err(Error::Unreachable { endpoint: "https://rpc.example".into(), what: "the chain id", reason: "refused".into() });
        let well = |block| Ok((block, Duration::from_millis(30)));
        assert_eq!(seen(vec![well(100), silent()]), [(Verdict::Ok, None), (Verdict::Warning, None)]);
        assert_eq!(seen(vec![silent(), silent()]), [(Verdict::Failure, Some("MP-S-001")); 2]);
        assert_eq!(seen(vec![well(100), well(95)]), [(Verdict::Ok, None); 2]);
        assert_eq!(seen(vec![well(94), well(100)]), [(Verdict::Warning, None), (Verdict::Ok, None)]);
        let stray = Err(Error::WrongChain { endpoint: "https://rpc.example".into(), expected: ChainId(1), found: 2 });
        assert_eq!(seen(vec![well(1), stray]), [(Verdict::Ok, None), (Verdict::Failure, Some("MP-S-002"))]);
    }
}
