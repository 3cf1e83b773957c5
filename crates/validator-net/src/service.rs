//! Options, the service, and the handle.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use finality_gadget::{Message, NetworkBridge, Recipient, Schedule, ValidatorId};
use milepost_pinned_tls::{Pins, client, server};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use crate::inbox::Inbox;
use crate::limits::Limits;
use crate::peer::{Directory, Peer, PeerReport};
use crate::refusal::Refusal;
use crate::{ALPN, IdentityError, Pin, TransportKey, dial, listen};

/// Why a configuration makes no network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This node itself is in no set.
    #[error("validator {0} is this node, and in no set of the schedule")]
    NotAMember(ValidatorId),
    /// A peer that is in no set.
    #[error("peer {0} is in no set of the schedule")]
    UnknownPeer(ValidatorId),
    /// A validator or a key is named twice, this node's own included.
    #[error("peer {0} is named twice, or is this node, or shares its key with another")]
    Twice(ValidatorId),
    /// A member of the newest set without an address and a key.
    #[error("no address and key are given for validator {0}, which is in the newest set")]
    MissingPeer(ValidatorId),
    /// The transport key cannot be used.
    #[error(transparent)]
    Key(#[from] IdentityError),
    /// The socket that was handed over does not listen.
    #[error("the listening socket cannot be used: {0}")]
    Socket(#[from] std::io::Error),
}

/// What a network is made of.
#[derive(Debug)]
pub struct Options {
    /// This node's number.
    pub validator: ValidatorId,
    /// This node's key on the network.
    pub key: TransportKey,
    /// Chain, trusted checkpoint and validator sets. When they change, the network is made anew.
    pub schedule: Arc<Schedule>,
    /// Every other validator.
    pub peers: Vec<Peer>,
    /// What each of them may cost.
    pub limits: Limits,
}

impl Options {
    fn check(&self) -> Result<(), Error> {
        let Self { validator: me, key, schedule, peers, .. } = self;
        if !schedule.knows(*me) {
            return Err(Error::NotAMember(*me));
        }
        let mut ids = BTreeSet::from([*me]);
        let mut pins = BTreeSet::from([key.pin()]);
        for peer in peers {
            if !schedule.knows(peer.validator) {
                return Err(Error::UnknownPeer(peer.validator));
            }
            if !ids.insert(peer.validator) || !pins.insert(peer.pin) {
                return Err(Error::Twice(peer.validator));
            }
        }
        let newest = schedule.sets().last().map(|(_, set)| set.members().map(|(id, _)| id).collect::<Vec<_>>());
        match newest.into_iter().flatten().find(|id| !ids.contains(id)) {
            Some(missing) => Err(Error::MissingPeer(missing)),
            None => Ok(()),
        }
    }
}

/// The service: accepts and dials for as long as [`Network::run`] is polled.
pub struct Network {
    directory: Arc<Directory>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    pins: Arc<Pins<ValidatorId>>,
    dialled: Vec<(ValidatorId, TlsConnector)>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("listener", &self.listener).field("peers", &self.dialled.len()).finish_non_exhaustive()
    }
}

impl Network {
    /// Checks the options. Nothing is sent or accepted before [`Network::run`], but messages handed to the bridge wait for it.
    pub fn new(options: Options, listener: TcpListener) -> Result<(Self, Bridge, Inbox), Error> {
        options.check()?;
        let Options { validator, key, schedule, peers, limits } = options;
        let pins = Pins::new(peers.iter().map(|peer| (peer.pin, peer.validator)));
        let acceptor = TlsAcceptor::from(server(&key, Arc::clone(&pins), ALPN)?);
        let connector = |pin: Pin, id| Ok(TlsConnector::from(client(&key, Pins::new([(pin, id)]), ALPN)?));
        let dialled = peers.iter().map(|peer| Ok((peer.validator, connector(peer.pin, peer.validator)?)));
        let dialled = dialled.collect::<Result<Vec<_>, IdentityError>>()?;
        let directory = Arc::new(Directory::new(validator, schedule, peers, limits));
        let (bridge, inbox) = (Bridge { directory: Arc::clone(&directory) }, Inbox::new(Arc::clone(&directory.inbox)));
        Ok((Self { directory, listener, acceptor, pins, dialled }, bridge, inbox))
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr, Error> {
        Ok(self.listener.local_addr()?)
    }

    /// Runs until `stop`: then every peer is told, the connections end, and the inbox gives out what is left. Dropping it ends them
    /// too. Runs on tokio.
    pub async fn run(self, stop: CancellationToken) {
        let Self { directory, listener, acceptor, pins, dialled } = self;
        let ending = Ending(Arc::clone(&directory));
        let mut dialling = JoinSet::new();
        for (id, connector) in dialled {
            if let Some(peer) = directory.peers.get(&id) {
                dialling.spawn(dial::run(Arc::clone(&directory), Arc::clone(peer), connector, stop.clone()));
            }
        }
        Box::pin(listen::run(directory, listener, acceptor, pins, stop)).await;
        dialling.join_all().await;
        drop(ending);
    }
}

/// Ends what the gRPC server has spawned, however the service ends.
struct Ending(Arc<Directory>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.peers.values().for_each(|peer| peer.dismiss(Refusal::closing()));
        self.0.inbox.close();
    }
}

/// The handle: sends, and tells how the peers are doing. Cheap to clone.
///
/// # Guarantees
///
/// [`NetworkBridge::send`] never blocks. A message for all is encoded once and held once.
///
/// # Does not
///
/// Promise delivery, or keep the order across a reconnection. See the crate's page.
#[derive(Debug, Clone)]
pub struct Bridge {
    directory: Arc<Directory>,
}

impl Bridge {
    /// How the peers are doing, ascending by number.
    pub fn peers(&self) -> Vec<PeerReport> {
        self.directory.report()
    }

    /// Connections that did not get through the handshake: strangers, scanners, and peers whose key is configured wrongly.
    pub fn strangers(&self) -> u64 {
        self.directory.strangers.load(Ordering::Relaxed)
    }
}

impl NetworkBridge for Bridge {
    fn send(&self, to: Recipient, message: &Message) {
        let bytes = Bytes::from(message.encode());
        let most = self.directory.limits.max_message_bytes;
        if bytes.len() > most {
            // No peer would take it, and the stream would end with it.
            tracing::error!(event = "message_too_long", bytes = bytes.len(), most, "a message is too long for the network and is not sent");
            return;
        }
        match to {
            Recipient::All => self.directory.peers.values().for_each(|peer| peer.outbox.push(bytes.clone())),
            Recipient::One(id) => {
                if let Some(peer) = self.directory.peers.get(&id) {
                    peer.outbox.push(bytes);
                }
            }
        }
    }
}
