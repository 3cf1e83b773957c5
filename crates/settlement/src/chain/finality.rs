//! What makes a block final: so many blocks above it, the chain's own tag, or the validators' certificates.
//!
//! # By certificates
//!
//! A follower asks validators and verifies what they give ([`milepost_validator_net::light`]). A block is final if it is canonical at
//! the endpoint, lies at or below a certified checkpoint, and the endpoint shows that checkpoint's block at its height *with the
//! certified hash*. So the endpoint may lag or lie about what is new; it cannot make a block final that validators did not certify.
//!
//! An endpoint that shows another block there is not believed: nothing is final through it, the operator is told
//! ([`Error::Contradicted`]), and where there is another endpoint, that one is asked. Where no certificate comes, what is not final stays
//! so, and the operator is told why ([`Error::NoCertificates`]). There is no falling back to confirmations.
//!
//! Does not: link a claim's block to the checkpoint by parent hashes. An endpoint that mixes two chains in one breath is believed, as it
//! is by every other source.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use alloy::consensus::BlockHeader as _;
use alloy::eips::BlockNumberOrTag;
use alloy::providers::Provider;
use finality_gadget::{BlockNumber, FinalityCheckpoint};
use milepost_ledger::Digest;
use milepost_validator_net::light::{self, Certified, Light};
use milepost_validator_net::set_file::{Agreement, SetFile};
use serde::Serialize;

use super::{Chain, Head};
use crate::Error;
use crate::config::{Finality, SettlementConfig};
use crate::status::Trouble;

/// Intervals that the chain may be ahead of the certificates before their absence is worth a word: votes take a while.
const USUAL_LEAD: u64 = 2;

/// A block that validators certified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertifiedBlock {
    /// Number of the checkpoint.
    pub checkpoint: u64,
    /// Height of its block.
    pub block: u64,
    /// Hash of its block.
    pub hash: Digest,
    /// Digest of the certified link: the certificate's name. None for the trusted checkpoint, which nobody certified.
    pub link: Option<Digest>,
}

/// How one validator does as a source of certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceStatus {
    /// Its number.
    pub validator: u32,
    /// Where it is asked.
    pub address: String,
    /// The last final checkpoint that it names.
    pub finalized: u64,
    /// Why it is no help at the moment.
    pub trouble: Option<String>,
}

/// What makes blocks final, and how that stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FinalityStatus {
    /// In words: which source.
    pub source: String,
    /// By certificates: the newest one.
    pub certified: Option<CertifiedBlock>,
    /// By certificates: how the validators do.
    pub validators: Vec<SourceStatus>,
    /// Why nothing becomes final, if that is so.
    pub trouble: Option<Trouble>,
}

/// The source of finality.
#[derive(Debug)]
pub(super) enum Source {
    Confirmations(u64),
    Finalized,
    Certificates(Box<Certificates>),
}

/// Certificates, as far as the chain's client needs them.
#[derive(Debug)]
pub(super) struct Certificates {
    agreement: Agreement,
    options: light::Options,
    stale: Duration,
    since: Instant,
    /// The follower of this process, if it follows.
    live: OnceLock<light::Handle>,
    /// What another process wrote down, where this one does not follow.
    stored: OnceLock<light::State>,
    alarm: Mutex<Option<Error>>,
}

impl Source {
    /// Reads the set file where there is one; asks nobody.
    pub(super) fn of(config: &SettlementConfig) -> Result<Self, Error> {
        match config.finality {
            Finality::Confirmations => Ok(Self::Confirmations(config.confirmations)),
            Finality::Finalized => Ok(Self::Finalized),
            Finality::Certificate => Certificates::of(config).map(|certificates| Self::Certificates(Box::new(certificates))),
        }
    }
}

impl Certificates {
    fn of(config: &SettlementConfig) -> Result<Self, Error> {
        let wrong = |text: String| Error::Certificates(text);
        let section = config.certificates.as_ref().ok_or_else(|| Error::Config("there is no section certificates".to_owned()))?;
        let agreement = SetFile::read(&section.set_file).and_then(|file| file.agreement()).map_err(|error| wrong(error.to_string()))?;
        let digest = hex::encode(agreement.digest());
        if let Some(expected) = &section.agreement
            && expected.trim_start_matches("0x").to_lowercase() != digest
        {
            return Err(wrong(format!("the set file {} has the digest {digest}, agreed on is {expected}", section.set_file.display())));
        }
        let chain = agreement.schedule.domain().chain.0;
        if chain != config.chain_id.0 {
            return Err(wrong(format!("the validators of the set file watch chain {chain}, this host settles on {}", config.chain_id)));
        }
        let all = agreement.sources();
        let wanted = |id: u32| section.validators.is_empty() || section.validators.contains(&id);
        if let Some(missing) = section.validators.iter().find(|id| !all.iter().any(|source| source.validator.0 == **id)) {
            return Err(wrong(format!("the set file has no address for certificates of validator {missing}")));
        }
        let sources: Vec<_> = all.into_iter().filter(|source| wanted(source.validator.0)).collect();
        let folder = section.folder.clone().unwrap_or_else(|| PathBuf::from("certificates"));
        let options = light::Options { agreement: agreement.clone(), sources, folder, poll: Duration::from_millis(section.poll_ms) };
        Ok(Self {
            agreement,
            options,
            stale: Duration::from_secs(section.stale_seconds),
            since: Instant::now(),
            live: OnceLock::new(),
            stored: OnceLock::new(),
            alarm: Mutex::new(None),
        })
    }

