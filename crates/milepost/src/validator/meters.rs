//! What a validator measures of itself, under names that stay.

use std::time::Duration;

use finality_gadget::{Lag, Standing};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use milepost_validator_net::PeerReport;

use super::Error;
use super::status::Status;

/// Bounds of the histograms in seconds: from a write that only reached memory to a disk that is in trouble.
const BUCKETS: [f64; 12] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0];

/// Starts recording, and says what each figure means.
pub(super) fn install() -> Result<PrometheusHandle, Error> {
    let wrong = |error: metrics_exporter_prometheus::BuildError| Error::System(format!("metrics: {error}"));
    let handle = PrometheusBuilder::new().set_buckets(&BUCKETS).map_err(wrong)?.install_recorder().map_err(wrong)?;
    describe_gauge!("milepost_validator_finalized", "Number of the last final checkpoint");
    describe_gauge!("milepost_validator_justified", "Highest checkpoint number with a certificate");
    describe_gauge!("milepost_validator_eligible", "Highest checkpoint number that the chain offers");
    describe_gauge!("milepost_validator_last_signed", "Highest target that the own key has signed or was declared to have signed");
    describe_gauge!("milepost_validator_lag", "How far finality is behind the chain: 0 current, 1 behind, 2 far");
    describe_gauge!("milepost_validator_stuck_seconds", "For how long finality has stood still where it should not; 0: it does not");
    describe_gauge!("milepost_validator_signing", "1 where this node signs");
    describe_gauge!("milepost_validator_standing", "1 for what this node is: observer, asking, signing or refused");
    describe_gauge!("milepost_validator_peers", "Other validators that the set file names");
    describe_gauge!("milepost_validator_peers_reached", "Of them, those that our messages reach");
    describe_gauge!("milepost_validator_peers_heard", "Of them, those that send to us");
    describe_gauge!("milepost_validator_messages_dropped", "Messages dropped because a peer did not take them, since the start");
    describe_gauge!("milepost_validator_strangers", "Connections that did not get through the handshake, since the start");
    describe_gauge!("milepost_validator_chain_up", "1 where the last look at the chain succeeded");
    describe_gauge!("milepost_validator_false_signatures", "Signatures of peers that did not hold, since the start");
    describe_gauge!("milepost_validator_evidence", "Pieces of evidence kept");
    describe_gauge!("milepost_validator_votes_held", "Votes in memory");
    describe_gauge!("milepost_validator_disk_bytes", "Bytes of the checkpoint database on the disk");
    describe_counter!("milepost_validator_votes_stored_total", "Votes of all validators stored since the start");
    describe_counter!("milepost_validator_own_votes_total", "Own votes recorded since the start");
    describe_counter!("milepost_validator_certificates_stored_total", "Certificates stored since the start");
    describe_counter!("milepost_validator_evidence_stored_total", "Pieces of evidence stored since the start");
    describe_histogram!("milepost_validator_own_vote_seconds", "Judging and syncing an own vote, before it is signed");
    describe_histogram!("milepost_validator_certificate_seconds", "Storing and syncing a certificate");
    describe_histogram!("milepost_validator_flush_seconds", "A flush");
    describe_histogram!("milepost_validator_prune_seconds", "A pruning");
    Ok(handle)
}

pub(super) fn build(version: &'static str, commit: &'static str) {
    gauge!("milepost_build_info", "version" => version, "commit" => commit).set(1.0);
}

pub(super) fn votes(count: usize) {
    counter!("milepost_validator_votes_stored_total").increment(count as u64);
}

pub(super) fn own_vote(took: Duration) {
    counter!("milepost_validator_own_votes_total").increment(1);
    histogram!("milepost_validator_own_vote_seconds").record(took);
}

pub(super) fn certificate(took: Duration) {
    counter!("milepost_validator_certificates_stored_total").increment(1);
    histogram!("milepost_validator_certificate_seconds").record(took);
}

pub(super) fn evidence() {
    counter!("milepost_validator_evidence_stored_total").increment(1);
}

pub(super) fn flush(took: Duration) {
    histogram!("milepost_validator_flush_seconds").record(took);
}

pub(super) fn prune(took: Duration) {
    histogram!("milepost_validator_prune_seconds").record(took);
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floating-point numbers; checkpoint numbers stay far below 2^53")]
pub(super) fn disk(bytes: u64) {
    gauge!("milepost_validator_disk_bytes").set(bytes as f64);
}

/// The gadget's part.
#[allow(clippy::cast_precision_loss, reason = "gauges are floating-point numbers; checkpoint numbers stay far below 2^53")]
pub(super) fn status(status: &Status) {
    let health = &status.health;
    gauge!("milepost_validator_finalized").set(status.finalized.number.0 as f64);
    gauge!("milepost_validator_justified").set(health.justified.0 as f64);
    gauge!("milepost_validator_eligible").set(health.eligible.0 as f64);
    gauge!("milepost_validator_last_signed").set(status.last_signed.map_or(0.0, |number| number.0 as f64));
    let lag = match health.lag {
        Lag::Current => 0.0,
        Lag::Behind => 1.0,
        Lag::Far => 2.0,
    };
    gauge!("milepost_validator_lag").set(lag);
    gauge!("milepost_validator_stuck_seconds").set(health.stuck.as_ref().map_or(0.0, |stuck| stuck.for_ms as f64 / 1_000.0));
    gauge!("milepost_validator_signing").set(f64::from(u8::from(health.standing == Standing::Signing)));
    for name in ["observer", "asking", "signing", "refused"] {
        gauge!("milepost_validator_standing", "standing" => name).set(f64::from(u8::from(name == status.standing())));
    }
    gauge!("milepost_validator_false_signatures").set(health.faults as f64);
    gauge!("milepost_validator_evidence").set(health.evidence as f64);
    gauge!("milepost_validator_votes_held").set(health.votes as f64);
}

/// The chain's part.
pub(super) fn chain(up: Option<bool>) {
    gauge!("milepost_validator_chain_up").set(f64::from(u8::from(up == Some(true))));
}

/// The network's part.
#[allow(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
pub(super) fn peers(peers: &[PeerReport], strangers: u64) {
    let count = |fits: fn(&PeerReport) -> bool| peers.iter().filter(|peer| fits(peer)).count() as f64;
    gauge!("milepost_validator_peers").set(peers.len() as f64);
    gauge!("milepost_validator_peers_reached").set(count(|peer| peer.reached));
    gauge!("milepost_validator_peers_heard").set(count(|peer| peer.heard));
    gauge!("milepost_validator_messages_dropped").set(peers.iter().map(|peer| peer.dropped).sum::<u64>() as f64);
    gauge!("milepost_validator_strangers").set(strangers as f64);
}
