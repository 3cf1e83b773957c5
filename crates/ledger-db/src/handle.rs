//! The handle that callers hold.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use milepost_ledger::{
    AccountId, AccountRecord, CheckpointRecord, Claim, ClaimId, Event, JobId, Ledger, TokenId, TokenSeq, TurnRecord, Tx, TxId,
};
use milepost_store::{MAX_KEY_BYTES, MAX_VALUE_BYTES, Memory, Stats, Storage, frame};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::answer::{Blob, Change, Committed, Forget};
use crate::commit::{Call, Committer, Fence, Message};
use crate::rows::{MAX_TOKENS_READ, Rows};
use crate::seam::Append;
use crate::{CheckReport, Error, check, priority, recover, schema, tables};

/// Callers that may wait for the commit thread; one more waits for a place.
pub const QUEUE: usize = 1024;
/// Changes kept for a listener that is behind; one that falls further behind is told so and asks again.
pub const CHANGES: usize = 4096;
/// Events in one list: far more than any caller has, and few enough for one batch.
const MAX_EVENTS: usize = 1024;
/// Accounts forgotten with one list: each is several range deletes, and every token waits for the batch.
const MAX_FORGET: usize = 1024;
/// Blobs handed in with one list, in bytes.
const MAX_BLOB_BYTES: usize = MAX_VALUE_BYTES - frame::OVERHEAD;

/// How the database is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Try to raise the commit thread's priority over inference.
    pub raise_priority: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { raise_priority: true }
    }
}

/// A handle on the ledger's database. Clones are handles on the same one; it closes when the last is gone, and whoever drops that
/// one waits until the commit thread has let the store go: a process that ended meanwhile would take the engine's own memory
/// away under the thread that closes it, and a second opening would find the first still there.
///
/// Guarantees: what [`LedgerDb::apply`] answers `Ok` for survives a power loss; a list of events applies as a whole or not at
/// all; reads and queries see durable state only.
/// Does not: retry, deliver, or go on after a failed write.
#[derive(Clone)]
pub struct LedgerDb {
    queue: mpsc::Sender<Message>,
    rows: Rows,
    changes: broadcast::Sender<Change>,
    stopped: watch::Receiver<Option<String>>,
    /// Last of the fields, because they are dropped in order: the thread ends when the last queue is gone.
    _thread: Arc<CommitThread>,
}

/// The commit thread, waited for by the last handle.
struct CommitThread(Option<thread::JoinHandle<()>>);

impl Drop for CommitThread {
    fn drop(&mut self) {
        // A query may have held the last handle: then this is the thread itself.
        if let Some(thread) = self.0.take_if(|thread| thread.thread().id() != thread::current().id()) {
            // It catches its own panics and tells them by `stopped`.
            let _ = thread.join();
        }
    }
}

impl LedgerDb {
    /// Opens a database on a store that has its tables ([`LedgerDb::tables`]), and recovers the ledger from it.
    pub fn open(store: Arc<dyn Storage>, options: Options) -> Result<Self, Error> {
        schema::prepare(&*store)?;
        let rows = Rows { store };
        let (ledger, writer) = recover::recover(&rows)?;
        let (queue, messages) = mpsc::channel(QUEUE);
        let (changes, _) = broadcast::channel(CHANGES);
        let (stopping, stopped) = watch::channel(None);
        let committer = Committer { ledger, rows: rows.clone(), writer, queue: messages, changes: changes.clone(), stopped: stopping };
        let thread = thread::Builder::new().name("ledger-commit".to_owned()).spawn(move || {
            if options.raise_priority {
                priority::raise();
            }
            committer.run();
        });
        let thread = thread.map_err(|error| Error::Stopped { reason: format!("the commit thread could not be started: {error}") })?;
        Ok(Self { queue, rows, changes, stopped, _thread: Arc::new(CommitThread(Some(thread))) })
    }

    /// Opens or creates a RocksDB database in a directory of its own.
    #[cfg(feature = "rocksdb")]
    pub fn open_rocks(path: &Path, options: Options) -> Result<Self, Error> {
        let store = milepost_store::Rocks::open(path, Self::tables())?;
        Self::open(Arc::new(store), options)
    }

    /// The records as they are on the disk now, also while a node runs on them: reads only, every `apply` is refused.
    #[cfg(feature = "rocksdb")]
    pub fn open_rocks_read_only(path: &Path) -> Result<Self, Error> {
        let store = milepost_store::Rocks::open_read_only(path, Self::tables())?;
        Self::open(Arc::new(store), Options { raise_priority: false })
    }

