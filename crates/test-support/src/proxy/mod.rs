//! A line to the chain that does what public endpoints do on a bad day.
//!
//! # What it can do
//!
//! ```text
//!            ┌─ scripted: the n-th call of a method meets a fault     ([`FaultProxy::script`])
//!  request ──┼─ seeded:   each call draws its fault from a seed       ([`FaultProxy::weather`])
//!            └─ rules:    always in force: 10 % replacement, 128 KiB, tags, lag   ([`Rules`])
//! ```
//!
//! The rules are those of real nodes that the development chain does not keep: a transaction that replaces another must offer a
//! tenth more on both fee fields; one of more than 128 KiB is refused; the `safe` and `finalized` tags trail the head. Faults are
//! what happens between a client and a node: see [`Fault`].
//!
//! [`FaultProxy::reorg`] takes blocks back, and the transactions of ours in them are lost, or return to the pool.
//!
//! Guarantees: the same seed draws the same faults for the same sequence of calls, and every fault that was done is written down
//! ([`FaultProxy::done`]). Does not: speak WebSocket, or take batches.

mod fault;
mod pool;
mod serve;
mod views;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy::primitives::B256;

pub use fault::{Done, Fault, Script, Weather};

use crate::{DevChain, Error, install_tls};
use fault::Plan;
use pool::Pool;

/// What a real node enforces and the development chain does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Percent by which both fee fields of a replacement must be higher.
    pub replacement_percent: u128,
    /// Bytes of a signed transaction that are taken at most.
    pub max_transaction: usize,
    /// Blocks by which the tag `safe` trails the head.
    pub safe_depth: u64,
    /// Blocks by which the tag `finalized` trails the head.
    pub finalized_depth: u64,
    /// Newest blocks whose state is kept; older state is refused, as by every node that is no archive. `None`: all of it.
    pub state_blocks: Option<u64>,
}

impl Default for Rules {
    /// geth's price bump and size limit; tags near the head, as on a quick rollup.
    fn default() -> Self {
        Self { replacement_percent: 10, max_transaction: 128 * 1024, safe_depth: 2, finalized_depth: 6, state_blocks: None }
    }
}

/// What becomes of transactions whose blocks a reorganisation takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// They are gone: nobody but their sender has them.
    Lost,
    /// They are in the pool again.
    ToPool,
}

/// State shared with the server's task.
pub(crate) struct State {
    pub(crate) target: String,
    pub(crate) client: reqwest::Client,
    pub(crate) rules: Mutex<Rules>,
    pub(crate) plan: Mutex<Plan>,
    pub(crate) pool: Mutex<Pool>,
    /// Height last answered for `finalized`: it never falls.
    pub(crate) finalized: Mutex<u64>,
    heard: Mutex<BTreeMap<String, u64>>,
    down: Mutex<bool>,
}

/// A running proxy. Ends when dropped.
pub struct FaultProxy {
    port: u16,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on a port of its own and forwards to the endpoint at `target`.
    pub async fn to(target: &str) -> Result<Self, Error> {
        Self::with(target, Rules::default()).await
    }

    /// As [`Self::to`], with other rules.
    pub async fn with(target: &str, rules: Rules) -> Result<Self, Error> {
        install_tls();
        let client = reqwest::Client::builder().no_proxy().timeout(serve::UPSTREAM_TIMEOUT).build();
        let client = client.map_err(|error| Error::Answer { what: "an HTTP client".to_owned(), answer: error.to_string() })?;
        let listening = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listening.map_err(|source| Error::Io { what: "listening for the proxy", source })?;
        let port = listener.local_addr().map_err(|source| Error::Io { what: "the proxy's port", source })?.port();
        let state = Arc::new(State {
            target: target.to_owned(),
            client,
            rules: Mutex::new(rules),
            plan: Mutex::default(),
            pool: Mutex::default(),
            finalized: Mutex::new(0),
            heard: Mutex::default(),
            down: Mutex::new(false),
        });
        let task = tokio::spawn(serve::serve(listener, state.clone()));
        Ok(Self { port, state, task })
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Changes the rules.
    pub fn set_rules(&self, rules: Rules) {
        *lock(&self.state.rules) = rules;
    }

    /// Adds a scripted fault. The first script that fits a call is done.
    pub fn script(&self, script: Script) {
        lock(&self.state.plan).scripts.push(script);
    }

    /// Forgets every scripted fault.
    pub fn clear_scripts(&self) {
        lock(&self.state.plan).scripts.clear();
    }

    /// From now on faults are drawn from the seed; `None` ends that.
    pub fn weather(&self, weather: Option<Weather>) {
        lock(&self.state.plan).set_weather(weather);
    }

    /// While down, every connection is closed without an answer and nothing is forwarded.
    pub fn set_down(&self, down: bool) {
        *lock(&self.state.down) = down;
    }

    /// Faults done so far, oldest first.
    pub fn done(&self) -> Vec<Done> {
        lock(&self.state.plan).done.iter().cloned().collect()
    }

    /// How often a method was called.
    pub fn heard(&self, method: &str) -> u64 {
        lock(&self.state.heard).get(method).copied().unwrap_or(0)
    }

    /// Signed transactions that were forwarded: hash, and how often.
    pub fn forwarded(&self) -> Vec<(B256, u32)> {
        lock(&self.state.pool).forwarded()
    }

    /// How many transactions that came through this proxy lie in the last `depth` blocks of `chain`: what a reorganisation takes.
    pub async fn landed(&self, chain: &DevChain, depth: u64) -> Result<usize, Error> {
        let height = chain.head().await?.0;
        let recent = pool::included(chain, height.saturating_sub(depth) + 1, height).await?;
        Ok(lock(&self.state.pool).raw_of(&recent).len())
    }

    /// Replaces the last `depth` blocks of `chain` by empty ones. Transactions that came through this proxy and were in them are
    /// lost or return to the pool; those of anybody else are lost. How many of ours were taken back.
    pub async fn reorg(&self, chain: &DevChain, depth: u64, fate: Return) -> Result<usize, Error> {
        let height = chain.head().await?.0;
        let taken = pool::included(chain, height.saturating_sub(depth) + 1, height).await?;
        chain.reorg(depth).await?;
        let ours: Vec<_> = lock(&self.state.pool).raw_of(&taken);
        if fate == Return::ToPool {
            for raw in &ours {
                // A transaction whose predecessor is gone is taken too, and waits. One that its sender brought back sooner, as it is or
                // with a higher fee, is refused, and stays what the sender made it.
                match chain.request::<_, serde_json::Value>("eth_sendRawTransaction", (raw,)).await {
                    Err(Error::Rpc { source, .. }) if source.as_error_resp().is_some() => {}
                    sent => drop(sent?),
                }
            }
        }
        Ok(ours.len())
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    pub(crate) fn is_down(&self) -> bool {
        *lock(&self.down)
    }

    pub(crate) fn hear(&self, method: &str) {
        *lock(&self.heard).entry(method.to_owned()).or_default() += 1;
    }
}

/// A lock whose holders cannot leave it half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
