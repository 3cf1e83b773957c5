//! Finality: each payment lies at or below a block that a quorum of validators certified, and that the chain really has.
//!
//! Nothing of the host is believed: the certificates are verified anew with the set file, the blocks of the payments are the chain's.

use std::collections::BTreeMap;
use std::path::Path;

use milepost_statement::Digest;
use milepost_validator_net::light;
use milepost_validator_net::set_file::{Agreement, SetFile};

use super::evidence::{Evidence, bytes};
use super::report::{Finality, Report};
use super::{CheckOutcome, chain, equal, expect};

/// What is looked at.
#[derive(Clone, Debug)]
pub(super) struct Certified {
    /// The set file, checked.
    pub(super) agreement: Result<Agreement, String>,
    /// The certificate of each payment in the report's order, verified.
    pub(super) certificates: Vec<Result<light::Certified, String>>,
    /// Hashes of the chain's blocks at the certified heights.
    pub(super) blocks: BTreeMap<u64, Digest>,
}

impl Certified {
    /// Reads set file and certificates beside the report, and the certified blocks from the chain.
    pub(super) async fn gather(folder: &Path, report: &Report, finality: &Finality) -> Result<Self, String> {
        let agreement =
            SetFile::read(&folder.join(&finality.set_file)).and_then(|file| file.agreement()).map_err(|error| error.to_string());
        let certificate = |path: &Path| {
            let agreement = agreement.as_ref().map_err(Clone::clone)?;
            light::Certified::read(agreement, &bytes(&folder.join(path))?).map_err(|error| format!("{}: {error}", path.display()))
        };
        let certificates: Vec<_> = finality.payments.iter().map(|payment| certificate(&payment.certificate)).collect();
        let heights: Vec<u64> = certificates.iter().flatten().map(|certified| certified.height().0).collect();
        let blocks = chain::block_hashes(&report.rpc_url, report.marketplace, &heights).await;
        let blocks = blocks.map_err(|error| format!("chain at {}: {error}", report.rpc_url))?;
        Ok(Self { agreement, certificates, blocks })
    }
}

pub(super) fn check(evidence: &Evidence, outcome: &mut CheckOutcome) {
    if let (Some(finality), Some(certified)) = (&evidence.report.finality, &evidence.certified) {
        outcome.note("validators' agreement", agreement(evidence, finality, certified));
        outcome.note("certificates hold", hold(certified));
        outcome.note("certified blocks on chain", on_chain(certified));
        outcome.note("every payment certified", covered(evidence, finality, certified));
    }
}

fn agreement(evidence: &Evidence, finality: &Finality, certified: &Certified) -> Result<String, String> {
    let agreement = certified.agreement.as_ref().map_err(Clone::clone)?;
    let digest = hex::encode(agreement.digest());
    equal("agreement of report and set file", &finality.agreement, &digest)?;
    let chain = agreement.schedule.domain().chain.0;
    expect(
        chain == evidence.facts.chain_id.0,
        digest,
        format!("the validators watch chain {chain}, the session is on {}", evidence.facts.chain_id),
    )
}

fn hold(certified: &Certified) -> Result<String, String> {
    let mut signers = Vec::new();
    for certificate in &certified.certificates {
        signers.push(certificate.as_ref().map_err(Clone::clone)?.certificate().signers.count());
    }
    let fewest = signers.iter().min().ok_or("there is no certificate")?;
    Ok(format!("{} certificates, at least {fewest} signers each, verified with the set file alone", signers.len()))
}

fn on_chain(certified: &Certified) -> Result<String, String> {
    for certificate in certified.certificates.iter().flatten() {
        let (height, hash) = (certificate.height().0, Digest(certificate.checkpoint().hash.0));
        match certified.blocks.get(&height) {
            Some(found) => equal(&format!("block {height} of chain and certificate"), found, &hash)?,
            None => return Err(format!("the chain has no block {height}, which is certified")),
        }
    }
    Ok(format!("{} blocks have the certified hashes", certified.blocks.len()))
}

/// Every claim and the payout that the chain knows has a certificate in the report that covers its block.
fn covered(evidence: &Evidence, finality: &Finality, certified: &Certified) -> Result<String, String> {
    let claims = evidence.facts.claims.iter().map(|claim| (claim.tx, claim.block));
    let payouts = evidence.facts.completed.iter().map(|completed| (completed.tx, completed.block));
    let mut all = 0;
    for (tx, block) in claims.chain(payouts) {
        let named = finality.payments.iter().zip(&certified.certificates).find(|(payment, _)| payment.tx == tx);
        let (payment, certificate) = named.ok_or_else(|| format!("the report names no certificate for transaction {tx}"))?;
        let height = certificate.as_ref().map_err(Clone::clone)?.height().0;
        if height < block {
            return Err(format!("{} is in block {block}, its certificate covers blocks up to {height}", payment.what));
        }
        all += 1;
    }
    expect(
        all > 0 && all == finality.payments.len(),
        format!("{all} payments"),
        format!("{} are reported, the chain has {all}", finality.payments.len()),
    )
}

#[cfg(test)]
mod tests {
    use finality_gadget::simulator::{Key, SchemeKind};
    use finality_gadget::{Bitmap, BlockHash, Certificate, CheckpointNumber, FinalityCheckpoint, Link, LinkDigest, ValidatorId, Vote};
    use milepost_validator_net::TransportKey;
    use milepost_validator_net::set_file::{HexBytes, Rule, Scheme, Set, Trusted, Validator};

