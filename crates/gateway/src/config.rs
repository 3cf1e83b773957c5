//! Settings of the doors, each with its default and the reason for it.

use std::time::Duration;

use milepost_ledger::{ClaimPace, Limits, SharedProver, TokenAmount, TokenCount};
use serde::{Deserialize, Serialize};

/// Who may spend a job (SPEC §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// Only who holds a session token, which the depositor's signature opened.
    Depositor,
    /// Also who merely names the job: for old clients, by explicit opt-in. Can spend a job, never end one.
    Legacy,
    /// Anybody: log mode and local development chains.
    Open,
}

/// Settings of the doors. Durations are in whole seconds, as an operator writes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Who may spend a job. Left out: [`AuthMode::Depositor`] where jobs have terms, [`AuthMode::Open`] in log mode.
    pub auth: Option<AuthMode>,
    /// Whether requests without a job are served, unbilled. Refused with 402 otherwise.
    pub unbilled: bool,
    /// Chain id that is shown where an account has no terms; 0 in log mode.
    pub chain_id: u64,
    /// Name of the chain, shown in `/v1/models`.
    pub chain_name: Option<String>,
    /// Tokens of a checkpoint, 1 to 65,536.
    pub checkpoint_threshold: u32,
    /// Tokens that may be durable but not acknowledged before generation pauses.
    pub unacked_window: u32,
    /// Largest `max_tokens` of a request.
    pub max_tokens_limit: u32,
    /// `max_tokens` where an OpenAI client names none.
    pub default_max_tokens: u32,
    /// Largest body or frame in bytes. Also bounds the conversation a request can carry.
    pub max_body_bytes: usize,
    /// Seconds for which a second request of an account waits for the first.
    pub turn_wait_seconds: u64,
    /// Requests of an account that may wait.
    pub turn_waiters: usize,
    /// Uncached prompt tokens allowed per billed token; prompts are not billed, but cost the host.
    pub prefill_ratio: u64,
    /// Uncached prompt tokens of an account before that ratio matters.
    pub prefill_grace: u64,
    /// Seconds after which a turn ends whose client takes nothing any more.
    pub stall_seconds: u64,
    /// Seconds after which a turn fails whose engine gives no token though it may.
    pub engine_stall_seconds: u64,
    /// Seconds for which a turn waits for a voucher, for a claim to land or for the rate cap, before it ends as `escrow`.
    pub top_up_seconds: u64,
    /// Seconds in which a session may resume after its last socket closed.
    pub socket_grace_seconds: u64,
    /// Seconds without a request after which a session is idle.
    pub idle_seconds: u64,
    /// Whether a depositor's session ends after the socket's grace or the idle time.
    pub end_idle_sessions: bool,
    /// Seconds a session token is valid.
    pub token_seconds: u64,
    /// Most connections at a time; further ones wait to be accepted.
    pub max_connections: usize,
    /// Most WebSockets at a time.
    pub max_sockets: usize,
    /// Most accounts without a job that are open at a time.
    pub max_free_accounts: usize,
    /// Most requests without a job that generate at a time, so that they cannot crowd out those who pay.
    pub max_unbilled_running: usize,
    /// Seconds after the end of a session without a job for which its answers can still be replayed.
    pub free_retention_seconds: u64,
    /// Most bytes, by a generous estimate, that sessions without a job may hold on the disk. Beyond it the oldest that ended are
    /// forgotten early, and then nothing more is generated without a job.
    pub max_free_bytes: u64,
    /// Seconds a drain waits for running turns before it interrupts them.
    pub drain_seconds: u64,
    /// Seconds kept free before a job's deadline for proving and claiming.
    pub reserve_seconds: u64,
    /// Most value of unclaimed tokens of a job, in the payment token's smallest unit; for contracts without a closing window.
    pub max_at_risk: Option<TokenAmount>,
    /// Most tokens of one claim, where the operator bounds it. With `claim_seconds` it tells what a closing window has time for.
    pub max_claim_tokens: Option<u64>,
    /// Seconds of one claim from plan to finality.
    pub claim_seconds: Option<u64>,
    /// Seconds that the proof of a full claim takes on the prover that all jobs share; 0 where proofs take no time. With
    /// `max_claim_tokens` it bounds what all jobs together may leave unproven.
    pub proof_seconds: Option<u64>,
    /// Answers browsers of any origin. Tokens travel in headers, never in cookies, so this gives no page a client's rights.
    pub cors: bool,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            auth: None,
            unbilled: true,
            chain_id: 0,
            chain_name: None,
            checkpoint_threshold: 100,
            unacked_window: 64,
            max_tokens_limit: 32_768,
            default_max_tokens: 1_024,
            max_body_bytes: 1 << 20,
            turn_wait_seconds: 30,
            turn_waiters: 4,
            prefill_ratio: 50,
            prefill_grace: 131_072,
            stall_seconds: 120,
            engine_stall_seconds: 300,
            top_up_seconds: 30,
            socket_grace_seconds: 60,
            idle_seconds: 900,
            end_idle_sessions: true,
            token_seconds: 86_400,
            max_connections: 4_096,
            max_sockets: 1_024,
            max_free_accounts: 10_000,
            max_unbilled_running: 16,
            free_retention_seconds: 3_600,
            max_free_bytes: 256 << 20,
            drain_seconds: 30,
            reserve_seconds: 900,
            max_at_risk: None,
            max_claim_tokens: None,
            claim_seconds: None,
            proof_seconds: None,
            cors: true,
        }
    }
}

