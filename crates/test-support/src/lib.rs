//! What tests and `milepost dev` share: a development chain with the contracts deployed, lines to it that fail, and a process
//! killer.
//!
//! - [`DevChain`]: an anvil process on a port of its own. It dies with this process, also by SIGKILL, and when dropped.
//! - [`Deployment`]: the marketplace and its neighbours on such a chain, a registered host, a funded depositor, and what
//!   actors other than the node do there (fund a session, close it, look at balances and logs).
//! - [`elsewhere`]: marketplaces of the generations that others have deployed.
//! - [`Line`]: a way to the chain that can be dead from the start, cut, or frozen, while the chain itself goes on.
//! - [`FaultProxy`]: a line to a chain that delays, loses, repeats, refuses and lies, by script or by seed.
//! - [`recount`]: another process that adds up what the chain's logs say, to hold against what a test metered.
//! - [`Victim`]: a child process that is killed with SIGKILL at a chosen moment.
//!
//! Accounts are those of the well-known development mnemonic `test test … junk`; chain id 31337. **Does not** belong anywhere
//! near a chain with money on it: transactions are sent from anvil's unlocked accounts.

mod anvil;
pub mod bindings;
mod chain;
mod deploy;
pub mod elsewhere;
mod error;
mod lifeline;
mod line;
pub mod proxy;
pub mod recount;
mod session;
mod tls;
mod victim;

pub use anvil::{DevAccount, find_anvil};
pub use chain::{ChainOptions, DevChain, Mining, Snapshot};
pub use deploy::{Actors, DeployOptions, Deployment};
pub use error::Error;
pub use lifeline::die_with_parent;
pub use line::Line;
pub use proxy::{Fault, FaultProxy, Return, Rules, Script, Weather};
pub use session::{JobEvent, SessionOptions};
pub use tls::install_tls;
pub use victim::{Moment, Victim};
