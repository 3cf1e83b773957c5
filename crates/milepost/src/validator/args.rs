//! The command line of a validator.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `milepost validator`
#[derive(Args)]
pub(crate) struct ValidatorArgs {
    /// One of its rarer commands; without any the validator runs.
    #[command(subcommand)]
    pub(crate) command: Option<ValidatorCommand>,
}

#[derive(Subcommand)]
pub(crate) enum ValidatorCommand {
    /// Say what this key has signed, which the database cannot know by itself. The validator must be stopped.
    Declare(DeclareArgs),
    /// Whether this validator can vote, and what to mend. Exit code: 0 nothing, 1 something to mend, 3 something to look at.
    Doctor,
    /// Check the set file, and print what all operators must agree on.
    Set {
        /// The file; by default the configured one.
        file: Option<PathBuf>,
    },
}

#[derive(Args)]
pub(crate) struct DeclareArgs {
    /// This key has never signed anything for this chain and trusted checkpoint: once in the life of a key.
    #[arg(long, conflicts_with = "old_process_stopped", required_unless_present = "old_process_stopped")]
    pub(crate) never_signed: bool,
    /// Whatever process used this key before is stopped for good.
    #[arg(long)]
    pub(crate) old_process_stopped: bool,
    /// With --old-process-stopped: the highest checkpoint number that the old process can have signed. By default the highest that the
    /// chain offers now, and two more for clocks.
    #[arg(long, requires = "old_process_stopped", value_name = "NUMBER")]
    pub(crate) mark: Option<u64>,
}

#[derive(Subcommand)]
pub(crate) enum ValidatorKeysCommand {
    /// Make a validator's keys in a new folder: `vote.json` (encrypted), `transport.pem`, and `registration.toml` for the set file.
    New(NewValidatorKeyArgs),
    /// What the others need to know of a keystore and a transport key. Never the keys.
    Show(ShowValidatorKeyArgs),
}

#[derive(Args)]
pub(crate) struct NewValidatorKeyArgs {
    /// The folder to make; the files in it must not exist.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// The validator's number, agreed among operators. It stands for this key for ever.
    #[arg(long)]
    pub(crate) id: u32,
    /// Where other validators reach it, as host:port.
    #[arg(long)]
    pub(crate) address: Option<String>,
    /// Where everybody may ask it for certificates, as host:port.
    #[arg(long)]
    pub(crate) certificates: Option<String>,
    /// How it signs; all validators of a set sign in the same way.
    #[arg(long, value_enum, default_value_t = SchemeName::Bls)]
    pub(crate) scheme: SchemeName,
    /// File with the passphrase (mode 600); else MILEPOST_PASSPHRASE, else the terminal.
    #[arg(long)]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// A way of signing votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemeName {
    /// BLS12-381 with signatures in G1: certificates of one size, which an EVM can check.
    Bls,
    /// ed25519: certificates grow with the set.
    Ed25519,
}

#[derive(Args)]
pub(crate) struct ShowValidatorKeyArgs {
    /// A keystore; by default the configured one.
    #[arg(long)]
    pub(crate) keystore: Option<PathBuf>,
    /// A transport key; by default the configured one.
    #[arg(long)]
    pub(crate) transport_key: Option<PathBuf>,
    /// Open the keystore: makes sure that it holds the key that it names, and shows the proof of possession.
    #[arg(long)]
    pub(crate) unlock: bool,
    /// File with the passphrase (mode 600); else MILEPOST_PASSPHRASE, else the terminal.
    #[arg(long)]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum EvidenceCommand {
    /// Check evidence with nothing but the set file: the two statements contradict each other, and the accused signed both.
    Verify {
        /// The evidence: its encoding, or the same in hexadecimal digits.
        file: PathBuf,
        /// The set file; by default the configured one.
        #[arg(long)]
        set_file: Option<PathBuf>,
    },
    /// Evidence that this validator's database keeps. The validator must be stopped.
    List,
    /// Write all of it out, one file each, for others to verify. The validator must be stopped.
    Export {
        /// The folder to write to; made if absent.
        #[arg(long)]
        out: PathBuf,
    },
}

/// `milepost db`
#[derive(Args)]
pub(crate) struct DbArgs {
    /// The host's ledger. Without either flag the validator's database, if one is configured.
    #[arg(long, global = true, conflicts_with = "validator")]
    pub(crate) ledger: bool,
    /// The validator's database.
    #[arg(long, global = true)]
    pub(crate) validator: bool,
    #[command(subcommand)]
    pub(crate) command: DbCommand,
}

#[derive(Subcommand)]
pub(crate) enum DbCommand {
    /// Figures.
    Stats,
    /// Read every record and check it. Nothing is changed.
    Check,
    /// Write what the validator's key has signed, in the format of EIP-3076.
    Export {
        /// The file to write; it must not exist.
        #[arg(long)]
        out: PathBuf,
        /// The watermarks alone.
        #[arg(long)]
        minified: bool,
    },
    /// Take in what the validator's key has signed elsewhere, in the format of EIP-3076.
    Import {
        /// The file.
        file: PathBuf,
    },
    /// Write a copy of the database.
    Backup {
        /// The folder to write; it must not exist.
        #[arg(long)]
        out: PathBuf,
    },
}

/// An address that listens on all interfaces is reached at the loopback one.
pub(crate) fn reachable(listen: SocketAddr) -> SocketAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
