//! Validators of a demo: `milepost validator`, each a process with keys, database and configuration of its own.
//!
//! Everything is made with the commands that operators use: keys, registration, set file, the declaration that a key is new. Votes go by
//! the rule `ffg`, since a dev chain's `finalized` tag is not what real chains mean by it.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use finality_gadget::{BlockNumber, CheckpointNumber};
use milepost_test_support::DevChain;
use milepost_validator_net::light;
use milepost_validator_net::set_file::{Agreement, HexBytes, Rule, Scheme, Set, SetFile, Trusted, Validator};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::Error;
use super::stage::free_port;

/// Blocks between two checkpoints. With blocks of a second a payment is certified some seconds after its block.
const INTERVAL: u64 = 2;
/// Blocks below the newest that validators leave alone. A dev chain reorganises only when told to.
const DEPTH: u64 = 1;
/// From the start of the last one until all are ready: opening a keystore takes a second each.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Between two looks.
const GLANCE: Duration = Duration::from_millis(200);
/// Opens the keystores of a demo, which protect nothing.
const PASSPHRASE: &str = "milepost dev protects nothing";
/// The set file's name in the demo's folder.
const SET_FILE: &str = "validators.toml";

/// The running validators.
pub(super) struct Validators {
    /// Ended when dropped.
    processes: Vec<Child>,
    agreement: Agreement,
    out: PathBuf,
}

/// A piece of a set file, as `milepost keys validator new` writes it.
#[derive(Deserialize)]
struct Registration {
    validators: Vec<Validator>,
}

struct Place {
    folder: PathBuf,
    network: u16,
    certificates: u16,
    pages: u16,
}

impl Validators {
    /// Makes keys and a set file, starts so many validators, and waits until all are ready.
    pub(super) async fn start(count: u32, out: &Path, chain: &DevChain) -> Result<Self, Error> {
        if !cfg!(feature = "validator") {
            return Err(Error::NotBuilt("validator"));
        }
        let io = |what: &str, source| Error::Io { what: what.to_owned(), source };
        let folder = out.join("validators");
        std::fs::create_dir_all(&folder).map_err(|source| io("make the validators' folder", source))?;
        let passphrase = folder.join("passphrase");
        crate::keys::seal::write_new(&passphrase, PASSPHRASE.as_bytes()).map_err(|error| Error::Validator(error.to_string()))?;

        let mut places = Vec::new();
        let mut registered = Vec::new();
        for id in 1..=count {
            let port = || free_port().map_err(|source| io("find a free port", source));
            let place = Place { folder: folder.join(id.to_string()), network: port()?, certificates: port()?, pages: port()? };
            let keys = place.folder.join("keys");
            let arguments = ["keys", "validator", "new", "--json", "--id", &id.to_string(), "--out", &keys.display().to_string()];
            let addresses = [
                "--address".to_owned(),
                format!("127.0.0.1:{}", place.network),
                "--certificates".to_owned(),
                format!("127.0.0.1:{}", place.certificates),
                "--passphrase-file".to_owned(),
                passphrase.display().to_string(),
            ];
            run(arguments.map(str::to_owned).into_iter().chain(addresses)).await?;
            let text = std::fs::read_to_string(keys.join("registration.toml")).map_err(|source| io("read a registration", source))?;
            let registration: Registration = toml::from_str(&text).map_err(|error| Error::Validator(error.to_string()))?;
            registered.extend(registration.validators);
            places.push(place);
        }

        let file = SetFile {
            version: SetFile::VERSION,
            chain_id: chain.chain_id(),
            interval: INTERVAL,
            rule: Rule::Ffg,
            scheme: Scheme::Bls,
            trusted: Trusted { number: 0, hash: first_block(chain).await? },
            sets: vec![Set { id: 1, boundary: None, members: registered.iter().map(|validator| validator.id).collect() }],
            validators: registered,
        };
        let agreement = file.agreement().map_err(|error| Error::Validator(error.to_string()))?;
        let text = file.to_toml().map_err(|error| Error::Validator(error.to_string()))?;
        std::fs::write(out.join(SET_FILE), text).map_err(|source| io("write the set file", source))?;

        let mut processes = Vec::new();
        for place in &places {
            let config = place.folder.join("milepost.toml");
            std::fs::write(&config, configuration(place, &passphrase, &out.join(SET_FILE), chain))
                .map_err(|source| io("write a validator's configuration", source))?;
            let config = config.display().to_string();
            run(["validator", "--config", &config, "--json", "declare", "--never-signed"].map(str::to_owned)).await?;
            processes.push(spawn(&config, &place.folder.join("validator.log"))?);
        }
        let mut validators = Self { processes, agreement, out: out.to_owned() };
        validators.ready(&places).await?;
        Ok(validators)
    }

    async fn ready(&mut self, places: &[Place]) -> Result<(), Error> {
        let (http, begin) = (reqwest::Client::new(), Instant::now());
        for (place, process) in places.iter().zip(&mut self.processes) {
            let page = format!("http://127.0.0.1:{}/ready", place.pages);
            let log = place.folder.join("validator.log");
            loop {
                if http.get(&page).send().await.is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
                if let Ok(Some(status)) = process.try_wait() {
                    return Err(Error::Validator(format!("it ended ({status}); its log is {}", log.display())));
                }
                if begin.elapsed() > START_LIMIT {
                    return Err(Error::Validator(format!("not ready within {START_LIMIT:?}; its log is {}", log.display())));
                }
                tokio::time::sleep(GLANCE).await;
            }
        }
        Ok(())
    }

