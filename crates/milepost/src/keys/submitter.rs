//! `milepost keys submitter add | remove | list`: which keys may claim for the host, as the registry has it.
//!
//! Rotation is: `add` the new key, restart the node with it, `remove` the old one when its last transaction is final. `remove`
//! refuses while this box still needs the key: a claim that is under way would revert.

use alloy::primitives::Address as EvmAddress;
use milepost_settlement::Chain;
use milepost_settlement::bindings::HostRegistry;
use milepost_statement::Address;
use serde_json::json;

use crate::books;
use crate::cli::SubmitterCommand;
use crate::config::Config;
use crate::output::{Output, table};
use crate::send::HostAccount;

/// Submitter keys that the registry keeps for a host.
const MAX_SUBMITTERS: usize = 64;

pub(super) async fn run(command: SubmitterCommand, config: &Config, output: Output) -> Result<(), String> {
    let settlement = config.chain.as_ref().ok_or("no chain is configured: the registry is on a chain (chain.rpc_url)")?;
    let chain = Chain::new(settlement).map_err(|error| error.to_string())?;
    match command {
        SubmitterCommand::List => list(config, &chain, output).await,
        SubmitterCommand::Add { key, host } => {
            let account = HostAccount::open(config, &host).await?;
            let (registry, known) = submitters(&chain, account.address()).await?;
            if known.contains(&key) {
                return Err(format!("{key} is a submitter of {} already", account.address()));
            }
            if known.len() >= MAX_SUBMITTERS {
                return Err(format!("the registry keeps at most {MAX_SUBMITTERS} submitter keys: remove one first"));
            }
            if key == Address::ZERO {
                return Err("the zero address is no key".to_owned());
            }
            let sent = account.call("addSubmitter", registry, HostRegistry::addSubmitterCall { key: EvmAddress::from(key.0) }).await?;
            output.show(
                || json!({ "added": key, "host": account.address(), "tx": sent.tx, "block": sent.block }),
                || format!("{key} may now claim for {} (transaction {}, block {})", account.address(), sent.tx, sent.block),
            )
        }
        SubmitterCommand::Remove { key, force, host } => {
            let account = HostAccount::open(config, &host).await?;
            let (registry, known) = submitters(&chain, account.address()).await?;
            if !known.contains(&key) {
                return Err(format!("{key} is no submitter of {}", account.address()));
            }
            if !force {
                refuse_if_needed(config, key)?;
            }
            let sent =
                account.call("removeSubmitter", registry, HostRegistry::removeSubmitterCall { key: EvmAddress::from(key.0) }).await?;
            output.show(
                || json!({ "removed": key, "host": account.address(), "tx": sent.tx, "block": sent.block }),
                || format!("{key} may no longer claim for {} (transaction {}, block {})", account.address(), sent.tx, sent.block),
            )
        }
    }
}

async fn submitters(chain: &Chain, host: Address) -> Result<(Address, Vec<Address>), String> {
    let told = |error: milepost_settlement::Error| format!("{error}; {}", error.advice());
    let constants = chain.preflight_contract().await.map_err(told)?;
    let record = chain.host_record(host).await.map_err(told)?;
    let record = record.ok_or_else(|| format!("{host} is not registered in {}: is this the host's own key?", constants.registry))?;
    Ok((constants.registry, record.submitters))
}

/// Whether this box would still sign, or waits for something signed, with the key.
fn refuse_if_needed(config: &Config, key: Address) -> Result<(), String> {
    if super::configured_address(&config.keys).is_ok_and(|own| own == key) {
        return Err(format!("{key} is the key that this configuration names: give the node its new key first, or use --force"));
    }
    let waiting = books::unresolved(config, key)?;
    if waiting > 0 {
        return Err(format!(
            "{waiting} transactions of {key} are not final yet and would revert: `milepost claims` shows them; wait, or use --force"
        ));
    }
    Ok(())
}

async fn list(config: &Config, chain: &Chain, output: Output) -> Result<(), String> {
    let own = super::configured_address(&config.keys);
    let host = match config.chain.as_ref().and_then(|chain| chain.host) {
        Some(host) => host,
        None => own.clone().map_err(|why| format!("chain.host is not set, and {why}"))?,
    };
    let (registry, known) = submitters(chain, host).await?;
    let is_own = |key: &Address| own.as_ref().is_ok_and(|own| own == key);
    output.show(
        || {
            let keys: Vec<_> = known.iter().map(|key| json!({ "key": key, "this_node": is_own(key) })).collect();
            json!({ "host": host, "registry": registry, "submitters": keys })
        },
        || {
            let rows = known.iter().map(|key| [key.to_string(), if is_own(key) { "this node's".to_owned() } else { String::new() }]);
            format!("host {host}, registry {registry}\n{}", table(["SUBMITTER", ""], rows))
        },
    )
}
