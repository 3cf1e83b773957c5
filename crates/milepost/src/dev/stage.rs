//! The stage of a demo: chain, contracts, host process, funded session.

use std::net::TcpListener;
use std::path::PathBuf;

use milepost_client::{Amount, OpenRequest, Session, Wallet};
use milepost_statement::{Address, Digest};
use milepost_test_support::{ChainOptions, DeployOptions, Deployment, DevChain, Mining};
use sha2::{Digest as _, Sha256};

use super::Error;
use super::node::{Node, Settings};
use super::show::Show;
use super::validators::Validators;
use crate::build_info::build_info;
use crate::cli::DevArgs;

/// 2 USDC in 10⁻⁶.
const DEPOSIT: u128 = 2_000_000;
/// 0.002 USDC in 10⁻⁶.
const PRICE: u64 = 2_000;
/// A claim while the session runs. With at least 250 tokens in all this makes one, and at most two more at the end.
const CLAIM_TOKENS: u64 = 200;
/// Account of the development mnemonic that pays.
const DEPOSITOR: u32 = 3;
/// SHA-256 of what the scripted engine calls its model.
const SCRIPTED: &str = "scripted";

/// Everything a demo plays with.
pub(super) struct Stage {
    pub(super) chain: DevChain,
    pub(super) contracts: Deployment,
    pub(super) node: Option<Node>,
    pub(super) session: Session,
    pub(super) model: ModelFile,
    pub(super) tour: bool,
    pub(super) out: PathBuf,
    /// Those who certify, if the demo has some.
    pub(super) validators: Option<Validators>,
    /// Prompts, in the order in which they were sent.
    pub(super) asked: Vec<&'static str>,
}

/// The model of a demo.
pub(super) struct ModelFile {
    pub(super) name: String,
    pub(super) digest: Digest,
    path: Option<PathBuf>,
}

impl Stage {
    pub(super) async fn build(args: &DevArgs, show: &mut Show) -> Result<Self, Error> {
        let io = |what: &str, source| Error::Io { what: what.to_owned(), source };
        if args.out.exists() {
            std::fs::remove_dir_all(&args.out).map_err(|source| io("clear the demo's folder", source))?;
        }
        std::fs::create_dir_all(&args.out).map_err(|source| io("make the demo's folder", source))?;
        let out = args.out.canonicalize().map_err(|source| io("find the demo's folder", source))?;

        show.begin("dev chain 31337 with the contracts, a registered host, a funded depositor");
        let model = ModelFile::find(args.tour)?;
        let port = free_port().map_err(|source| io("find a free port", source))?;
        let url = format!("http://127.0.0.1:{port}");
        let chain = DevChain::start(ChainOptions { mining: Mining::Automatic, ..ChainOptions::default() }).await?;
        let image_id: Digest = build_info().image_id.parse().unwrap_or_default();
        let options = DeployOptions {
            test_deployment: args.tour,
            image_id: image_id.0.into(),
            model: model.digest.0.into(),
            price: PRICE,
            api_url: url.clone(),
            ..DeployOptions::default()
        };
        let contracts = chain.deploy(options).await?;
        // From here on blocks come by themselves, as on a real chain: confirmations need them.
        let _: serde_json::Value = chain.request("evm_setIntervalMining", (1_u64,)).await?;
        show.done(&format!("marketplace {}", contracts.marketplace));

        let validators = if args.validators > 0 {
            show.begin(&format!("{} validators: milepost validator, each a process with keys and a database of its own", args.validators));
            let validators = Validators::start(args.validators, &out, &chain).await?;
            show.done(&format!("all sign; they agree on {}", validators.agreement()));
            Some(validators)
        } else {
            None
        };

        show.begin("host: milepost serve, a process of its own");
        let config = out.join("milepost.toml");
        let finality = validators.as_ref().map(Validators::for_the_host).unwrap_or_default();
        std::fs::write(&config, host_config(args.tour, port, &out, &chain, &contracts, &model) + &finality)
            .map_err(|source| io("write the host's configuration", source))?;
        let submitter = format!("0x{}", hex::encode(contracts.actors.submitter.key));
        let node = Node::start(Settings { config, submitter, log: out.join("host.log"), port }).await?;
        show.done(&format!("{url}, model {}", model.name));

        show.begin("client: 2 USDC deposited at 0.002 USDC per token");
        let wallet = Wallet::development(DEPOSITOR)?;
        let mut request = OpenRequest::new(
            chain.url(),
            Address(contracts.marketplace.into()),
            Address(contracts.actors.host.address.into()),
            Address(contracts.usdc.into()),
            Amount(DEPOSIT),
            model.digest,
            out.join("session.json"),
        );
        request.host_url = Some(url.clone());
        let mut session = Session::open(wallet, request).await?;
        session.authenticate(Some(&url)).await?;
        show.done(&format!("job {} is funded, its depositor holds a session", session.job_id()));
        Ok(Self { chain, contracts, node: Some(node), session, model, tour: args.tour, out, validators, asked: Vec::new() })
    }