    fn state(&self) -> Result<light::State, Error> {
        if let Some(live) = self.live.get() {
            return Ok(live.state());
        }
        if let Some(stored) = self.stored.get() {
            return Ok(stored.clone());
        }
        let read = light::read(&self.options.folder, &self.agreement).map_err(|error| Error::Certificates(error.to_string()))?;
        Ok(self.stored.get_or_init(|| read).clone())
    }

    /// The newest checkpoint at or below a height, and where its block lies. The trusted one is final without a certificate.
    fn newest(&self, state: &light::State, at_most: u64) -> Option<(FinalityCheckpoint, u64)> {
        let certified = state.kept().rev().find(|kept| kept.height().0 <= at_most).map(|kept| (kept.checkpoint(), kept.height().0));
        let trusted = self.agreement.schedule.domain().trusted.checkpoint;
        let height = self.agreement.height(trusted.number).unwrap_or(BlockNumber(u64::MAX)).0;
        certified.or((height <= at_most).then_some((trusted, height)))
    }

    /// Nobody gave a newer certificate for a while, though there is something to certify.
    fn staleness(&self, state: &light::State, head: u64) -> Option<Error> {
        let live = self.live.get()?;
        let (_, height) = live.finalized();
        let quiet = state.moved().unwrap_or(self.since).elapsed();
        if quiet < self.stale || head < height.0.saturating_add(USUAL_LEAD * self.agreement.interval) {
            return None;
        }
        let say = |source: &light::SourceReport| match (&source.trouble, source.heard) {
            (Some(trouble), _) => format!("validator {} {trouble}", source.validator),
            (None, Some(_)) => format!("validator {} is at checkpoint {}", source.validator, source.finalized),
            (None, None) => format!("validator {} did not answer yet", source.validator),
        };
        let reason = state.sources().iter().map(say).collect::<Vec<_>>().join("; ");
        Some(Error::NoCertificates { seconds: quiet.as_secs(), height: height.0, head, reason })
    }

    fn alarm(&self) -> Option<Error> {
        self.alarm.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps what is wrong; a change is logged.
    fn set_alarm(&self, alarm: Option<Error>) {
        let mut known = self.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        let code = |error: &Option<Error>| error.as_ref().map(Error::code);
        if code(&known) != code(&alarm) {
            if let Some(error) = &alarm {
                tracing::error!(event = "finality_trouble", code = error.code(), %error, advice = error.advice(), "nothing becomes final");
            } else {
                tracing::info!(event = "finality_well", "certificates and chain agree, and go on");
            }
        }
        *known = alarm;
    }
}

impl Chain {
    /// Height up to which blocks are final, as seen from `head`; `None` if nothing is, or nothing may be taken for final now.
    pub async fn final_height(&self, head: &Head) -> Result<Option<u64>, Error> {
        match &self.0.finality {
            Source::Confirmations(confirmations) => Ok((head.block.number + 1).checked_sub(*confirmations)),
            Source::Finalized => {
                let question = self.provider().get_block_by_number(BlockNumberOrTag::Finalized);
                let block = self.ask("the finalized block", question.into_future()).await?;
                Ok(block.map(|block| block.header.number()))
            }
            Source::Certificates(certificates) => self.certified_height(certificates, head).await,
        }
    }

    async fn certified_height(&self, certificates: &Certificates, head: &Head) -> Result<Option<u64>, Error> {
        let state = certificates.state()?;
        if let Some(both) = state.halted() {
            let of = |certified: &Certified| certified.checkpoint().to_string();
            let error = Error::CertificatesContradict { accepted: of(&both.accepted), against: of(&both.against) };
            certificates.set_alarm(Some(error));
            return Ok(None);
        }
        let Some((checkpoint, height)) = certificates.newest(&state, head.block.number) else {
            certificates.set_alarm(certificates.staleness(&state, head.block.number));
            return Ok(None);
        };
        let certified = Digest(checkpoint.hash.0);
        match self.block_at(height).await? {
            Some(found) if found == certified => {
                certificates.set_alarm(certificates.staleness(&state, head.block.number));
                Ok(Some(height))
            }
            Some(found) => {
                let error = Error::Contradicted { endpoint: self.endpoint().to_owned(), height, certified, found };
                self.0.endpoints.distrust(&error.to_string());
                certificates.set_alarm(Some(error));
                Ok(None)
            }
            // It showed a head above, and knows no block here: an endpoint that lags behind itself.
            None => Ok(None),
        }
    }

