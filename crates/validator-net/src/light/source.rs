//! One validator that is asked again and again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use finality_gadget::{CheckpointNumber, MAX_SETS_PER_LINK, MAX_SIGNATURE_BYTES, Schedule, Vote};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::client::Grpc as Client;
use tonic::transport::Channel;

use super::certified::{self, Certified};
use super::rpc;
use super::service::State;
use crate::backoff::Backoff;
use crate::dial::{self, Failure};
use crate::peer::Peer;
use crate::set_file::Agreement;
use crate::wire::Answer;

/// For one question, from a connection that stands.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// What protobuf puts around a certificate, at most.
const ANSWER_OVERHEAD: usize = 64;

/// Why a validator is no help at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It is not reached, or refuses to answer.
    Network(Failure),
    /// It answered with a certificate that is none: it lies, or this node's set file is not the validators'.
    Certificate(certified::Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(failure) => write!(f, "{failure}"),
            Self::Certificate(error) => write!(f, "gave no certificate that holds: {error}"),
        }
    }
}

/// What one look at a validator gave.
#[derive(Debug)]
pub(super) struct Heard {
    /// Its position among the sources.
    pub(super) source: usize,
    pub(super) what: Result<(CheckpointNumber, Option<Certified>), Trouble>,
}

/// Asks one validator for ever. Ends when nobody listens any more.
pub(super) struct Source {
    pub(super) index: usize,
    pub(super) peer: Peer,
    pub(super) tls: TlsConnector,
    pub(super) agreement: Arc<Agreement>,
    pub(super) poll: Duration,
    pub(super) state: watch::Receiver<State>,
    pub(super) heard: mpsc::Sender<Heard>,
}

impl Source {
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let mut well = false;
            let trouble = match self.session(&mut well).await {
                Ok(()) => return,
                Err(trouble) => trouble,
            };
            if well {
                backoff.reset();
            }
            let lasting = match &trouble {
                Trouble::Network(failure) => failure.needs_an_operator(),
                Trouble::Certificate(_) => true,
            };
            if self.heard.send(Heard { source: self.index, what: Err(trouble) }).await.is_err() {
                return;
            }
            let random = rand::random();
            tokio::time::sleep(if lasting { backoff.refused(random) } else { backoff.failed(random) }).await;
        }
    }

    /// One connection from beginning to end. `Ok` where nobody listens any more.
    async fn session(&mut self, well: &mut bool) -> Result<(), Trouble> {
        let mut client = self.connect().await.map_err(Trouble::Network)?;
        loop {
            let known = self.state.borrow().tip().map(|tip| tip.digest());
            let asking = rpc::ask(&mut client, rpc::question(&self.agreement, known));
            let answer = timeout(ANSWER_TIMEOUT, asking).await.map_err(|_| Trouble::Network(Failure::Silent))?;
            let answer = answer.map_err(|status| Trouble::Network(dial::of_status(&status)))?;
            let certified = self.judge(&answer).map_err(Trouble::Certificate)?;
            *well = true;
            let what = Ok((CheckpointNumber(answer.finalized), certified));
            if self.heard.send(Heard { source: self.index, what }).await.is_err() {
                return Ok(());
            }
            tokio::time::sleep(self.poll).await;
        }
    }

    /// Verifies what is new. What it says beside the certificate is only a word.
    fn judge(&self, answer: &Answer) -> Result<Option<Certified>, certified::Error> {
        if answer.certificate.is_empty() {
            return Ok(None);
        }
        let certificate = finality_gadget::Certificate::decode(&answer.certificate)?;
        let digest = certificate.digest();
        if self.state.borrow().kept().any(|kept| kept.digest() == digest) {
            return Ok(None);
        }
        Certified::verify(&self.agreement, certificate).map(Some)
    }

    async fn connect(&self) -> Result<Client<Channel>, Failure> {
        let channel = dial::channel(dial::connect(&self.peer.address, &self.tls).await?).await?;
        Ok(Client::new(channel).max_decoding_message_size(longest(&self.agreement.schedule) + ANSWER_OVERHEAD))
    }
}

/// Longest certificate that these sets can make.
fn longest(schedule: &Schedule) -> usize {
    let largest = schedule.sets().map(|(_, set)| set.members().len()).max().unwrap_or(1);
    let members = largest * MAX_SETS_PER_LINK;
    Vote::MAX_BYTES + 8 + members.div_ceil(8) + members * MAX_SIGNATURE_BYTES
}
