//! What can go wrong on the way to the money. Each error has a code that stays, and says what to do.

use milepost_ledger::{Address, ChainId, JobId, TokenAmount};

/// A failure of settlement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No answer from the endpoint. Neither success nor failure of what was asked.
    #[error("[MP-S-001] {endpoint} does not answer ({what}): {reason}")]
    Unreachable {
        /// The endpoint, without credentials.
        endpoint: String,
        /// What was asked.
        what: &'static str,
        /// What the transport says.
        reason: String,
    },
    /// The endpoint serves another chain.
    #[error("[MP-S-002] {endpoint} serves chain {found}, the configuration says {expected}")]
    WrongChain {
        /// The endpoint.
        endpoint: String,
        /// Configured.
        expected: ChainId,
        /// Served.
        found: u64,
    },
    /// Nothing is deployed there.
    #[error("[MP-S-003] there is no contract at {contract} on chain {chain} ({name})")]
    NoContract {
        /// Address.
        contract: Address,
        /// Chain.
        chain: ChainId,
        /// Which contract it should be.
        name: &'static str,
    },
    /// The contract refuses, or would refuse, what we ask.
    #[error("[MP-S-004] {what} is refused by the contract: {reason}")]
    Refused {
        /// What was asked.
        what: String,
        /// The contract's error, decoded.
        reason: String,
    },
    /// A function that we would call is not in the deployed bytecode.
    #[error("[MP-S-005] the contract at {contract} has no function {function} (selector 0x{selector:08x})")]
    NoFunction {
        /// Address.
        contract: Address,
        /// Its signature.
        function: &'static str,
        /// Its selector.
        selector: u32,
    },
    /// The contract is no generation of the marketplace that we know.
    #[error(
        "[MP-S-040] the contract at {contract} (code at {code}) is no marketplace that this node can claim on. Found: {found}. Missing: {missing}"
    )]
    UnknownGeneration {
        /// The configured address.
        contract: Address,
        /// Where its code is, behind proxies.
        code: Address,
        /// What was found.
        found: String,
        /// What was missing.
        missing: String,
    },
    /// The contract takes claims from the host's own account only.
    #[error("[MP-S-041] key {key} cannot claim for host {host}: the marketplace {contract} knows no submitter keys")]
    HostKeyOnly {
        /// The key's address.
        key: Address,
        /// The host.
        host: Address,
        /// The marketplace.
        contract: Address,
    },
    /// Content that a claim names could not be published.
    #[error("[MP-S-042] the receipt could not be published: {0}")]
    Publish(String),
    /// The key may not act for the host.
    #[error("[MP-S-006] key {key} is neither host {host} nor one of its submitter keys in the registry {registry}")]
    NotSubmitter {
        /// The key's address.
        key: Address,
        /// The host.
        host: Address,
        /// The registry.
        registry: Address,
    },
    /// The host is not registered, or not active.
    #[error("[MP-S-007] host {host} is not registered and active in the registry {registry}")]
    HostNotActive {
        /// The host.
        host: Address,
        /// The registry.
        registry: Address,
    },
    /// The key cannot pay for gas.
    #[error("[MP-S-008] key {key} holds {balance} wei; the next transaction may cost {needed}")]
    NoGas {
        /// The key's address.
        key: Address,
        /// What it holds.
        balance: u128,
        /// What is needed.
        needed: u128,
    },
    /// The database was used on another chain.
    #[error("[MP-S-009] this database belongs to {recorded}, the endpoint serves {found}")]
    AnotherChain {
        /// As recorded.
        recorded: String,
        /// As found.
        found: String,
    },
    /// The endpoint answered an error.
    #[error("[MP-S-010] {endpoint} refuses {what}: {code} {message}")]
    Rpc {
        /// The endpoint.
        endpoint: String,
        /// What was asked.
        what: &'static str,
        /// JSON-RPC code.
        code: i64,
        /// Message.
        message: String,
        /// Revert data, if it carries some.
        data: Option<Vec<u8>>,
    },
    /// The chain knows transactions of the key that the ledger does not.
    #[error("[MP-S-030] the chain counts {count} transactions of key {key}, this ledger explains {known}")]
    KeyAhead {
        /// The key's address.
        key: Address,
        /// Its transactions on chain.
        count: u64,
        /// Of those, how many are ours or were accepted by an operator.
        known: u64,
    },
    /// Another process of the deployment signs with the key.
    #[error("[MP-S-031] key {key} is in use by another process (lock {path})")]
    KeyLocked {
        /// The key's address.
        key: Address,
        /// The lock's file.
        path: String,
    },
    /// A claim's gas would cost more than the claim earns.
    #[error("[MP-S-032] claim {claim} earns {revenue} and its gas costs {gas} (smallest unit of the payment token)")]
    NotWorth {
        /// The claim.
        claim: String,
        /// What the gas costs.
        gas: u128,
        /// What the host earns.
        revenue: u128,
    },
    /// An answer that does not fit, or that lies behind what the same endpoint said before.
    #[error("[MP-S-011] {what}: unusable answer: {answer}")]
    Answer {
        /// What was asked.
        what: &'static str,
        /// What came.
        answer: String,
    },
    /// No such job.
    #[error("[MP-S-012] the marketplace has no job {0}")]
    UnknownJob(JobId),
    /// The job names another host.
    #[error("[MP-S-013] job {job} is for host {found}, this is host {expected}")]
    AnotherHost {
        /// The job.
        job: JobId,
        /// This host.
        expected: Address,
        /// The job's.
        found: Address,
    },
    /// The job wants proofs that this node does not make.
    #[error("[MP-S-014] job {job} demands seals for the verifier {verifier}; this host proves with composite receipts")]
    VerifierDemanded {
        /// The job.
        job: JobId,
        /// The verifier.
        verifier: Address,
    },
    /// The job is closing or paid.
    #[error("[MP-S-015] job {job} is {status}: a session can be opened on an active job only")]
    NotActive {
        /// The job.
        job: JobId,
        /// Where it stands.
        status: &'static str,
    },
    /// The job pays less than the host asks, or in a token that the host does not take.
    #[error("[MP-S-027] job {job} pays {paid} per token of {token}, this host asks {}", asked.map_or_else(|| "for another token".to_owned(), |asked| asked.to_string()))]
    Price {
        /// The job.
        job: JobId,
        /// Payment token.
        token: Address,
        /// The job's price per token.
        paid: TokenAmount,
        /// The registry's price for its model and payment token, if the host has one.
        asked: Option<TokenAmount>,
    },
    /// The job's claims are not in this ledger.
    #[error("[MP-S-016] job {job} has {used} tokens claimed that this ledger does not know")]
    ChainAhead {
        /// The job.
        job: JobId,
        /// Tokens claimed on chain.
        used: u64,
    },
    /// A payout that is not what the ledger expects.
    #[error("[MP-S-017] the payout of job {job} is not what was earned: {detail}")]
    Payout {
        /// The job.
        job: JobId,
        /// What differs.
        detail: String,
    },
    /// The endpoint shows another block where the validators certified one.
    #[error(
        "[MP-S-050] {endpoint} shows block {found} at height {height}, validators certified {certified}: nothing it says is taken as final"
    )]
    Contradicted {
        /// The endpoint.
        endpoint: String,
        /// Height of the certified checkpoint.
        height: u64,
        /// Hash of its block by the certificate.
        certified: milepost_ledger::Digest,
        /// Hash of the block that the endpoint shows.
        found: milepost_ledger::Digest,
    },
    /// No newer certificate came for a while, though the chain went on.
    #[error("[MP-S-051] no certificate came for {seconds} s; the last one makes block {height} final, the chain is at {head}: {reason}")]
    NoCertificates {
        /// How long.
        seconds: u64,
        /// Height that is final.
        height: u64,
        /// Height of the chain.
        head: u64,
        /// What the validators say, each.
        reason: String,
    },
    /// Two certificates that no honest quorum could have made both.
    #[error(
        "[MP-S-052] the validators contradict themselves: {accepted} was certified, and then {against}; nothing more is taken as final"
    )]
    CertificatesContradict {
        /// The checkpoint of the first one.
        accepted: String,
        /// The checkpoint of the other one.
        against: String,
    },
    /// The set file or the folder of accepted certificates cannot be used.
    #[error("[MP-S-053] certificates cannot be followed: {0}")]
    Certificates(String),
    /// Fees are beyond the operator's ceiling.
    #[error("[MP-S-019] gas costs {asked} wei, the ceiling is {ceiling}")]
    FeeCeiling {
        /// Base fee and tip.
        asked: u128,
        /// The operator's ceiling.
        ceiling: u128,
    },
    /// The ledger's database stopped; the process must end.
    #[error("[MP-S-020] the ledger stopped: {0}")]
    LedgerStopped(String),
    /// The ledger refused an event: a fault in this program.
    #[error("[MP-S-021] the ledger refused: {0}")]
    LedgerRefused(milepost_ledger::Error),
    /// The configuration cannot be used.
    #[error("[MP-S-022] settlement configuration: {0}")]
    Config(String),
    /// The key is no key.
    #[error("[MP-S-023] the submitter key is not 32 bytes of hexadecimal below the curve's order")]
    BadKey,
    /// The prover failed.
    #[error("[MP-S-024] claim {claim} could not be proven: {reason}")]
    Prover {
        /// The claim.
        claim: String,
        /// Why.
        reason: String,
    },
    /// The prover proves nothing, and the contract wants proofs.
    #[error("[MP-S-026] the prover makes mock proofs, and the marketplace {contract} is no test deployment")]
    MockProofs {
        /// The marketplace.
        contract: Address,
    },
    /// A task of settlement ended when it should not.
    #[error("[MP-S-025] a settlement task ended: {0}")]
    TaskEnded(String),
    /// A test asked for the end at this point.
    #[error("interrupted at {0}, as a test asked for")]
    Interrupted(&'static str),
}

