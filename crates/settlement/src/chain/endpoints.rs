//! Several endpoints behind one transport.
//!
//! One endpoint is asked as long as it answers: changing at each question would show a chain that jumps between nodes of different
//! heights. When it fails it is left alone for a while, longer each time, and another is drawn by weight. What counts as a failure:
//! no answer, an HTTP error, an endpoint of another chain.
//!
//! A JSON-RPC error is not an answer where another endpoint may know better, nor is `null` for a block or a receipt: the others are
//! asked too, and only when none knows better the first word stands. A revert *is* an answer. A signed transaction goes to one
//! endpoint after the other until one takes it.
//!
//! Guarantees: an address, which may hold an access key, is shown by scheme, host and port alone, in errors as in logs.
//! Does not: weigh the truth of answers against each other, or ask two at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket, ResponsePayload};
use alloy::transports::http::reqwest::{Client, Url};
use alloy::transports::{RpcError, TransportError, TransportErrorKind, TransportFut};
use milepost_ledger::ChainId;
use rand::Rng as _;
use serde::Serialize;

use super::SendError;
use crate::backoff::pause;
use crate::config::redacted;

/// Bytes of an error page that are kept.
const KEPT_OF_PAGE: usize = 200;
/// First pause after a failure; doubles up to half a minute.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How an endpoint does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointHealth {
    /// Scheme, host and port.
    pub endpoint: String,
    /// Its weight.
    pub weight: u32,
    /// Failures in a row.
    pub failures: u32,
    /// Whether it is left alone at the moment.
    pub resting: bool,
    /// What went wrong last.
    pub last_error: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct Health {
    failures: u32,
    until: Option<Instant>,
    last_error: Option<String>,
    /// It was seen to serve the configured chain.
    right_chain: bool,
}

struct Place {
    url: Url,
    shown: String,
    weight: u32,
}

struct Inner {
    places: Vec<Place>,
    client: Client,
    chain: ChainId,
    state: Mutex<(usize, Vec<Health>)>,
}

/// The transport. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Endpoints(Arc<Inner>);

/// What an answer is worth.
enum Worth {
    /// It decides.
    Answer,
    /// Another endpoint may know better; the higher, the better it is than other such words.
    Word(u8),
}

impl Endpoints {
    pub(crate) fn new(places: Vec<(Url, u32)>, client: Client, chain: ChainId) -> Self {
        let health = vec![Health::default(); places.len()];
        let places: Vec<_> =
            places.into_iter().map(|(url, weight)| Place { shown: redacted(url.as_str()), url, weight: weight.max(1) }).collect();
        let first = draw(&places.iter().enumerate().map(|(index, place)| (index, place.weight)).collect::<Vec<_>>()).unwrap_or(0);
        Self(Arc::new(Inner { places, client, chain, state: Mutex::new((first, health)) }))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.places.len()
    }

    /// How each does.
    pub(crate) fn health(&self) -> Vec<EndpointHealth> {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(place, health): (&Place, &Health)| EndpointHealth {
            endpoint: place.shown.clone(),
            weight: place.weight,
            failures: health.failures,
            resting: health.until.is_some_and(|until| until > Instant::now()),
            last_error: health.last_error.clone(),
        };
        self.0.places.iter().zip(&state.1).map(of).collect()
    }

    /// The endpoint in use says what cannot be: it is left alone for a while. Without another one it is asked on; callers do not believe it.
    pub(crate) fn distrust(&self, why: &str) {
        if self.count() > 1 {
            let used = self.0.state.lock().unwrap_or_else(PoisonError::into_inner).0;
            self.failed(used, why);
        }
    }