impl GatewayConfig {
    /// What is wrong with the settings, if anything.
    pub fn check(&self) -> Result<(), String> {
        let at_least_one = [
            ("unacked_window", u64::from(self.unacked_window)),
            ("max_tokens_limit", u64::from(self.max_tokens_limit)),
            ("default_max_tokens", u64::from(self.default_max_tokens)),
            ("max_body_bytes", self.max_body_bytes as u64),
            ("stall_seconds", self.stall_seconds),
            ("engine_stall_seconds", self.engine_stall_seconds),
            ("token_seconds", self.token_seconds),
            ("max_connections", self.max_connections as u64),
            ("max_sockets", self.max_sockets as u64),
            ("max_free_bytes", self.max_free_bytes),
            ("max_unbilled_running", self.max_unbilled_running as u64),
        ];
        if let Some((name, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} is 0; it must be at least 1"));
        }
        if !(1..=65_536).contains(&self.checkpoint_threshold) {
            return Err(format!("checkpoint_threshold is {}; it must be between 1 and 65536", self.checkpoint_threshold));
        }
        Ok(())
    }

    /// The limits of a job beside which the others need so many quarter claims of the prover.
    pub(crate) fn limits(&self, others: u64) -> Limits {
        let pace = self
            .max_claim_tokens
            .zip(self.claim_seconds)
            .map(|(tokens, seconds)| ClaimPace { max_claim_tokens: TokenCount(tokens), seconds });
        let shared = self.shared_claim().map(|max_claim_tokens| SharedProver {
            proof_seconds: self.proof_seconds.unwrap_or(0),
            max_claim_tokens,
            others,
        });
        Limits { reserve_seconds: self.reserve_seconds, max_at_risk: self.max_at_risk, pace, shared }
    }

    /// Tokens of a full claim, where jobs share a prover whose time is short.
    pub(crate) fn shared_claim(&self) -> Option<TokenCount> {
        self.max_claim_tokens.filter(|_| self.proof_seconds.is_some_and(|seconds| seconds > 0)).map(TokenCount)
    }

    pub(crate) fn stall(&self) -> Duration {
        Duration::from_secs(self.stall_seconds)
    }

    pub(crate) fn engine_stall(&self) -> Duration {
        Duration::from_secs(self.engine_stall_seconds)
    }

    pub(crate) fn top_up(&self) -> Duration {
        Duration::from_secs(self.top_up_seconds)
    }

    pub(crate) fn turn_wait(&self) -> Duration {
        Duration::from_secs(self.turn_wait_seconds)
    }
}
