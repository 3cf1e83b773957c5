//! `milepost validator set`: what a set file says, for operators to compare.

use std::path::PathBuf;

use finality_gadget::FinalityRule;
use milepost_validator_net::set_file::SetFile;
use serde_json::json;

use super::{Error, membership, settings};
use crate::config::Config;
use crate::output::{Output, table};

/// Checks the file and prints it.
pub(super) fn run(loaded: Result<(Config, Vec<String>), Error>, file: Option<PathBuf>, output: Output) -> Result<(), Error> {
    let agreement = match file {
        Some(file) => SetFile::read(&file)?.agreement()?,
        None => membership::agreement(&settings(&loaded?.0)?)?,
    };
    let schedule = &agreement.schedule;
    let domain = schedule.domain();
    let digest = membership::digest(&agreement);
    let rule = match agreement.rule {
        FinalityRule::Single => "single",
        FinalityRule::Ffg => "ffg",
    };
    let sets: Vec<_> = schedule
        .sets()
        .map(|(boundary, set)| {
            json!({
                "id": set.id().0,
                "above": boundary.0,
                "members": set.members().map(|(id, _)| id.0).collect::<Vec<_>>(),
                "quorum": set.quorum(),
                "faults": set.faults(),
                "digest": set.digest().to_string(),
            })
        })
        .collect();
    let trusted = domain.trusted.checkpoint;
    let shown = json!({
        "agreement": digest,
        "chain_id": domain.chain.0,
        "interval": agreement.interval,
        "rule": rule,
        "trusted": { "number": trusted.number.0, "hash": trusted.hash.to_string() },
        "domain": schedule.domain_digest().to_string(),
        "sets": sets,
    });
    let text = || {
        let rows = schedule.sets().map(|(boundary, set)| {
            let members = set.members().map(|(id, _)| id.to_string()).collect::<Vec<_>>().join(" ");
            [
                set.id().to_string(),
                boundary.to_string(),
                format!("{} of {}", set.quorum(), set.members().len()),
                members,
                set.digest().to_string(),
            ]
        });
        let sets = table(["SET", "ABOVE", "QUORUM", "MEMBERS", "DIGEST"], rows);
        format!(
            "agreement  {digest}\nchain      {}\ntrusted    {trusted}\ninterval   {} blocks, rule {rule}\ndomain     {}\n\n{sets}",
            domain.chain,
            agreement.interval,
            schedule.domain_digest()
        )
    };
    output.show(|| &shown, text).map_err(Error::System)
}
