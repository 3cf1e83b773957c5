//! `POST /v1/quote {model_digest | model, token, expected_rate?, voucher_allowance?}`: what this host offers, signed.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use serde_json::Value;

use super::{Failure, Shared, check_chain, read_object};

pub(crate) async fn quote(State(host): Shared, body: Body) -> Result<Json<Value>, Failure> {
    let offer = async {
        let object = read_object(&host, body).await?;
        check_chain(&host, &object)?;
        host.quote(&object).await
    };
    offer.await.map(Json).map_err(Failure::native)
}