    /// A database that ends with the process: tours, log mode without a disk, tests.
    pub fn open_memory(options: Options) -> Result<Self, Error> {
        Self::open(Arc::new(Memory::new(Self::tables())), options)
    }

    /// The tables a store must be opened with.
    pub fn tables() -> &'static [milepost_store::Table] {
        &tables::ALL
    }

    /// Applies events, all or nothing, and returns when their effects are durable.
    ///
    /// Cancelling the call does not undo it: the events may still become durable.
    pub async fn apply(&self, events: Vec<Event>) -> Result<Committed, Error> {
        self.apply_with(events, Vec::new()).await
    }

    /// The same, with blobs that become durable in the same batch.
    pub async fn apply_with(&self, events: Vec<Event>, blobs: Vec<Blob>) -> Result<Committed, Error> {
        let (call, answer) = call(events, blobs, None)?;
        self.queue.send(call).await.map_err(|_| self.why_stopped())?;
        committed(answer.await.map_err(|_| self.why_stopped())?)
    }

    /// The same, and afterwards, in the same batch, deletes all records of accounts without a job that are retired by then. Their
    /// names may be used again. Refused as a whole where one is a job's or not retired; at most 1024 at a time.
    pub async fn apply_and_forget(&self, events: Vec<Event>, forget: Vec<Forget>) -> Result<Committed, Error> {
        at_most("accounts forgotten in one list", forget.len(), MAX_FORGET)?;
        at_most(
            "bytes in a name",
            forget.iter().filter_map(|forget| Some(forget.names.as_ref()?.len())).max().unwrap_or(0),
            MAX_KEY_BYTES,
        )?;
        let (mut message, answer) = call(events, Vec::new(), None)?;
        if let Message::Call(call) = &mut message {
            call.forget = forget;
        }
        self.queue.send(message).await.map_err(|_| self.why_stopped())?;
        committed(answer.await.map_err(|_| self.why_stopped())?)
    }

    /// [`LedgerDb::apply`] for a thread of its own. Panics inside an async task; deadlocks inside a query.
    pub fn apply_blocking(&self, events: Vec<Event>) -> Result<Committed, Error> {
        let (call, answer) = call(events, Vec::new(), None)?;
        self.queue.blocking_send(call).map_err(|_| self.why_stopped())?;
        committed(answer.blocking_recv().map_err(|_| self.why_stopped())?)
    }

    pub(crate) async fn append_fenced(
        &self,
        account: AccountId,
        epoch: u64,
        expected: TokenSeq,
        events: Vec<Event>,
    ) -> Result<Append, Error> {
        let (call, answer) = call(events, Vec::new(), Some(Fence { account, epoch, expected }))?;
        self.queue.send(call).await.map_err(|_| self.why_stopped())?;
        answer.await.map_err(|_| self.why_stopped())?
    }

    /// Asks the ledger something, on the commit thread between rounds: all that is seen is durable. Keep it short, every
    /// token waits for it.
    pub async fn query<R: Send + 'static>(&self, ask: impl FnOnce(&Ledger) -> R + Send + 'static) -> Result<R, Error> {
        let (reply, answer) = oneshot::channel();
        let query = Message::Query(Box::new(move |ledger| {
            // The caller may have gone away.
            let _ = reply.send(ask(ledger));
        }));
        self.queue.send(query).await.map_err(|_| self.why_stopped())?;
        answer.await.map_err(|_| if self.stopped.borrow().is_some() { self.why_stopped() } else { Error::QueryPanicked })
    }

    /// Callers that wait for the commit thread now.
    pub fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Announcements of what changed, each after it is durable. A listener that lags is told so and asks again.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Resolves, with the reason, when the commit thread has stopped for good. Unless it was closed, the process must end.
    pub async fn stopped(&self) -> String {
        let mut stopped = self.stopped.clone();
        match stopped.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the commit thread is gone".to_owned(),
        }
    }

    /// Serves whoever waits already, then stops the commit thread. The store is let go when the last handle is dropped.
    pub async fn close(self) {
        if self.queue.send(Message::Close).await.is_ok() {
            self.stopped().await;
        }
    }

    /// An account's record, of finished ones too.
    pub fn account(&self, id: AccountId) -> Result<Option<AccountRecord>, Error> {
        self.rows.account(id)
    }

    /// Every account ever opened.
    pub fn accounts(&self) -> Result<Vec<AccountRecord>, Error> {
        self.rows.accounts()
    }

    /// Every account without a job whose records exist, ended ones too.
    pub fn free_accounts(&self) -> Result<Vec<AccountRecord>, Error> {
        self.rows.free_accounts()
    }

    /// Token ids of positions in `range`, as far as the transcript reaches; at most [`MAX_TOKENS_READ`].
    pub fn tokens(&self, id: AccountId, range: Range<TokenSeq>) -> Result<Vec<TokenId>, Error> {
        self.rows.tokens(id, range)
    }

    /// A turn by its number.
    pub fn turn(&self, id: AccountId, number: u32) -> Result<Option<TurnRecord>, Error> {
        self.rows.turn(id, number)
    }

    /// A turn by its request's id.
    pub fn turn_by_request(&self, id: AccountId, request: &str) -> Result<Option<TurnRecord>, Error> {
        self.rows.turn_by_request(id, request)
    }

    /// All turns of an account, in order.
    pub fn turns(&self, id: AccountId) -> Result<Vec<TurnRecord>, Error> {
        self.rows.turns(id)
    }

    /// At most `limit` checkpoints of an account from number `from` on, in order.
    pub fn checkpoints(&self, id: AccountId, from: u64, limit: usize) -> Result<Vec<CheckpointRecord>, Error> {
        self.rows.checkpoints(id, from, limit)
    }

    /// A claim, resolved ones too.
    pub fn claim(&self, id: ClaimId) -> Result<Option<Claim>, Error> {
        self.rows.claim(id)
    }

    /// All claims of a job, in order.
    pub fn claims(&self, job: JobId) -> Result<Vec<Claim>, Error> {
        self.rows.claims(job)
    }

    /// All transactions, resolved ones too, by key and nonce.
    pub fn txs(&self) -> Result<Vec<Tx>, Error> {
        self.rows.txs()
    }

    /// A transaction, resolved ones too.
    pub fn tx(&self, id: TxId) -> Result<Option<Tx>, Error> {
        self.rows.tx(id)
    }

    /// The receipt stored for a claim.
    pub fn receipt(&self, claim: ClaimId) -> Result<Option<Vec<u8>>, Error> {
        self.rows.receipt(claim)
    }

    /// Bytes stored by name.
    pub fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.rows.meta(name)
    }

    /// Checks every record's checksum and every account's rows, heads and positions. Reads everything: takes its time, and
    /// holds no writer up.
    pub fn check(&self) -> Result<CheckReport, Error> {
        check::check(&self.rows)
    }

    /// Writes a consistent copy to `to`, which must not exist; it opens like the original.
    pub fn backup(&self, to: &Path) -> Result<(), Error> {
        Ok(self.rows.store.backup(to)?)
    }

    /// Moves logs into tables. Housekeeping: durability does not depend on it.
    pub fn flush(&self) -> Result<(), Error> {
        Ok(self.rows.store.flush()?)
    }

    /// Figures about the store.
    pub fn stats(&self) -> Result<Stats, Error> {
        Ok(self.rows.store.stats()?)
    }

    fn why_stopped(&self) -> Error {
        let reason = self.stopped.borrow().clone();
        Error::Stopped { reason: reason.unwrap_or_else(|| "the commit thread is gone".to_owned()) }
    }
}

