//! The WebSocket door, `/v1/ws`: JSON text frames, one connection for any number of prompts.
//!
//! ```text
//!  client ── frames ─▶ connection ──▶ Host::generate ─▶ stream task (one per answer) ─▶ data queue ┐
//!    ▲                     └──────────── replies ─────────────────────────▶ control queue ┤
//!    └───────────────────────────────────── writer ◀──────────────────────────────────────┘
//! ```
//!
//! - Both queues are bounded. A full data queue holds its stream tasks back, and through the unacknowledged window their turns;
//!   nobody else waits. A full control queue means that the client asks without reading: the connection is closed.
//! - Every few tokens are followed by a ping with their position; its pong acknowledges them. So clients that know nothing of
//!   `ack` are bounded all the same, by what their side has really taken.
//! - A closed socket cancels its turns (what is durable can be resumed), and begins the session's grace period.

mod connection;
mod frames;
mod outbox;
mod streams;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

use super::{Failure, Shared, bearer};
use crate::error::Error;

pub(crate) async fn upgrade(State(host): Shared, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let Ok(place) = Arc::clone(&host.sockets).try_acquire_owned() else {
        let reason = format!("{} sockets are open, as many as may", host.config.max_sockets);
        return Failure::native(Error::RateLimited { reason, retry_after: 10 }).into_response();
    };
    let token = bearer(&headers);
    let limit = host.config.max_body_bytes;
    upgrade.max_message_size(limit).max_frame_size(limit).on_upgrade(move |socket| async move {
        connection::serve(host, socket, token).await;
        drop(place);
    })
}
