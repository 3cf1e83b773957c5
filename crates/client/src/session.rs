//! A paid session, from the deposit to the refund.

mod http;
mod open;
mod payout;
mod settle;
mod socket;
mod turn;

use std::path::Path;

use milepost_statement::{Digest, JobId, TokenCount, TokenId, TokenSeq};
use serde::{Deserialize, Serialize};

use crate::chain::Chain;
use crate::file::{Entry, Record, SessionFile, write_private};
use crate::host::Host;
use crate::transcript::{self, Checkpoint, SignedReceipt, Transcript};
use crate::{Amount, Capture, Error, Wallet};

pub use open::OpenRequest;
pub use payout::split;
pub use settle::{CloseOutcome, Paid, Refund, RefundState};
pub use turn::Observer;

/// A message of the conversation so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// What to ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The model's name at the host.
    pub model: String,
    /// The user's words.
    pub prompt: String,
    /// What was said before.
    pub context: Vec<Message>,
    /// Most tokens of the answer.
    pub max_tokens: u32,
    /// 0 (greedy) to 2.
    pub temperature: f32,
    /// Key of the request: the same id is never billed twice. Empty: one is drawn.
    pub request_id: String,
}

impl ChatRequest {
    /// A request with the usual settings.
    pub fn new(model: &str, prompt: &str) -> Self {
        Self {
            model: model.to_owned(),
            prompt: prompt.to_owned(),
            context: Vec::new(),
            max_tokens: 256,
            temperature: 0.7,
            request_id: String::new(),
        }
    }
}

/// What happens while a turn runs. Tokens are reported after they are checked, stored and synced.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Tokens came.
    Tokens {
        /// Position of the first.
        seq: TokenSeq,
        /// Their ids.
        ids: &'a [TokenId],
        /// Their text: may be empty while a character is incomplete.
        text: &'a str,
    },
    /// A checkpoint was announced and fits.
    Sealed(&'a Checkpoint),
    /// The turn's receipt fits.
    Receipt(&'a SignedReceipt),
    /// The stream was cut and is about to be taken up again.
    Reconnecting {
        /// How many attempts were made since the last token.
        attempt: u32,
        /// Why.
        reason: &'a str,
    },
}

/// What to do next, as an observer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Go on.
    Continue,
    /// Ask the host to stop generating; the turn ends with a receipt over what came.
    Cancel,
    /// Drop the connection and leave the turn open for [`Session::resume`].
    Disconnect,
}

/// Where the deposit stands, by the tokens held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Escrow {
    /// The deposit.
    pub deposit: Amount,
    /// What the tokens held cost.
    pub spent: Amount,
    /// What the deposit still pays for.
    pub left: Amount,
    /// The part of `spent` that was countersigned; `None` without vouchers.
    pub acknowledged: Option<Amount>,
    /// What the client's own ceiling leaves; `None` without one.
    pub ceiling_left: Option<Amount>,
}

/// A finished turn.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The request's id.
    pub request_id: String,
    /// Position of its first token.
    pub start: TokenSeq,
    /// Tokens received.
    pub count: TokenCount,
    /// Text received by this call; the part before a restart of the client is not repeated.
    pub text: String,
    /// Why it ended, as the host said.
    pub finish_reason: String,
    /// Its receipt, checked.
    pub receipt: Option<SignedReceipt>,
}

/// How a call that was observed ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The turn is over.
    Ended(Box<Turn>),
    /// The observer dropped the connection; the turn goes on with [`Session::resume`].
    Detached {
        /// Its request's id.
        request_id: String,
    },
}

/// A session: wallet, transcript, file, and the connections that are open.
///
/// **Guarantees.** What was acknowledged to the host is on disk. Nothing is acknowledged or countersigned that does not fit.
/// **Does not** retry a check that failed: the session is stopped, and only its end remains.
#[derive(Debug)]
pub struct Session {
    wallet: Wallet,
    file: SessionFile,
    transcript: Transcript,
    host: Host,
    chain: Option<Chain>,
    socket: Option<socket::Socket>,
}