/// A call and where its answer arrives, if it is of a size that one batch takes.
fn call(events: Vec<Event>, blobs: Vec<Blob>, fence: Option<Fence>) -> Result<(Message, oneshot::Receiver<Result<Append, Error>>), Error> {
    let tokens = events.iter().map(|event| if let Event::Metered { ids, .. } = event { ids.len() } else { 0 }).sum();
    let names = blobs.iter().map(|blob| if let Blob::Meta { name, .. } = blob { name.len() } else { 0 }).max().unwrap_or(0);
    at_most("events in one list", events.len(), MAX_EVENTS)?;
    at_most("token ids in one list of events", tokens, MAX_TOKENS_READ)?;
    at_most("bytes in a name", names, MAX_KEY_BYTES)?;
    at_most("bytes in the blobs of one list", blobs.iter().map(Blob::bytes).sum(), MAX_BLOB_BYTES)?;
    let (reply, answer) = oneshot::channel();
    Ok((Message::Call(Call { events, blobs, forget: Vec::new(), fence, reply }), answer))
}

fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), Error> {
    if count > limit { Err(Error::TooMuch { what, count, limit }) } else { Ok(()) }
}

fn committed(answer: Result<Append, Error>) -> Result<Committed, Error> {
    match answer? {
        Append::Committed(committed) => Ok(committed),
        Append::Fenced { .. } => unreachable!("a call without a fence is not fenced"),
    }
}
