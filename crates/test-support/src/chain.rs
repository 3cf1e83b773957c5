//! The development chain: an anvil process, and the levers it has beyond those of a chain.

use std::time::Duration;

use alloy::consensus::BlockHeader as _;
use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::json_rpc::{RpcRecv, RpcSend};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::sol_types::SolCall;
use alloy::transports::http::{Http, reqwest};

use crate::anvil::Anvil;
use crate::{DevAccount, Error, install_tls};

/// How long a transaction may wait for its block; a few block times of the slowest chain tests use.
const RECEIPT_SECONDS: u64 = 20;
/// Between two looks for a receipt.
const RECEIPT_PAUSE: Duration = Duration::from_millis(20);
/// Gas of every transaction sent from an unlocked account: enough for the largest deployment.
const GAS: u64 = 12_000_000;
/// An answer that takes longer is a fault of the chain, not slowness.
const RPC_TIMEOUT: Duration = Duration::from_secs(30);

/// When blocks are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mining {
    /// With each transaction.
    #[default]
    Automatic,
    /// On request ([`DevChain::mine`]).
    Manual,
    /// Every so many seconds.
    Every(u64),
}

/// What kind of development chain.
#[derive(Clone, Debug, Default)]
pub struct ChainOptions {
    /// When blocks are made.
    pub mining: Mining,
    /// Timestamp of the first block in Unix seconds; the clock's time if not given.
    pub genesis: Option<u64>,
    /// A fixed port, so that a chain can come back at the same place; 0 lets the kernel choose.
    pub port: u16,
    /// Chain id other than 31337.
    pub chain_id: Option<u64>,
    /// File from which the chain's state is loaded when it starts and to which it is saved when it ends in peace.
    pub state: Option<std::path::PathBuf>,
}

/// A state of the chain to return to.
#[derive(Clone, Debug)]
pub struct Snapshot(U256);

/// A running development chain. Ends when dropped, and with this process.
pub struct DevChain {
    anvil: Anvil,
    url: String,
    chain_id: u64,
    provider: RootProvider,
}

impl DevChain {
    /// Starts one.
    pub async fn start(options: ChainOptions) -> Result<Self, Error> {
        install_tls();
        let chain_id = options.chain_id.unwrap_or(31337);
        let mut arguments = vec!["--chain-id".to_owned(), chain_id.to_string()];
        match options.mining {
            Mining::Automatic => {}
            Mining::Manual => arguments.push("--no-mining".to_owned()),
            Mining::Every(seconds) => arguments.extend(["--block-time".to_owned(), seconds.to_string()]),
        }
        if let Some(genesis) = options.genesis {
            arguments.extend(["--timestamp".to_owned(), genesis.to_string()]);
        }
        if let Some(state) = &options.state {
            arguments.extend(["--state".to_owned(), state.display().to_string()]);
        }
        let anvil = Anvil::start(options.port, &arguments).await?;
        let url = format!("http://127.0.0.1:{}", anvil.port);
        let client = reqwest::Client::builder().timeout(RPC_TIMEOUT).no_proxy().build();
        let wrong = |answer: String| Error::Answer { what: "building an HTTP client".to_owned(), answer };
        let client = client.map_err(|error| wrong(error.to_string()))?;
        let parsed = url.parse().map_err(|_| wrong(url.clone()))?;
        let provider = RootProvider::new(RpcClient::new(Http::with_client(client, parsed), true));
        Ok(Self { anvil, url, chain_id, provider })
    }

