//! Reads fields of a JSON object with errors that name the field, what was sent and what would be right.
//!
//! Unknown fields are let through: clients of the known node and of OpenAI send many that do not matter here. What would change
//! the answer if ignored is refused by its name where it is read.

use milepost_inference::{ChatMessage, Role};
use milepost_ledger::{Digest, Salt};
use serde_json::{Map, Value};

use crate::error::Error;

pub(crate) type Object = Map<String, Value>;

/// Most messages of one conversation; each costs the template a pass.
pub(crate) const MAX_MESSAGES: usize = 1_024;

/// Longest request id in bytes: it is stored with the turn and is a key.
pub(crate) const MAX_REQUEST_ID_BYTES: usize = 128;

/// A body as an object.
pub(crate) fn object(bytes: &[u8]) -> Result<Object, Error> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(Error::MalformedJson { reason: format!("expected an object, found {}", kind(&other)) }),
        Err(error) => Err(Error::MalformedJson { reason: error.to_string() }),
    }
}

/// What a value is, in words, without its content: a prompt does not belong into an error message or a log.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.is_empty() => "an empty text".into(),
        Value::String(_) => "a text".into(),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".into(),
    }
}

pub(crate) fn bad(field: &str, value: &Value, expected: &str) -> Error {
    Error::BadField { field: field.to_owned(), found: kind(value), expected: expected.to_owned() }
}

pub(crate) fn missing(field: &str, expected: &str) -> Error {
    Error::MissingField { field: field.to_owned(), expected: expected.to_owned() }
}

/// The field, unless it is absent or null.
pub(crate) fn get<'a>(object: &'a Object, field: &str) -> Option<&'a Value> {
    object.get(field).filter(|value| !value.is_null())
}

pub(crate) fn string(object: &Object, field: &str) -> Result<Option<String>, Error> {
    get(object, field).map(|value| value.as_str().map(str::to_owned).ok_or_else(|| bad(field, value, "a text"))).transpose()
}

pub(crate) fn required_string(object: &Object, field: &str) -> Result<String, Error> {
    string(object, field)?.ok_or_else(|| missing(field, "a text"))
}

pub(crate) fn boolean(object: &Object, field: &str) -> Result<Option<bool>, Error> {
    get(object, field).map(|value| value.as_bool().ok_or_else(|| bad(field, value, "true or false"))).transpose()
}

/// A whole number within bounds.
pub(crate) fn integer(object: &Object, field: &str, least: u64, most: u64) -> Result<Option<u64>, Error> {
    let Some(value) = get(object, field) else { return Ok(None) };
    value
        .as_u64()
        .filter(|number| (least..=most).contains(number))
        .map(Some)
        .ok_or_else(|| bad(field, value, &format!("a whole number from {least} to {most}")))
}

/// A number within bounds, `above` excluded where it says so.
pub(crate) fn number(object: &Object, field: &str, least: f64, most: f64) -> Result<Option<f32>, Error> {
    let Some(value) = get(object, field) else { return Ok(None) };
    #[allow(clippy::cast_possible_truncation)] // bounded just before; the sampler counts in f32
    value
        .as_f64()
        .filter(|number| (least..=most).contains(number))
        .map(|number| Some(number as f32))
        .ok_or_else(|| bad(field, value, &format!("a number from {least} to {most}")))
}

/// A seed: any 64-bit number, negative ones as their two's complement.
pub(crate) fn seed(object: &Object) -> Result<Option<u64>, Error> {
    let Some(value) = get(object, "seed") else { return Ok(None) };
    value
        .as_u64()
        .or_else(|| value.as_i64().map(i64::cast_unsigned))
        .map(Some)
        .ok_or_else(|| bad("seed", value, "a whole number of at most 64 bits"))
}

/// `stop`: one text or a list of them.
pub(crate) fn stops(object: &Object) -> Result<Vec<String>, Error> {
    let expected = "a text, or a list of texts, none empty";
    let Some(value) = get(object, "stop") else { return Ok(Vec::new()) };
    let texts = match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| bad("stop", item, expected)))
            .collect::<Result<_, _>>()?,
        other => return Err(bad("stop", other, expected)),
    };
    if texts.iter().any(String::is_empty) {
        return Err(bad("stop", &Value::String(String::new()), expected));
    }
    Ok(texts)
}

