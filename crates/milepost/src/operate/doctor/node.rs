//! The node that runs here, if one does: its own readiness, and whether it is this build.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use milepost_gateway::{BuildInfo, Check};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Findings, local::same_commit};
use crate::books;
use crate::build_info::build_info;
use crate::config::Config;

/// A node answers these pages from memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// The answer of `/ready`.
#[derive(Deserialize)]
struct Ready {
    checks: Vec<Check>,
}

pub(super) async fn check(config: &Config, expected: Option<&str>, findings: &mut Findings) {
    let holder = books::running(config);
    let address = reachable(config.node.listen);
    let ready: Option<Ready> = page(address, "/ready").await;
    let (Some(ready), Some(version)) = (ready, page::<BuildInfo>(address, "/v1/version").await) else {
        return match holder {
            Some(pid) => findings.failure(
                "node",
                format!("process {pid} has the database open, and nothing answers at {address}"),
                "look at its log; node.listen may differ from the one it was started with",
            ),
            None => findings.skipped("node", format!("none runs here ({address} does not answer)")),
        };
    };
    let here = build_info().commit;
    match expected.map(|expected| same_commit(expected, &version.commit)) {
        Some(Ok(false)) => findings.failure(
            "node",
            format!("the node at {address} runs commit {}, another was expected", version.commit),
            "restart it with the build that was meant",
        ),
        None if version.commit != here => findings.warning(
            "node",
            format!("the node at {address} runs commit {}, this program is {here}", version.commit),
            "restart it if the new build should run",
        ),
        _ => findings.ok("node", format!("runs at {address}, version {}, commit {}", version.version, version.commit)),
    }
    for check in ready.checks {
        let found = format!("{}: {}", check.name, check.message);
        if check.ok {
            findings.ok("node's readiness", found);
        } else {
            findings.failure("node's readiness", found, "the message says what to do; GET /ready shows when it holds");
        }
    }
}

/// An address that listens on all interfaces is reached at the loopback one.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// A JSON page, whatever its status; `None` if there is no such answer.
async fn page<T: DeserializeOwned>(address: SocketAddr, page: &str) -> Option<T> {
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().ok()?;
    client.get(format!("http://{address}{page}")).send().await.ok()?.json().await.ok()
}