    use super::super::report::Payment;
    use super::super::tests::evidence;
    use super::*;

    const MEMBERS: u32 = 4;
    const INTERVAL: u64 = 10;

    /// A change to what is reported and gathered, and the check that must notice it.
    type Lie = (&'static dyn Fn(&mut Finality, &mut Certified), &'static str);

    fn agreed() -> Agreement {
        let validators = (1..=MEMBERS).map(|id| {
            let registration = Key::of(SchemeKind::Bls, ValidatorId(id)).registration(ValidatorId(id));
            Validator {
                id,
                key: HexBytes(registration.key.0),
                possession: HexBytes(registration.possession.0),
                identity: Some(TransportKey::generate().expect("randomness").pin()),
                address: Some(format!("127.0.0.1:{}", 7_000 + id)),
                certificates: None,
            }
        });
        let file = SetFile {
            version: SetFile::VERSION,
            chain_id: 31337,
            interval: INTERVAL,
            rule: Rule::Single,
            scheme: Scheme::Bls,
            trusted: Trusted { number: 0, hash: HexBytes(vec![9; 32]) },
            validators: validators.collect(),
            sets: vec![Set { id: 1, boundary: None, members: (1..=MEMBERS).collect() }],
        };
        file.agreement().expect("a sound set file")
    }

    fn certificate(agreement: &Agreement, number: u64) -> light::Certified {
        let (schedule, source) = (&agreement.schedule, agreement.schedule.domain().trusted.checkpoint);
        let target = FinalityCheckpoint { number: CheckpointNumber(number), hash: hash(number) };
        let link = Link { source, target };
        let electorate = schedule.electorate(&link).expect("from the trusted checkpoint");
        let previous = LinkDigest(schedule.domain().root().0);
        let vote = Vote { domain: schedule.domain_digest(), set: electorate.id(), sets: electorate.digests(), link, previous };
        let mut signers = Bitmap::empty(MEMBERS as usize);
        let mut signatures = Vec::new();
        for id in 2..=MEMBERS {
            let index = electorate.index(ValidatorId(id)).expect("a member");
            signers.set(index);
            signatures.push((index, Key::of(SchemeKind::Bls, ValidatorId(id)).sign_unchecked(&vote.signed_bytes())));
        }
        let signatures: Vec<_> = signatures.iter().map(|(index, signature)| (*index, signature)).collect();
        let aggregate = electorate.keys().aggregate(&signatures).expect("sound signatures");
        light::Certified::verify(agreement, Certificate { vote, signers, aggregate }).expect("a sound certificate")
    }

    fn hash(number: u64) -> BlockHash {
        BlockHash([u8::try_from(number).expect("small"); 32])
    }

    /// A demo whose payments are all certified.
    fn certified_demo() -> Evidence {
        let mut evidence = evidence();
        let agreement = agreed();
        evidence.facts.claims.iter_mut().for_each(|claim| claim.block = 15);
        evidence.facts.completed[0].block = 21;
        let payment = |what: &str, tx| Payment { what: what.to_owned(), tx, certificate: "certificate.bin".into() };
        let claims = evidence.facts.claims.iter().map(|claim| payment("claim", claim.tx));
        let payments: Vec<Payment> = claims.chain([payment("payout", evidence.facts.completed[0].tx)]).collect();
        let certificates = [2, 2, 3].map(|number| Ok(certificate(&agreement, number)));
        let blocks = [2, 3].map(|number| (number * INTERVAL, Digest(hash(number).0)));
        evidence.report.finality = Some(Finality { set_file: "set.toml".into(), agreement: hex::encode(agreement.digest()), payments });
        evidence.certified = Some(Certified { agreement: Ok(agreement), certificates: certificates.into(), blocks: blocks.into() });
        evidence
    }

    fn failed(evidence: &Evidence) -> Vec<&'static str> {
        let mut outcome = CheckOutcome::default();
        check(evidence, &mut outcome);
        assert_eq!(outcome.lines.len(), 4);
        outcome.lines.iter().filter(|line| !line.passed).map(|line| line.name).collect()
    }

    #[test]
    fn a_demo_whose_payments_are_certified_holds_and_each_lie_about_it_is_caught() {
        assert_eq!(failed(&certified_demo()), [""; 0]);
        let lies: [Lie; 6] = [
            (&|finality, _| finality.agreement = "00".repeat(32), "validators' agreement"),
            (&|_, certified| certified.certificates[1] = Err("the aggregate is false".to_owned()), "certificates hold"),
            (&|_, certified| _ = certified.blocks.insert(30, Digest([7; 32])), "certified blocks on chain"),
            (&|_, certified| _ = certified.blocks.remove(&20), "certified blocks on chain"),
            (&|_, certified| certified.certificates.swap(0, 2), "every payment certified"),
            (&|finality, _| _ = finality.payments.pop(), "every payment certified"),
        ];
        for (lie, caught) in lies {
            let mut evidence = certified_demo();
            let (finality, certified) = (evidence.report.finality.as_mut().expect("there"), evidence.certified.as_mut().expect("there"));
            lie(finality, certified);
            assert!(failed(&evidence).contains(&caught), "{caught} did not catch it: {:?}", failed(&evidence));
        }
    }

    #[test]
    fn a_demo_without_validators_is_not_asked_for_certificates() {
        let mut outcome = CheckOutcome::default();
        check(&evidence(), &mut outcome);
        assert!(outcome.lines.is_empty());
    }
}