    /// Digest of what the validators agree on.
    pub(super) fn agreement(&self) -> String {
        hex::encode(self.agreement.digest())
    }

    /// What a host's configuration says of them.
    pub(super) fn for_the_host(&self) -> String {
        format!(
            "finality = \"certificate\"\n[chain.certificates]\nset_file = {:?}\nagreement = \"{}\"\npoll_ms = 250\n",
            self.out.join(SET_FILE).display().to_string(),
            self.agreement()
        )
    }

    /// The report's part: for each payment the first certificate that the host accepted and that covers its block, copied beside the
    /// report. `payments`: what, transaction, block.
    pub(super) fn report(&self, data: &Path, payments: &[(String, String, u64)]) -> Result<Value, Error> {
        let state = light::read(&data.join("certificates"), &self.agreement).map_err(|error| Error::Validator(error.to_string()))?;
        let mut shown = Vec::new();
        for (what, tx, block) in payments {
            let certified = state.covering(BlockNumber(*block));
            let certified =
                certified.ok_or_else(|| Error::Validator(format!("the host holds no certificate for block {block} ({what})")))?;
            let CheckpointNumber(number) = certified.checkpoint().number;
            let name = format!("certificate-{number}.bin");
            std::fs::write(self.out.join(&name), certified.certificate().encode())
                .map_err(|source| Error::Io { what: "write a certificate".to_owned(), source })?;
            shown.push(json!({
                "what": what,
                "tx": tx,
                "block": block,
                "checkpoint": number,
                "certified_block": certified.height().0,
                "certified_hash": certified.checkpoint().hash.to_string(),
                "link": certified.digest().to_string(),
                "signers": certified.certificate().signers.count(),
                "certificate": name,
            }));
        }
        Ok(json!({ "source": "certificate", "set_file": SET_FILE, "agreement": self.agreement(), "payments": shown }))
    }
}

/// The report's part in one line for each payment.
pub(super) fn lines(finality: &Value) -> String {
    let payments = finality["payments"].as_array().into_iter().flatten();
    payments.fold(String::new(), |mut text, payment| {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "  {:<12} in block {}, final by the certificate of checkpoint {} (block {}, {} signers)",
            payment["what"].as_str().unwrap_or_default(),
            payment["block"],
            payment["checkpoint"],
            payment["certified_block"],
            payment["signers"]
        );
        text
    })
}

fn configuration(place: &Place, passphrase: &Path, set_file: &Path, chain: &DevChain) -> String {
    let path = |path: &Path| path.display().to_string();
    format!(
        "# Written by `milepost dev`.\n\
         [validator]\ndata = {data:?}\nset_file = {set:?}\nkeystore = {keystore:?}\npassphrase_file = {passphrase:?}\n\
         transport_key = {transport:?}\nlisten = \"127.0.0.1:{network}\"\ncertificates_listen = \"127.0.0.1:{certificates}\"\n\
         metrics_listen = \"127.0.0.1:{pages}\"\nrpc_url = \"{rpc}\"\nfollow = \"latest\"\ndepth = {DEPTH}\npoll_ms = 250\n\
         [validator.persistence]\npreset = \"testnet\"\n",
        data = path(&place.folder.join("data")),
        set = path(set_file),
        keystore = path(&place.folder.join("keys/vote.json")),
        passphrase = path(passphrase),
        transport = path(&place.folder.join("keys/transport.pem")),
        network = place.network,
        certificates = place.certificates,
        pages = place.pages,
        rpc = chain.url(),
    )
}

fn program() -> Result<PathBuf, Error> {
    std::env::current_exe().map_err(|source| Error::Io { what: "find this program".to_owned(), source })
}

/// Runs a command of this program to its end.
async fn run(arguments: impl IntoIterator<Item = String>) -> Result<(), Error> {
    let arguments: Vec<String> = arguments.into_iter().collect();
    let done = Command::new(program()?).args(&arguments).stdin(Stdio::null()).output().await;
    let done = done.map_err(|source| Error::Io { what: "run this program".to_owned(), source })?;
    if done.status.success() {
        return Ok(());
    }
    Err(Error::Validator(format!("milepost {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr).trim())))
}

fn spawn(config: &str, log: &Path) -> Result<Child, Error> {
    let log = OpenOptions::new().create(true).append(true).open(log);
    let log = log.map_err(|source| Error::Io { what: "open a validator's log".to_owned(), source })?;
    let mut command = Command::new(program()?);
    command.args(["validator", "--json", "--config", config]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    command.spawn().map_err(|source| Error::Io { what: "start a validator".to_owned(), source })
}

/// Hash of the chain's first block, which a demo trusts: it is the chain's own maker.
async fn first_block(chain: &DevChain) -> Result<HexBytes, Error> {
    let block: Value = chain.request("eth_getBlockByNumber", ("0x0", false)).await?;
    let hash = block["hash"].as_str().and_then(|hash| hex::decode(hash.trim_start_matches("0x")).ok());
    hash.map(HexBytes).ok_or_else(|| Error::Validator("the dev chain shows no first block".to_owned()))
}
