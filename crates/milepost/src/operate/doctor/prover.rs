//! The prover: found, executable, of this version, with this guest, and able to prove. Its own errors tell these apart,
//! and, of one on another machine, whether it is there, is the one that was meant, and admits this node.

use milepost_prover::{IMAGE_ID, Status, self_test};
use milepost_settlement::Error as SettlementError;
use milepost_statement::{Digest, ProofKind};

use super::Findings;
use super::chain::Seen;
use crate::config::{Backend, Config};
use crate::host::{prover, readiness};

pub(super) async fn check(config: &Config, seen: Option<&Seen>, no_proof: bool, findings: &mut Findings) {
    let Some(settlement) = &config.chain else {
        return findings.skipped("prover", "log mode: nothing is proven");
    };
    let prover = match prover::open(config, settlement) {
        Ok(prover) => prover,
        Err(error) => {
            return findings.failure(
                "prover",
                error.to_string(),
                "mend [prover] (docs/configuration.md); mock proofs need a development chain",
            );
        }
    };
    let elsewhere = prover::whereabouts(config).map(|place| format!("; {place}")).unwrap_or_default();
    let constants = seen.and_then(|seen| seen.constants);
    let contract = match (seen, constants) {
        (Some(seen), _) if seen.is_elsewhere() => Guest::Unknown,
        (_, Some(constants)) => Guest::Named { id: constants.image_id, test: constants.test_deployment },
        _ => Guest::NotReached,
    };
    if let (ProofKind::Mock, Some(constants), Some(seen)) = (prover.kind(), constants, seen)
        && !constants.test_deployment
    {
        let error = SettlementError::MockProofs { contract: seen.chain.marketplace() };
        return findings.coded("prover", error.to_string(), error.code(), error.advice());
    }
    let failed = |error: milepost_prover::Error| Status::Failed { code: error.code(), message: error.to_string(), advice: error.advice() };
    let status = if no_proof {
        match prover.fingerprint().await {
            Ok(_) => {
                findings.skipped("prover", format!("it greets as it should; --no-proof: whether it proves was not tried{elsewhere}"));
                return image(contract, findings);
            }
            Err(error) => failed(error),
        }
    } else {
        // Greets it first: a program that is absent, not executable, or of another release is named at once, not after a proof.
        self_test(&*prover, prover::cache(config).as_ref()).await.map_or_else(failed, Status::Ready)
    };
    let (ok, found) = readiness::prover_verdict(&status);
    match &status {
        Status::Failed { code, message, advice } => findings.coded("prover", format!("[{code}] {message}{elsewhere}"), code, *advice),
        _ if ok && config.prover.backend == Backend::Mock => {
            findings.warning(
                "prover",
                format!("MOCK proofs: {found}"),
                "for tests only: set prover.backend = \"stark\" to be paid by anybody else",
            );
        }
        _ if ok => findings.ok("prover", format!("{found}{elsewhere}")),
        _ => findings.failure("prover", found, "run `milepost doctor` again"),
    }
    image(contract, findings);
}

/// What the contract says of the guest.
#[derive(Clone, Copy, Debug)]
enum Guest {
    /// It was not asked.
    NotReached,
    /// Contracts of other generations verify no proof, and know no guest.
    Unknown,
    /// The image id, and whether it is a test deployment.
    Named { id: Digest, test: bool },
}

/// Whether contract and node believe proofs of the same guest.
fn image(contract: Guest, findings: &mut Findings) {
    match contract {
        Guest::NotReached => findings.skipped("guest image id", format!("{IMAGE_ID} here; the contract was not reached")),
        Guest::Unknown => findings.skipped("guest image id", format!("{IMAGE_ID} here; this generation of the contract names none")),
        Guest::Named { id, .. } if id == IMAGE_ID => findings.ok("guest image id", IMAGE_ID.to_string()),
        Guest::Named { id, test: true } => findings.warning(
            "guest image id",
            format!("{IMAGE_ID} here, the test deployment names {id}"),
            "no seal of this guest would be taken there; mock proofs and composite receipts are",
        ),
        Guest::Named { id, test: false } => findings.failure(
            "guest image id",
            format!("{IMAGE_ID} here, the contract names {id}"),
            "deploy the release whose guest the contract names (guest/image-id.txt)",
        ),
    }
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "stark")]
    use milepost_settlement::SettlementConfig;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_contract_of_another_guest_must_be_mended_unless_it_is_for_tests() {
        let other = Digest([9; 32]);
        for (contract, verdict) in [
            (Guest::NotReached, Verdict::Skipped),
            (Guest::Unknown, Verdict::Skipped),
            (Guest::Named { id: IMAGE_ID, test: false }, Verdict::Ok),
            (Guest::Named { id: other, test: true }, Verdict::Warning),
            (Guest::Named { id: other, test: false }, Verdict::Failure),
        ] {
            let mut findings = Findings::default();
            image(contract, &mut findings);
            assert_eq!(findings.0[0].verdict, verdict, "{contract:?}");
        }
    }

    #[cfg(feature = "stark")]
    #[tokio::test]
    async fn a_prover_elsewhere_is_named_by_what_is_wrong_with_it() {
        use milepost_prover::{Key, Options, Server, ServerOptions};
        use milepost_statement::{Address, ChainId};
        use tokio::net::TcpListener;

        let folder = tempfile::tempdir().expect("a folder");
        let node = Key::at(&folder.path().join("prover-key.pem")).expect("a key").pin();
        let server = Key::generate().expect("a key");
        let start = async |admitted, image| {
            let mut worker = Options::new("/nowhere/milepost-prover");
            worker.image_id = image;
            let serving = Server::new(ServerOptions::new(worker, vec![admitted]), &server).expect("a server");
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address").to_string();
            (address, tokio::spawn(async move { serving.run(listener).await }))
        };
        let found = async |address: String, identity: String| {
            let mut config =
                Config { chain: Some(SettlementConfig::new("http://127.0.0.1:1", ChainId(31_337), Address([1; 20]))), ..Config::default() };
            config.node.data = folder.path().into();
            config.prover.backend = Backend::Remote;
            (config.prover.address, config.prover.identity) = (Some(address), Some(identity));
            let mut findings = Findings::default();
            check(&config, None, true, &mut findings).await;
            findings.0.swap_remove(0)
        };
        let (good, stranger, other) =
            (start(node, IMAGE_ID).await, start(server.pin(), IMAGE_ID).await, start(node, Digest([9; 32])).await);
        let vacant = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").to_string();
        for (address, identity, code) in [
            (good.0.clone(), server.pin(), None),
            (vacant, server.pin(), Some("MP-P-015")),
            (good.0.clone(), node, Some("MP-P-016")),
            (stranger.0.clone(), server.pin(), Some("MP-P-017")),
            (other.0.clone(), server.pin(), Some("MP-P-005")),
        ] {
            let finding = found(address, identity.to_string()).await;
            assert_eq!(finding.code, code, "{finding:?}");
            assert!(finding.found.contains(&node.to_string()), "the node's own identity is shown, to be admitted there: {finding:?}");
        }
        for running in [good.1, stranger.1, other.1] {
            running.abort();
        }
    }
}
