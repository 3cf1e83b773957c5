//! The HTTP side: one call in, perhaps an answer out.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::{Value, json};

use super::fault::Fault;
use super::{State, lock, pool, views};

/// The development chain answers at once; what takes longer is lost.
pub(crate) const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest request taken: twice the largest transaction as hexadecimal digits, so that the size rule is ours and not the server's.
const MAX_REQUEST: usize = 4 * 1024 * 1024;

pub(crate) async fn serve(listener: tokio::net::TcpListener, state: Arc<State>) {
    let router = Router::new().route("/", post(call)).layer(axum::extract::DefaultBodyLimit::max(MAX_REQUEST)).with_state(state);
    // Ends with the proxy; a connection that cannot be accepted is the client's business.
    let _ = axum::serve(listener, router).await;
}

async fn call(Shared(state): Shared<Arc<State>>, body: Bytes) -> Response {
    if state.is_down() {
        return broken();
    }
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return answer(&Value::Null, Err(refused(-32700, "parse error")));
    };
    let Some(method) = request["method"].as_str().map(str::to_owned) else {
        return answer(&Value::Null, Err(refused(-32600, "batches are not taken")));
    };
    state.hear(&method);
    let fault = lock(&state.plan).draw(&method);
    let id = request["id"].clone();
    let mut behind = None;
    match fault {
        Some(Fault::DropBefore) => return broken(),
        Some(Fault::Status(status)) => return StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response(),
        Some(Fault::Refuse { code, message }) => return answer(&id, Err(refused(code, &message))),
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        Some(Fault::Duplicate) => {
            // What becomes of the first is not told.
            let _ = state.forward(request.clone(), None).await;
        }
        Some(Fault::DropAfter) => {
            let _ = state.forward(request, None).await;
            return broken();
        }
        Some(Fault::Stale(blocks)) => behind = Some(blocks),
        Some(Fault::LostReceipt) if method == "eth_getTransactionReceipt" => return answer(&id, Ok(Value::Null)),
        Some(Fault::LostReceipt) | None => {}
    }
    match state.forward(request, behind).await {
        Some(outcome) => answer(&id, outcome),
        None => broken(),
    }
}

/// A result, or a JSON-RPC error object.
type Outcome = Result<Value, Value>;

impl State {
    /// Asks the node, under the rules. `None`: it does not answer.
    async fn forward(&self, mut request: Value, behind: Option<u64>) -> Option<Outcome> {
        let method = request["method"].as_str().unwrap_or_default().to_owned();
        if method == "eth_sendRawTransaction" {
            return self.send(request).await;
        }
        if views::names_tag(&request) {
            let rules = *lock(&self.rules);
            let head = self.head().await?;
            let finalized = {
                let mut known = lock(&self.finalized);
                *known = (*known).max(head.saturating_sub(rules.finalized_depth));
                *known
            };
            views::resolve_tags(&mut request, head.saturating_sub(rules.safe_depth).max(finalized), finalized);
        }
        let kept = lock(&self.rules).state_blocks;
        if let Some((kept, asked)) = kept.zip(views::state_asked(&request))
            && asked < self.head().await?.saturating_sub(kept)
        {
            return Some(Err(refused(-32000, "missing trie node")));
        }
        let Some(blocks) = behind else { return self.ask(&request).await };
        let height = self.head().await?.saturating_sub(blocks);
        if let Some(known) = views::ask_behind(&mut request, height) {
            return Some(Ok(known));
        }
        Some(self.ask(&request).await?.map(|result| views::answered_behind(&method, result, height)))
    }

    /// A signed transaction: refused as a real pool would, or forwarded and remembered.
    async fn send(&self, request: Value) -> Option<Outcome> {
        let raw = request["params"][0].as_str().unwrap_or_default().to_owned();
        let Some(offered) = pool::read(&raw) else { return self.ask(&request).await };
        let question = json!({ "jsonrpc": "2.0", "id": 0, "method": "eth_getTransactionCount", "params": [offered.sender, "latest"] });
        let count = self.ask(&question).await?.ok().and_then(|count| views::number(count.as_str()?))?;
        let rules = *lock(&self.rules);
        if let Some(refusal) = lock(&self.pool).refusal(&offered, &raw, &rules, count <= offered.nonce) {
            return Some(Err(refused(-32000, &refusal)));
        }
        lock(&self.pool).forward(&offered, &raw);
        let outcome = self.ask(&request).await?;
        if outcome.is_ok() {
            lock(&self.pool).taken(&offered);
        }
        Some(outcome)
    }

    async fn head(&self) -> Option<u64> {
        let request = json!({ "jsonrpc": "2.0", "id": 0, "method": "eth_blockNumber", "params": [] });
        self.ask(&request).await?.ok().and_then(|number| views::number(number.as_str()?))
    }

    async fn ask(&self, request: &Value) -> Option<Outcome> {
        let response = self.client.post(&self.target).json(request).send().await.ok()?;
        let mut answer: Value = response.json().await.ok()?;
        if answer.get("error").is_some_and(|error| !error.is_null()) {
            // Passed on as it is, with its data: reverts are decoded from there.
            return Some(Err(answer["error"].take()));
        }
        Some(Ok(answer["result"].take()))
    }
}

fn refused(code: i64, message: &str) -> Value {
    json!({ "code": code, "message": message })
}

fn answer(id: &Value, outcome: Outcome) -> Response {
    let body = match outcome {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error }),
    };
    ([("content-type", "application/json")], body.to_string()).into_response()
}

/// A connection that ends in the middle of an answer.
fn broken() -> Response {
    let end = futures::stream::once(async { Err::<Bytes, _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset)) });
    Response::new(Body::from_stream(end))
}