    /// In which order to ask: the one in use, then those that are well by weight, then those that rest.
    fn order(&self) -> Vec<usize> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let rests = |health: &Health| health.until.is_some_and(|until| until > now);
        let mut well: Vec<_> =
            (0..self.count()).filter(|index| !rests(&state.1[*index])).map(|index| (index, self.0.places[index].weight)).collect();
        let mut resting: Vec<_> = (0..self.count()).filter(|index| rests(&state.1[*index])).collect();
        resting.sort_by_key(|index| state.1[*index].until);
        let mut order = Vec::with_capacity(self.count());
        if let Some(place) = well.iter().position(|(index, _)| *index == state.0) {
            order.push(well.swap_remove(place).0);
        }
        while let Some(drawn) = draw(&well) {
            well.retain(|(index, _)| *index != drawn);
            order.push(drawn);
        }
        order.extend(resting);
        if let Some(first) = order.first() {
            state.0 = *first;
        }
        order
    }

    async fn ask_all(self, request: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let method = request.method_names().next().unwrap_or_default().to_owned();
        let mut best: Option<(u8, Result<ResponsePacket, TransportError>)> = None;
        for index in self.order() {
            let answer = self.ask(index, &request).await;
            let worth = match &answer {
                Err(error) => {
                    self.failed(index, &error.to_string());
                    Worth::Word(0)
                }
                Ok(packet) => {
                    self.well(index);
                    worth(&method, packet)
                }
            };
            match worth {
                Worth::Answer => return answer,
                Worth::Word(rank) if best.as_ref().is_none_or(|(known, _)| rank > *known) => best = Some((rank, answer)),
                Worth::Word(_) => {}
            }
        }
        best.map_or_else(|| Err(TransportErrorKind::custom_str("no endpoint is configured")), |(_, answer)| answer)
    }

    async fn ask(&self, index: usize, request: &RequestPacket) -> Result<ResponsePacket, TransportError> {
        // With one endpoint the preflight tells; among several a stray one must not be asked at all.
        if self.count() > 1 && !self.knows_chain(index) {
            let question = serde_json::json!({ "jsonrpc": "2.0", "id": 0, "method": "eth_chainId", "params": [] });
            let answer: serde_json::Value = self.post(index, &question).await?;
            let found = answer["result"].as_str().and_then(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok());
            if found != Some(self.0.chain.0) {
                return Err(TransportErrorKind::custom_str(&format!("it serves chain {found:?}, not {}", self.0.chain)));
            }
            self.0.state.lock().unwrap_or_else(PoisonError::into_inner).1[index].right_chain = true;
        }
        self.post(index, request).await
    }

    async fn post<A: serde::de::DeserializeOwned>(&self, index: usize, body: &impl Serialize) -> Result<A, TransportError> {
        // The address must not be quoted.
        let lost = |error: alloy::transports::http::reqwest::Error| TransportErrorKind::custom(error.without_url());
        let response = self.0.client.post(self.0.places[index].url.clone()).json(body).send().await.map_err(lost)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(lost)?;
        if !status.is_success() {
            let page = String::from_utf8_lossy(&bytes[..bytes.len().min(KEPT_OF_PAGE)]).into_owned();
            return Err(TransportErrorKind::http_error(status.as_u16(), page));
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| RpcError::deser_err(error, String::from_utf8_lossy(&bytes[..bytes.len().min(KEPT_OF_PAGE)])))
    }

    fn knows_chain(&self, index: usize) -> bool {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).1[index].right_chain
    }

    fn well(&self, index: usize) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let health = &mut state.1[index];
        if health.failures > 0 && self.count() > 1 {
            tracing::info!(event = "endpoint_back", endpoint = self.0.places[index].shown, "this endpoint answers again");
        }
        (health.failures, health.until) = (0, None);
    }

    fn failed(&self, index: usize, error: &str) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let health = &mut state.1[index];
        health.failures = health.failures.saturating_add(1);
        health.until = Some(Instant::now() + pause(FIRST_PAUSE, health.failures));
        health.last_error = Some(error.to_owned());
        if health.failures == 1 && self.count() > 1 {
            tracing::warn!(
                event = "endpoint_down",
                endpoint = self.0.places[index].shown,
                error,
                "this endpoint is left alone for a while"
            );
        }
    }
}

impl tower_service::Service<RequestPacket> for Endpoints {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        Box::pin(self.clone().ask_all(request))
    }
}