impl Error {
    /// The code that stays.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "MP-S-001",
            Self::WrongChain { .. } => "MP-S-002",
            Self::NoContract { .. } => "MP-S-003",
            Self::Refused { .. } => "MP-S-004",
            Self::NoFunction { .. } => "MP-S-005",
            Self::UnknownGeneration { .. } => "MP-S-040",
            Self::HostKeyOnly { .. } => "MP-S-041",
            Self::Publish(_) => "MP-S-042",
            Self::NotSubmitter { .. } => "MP-S-006",
            Self::HostNotActive { .. } => "MP-S-007",
            Self::NoGas { .. } => "MP-S-008",
            Self::AnotherChain { .. } => "MP-S-009",
            Self::Rpc { .. } => "MP-S-010",
            Self::Answer { .. } => "MP-S-011",
            Self::UnknownJob(_) => "MP-S-012",
            Self::AnotherHost { .. } => "MP-S-013",
            Self::VerifierDemanded { .. } => "MP-S-014",
            Self::NotActive { .. } => "MP-S-015",
            Self::Price { .. } => "MP-S-027",
            Self::ChainAhead { .. } => "MP-S-016",
            Self::Payout { .. } => "MP-S-017",
            Self::Contradicted { .. } => "MP-S-050",
            Self::NoCertificates { .. } => "MP-S-051",
            Self::CertificatesContradict { .. } => "MP-S-052",
            Self::Certificates(_) => "MP-S-053",
            Self::FeeCeiling { .. } => "MP-S-019",
            Self::LedgerStopped(_) => "MP-S-020",
            Self::LedgerRefused(_) => "MP-S-021",
            Self::Config(_) => "MP-S-022",
            Self::BadKey => "MP-S-023",
            Self::Prover { .. } => "MP-S-024",
            Self::TaskEnded(_) => "MP-S-025",
            Self::MockProofs { .. } => "MP-S-026",
            Self::KeyAhead { .. } => "MP-S-030",
            Self::KeyLocked { .. } => "MP-S-031",
            Self::NotWorth { .. } => "MP-S-032",
            Self::Interrupted(_) => "MP-S-000",
        }
    }

    /// What the operator can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "check the endpoint's address and the network; serving goes on, claims wait and nothing is lost",
            Self::WrongChain { .. } => "set chain_id and rpc_url to the same chain",
            Self::NoContract { .. } => "check the contract's address and chain_id",
            Self::Refused { .. } => "`milepost why <job>` shows the claim; the reason names the rule of the contract (contracts/README.md)",
            Self::NoFunction { .. } => "the address holds another contract or another generation of it: set the marketplace's address",
            Self::UnknownGeneration { .. } => {
                "check the marketplace's address; contracts/README.md lists the generations that this node knows"
            }
            Self::HostKeyOnly { .. } => "configure the host account's own key: nobody else can claim on this marketplace",
            Self::Publish(_) => "look at the folder, bucket or database that receipts are published to (chain.deployed); the claim waits",
            Self::NotSubmitter { .. } => "let the host account call HostRegistry.addSubmitter(key), or configure the host's own address",
            Self::HostNotActive { .. } => "let the host account call HostRegistry.register(…), or setActive(true)",
            Self::NoGas { .. } => "send some of the chain's coin to the key; claims wait until then",
            Self::AnotherChain { .. } => "use the database of this chain, or a new data directory",
            Self::Rpc { .. } | Self::Answer { .. } => "the endpoint is retried; use another one if this stays",
            Self::UnknownJob(_) => "the client must fund a session on the configured marketplace first",
            Self::AnotherHost { .. } => "the client must send this job to its own host",
            Self::VerifierDemanded { .. } => "the client must fund a session without a verifier",
            Self::NotActive { .. } => "the client must fund a new session",
            Self::Price { .. } => {
                "the client must fund a session at the host's price; the host sets it by HostRegistry.setPrice(model, token, price)"
            }
            Self::ChainAhead { .. } => {
                "the database is older than the chain, or another copy of this host runs: restore the newest backup, stop the other copy"
            }
            Self::Payout { .. } => {
                "compare `milepost reconcile` with the chain's SessionCompleted event before anything else is done with this job"
            }
            Self::KeyAhead { .. } => {
                "restore the newest backup, or stop the other program that uses this key; if the difference is explained (a transfer by hand), stop the node and run `milepost keys accept-nonces`, or set shared_key"
            }
            Self::KeyLocked { .. } => "stop the other process, or give each node a submitter key of its own (HostRegistry.addSubmitter)",
            Self::NotWorth { .. } => {
                "the claim waits until gas is cheaper or its window ends; larger claims (claim_tokens) cost less per token"
            }
            Self::Contradicted { .. } => {
                "this endpoint is on another chain than the validators, or the set file is: use another endpoint; claims stay pending"
            }
            Self::NoCertificates { .. } => {
                "claims stay pending until validators certify again; look at the validators, or at the network between them and this host"
            }
            Self::CertificatesContradict { .. } => {
                "both certificates are kept in the folder as evidence: the operators must agree on a new trusted checkpoint and set file"
            }
            Self::Certificates(_) => "mend certificates.set_file and its folder; `milepost doctor` shows what is wrong",
            Self::FeeCeiling { .. } => "claims wait until gas is cheaper; raise max_fee_gwei if deadlines are near",
            Self::LedgerStopped(_) => "look at the disk; restart the node",
            Self::LedgerRefused(_) | Self::TaskEnded(_) | Self::Interrupted(_) => "report this with the log; restart the node",
            Self::MockProofs { .. } => "configure a real prover; mock proofs are for test deployments on a development chain",
            Self::Config(_) | Self::BadKey => "mend the configuration",
            Self::Prover { .. } => "`milepost doctor` names the prover's fault; the claim is kept and proven again",
        }
    }

    /// Whether the endpoint simply did not answer as it should: worth waiting, nothing is decided.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Rpc { .. } | Self::Answer { .. })
    }

    /// Whether the process must end.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::LedgerStopped(_)
                | Self::WrongChain { .. }
                | Self::NoContract { .. }
                | Self::NoFunction { .. }
                | Self::UnknownGeneration { .. }
                | Self::HostKeyOnly { .. }
                | Self::AnotherChain { .. }
                | Self::MockProofs { .. }
                | Self::KeyLocked { .. }
                | Self::Certificates(_)
                | Self::TaskEnded(_)
                | Self::Interrupted(_)
        )
    }
}
