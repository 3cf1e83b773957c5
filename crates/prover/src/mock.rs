//! Proofs that prove nothing, for tests of everything around them.

use std::net::IpAddr;

use milepost_statement::{ChainId, ProofKind};

use crate::request::BoxFuture;
use crate::{Error, MOCK_RECEIPT_TAG, Proof, ProofRequest, Prover};

/// The only chain on which mock proofs may be used.
const DEV_CHAIN: ChainId = ChainId(31337);

/// Why mock proofs are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotADevChain {
    /// Another chain than 31337.
    #[error("mock proofs are for chain id 31337 only, this is chain {0}")]
    Chain(ChainId),
    /// The chain is not on this machine.
    #[error("mock proofs are for a chain on this machine only, {0} is not a loopback address")]
    NotLoopback(String),
}

/// A prover of nothing. **Does not** prove anything: its "receipts" hold the statement's journal behind a tag, and are accepted
/// only by a test deployment of the contract.
#[derive(Clone, Debug)]
pub struct Mock {
    chain: ChainId,
}

impl Mock {
    /// A mock prover for a development chain, which must have id 31337 and be reached over loopback. Announces itself.
    pub fn for_dev_chain(chain: ChainId, rpc_url: &str) -> Result<Self, NotADevChain> {
        if chain != DEV_CHAIN {
            return Err(NotADevChain::Chain(chain));
        }
        let host = host_of(rpc_url);
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !loopback {
            return Err(NotADevChain::NotLoopback(host.to_owned()));
        }
        tracing::warn!(
            event = "mock_proofs",
            "================================================================\n\
             ==  MOCK PROOFS: nothing is proven. Test use only (chain 31337).  ==\n\
             ================================================================"
        );
        Ok(Self { chain })
    }
}

impl Prover for Mock {
    fn prove(&self, request: ProofRequest) -> BoxFuture<'_, Result<Proof, Error>> {
        Box::pin(async move {
            request.check()?;
            if request.sealed {
                return Err(Error::NoSeals { prover: "a mock".to_owned() });
            }
            if request.statement.chain_id != self.chain {
                return Err(Error::BadRequest { why: format!("a mock proof for chain {}", request.statement.chain_id) });
            }
            let journal = request.statement.journal();
            let receipt = [MOCK_RECEIPT_TAG, &journal].concat();
            Ok(Proof { kind: ProofKind::Mock, journal, receipt, seconds: 0.0, cycles: None, po2: Vec::new() })
        })
    }

    fn kind(&self) -> ProofKind {
        ProofKind::Mock
    }

    fn fingerprint(&self) -> BoxFuture<'_, Result<Option<String>, Error>> {
        Box::pin(async { Ok(None) })
    }
}

/// The host of a URL, without user, port and brackets; empty if there is none.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(bracketed) = authority.strip_prefix('[') {
        return bracketed.split(']').next().unwrap_or_default();
    }
    authority.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_development_chain_on_this_machine_gets_mock_proofs() {
        for url in ["http://127.0.0.1:8545", "ws://localhost:8545/x", "http://[::1]:8545", "http://127.8.0.1"] {
            assert!(Mock::for_dev_chain(ChainId(31337), url).is_ok(), "{url}");
        }
        for url in
            ["http://10.0.0.1:8545", "http://localhost.example.org", "http://127.0.0.1@example.org/", "http://example.org#127.0.0.1", ""]
        {
            assert!(matches!(Mock::for_dev_chain(ChainId(31337), url), Err(NotADevChain::NotLoopback(_))), "{url}");
        }
        assert_eq!(Mock::for_dev_chain(ChainId(84532), "http://127.0.0.1:8545").unwrap_err(), NotADevChain::Chain(ChainId(84532)));
    }

    #[tokio::test]
    async fn a_mock_receipt_says_that_it_is_one() {
        let mock = Mock::for_dev_chain(ChainId(31337), "http://127.0.0.1:8545").unwrap();
        let request = crate::sample_request();
        let proof = mock.prove(request.clone()).await.unwrap();
        assert_eq!(proof.kind, ProofKind::Mock);
        assert_eq!(proof.receipt, [MOCK_RECEIPT_TAG, &request.statement.journal()[..]].concat());
    }

    #[tokio::test]
    async fn a_request_that_contradicts_itself_is_refused() {
        let mock = Mock::for_dev_chain(ChainId(31337), "http://127.0.0.1:8545").unwrap();
        let mut wrong_head = crate::sample_request();
        wrong_head.statement.head_after.0[0] ^= 1;
        let mut wrong_count = crate::sample_request();
        wrong_count.checkpoints[0].ids.push(1);
        let mut empty = crate::sample_request();
        empty.checkpoints.clear();
        for request in [wrong_head, wrong_count, empty] {
            assert!(matches!(mock.prove(request).await, Err(Error::BadRequest { .. })));
        }
    }
}
