//! `/health`, `/ready`, `/status`, `/metrics`: read-only pages for those who look after the validator.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use finality_gadget::Standing;
use metrics_exporter_prometheus::PrometheusHandle;
use milepost_validator_net::Bridge;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::chain::ChainState;
use super::status::{self, Status};
use super::{Error, meters};
use crate::redact;

/// A page that is asked for and not taken is given up after this at the end of the process.
const LAST_PAGES: Duration = Duration::from_secs(2);

/// The gadget's thread tells of itself several times a second. After so long without, something holds it.
const SILENCE: Duration = Duration::from_secs(30);

/// What the pages are made of.
pub(super) struct Views {
    /// The gadget.
    pub(super) status: watch::Receiver<Option<Status>>,
    /// The chain.
    pub(super) chain: watch::Receiver<ChainState>,
    /// The network.
    pub(super) network: Bridge,
    /// What the check behind the start found; `None` while it runs.
    pub(super) checked: watch::Receiver<Option<Result<u64, String>>>,
    /// Whether it is configured as an observer: then it need not sign to be ready.
    pub(super) observer: bool,
    /// Peers that make a quorum together with this node.
    pub(super) needed: usize,
    /// The figures.
    pub(super) metrics: PrometheusHandle,
}

impl Views {
    /// What `/ready` asks: a name, whether it is well, and words.
    fn checks(&self) -> Vec<(&'static str, bool, String)> {
        let status = self.status.borrow().clone();
        let chain = self.chain.borrow().clone();
        let peers = self.network.peers();
        let both = peers.iter().filter(|peer| peer.reached && peer.heard).count();
        let mut checks = Vec::new();
        match &status {
            None => checks.push(("standing", false, "not started yet".to_owned())),
            Some(status) => {
                let signs = status.health.standing == Standing::Signing || (self.observer && status.health.standing == Standing::Observer);
                let advice = status.advice.as_deref().map(|advice| format!(": {advice}")).unwrap_or_default();
                checks.push(("standing", signs, format!("{} {}{advice}", status.standing(), status.reason()).trim().to_owned()));
                let moving = match &status.health.stuck {
                    None => (true, format!("{} is final, {} justified", status.finalized.number, status.health.justified)),
                    Some(stuck) => (false, stuck.reasons.iter().map(status::words).collect::<Vec<_>>().join("; ")),
                };
                checks.push(("finality", moving.0, moving.1));
            }
        }
        let words = match (chain.up, &chain.error) {
            (Some(true), _) => format!("{} answers, up to checkpoint {}", chain.endpoint, chain.eligible),
            (_, Some(error)) => format!("{}: {error}", chain.endpoint),
            (_, None) => "not reached yet".to_owned(),
        };
        checks.push(("chain", chain.up == Some(true), words));
        checks.push(("peers", both >= self.needed, format!("{both} of {} are reached and heard, {} are needed", peers.len(), self.needed)));
        let database = match &*self.checked.borrow() {
            None => (true, "is being checked".to_owned()),
            Some(Ok(records)) => (true, format!("{records} records whole")),
            Some(Err(error)) => (false, format!("{error}; restart the validator, and the database is set aside and rebuilt")),
        };
        checks.push(("database", database.0, database.1));
        checks
    }

    fn page(&self) -> Value {
        let Some(status) = self.status.borrow().clone() else { return json!({ "standing": "starting" }) };
        let page = status::page(&status, &self.chain.borrow(), &self.network.peers(), self.network.strangers());
        // An endpoint's own words may repeat its address.
        serde_json::from_str(&redact::clean(&page.to_string())).unwrap_or_default()
    }
}

/// Answers until told to stop.
pub(super) async fn serve(listener: TcpListener, views: Arc<Views>, stop: CancellationToken) -> Result<(), Error> {
    let router = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/status", get(|State(views): State<Arc<Views>>| async move { Json(views.page()) }))
        .route("/metrics", get(figures))
        .with_state(views);
    let told = stop.clone().cancelled_owned();
    let serving = axum::serve(listener, router).with_graceful_shutdown(told).into_future();
    let too_long = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_PAGES).await;
    };
    tokio::select! {
        served = serving => served.map_err(|error| Error::Ended { part: "doors", reason: error.to_string() }),
        () = too_long => Ok(()),
    }
}

/// Whether the gadget's thread still turns: a disk that never answers stops it without ending it.
async fn health(State(views): State<Arc<Views>>) -> Response {
    let silent = views.status.borrow().as_ref().map_or(Duration::ZERO, |status| status.at.elapsed());
    let live = silent < SILENCE;
    let code = if live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "live": live, "silent_seconds": silent.as_secs() }))).into_response()
}

async fn ready(State(views): State<Arc<Views>>) -> Response {
    let checks = views.checks();
    let ready = checks.iter().all(|(_, ok, _)| *ok);
    let checks: Vec<Value> =
        checks.into_iter().map(|(name, ok, message)| json!({ "name": name, "ok": ok, "message": redact::clean(&message) })).collect();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "ready": ready, "checks": checks }))).into_response()
}

async fn figures(State(views): State<Arc<Views>>) -> String {
    meters::peers(&views.network.peers(), views.network.strangers());
    meters::chain(views.chain.borrow().up);
    views.metrics.run_upkeep();
    views.metrics.render()
}
