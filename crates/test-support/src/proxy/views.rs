//! The chain as a node sees it that is behind, and the tags that trail the head.

use serde_json::{Value, json};

/// Methods whose block parameter stands at this place.
fn block_parameter(method: &str) -> Option<usize> {
    match method {
        "eth_getBlockByNumber" => Some(0),
        "eth_call" | "eth_estimateGas" | "eth_getBalance" | "eth_getCode" | "eth_getTransactionCount" => Some(1),
        "eth_getStorageAt" => Some(2),
        _ => None,
    }
}

/// The height whose state a question is about, if it names one.
pub(crate) fn state_asked(request: &Value) -> Option<u64> {
    let method = request["method"].as_str().unwrap_or_default();
    let place = block_parameter(method).filter(|_| method != "eth_getBlockByNumber")?;
    request["params"].get(place)?.as_str().and_then(number)
}

/// Puts the heights that the tags `safe` and `finalized` stand for in their place.
pub(crate) fn resolve_tags(request: &mut Value, safe: u64, finalized: u64) {
    let Some(place) = block_parameter(request["method"].as_str().unwrap_or_default()) else { return };
    let Some(parameter) = request["params"].get_mut(place) else { return };
    match parameter.as_str() {
        Some("safe") => *parameter = hex(safe),
        Some("finalized") => *parameter = hex(finalized),
        _ => {}
    }
}

/// Whether the request names a tag that trails the head.
pub(crate) fn names_tag(request: &Value) -> bool {
    let place = block_parameter(request["method"].as_str().unwrap_or_default());
    place.and_then(|place| request["params"].get(place)?.as_str()).is_some_and(|tag| matches!(tag, "safe" | "finalized"))
}

/// Rewrites a question so that it is answered as of `height`; an answer if a node that is behind would not ask anybody.
pub(crate) fn ask_behind(request: &mut Value, height: u64) -> Option<Value> {
    let method = request["method"].as_str().unwrap_or_default().to_owned();
    if method == "eth_blockNumber" {
        return Some(hex(height));
    }
    if method == "eth_getLogs" {
        let filter = request["params"].get_mut(0)?;
        for end in ["fromBlock", "toBlock"] {
            let beyond = filter[end].as_str().is_none_or(|at| number(at).is_none_or(|at| at > height));
            if beyond && !filter[end].is_null() {
                filter[end] = hex(height + u64::from(end == "fromBlock"));
            }
        }
        return None;
    }
    let parameter = request["params"].get_mut(block_parameter(&method)?)?;
    match parameter.as_str() {
        Some("latest" | "pending") => *parameter = hex(height),
        Some(at) if number(at).is_some_and(|at| at > height) && method == "eth_getBlockByNumber" => return Some(Value::Null),
        _ => {}
    }
    None
}

/// What a node that is behind would have answered instead.
pub(crate) fn answered_behind(method: &str, result: Value, height: u64) -> Value {
    let newer = |at: &Value| at.as_str().and_then(number).is_some_and(|at| at > height);
    match method {
        "eth_getTransactionReceipt" | "eth_getTransactionByHash" if newer(&result["blockNumber"]) => Value::Null,
        "eth_getBlockByHash" if newer(&result["number"]) => Value::Null,
        "eth_getLogs" => match result {
            Value::Array(logs) => Value::Array(logs.into_iter().filter(|log| !newer(&log["blockNumber"])).collect()),
            other => other,
        },
        _ => result,
    }
}

pub(crate) fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

pub(crate) fn hex(number: u64) -> Value {
    json!(format!("0x{number:x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_behind_knows_nothing_newer() {
        let mut latest = json!({ "method": "eth_getTransactionCount", "params": ["0xaa", "latest"] });
        assert_eq!(ask_behind(&mut latest, 7), None);
        assert_eq!(latest["params"][1], "0x7");
        let mut newer = json!({ "method": "eth_getBlockByNumber", "params": ["0x9", false] });
        assert_eq!(ask_behind(&mut newer, 7), Some(Value::Null));
        assert_eq!(answered_behind("eth_getTransactionReceipt", json!({ "blockNumber": "0x8" }), 7), Value::Null);
        assert_eq!(answered_behind("eth_getTransactionReceipt", json!({ "blockNumber": "0x7" }), 7), json!({ "blockNumber": "0x7" }));
    }

    #[test]
    fn tags_become_heights() {
        let mut request = json!({ "method": "eth_getBlockByNumber", "params": ["finalized", false] });
        assert!(names_tag(&request));
        resolve_tags(&mut request, 9, 4);
        assert_eq!(request["params"][0], "0x4");
    }
}