    /// Price of a token in 10⁻⁶ USDC.
    pub(super) fn price(&self) -> u64 {
        self.contracts.price
    }
}

impl ModelFile {
    fn find(tour: bool) -> Result<Self, Error> {
        if tour {
            let digest = Digest(milepost_inference::scripted::digest());
            return Ok(Self { name: SCRIPTED.to_owned(), digest, path: None });
        }
        if !cfg!(feature = "llama") {
            return Err(Error::NotBuilt("llama.cpp"));
        }
        if !cfg!(feature = "stark") {
            return Err(Error::NotBuilt("STARK verifier"));
        }
        let path = model_path();
        let mut file = std::fs::File::open(&path).map_err(|_| Error::NoModel(path.clone()))?;
        let mut hash = Sha256::new();
        std::io::copy(&mut file, &mut hash).map_err(|source| Error::Io { what: format!("read {}", path.display()), source })?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { name, digest: Digest(hash.finalize().into()), path: Some(path) })
    }
}

/// Where `scripts/bootstrap` puts the model, unless told otherwise.
fn model_path() -> PathBuf {
    if let Some(path) = std::env::var_os("MILEPOST_MODEL") {
        return PathBuf::from(path);
    }
    let cache = std::env::var_os("MILEPOST_CACHE").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    cache.unwrap_or_else(|| home.join(".cache/milepost")).join("models/SmolLM2-135M-Instruct.Q4_1.gguf")
}

fn host_config(tour: bool, port: u16, out: &std::path::Path, chain: &DevChain, contracts: &Deployment, model: &ModelFile) -> String {
    let (store, engine, backend) = if tour { ("memory", "scripted", "mock") } else { ("rocksdb", "llama", "stark") };
    let path = model.path.as_ref().map(|path| format!("path = {:?}\n", path.display().to_string())).unwrap_or_default();
    // The scripted engine runs at the pace of a small model, so that the stream can be watched.
    let rate = if tour { "scripted_rate = 60\n" } else { "" };
    format!(
        "# Written by `milepost dev`.\n\
         [node]\nlisten = \"127.0.0.1:{port}\"\ndata = {data:?}\nstore = \"{store}\"\n\
         [model]\nengine = \"{engine}\"\nname = \"{name}\"\n{path}{rate}\
         [prover]\nbackend = \"{backend}\"\n\
         [chain]\nrpc_url = \"{rpc}\"\nchain_id = 31337\nmarketplace = \"{marketplace}\"\nhost = \"{host}\"\n\
         confirmations = 2\npoll_ms = 250\nclaim_tokens = {CLAIM_TOKENS}\n",
        data = out.join("data").display().to_string(),
        name = model.name,
        rpc = chain.url(),
        marketplace = contracts.marketplace,
        host = contracts.actors.host.address,
    )
}

pub(super) fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
