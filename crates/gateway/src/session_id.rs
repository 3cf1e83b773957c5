//! Which job a request names (SPEC §2.1).
//!
//! A decimal number, as a number or as text, optionally with one trailing `n` (how JavaScript prints a BigInt), names a job.
//! Any other text is a free label. Digits that exceed a 64-bit number are an error, never a label: a slip of the keyboard must
//! not turn a paid session into an unmetered one.

use milepost_ledger::JobId;
use serde_json::Value;

/// Longest label in bytes. Labels are hashed, not stored; this only bounds what is looked at.
pub const MAX_LABEL_BYTES: usize = 256;

/// Why an identifier names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Digits beyond 64 bits.
    #[error("{field} {text:?} exceeds the largest job number, {}", u64::MAX)]
    Overflow {
        /// Which field.
        field: &'static str,
        /// What was sent.
        text: String,
    },
    /// A job id must be a number.
    #[error("{field} {text} is not a job number: a whole number from 0 to {}, or the same as text", u64::MAX)]
    NotANumber {
        /// Which field.
        field: &'static str,
        /// What was sent.
        text: String,
    },
    /// A label that is empty or too long.
    #[error("session_id has {bytes} bytes; it must have between 1 and {MAX_LABEL_BYTES}")]
    BadLabel {
        /// Its length.
        bytes: usize,
    },
    /// Two names for different jobs.
    #[error("job_id names job {job}, session_id names job {session}: they must be equal, or one be left out")]
    Differ {
        /// By `job_id`.
        job: JobId,
        /// By `session_id`.
        session: JobId,
    },
    /// One field under two spellings with two values.
    #[error("{first} and {second} differ: send one of them")]
    Spellings {
        /// One spelling.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
}

/// Whom a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionRef {
    /// A job.
    Job(JobId),
    /// A free label.
    Label(String),
}

/// What `job_id` and `session_id` say together, under either spelling.
pub(crate) fn parse(object: &serde_json::Map<String, Value>) -> Result<Option<SessionRef>, Error> {
    let job = spelled(object, "job_id", "jobId")?.map(|value| job_number("job_id", value)).transpose()?;
    let session = spelled(object, "session_id", "sessionId")?.map(session).transpose()?;
    match (job, session) {
        (Some(job), Some(SessionRef::Job(session))) if job != session => Err(Error::Differ { job, session }),
        (Some(job), _) => Ok(Some(SessionRef::Job(job))),
        (None, session) => Ok(session),
    }
}

/// The field under either spelling; `null` counts as absent.
fn spelled<'a>(object: &'a serde_json::Map<String, Value>, first: &'static str, second: &'static str) -> Result<Option<&'a Value>, Error> {
    let find = |name| object.get(name).filter(|value| !value.is_null());
    match (find(first), find(second)) {
        (Some(one), Some(other)) if text(one) != text(other) => Err(Error::Spellings { first, second }),
        (one, other) => Ok(one.or(other)),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A job number, as a number or as text.
pub(crate) fn job_number(field: &'static str, value: &Value) -> Result<JobId, Error> {
    let text = text(value);
    if value.is_string() || value.is_number() {
        match digits(field, &text)? {
            Some(job) => return Ok(job),
            None => return Err(Error::NotANumber { field, text: value.to_string() }),
        }
    }
    Err(Error::NotANumber { field, text })
}

fn session(value: &Value) -> Result<SessionRef, Error> {
    let label = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => return Err(Error::NotANumber { field: "session_id", text: other.to_string() }),
    };
    if let Some(job) = digits("session_id", &label)? {
        return Ok(SessionRef::Job(job));
    }
    if value.is_number() {
        return Err(Error::NotANumber { field: "session_id", text: label });
    }
    if label.is_empty() || label.len() > MAX_LABEL_BYTES {
        return Err(Error::BadLabel { bytes: label.len() });
    }
    Ok(SessionRef::Label(label))
}

/// The number that a text of digits with at most one trailing `n` stands for; `None` for any other text.
fn digits(field: &'static str, text: &str) -> Result<Option<JobId>, Error> {
    let number = text.strip_suffix('n').unwrap_or(text);
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    number.parse().map(|job| Some(JobId(job))).map_err(|_| Error::Overflow { field, text: text.chars().take(40).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(value: &Value) -> Result<Option<SessionRef>, Error> {
        parse(value.as_object().expect("an object"))
    }

    #[test]
    fn digits_with_at_most_one_n_name_a_job() {
        for value in [json!("163"), json!("163n"), json!(163)] {
            assert_eq!(parsed(&json!({ "session_id": value })), Ok(Some(SessionRef::Job(JobId(163)))), "{value}");
            assert_eq!(parsed(&json!({ "jobId": value })), Ok(Some(SessionRef::Job(JobId(163)))), "{value}");
        }
        assert_eq!(parsed(&json!({ "sessionId": "18446744073709551615" })), Ok(Some(SessionRef::Job(JobId(u64::MAX)))));
    }

    #[test]
    fn any_other_text_is_a_label() {
        for label in ["user-session-001", "TEST_SESSION", "163nn", "n", "-1", "16 3", "0x10", "１６３"] {
            assert_eq!(parsed(&json!({ "session_id": label })), Ok(Some(SessionRef::Label(label.to_owned()))), "{label}");
        }
    }

    #[test]
    fn digits_that_overflow_are_an_error_and_never_a_label() {
        for text in ["18446744073709551616", "18446744073709551616n", "99999999999999999999999"] {
            assert!(matches!(parsed(&json!({ "session_id": text })), Err(Error::Overflow { .. })), "{text}");
            assert!(matches!(parsed(&json!({ "job_id": text })), Err(Error::Overflow { .. })), "{text}");
        }
        assert!(parsed(&serde_json::from_str::<Value>(r#"{"job_id": 18446744073709551616}"#).expect("json")).is_err());
    }

    #[test]
    fn an_explicit_job_wins_over_a_label_but_not_over_another_number() {
        assert_eq!(parsed(&json!({ "job_id": 7, "session_id": "mine" })), Ok(Some(SessionRef::Job(JobId(7)))));
        assert_eq!(parsed(&json!({ "job_id": 7, "session_id": "7n" })), Ok(Some(SessionRef::Job(JobId(7)))));
        assert_eq!(parsed(&json!({ "job_id": 7, "session_id": "8" })), Err(Error::Differ { job: JobId(7), session: JobId(8) }));
        assert!(matches!(parsed(&json!({ "job_id": 7, "jobId": "8" })), Err(Error::Spellings { .. })));
        assert_eq!(parsed(&json!({ "job_id": 7, "jobId": "7" })), Ok(Some(SessionRef::Job(JobId(7)))));
    }

    #[test]
    fn a_job_id_that_is_no_number_is_an_error() {
        for value in [json!("abc"), json!(-1), json!(1.5), json!(true), json!([1]), json!("")] {
            assert!(matches!(parsed(&json!({ "job_id": value })), Err(Error::NotANumber { .. })), "{value}");
        }
        for value in [json!(-1), json!(1.5), json!(true), json!({})] {
            assert!(matches!(parsed(&json!({ "session_id": value })), Err(Error::NotANumber { .. })), "{value}");
        }
    }

    #[test]
    fn nothing_and_null_name_nobody() {
        assert_eq!(parsed(&json!({})), Ok(None));
        assert_eq!(parsed(&json!({ "job_id": null, "session_id": null })), Ok(None));
        assert_eq!(parsed(&json!({ "session_id": "" })), Err(Error::BadLabel { bytes: 0 }));
    }
}