/// One of these, by weight.
fn draw(among: &[(usize, u32)]) -> Option<usize> {
    let all: u64 = among.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut point = (all > 0).then(|| rand::rng().random_range(0..all))?;
    among.iter().find(|(_, weight)| point.checked_sub(u64::from(*weight)).map(|rest| point = rest).is_none()).map(|(index, _)| *index)
}

/// What an answer is worth, by the method that was asked.
fn worth(method: &str, packet: &ResponsePacket) -> Worth {
    let Some(payload) = packet.single_payload() else { return Worth::Answer };
    match payload {
        ResponsePayload::Success(result) => {
            let may_be_unseen =
                matches!(method, "eth_getTransactionReceipt" | "eth_getTransactionByHash" | "eth_getBlockByNumber" | "eth_getBlockByHash");
            if may_be_unseen && result.get() == "null" { Worth::Word(2) } else { Worth::Answer }
        }
        ResponsePayload::Failure(error) if method == "eth_sendRawTransaction" => {
            let said = crate::Error::Rpc {
                endpoint: String::new(),
                what: "",
                code: error.code,
                message: error.message.clone().into_owned(),
                data: None,
            };
            Worth::Word(match SendError::classify(said) {
                SendError::AlreadyKnown => 4,
                SendError::NonceTooLow => 3,
                _ => 2,
            })
        }
        // 3 is the code of a revert; others put the revert's data beside a code of their own.
        ResponsePayload::Failure(error)
            if error.code == 3 || error.as_revert_data().is_some() || error.message.to_lowercase().contains("revert") =>
        {
            Worth::Answer
        }
        ResponsePayload::Failure(_) => Worth::Word(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heavier_endpoint_is_drawn_more_often_and_no_weight_is_never() {
        let among = [(0, 1), (1, 9)];
        let drawn = (0..1_000).filter(|_| draw(&among) == Some(1)).count();
        assert!((800..990).contains(&drawn), "{drawn} of 1000");
        assert_eq!((draw(&[]), draw(&[(4, 1)])), (None, Some(4)));
    }

    #[test]
    fn an_endpoint_that_fails_is_asked_last_until_it_is_well() {
        crate::install_tls();
        let urls = ["http://a.example", "http://b.example"].map(|url| (url.parse().expect("a URL"), 1));
        let endpoints = Endpoints::new(urls.to_vec(), Client::new(), ChainId(1));
        let first = endpoints.order()[0];
        assert!((0..50).all(|_| endpoints.order()[0] == first), "one is used as long as it answers");
        endpoints.failed(first, "no answer");
        assert_eq!(endpoints.order(), [1 - first, first]);
        assert!(endpoints.health()[first].resting);
        endpoints.well(first);
        assert_eq!(endpoints.order(), [1 - first, first], "there is no reason to go back");
        assert!(!endpoints.health()[first].resting);
    }

    #[test]
    fn a_revert_is_an_answer_and_an_error_or_null_is_only_a_word() {
        let packet = |text: &str| serde_json::from_str::<ResponsePacket>(text).expect("a response");
        let refused =
            |code: i64, message: &str| packet(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"{message}"}}}}"#));
        let null = packet(r#"{"jsonrpc":"2.0","id":1,"result":null}"#);
        assert!(matches!(worth("eth_call", &refused(3, "execution reverted")), Worth::Answer));
        assert!(matches!(worth("eth_call", &refused(-32000, "header not found")), Worth::Word(_)));
        assert!(matches!(worth("eth_getTransactionReceipt", &null), Worth::Word(_)));
        assert!(matches!(worth("eth_call", &null), Worth::Answer));
        let (known, low, odd) = (refused(-32000, "already known"), refused(-32000, "nonce too low"), refused(-32603, "Internal error"));
        let rank = |packet: &ResponsePacket| match worth("eth_sendRawTransaction", packet) {
            Worth::Word(rank) => rank,
            Worth::Answer => u8::MAX,
        };
        assert!(rank(&known) > rank(&low) && rank(&low) > rank(&odd));
    }
}