impl Session {
    /// Takes up a session from its file. Funding that was sent but not seen is looked for, and sent again where nobody knows it.
    pub async fn load(wallet: Wallet, path: &Path) -> Result<Self, Error> {
        let file = SessionFile::open(path).map_err(|error| Error::File { path: path.to_owned(), error })?;
        let record = file.record();
        if record.depositor != wallet.address() {
            return Err(Error::WrongWallet { depositor: record.depositor, wallet: wallet.address() });
        }
        open::take_up(wallet, file).await
    }

    /// Of a file whose session is funded. Everything in the file is checked again.
    fn from_file(wallet: Wallet, file: SessionFile, chain: Option<Chain>) -> Result<Self, Error> {
        let record = file.record();
        let job = record.identity().ok_or(Error::NotFunded)?;
        let host = Host::new(&record.host_url)?;
        let mut transcript = Transcript::new(job, record.salt, &[]);
        for turn in &record.turns {
            transcript.note_turn(turn.start, &turn.request_id);
        }
        if let Some(active) = &record.active {
            transcript.note_turn(active.start, &active.request.request_id);
        }
        let mut check = || {
            transcript.receive(TokenSeq::ZERO, &record.ids)?;
            record.checkpoints.iter().try_for_each(|checkpoint| transcript.announce(checkpoint.clone()))
        };
        // A session that was stopped is read as far as it fits: it can still be ended.
        match check() {
            Err(error) if record.stopped.is_none() => return Err(error.into()),
            _ => {}
        }
        Ok(Self { wallet, file, transcript, host, chain, socket: None })
    }

    /// The job.
    pub fn job_id(&self) -> JobId {
        self.transcript.job().job_id
    }

    /// What is stored.
    pub fn record(&self) -> &Record {
        self.file.record()
    }

    /// The checked transcript.
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// What the tokens held cost, and what is left.
    pub fn escrow(&self) -> Escrow {
        let record = self.record();
        let cost = |tokens: u64| Amount(record.price.0.saturating_mul(tokens.into()));
        let spent = cost(self.transcript.end().0);
        Escrow {
            deposit: record.deposit,
            spent,
            left: Amount(record.deposit.0.saturating_sub(spent.0)),
            acknowledged: record.voucher.map(|voucher| cost(voucher.given.0)),
            ceiling_left: record.ceiling.map(|ceiling| Amount(ceiling.0.saturating_sub(spent.0))),
        }
    }

    /// The unfinished request, if there is one.
    pub fn unfinished(&self) -> Option<&str> {
        self.record().active.as_ref().map(|active| active.request.request_id.as_str())
    }

    /// The host's session token, once authenticated: works as an OpenAI API key too.
    pub fn access_token(&self) -> Option<&str> {
        self.record().access.as_deref()
    }

    /// What auditors read.
    pub fn capture(&self) -> Capture {
        self.record().capture().expect("a session exists only over a funded record")
    }

    /// Writes [`Session::capture`] as JSON, for its owner only.
    pub fn write_capture(&self, path: &Path) -> Result<(), Error> {
        let wrong = |error: std::io::Error| Error::File { path: path.to_owned(), error: error.into() };
        let bytes = serde_json::to_vec_pretty(&self.capture()).map_err(|error| wrong(error.into()))?;
        write_private(path, &bytes).map_err(wrong)
    }

    /// Signs the host's challenge and keeps the token. With `url` the host is asked there from now on.
    pub async fn authenticate(&mut self, url: Option<&str>) -> Result<(), Error> {
        if let Some(url) = url {
            self.host = Host::new(url)?;
            self.socket = None;
            self.store(|record| url.clone_into(&mut record.host_url))?;
        }
        let job = *self.transcript.job();
        let wallet = &self.wallet;
        let sign = |challenge: &Digest, expires_at| wallet.sign_open(&job, *challenge, expires_at);
        let record = self.file.record();
        let access = self.host.open_session(job.job_id, &record.salt, record.quote.as_ref(), sign).await?;
        self.check_position(access.position)?;
        self.store(|record| record.access = Some(access.token))
    }