/// A request id: under the field, and under a header's value; both must agree.
pub(crate) fn request_id(object: &Object, header: Option<&str>) -> Result<Option<String>, Error> {
    let field = match get(object, "request_id") {
        None => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(other) => return Err(bad("request_id", other, "a text")),
    };
    let id = match (field, header) {
        (Some(field), Some(header)) if field != header => {
            return Err(Error::BadRequest { reason: "request_id and the header Idempotency-Key differ: send one of them".into() });
        }
        (field, header) => field.or_else(|| header.map(str::to_owned)),
    };
    if let Some(id) = &id
        && (id.is_empty() || id.len() > MAX_REQUEST_ID_BYTES || id.chars().any(char::is_control))
    {
        return Err(Error::BadField {
            field: "request_id".into(),
            found: format!("a text of {} bytes", id.len()),
            expected: format!("1 to {MAX_REQUEST_ID_BYTES} bytes without control characters"),
        });
    }
    Ok(id)
}

/// Messages of a conversation.
pub(crate) fn messages(object: &Object, field: &str) -> Result<Option<Vec<ChatMessage>>, Error> {
    let Some(value) = get(object, field) else { return Ok(None) };
    let Value::Array(items) = value else { return Err(bad(field, value, "a list of {role, content}")) };
    if items.len() > MAX_MESSAGES {
        return Err(bad(field, value, &format!("at most {MAX_MESSAGES} messages")));
    }
    items.iter().enumerate().map(|(index, item)| message(&format!("{field}[{index}]"), item)).collect::<Result<_, _>>().map(Some)
}

fn message(path: &str, value: &Value) -> Result<ChatMessage, Error> {
    let Value::Object(object) = value else { return Err(bad(path, value, "an object {role, content}")) };
    let role = match object.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool" | "function") => return Err(Error::Unsupported { what: format!("{path}.role = tool") }),
        _ => {
            let found = object.get("role").unwrap_or(&Value::Null);
            return Err(bad(&format!("{path}.role"), found, "system, user or assistant"));
        }
    };
    let field = format!("{path}.content");
    let content = match get(object, "content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let mut text = String::new();
            for part in parts {
                match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
                    (Some("text"), Some(part)) => text.push_str(part),
                    (Some(kind), _) if kind != "text" => return Err(Error::Unsupported { what: format!("{field} of type {kind}") }),
                    _ => return Err(bad(&field, part, "parts of the form {type: \"text\", text}")),
                }
            }
            text
        }
        None if role == Role::Assistant => String::new(),
        None => return Err(missing(&field, "a text")),
        Some(other) => return Err(bad(&field, other, "a text")),
    };
    Ok(ChatMessage { role, content })
}

/// 32 bytes as `0x` and 64 hexadecimal digits.
pub(crate) fn digest(object: &Object, field: &str) -> Result<Option<Digest>, Error> {
    let Some(value) = get(object, field) else { return Ok(None) };
    value.as_str().and_then(|text| text.parse().ok()).map(Some).ok_or_else(|| bad(field, value, "0x and 64 hexadecimal digits"))
}

pub(crate) fn salt(object: &Object) -> Result<Option<Salt>, Error> {
    Ok(digest(object, "salt")?.map(|digest| Salt(digest.0)))
}

/// A signature as `0x` and 130 hexadecimal digits.
pub(crate) fn signature(object: &Object) -> Result<Option<Vec<u8>>, Error> {
    let Some(value) = get(object, "signature") else { return Ok(None) };
    value
        .as_str()
        .and_then(|text| hex::decode(text.strip_prefix("0x").unwrap_or(text)).ok())
        .filter(|bytes| bytes.len() == 65)
        .map(Some)
        .ok_or_else(|| bad("signature", value, "0x and 130 hexadecimal digits (r, s, v)"))
}
