//! Validators that do whatever hurts: they see everything and say different things to different peers.

use std::sync::Arc;

use super::chain::SimChain;
use super::check::Monitor;
use super::keys::Key;
use super::rng::Rng;
use crate::network::{Message, OwnVotes, Status};
use crate::types::{BlockHash, CheckpointNumber, FinalityCheckpoint, Link, LinkDigest, ValidatorId};
use crate::vote::{Signature, SignedVote, Vote};

pub(super) struct Liar {
    pub(super) validator: ValidatorId,
    pub(super) key: Arc<Key>,
    pub(super) filthy: bool,
}

impl Liar {
    /// Up to two messages: the second, if any, is for those peers that do not get the first.
    pub(super) fn lie(&self, chain: &SimChain, monitor: &Monitor, rng: &mut Rng) -> Vec<Message> {
        match rng.between(0, if self.filthy { 11 } else { 7 }) {
            // Votes along, so that quorums hang by its vote.
            0..=2 => self.votes(&[link(chain, monitor, rng, false)], monitor),
            3..=5 => {
                // Two votes for one target: different blocks, or different sources.
                let one = link(chain, monitor, rng, false);
                let mut other = link(chain, monitor, rng, true);
                other.0.target.number = one.0.target.number;
                if other.0.source.number >= other.0.target.number {
                    return self.votes(&[one], monitor);
                }
                self.votes(&[one, other], monitor)
            }
            6 => {
                // One within the other.
                let sources = sources(monitor);
                let (outer, inner) = (sources[rng.index(sources.len())], sources[rng.index(sources.len())]);
                let (low, high) = if outer.0.number < inner.0.number { (outer, inner) } else { (inner, outer) };
                let near = high.0.number.next();
                let far = near.plus(rng.between(1, 3));
                let mut target = |number| chain.at(number).unwrap_or(FinalityCheckpoint { number, hash: fake(rng) });
                let within = Link { source: high.0, target: target(near) };
                let around = Link { source: low.0, target: target(far) };
                self.votes(&[(within, high.1), (around, low.1)], monitor)
            }
            7 => vec![
                Message::Status(Status {
                    finalized: CheckpointNumber(rng.between(0, 1_000)),
                    justified: CheckpointNumber(rng.between(0, 1_000)),
                    eligible: CheckpointNumber(rng.bits()),
                    open_links: rng.bits(),
                }),
                Message::CertificatesAfter(CheckpointNumber(rng.between(0, 10))),
            ],
            8 => {
                // False signatures.
                let votes = self.votes(&[link(chain, monitor, rng, false)], monitor);
                let spoil = |message| match message {
                    Message::Votes(mut votes) => {
                        for signed in &mut votes {
                            signed.signature = Signature(vec![7; 32]);
                        }
                        Message::Votes(votes)
                    }
                    other => other,
                };
                votes.into_iter().map(spoil).collect()
            }
            9 => {
                // A vote in another's name.
                let mut votes = self.votes(&[link(chain, monitor, rng, true)], monitor);
                if let Some(Message::Votes(votes)) = votes.first_mut() {
                    for signed in votes {
                        signed.validator = ValidatorId(signed.validator.0 ^ 1);
                    }
                }
                votes
            }
            10 => {
                // A certificate with a target of its own choice.
                let Some(mut forged) = monitor.links.last().cloned() else { return Vec::new() };
                forged.vote.link.target = FinalityCheckpoint { number: forged.vote.link.target.number.next(), hash: fake(rng) };
                vec![Message::Certificates(vec![forged])]
            }
            _ => vec![Message::OwnVotes(OwnVotes {
                nonce: rng.bits(),
                finalized: CheckpointNumber(rng.bits()),
                votes: Vec::new(),
                certificate: monitor.links.last().cloned(),
            })],
        }
    }

    fn votes(&self, links: &[(Link, LinkDigest)], monitor: &Monitor) -> Vec<Message> {
        let signed = links.iter().filter_map(|(link, previous)| {
            let electorate = monitor.schedule.electorate(link).ok()?;
            electorate.index(self.validator)?;
            let domain = monitor.schedule.domain_digest();
            let vote = Vote { domain, set: electorate.id(), sets: electorate.digests(), link: *link, previous: *previous };
            let signature = self.key.sign_unchecked(&vote.signed_bytes());
            Some(Message::Votes(vec![SignedVote { vote, validator: self.validator, signature }]))
        });
        signed.collect()
    }
}

/// A link that could pass: from something justified to a block of the chain, or (`twisted`) to one that never was.
fn link(chain: &SimChain, monitor: &Monitor, rng: &mut Rng, twisted: bool) -> (Link, LinkDigest) {
    let sources = sources(monitor);
    let newest = sources.len() - 1;
    let at = if rng.chance(80) { newest } else { rng.index(sources.len()) };
    let (source, previous) = sources[at];
    let number = source.number.plus(rng.between(1, 2));
    let target = chain.at(number).filter(|_| !twisted).unwrap_or(FinalityCheckpoint { number, hash: fake(rng) });
    (Link { source, target }, previous)
}

fn sources(monitor: &Monitor) -> Vec<(FinalityCheckpoint, LinkDigest)> {
    let mut sources: Vec<_> = monitor.certified.iter().map(|(digest, checkpoint)| (*checkpoint, *digest)).collect();
    sources.sort_unstable();
    // The newest few are what could matter.
    sources.split_off(sources.len().saturating_sub(6))
}

fn fake(rng: &mut Rng) -> BlockHash {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&rng.between(0, 1).to_be_bytes());
    hash[31] = 0xfa;
    BlockHash(hash)
}