    /// The host's other doors.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Drops the connection; the next turn makes a new one.
    pub fn disconnect(&mut self) {
        self.socket = None;
    }

    /// The chain, connected on first use.
    pub async fn chain(&mut self) -> Result<&Chain, Error> {
        if self.chain.is_none() {
            let record = self.file.record();
            let chain = Chain::connect(&record.rpc, record.marketplace).await?;
            chain.expect_id(record.chain_id)?;
            self.chain = Some(chain);
        }
        Ok(self.chain.as_ref().expect("it was just connected"))
    }

    /// Fetches the checkpoints that were not announced to us (sealed while we were away, or by the session's end) and checks them.
    pub async fn sync_checkpoints(&mut self) -> Result<(), Error> {
        // Hosts show the digests of turns, without which no head can be recomputed, to the depositor's session alone.
        if self.access_token().is_none() {
            self.authenticate(None).await?;
        }
        let (job, from) = (self.job_id(), self.transcript.checkpoints().len() as u64);
        let checkpoints = match self.host.checkpoints(self.access_token(), job, from).await {
            Err(Error::Host { status: 401, .. }) => {
                self.authenticate(None).await?;
                self.host.checkpoints(self.access_token(), job, from).await?
            }
            result => result?,
        };
        self.take_checkpoints(checkpoints)
    }

    fn take_checkpoints(&mut self, checkpoints: Vec<Checkpoint>) -> Result<(), Error> {
        checkpoints.into_iter().try_for_each(|checkpoint| self.take_checkpoint(checkpoint))
    }

    fn take_checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), Error> {
        let announced = self.transcript.announce(checkpoint.clone());
        announced.map_err(|error| self.stop(error))?;
        if self.record().checkpoints.iter().any(|known| known.number == checkpoint.number) {
            return Ok(()); // announced before, and found to be the same
        }
        self.append(Entry::Checkpoint(checkpoint))
    }

    /// A host that has fewer tokens than it delivered has lost what it was paid to keep.
    fn check_position(&mut self, position: Option<TokenSeq>) -> Result<(), Error> {
        let captured = self.transcript.end();
        match position {
            Some(host) if host < captured => Err(self.stop(transcript::Error::HostBehind { host, captured })),
            _ => Ok(()),
        }
    }

    /// Checks a receipt, fetching what it needs: checkpoints that were not announced, submitter keys that were not known.
    async fn check_receipt(&mut self, request_id: &str, receipt: &SignedReceipt) -> Result<(), Error> {
        // Each lack can be made good once: what is lacking then is a fault.
        let mut synced = false;
        let mut asked = false;
        loop {
            match self.transcript.check_receipt(request_id, receipt) {
                Ok(()) => return Ok(()),
                Err(transcript::Error::MissingCheckpoints { .. }) if !synced => {
                    synced = true;
                    self.sync_checkpoints().await?;
                }
                Err(transcript::Error::WrongSigner { signer, host }) if !asked => {
                    asked = true;
                    if self.chain().await?.is_submitter(host, signer).await? {
                        self.transcript.add_signer(signer);
                    }
                }
                Err(error) => return Err(self.stop(error)),
            }
        }
    }

    /// Remembers that a check failed: this session sends no further requests.
    fn stop(&mut self, error: transcript::Error) -> Error {
        self.socket = None;
        match self.append(Entry::Stopped { reason: error.to_string() }) {
            Ok(()) => Error::Transcript(error),
            Err(failed) => failed,
        }
    }

    fn usable(&self) -> Result<(), Error> {
        self.record().stopped.clone().map_or(Ok(()), |reason| Err(Error::Stopped { reason }))
    }

    fn append(&mut self, entry: Entry) -> Result<(), Error> {
        let stored = self.file.append(entry);
        stored.map_err(|error| Error::File { path: self.file.path().to_owned(), error })
    }

    fn store(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), Error> {
        let stored = self.file.update(change);
        stored.map_err(|error| Error::File { path: self.file.path().to_owned(), error })
    }
}