    /// The certificate by which a block at this height is final: the oldest that is kept and covers it. `None` where certificates are not
    /// what makes blocks final, or none covers it yet.
    pub fn certificate_of(&self, height: u64) -> Option<Arc<Certified>> {
        let Source::Certificates(certificates) = &self.0.finality else { return None };
        certificates.state().ok()?.covering(BlockNumber(height)).cloned()
    }

    /// Digest of what the validators agreed on, where certificates are what makes blocks final.
    pub fn agreement(&self) -> Option<Digest> {
        let Source::Certificates(certificates) = &self.0.finality else { return None };
        Some(Digest(certificates.agreement.digest()))
    }

    /// By what a block at this height is final, in words.
    pub(crate) fn final_by(&self, height: u64) -> String {
        match &self.0.finality {
            Source::Confirmations(confirmations) => format!("{confirmations} confirmations"),
            Source::Finalized => "the chain's finalized tag".to_owned(),
            Source::Certificates(_) => match self.certificate_of(height) {
                Some(certified) => format!("certificate {} of checkpoint {}", certified.digest(), certified.checkpoint().number),
                None => "the trusted checkpoint".to_owned(),
            },
        }
    }

    /// What a block at this height still waits for, in words.
    pub(crate) async fn waits_for(&self, height: u64) -> Result<String, Error> {
        let head = self.head().await?;
        let found = self.final_height(&head).await?;
        Ok(match (&self.0.finality, found) {
            (_, Some(reached)) if height <= reached => "for nothing: it is noted as final at the next look".to_owned(),
            (Source::Confirmations(confirmations), _) => {
                format!(
                    "for {confirmations} confirmations: final at head {}, the head is {}",
                    height + confirmations - 1,
                    head.block.number
                )
            }
            (Source::Finalized, reached) => format!("for the chain's finalized tag to reach it; it is at {}", shown(reached)),
            (Source::Certificates(certificates), reached) => match certificates.alarm() {
                Some(error) => error.to_string(),
                None => format!("for a certificate at or above block {height}; certified and confirmed so far is {}", shown(reached)),
            },
        })
    }

    /// What makes blocks final, and how that stands.
    pub fn finality(&self) -> FinalityStatus {
        let certificates = match &self.0.finality {
            Source::Confirmations(confirmations) => {
                return FinalityStatus { source: format!("{confirmations} confirmations"), ..FinalityStatus::default() };
            }
            Source::Finalized => return FinalityStatus { source: "the chain's finalized tag".to_owned(), ..FinalityStatus::default() },
            Source::Certificates(certificates) => certificates,
        };
        let digest = hex::encode(certificates.agreement.digest());
        let source = format!("certificates of {} validators, agreement {digest}", certificates.options.sources.len());
        let state = match certificates.state() {
            Ok(state) => state,
            Err(error) => return FinalityStatus { source, trouble: Some(Trouble::from(&error)), ..FinalityStatus::default() },
        };
        let link = |checkpoint: &FinalityCheckpoint| {
            let tip = state.tip().filter(|tip| tip.checkpoint() == *checkpoint);
            tip.map(|tip| Digest(tip.digest().0))
        };
        let certified = certificates.newest(&state, u64::MAX).map(|(checkpoint, block)| CertifiedBlock {
            checkpoint: checkpoint.number.0,
            block,
            hash: Digest(checkpoint.hash.0),
            link: link(&checkpoint),
        });
        let validators = state.sources().iter().map(|source| SourceStatus {
            validator: source.validator.0,
            address: source.address.clone(),
            finalized: source.finalized.0,
            trouble: source.trouble.as_ref().map(ToString::to_string),
        });
        let trouble = certificates.alarm().as_ref().map(Trouble::from);
        FinalityStatus { source, certified, validators: validators.collect(), trouble }
    }

    /// The follower of certificates, to be polled for as long as this process settles; `None` where there is nothing to follow. From
    /// here on this chain's finality is what the follower finds.
    pub(crate) fn follower(&self) -> Result<Option<Light>, Error> {
        let Source::Certificates(certificates) = &self.0.finality else { return Ok(None) };
        let (light, handle) = Light::new(certificates.options.clone()).map_err(|error| Error::Certificates(error.to_string()))?;
        certificates.live.set(handle).map_err(|_| Error::Certificates("they are followed by this chain's client already".to_owned()))?;
        Ok(Some(light))
    }
}

fn shown(height: Option<u64>) -> String {
    height.map_or_else(|| "nothing".to_owned(), |height| format!("block {height}"))
}