    /// Where it answers.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.anvil.port
    }

    /// Its chain id.
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.anvil.pid()
    }

    /// Account number `index` (0 to 9) of the development mnemonic.
    pub fn account(&self, index: usize) -> DevAccount {
        self.anvil.accounts[index]
    }

    /// A provider without fillers or signer.
    pub fn provider(&self) -> &RootProvider {
        &self.provider
    }

    /// Kills the chain at once; everything in it is lost.
    pub fn kill(&mut self) {
        self.anvil.kill();
    }

    /// Any request.
    pub async fn request<P: RpcSend, R: RpcRecv>(&self, method: &'static str, params: P) -> Result<R, Error> {
        self.provider
            .raw_request(method.into(), params)
            .await
            .map_err(|source| Error::Rpc { what: method.to_owned(), source: Box::new(source) })
    }

    /// Mines `count` blocks.
    pub async fn mine(&self, count: u64) -> Result<(), Error> {
        self.request("anvil_mine", (U256::from(count),)).await
    }

    /// Turns mining with each transaction on or off.
    pub async fn set_automine(&self, on: bool) -> Result<(), Error> {
        self.request("evm_setAutomine", (on,)).await
    }

    /// Lets `seconds` pass, and mines a block so that the chain notices.
    pub async fn increase_time(&self, seconds: u64) -> Result<(), Error> {
        let _: serde_json::Value = self.request("evm_increaseTime", (U256::from(seconds),)).await?;
        self.mine(1).await
    }

    /// Gives the next block this timestamp (Unix seconds), and mines it.
    pub async fn set_time(&self, timestamp: u64) -> Result<(), Error> {
        let _: serde_json::Value = self.request("evm_setNextBlockTimestamp", (timestamp,)).await?;
        self.mine(1).await
    }

    /// Replaces the last `depth` blocks by as many empty ones. Their transactions vanish; they do not return to the pool.
    pub async fn reorg(&self, depth: u64) -> Result<(), Error> {
        let none: [u8; 0] = [];
        let _: serde_json::Value = self.request("anvil_reorg", (depth, none)).await?;
        Ok(())
    }

    /// Drops a transaction from the pool.
    pub async fn drop_transaction(&self, hash: B256) -> Result<(), Error> {
        let _: serde_json::Value = self.request("anvil_dropTransaction", (hash,)).await?;
        Ok(())
    }

    /// Gives `address` so many wei.
    pub async fn set_balance(&self, address: Address, wei: U256) -> Result<(), Error> {
        self.request("anvil_setBalance", (address, wei)).await
    }

    /// Puts code at `address`.
    pub async fn set_code(&self, address: Address, code: Bytes) -> Result<(), Error> {
        self.request("anvil_setCode", (address, code)).await
    }

    /// Remembers the chain's state.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.request("evm_snapshot", ()).await.map(Snapshot)
    }

    /// Returns to a remembered state.
    pub async fn revert(&self, snapshot: Snapshot) -> Result<(), Error> {
        let done: bool = self.request("evm_revert", (snapshot.0,)).await?;
        if done { Ok(()) } else { Err(Error::Answer { what: "evm_revert".to_owned(), answer: "false".to_owned() }) }
    }

    /// Height and timestamp of the newest block.
    pub async fn head(&self) -> Result<(u64, u64), Error> {
        let block = self.provider.get_block_by_number(BlockNumberOrTag::Latest).await;
        let block = block.map_err(|source| Error::Rpc { what: "the newest block".to_owned(), source: Box::new(source) })?;
        let block = block.ok_or_else(|| Error::Answer { what: "the newest block".to_owned(), answer: "none".to_owned() })?;
        Ok((block.header.number(), block.header.timestamp()))
    }

    /// Hashes of the transactions in the pool (at most a block's worth).
    pub async fn pool(&self) -> Result<Vec<B256>, Error> {
        let content: serde_json::Value = self.request("txpool_content", ()).await?;
        let pending = content["pending"].as_object().into_iter().flat_map(|senders| senders.values());
        let txs = pending.filter_map(|nonces| nonces.as_object()).flat_map(|nonces| nonces.values());
        Ok(txs.filter_map(|tx| tx["hash"].as_str()?.parse().ok()).collect())
    }

    /// Hands a transaction of an unlocked account to the pool, without waiting.
    pub async fn submit(&self, what: &str, from: Address, to: TxKind, data: Bytes, value: U256) -> Result<B256, Error> {
        let mut request = TransactionRequest::default().from(from).value(value).input(data.into()).gas_limit(GAS);
        request.to = Some(to);
        let sent = self.provider.raw_request("eth_sendTransaction".into(), (request,)).await;
        sent.map_err(|source| Error::Rpc { what: what.to_owned(), source: Box::new(source) })
    }

    /// Sends a transaction from an unlocked account and waits for its block. It must succeed.
    pub async fn send(&self, what: &str, from: Address, to: TxKind, data: Bytes, value: U256) -> Result<TransactionReceipt, Error> {
        let hash = self.submit(what, from, to, data, value).await?;
        let looks = RECEIPT_SECONDS * 1000 / u64::try_from(RECEIPT_PAUSE.as_millis()).unwrap_or(u64::MAX);
        for _ in 0..looks {
            let receipt = self.provider.get_transaction_receipt(hash).await;
            match receipt.map_err(|source| Error::Rpc { what: what.to_owned(), source: Box::new(source) })? {
                Some(receipt) if receipt.status() => return Ok(receipt),
                Some(_) => return Err(Error::Reverted { what: what.to_owned(), hash }),
                None => tokio::time::sleep(RECEIPT_PAUSE).await,
            }
        }
        Err(Error::NotMined { what: what.to_owned(), hash, seconds: RECEIPT_SECONDS })
    }

    /// Sends a call of a contract from an unlocked account and waits for its block. It must succeed.
    pub async fn transact<C: SolCall>(&self, from: Address, to: Address, call: C) -> Result<TransactionReceipt, Error> {
        self.send(C::SIGNATURE, from, TxKind::Call(to), call.abi_encode().into(), U256::ZERO).await
    }

    /// Calls a view.
    pub async fn view<C: SolCall>(&self, to: Address, call: C) -> Result<C::Return, Error> {
        let request = TransactionRequest::default().to(to).input(Bytes::from(call.abi_encode()).into());
        let answer = self.provider.call(request).block(BlockNumberOrTag::Latest.into()).await;
        let answer = answer.map_err(|source| Error::Rpc { what: C::SIGNATURE.to_owned(), source: Box::new(source) })?;
        C::abi_decode_returns(&answer).map_err(|error| Error::Answer { what: C::SIGNATURE.to_owned(), answer: error.to_string() })
    }
}
