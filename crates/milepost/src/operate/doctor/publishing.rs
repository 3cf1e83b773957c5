//! Whether what claims name can be published: where a claim names its receipt by content id, none is sent before.

use milepost_settlement::generation::publisher;

use super::Findings;
use super::chain::Seen;
use crate::config::Config;

pub(super) async fn check(config: &Config, seen: Option<&Seen>, findings: &mut Findings) {
    let (Some(settlement), Some(seen)) = (&config.chain, seen) else { return };
    match &seen.generation {
        None => return findings.skipped("publishing", "which generation the marketplace is was not reached"),
        Some(generation) if !generation.wants_content() => return,
        Some(_) => {}
    }
    let checked = match publisher(&settlement.deployed) {
        Ok(Some(publisher)) => publisher.check().await,
        Ok(None) => {
            let found = "receipts are served by the node itself, at GET /ipfs/{id}";
            return findings.ok("publishing", found);
        }
        Err(error) => Err(error),
    };
    match checked {
        Ok(place) => findings.ok("publishing", format!("receipts go to {place}; one was tried")),
        Err(error) => findings.coded("publishing", error.to_string(), error.code(), error.advice()),
    }
}
