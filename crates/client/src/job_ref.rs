//! How a job is named in text (SPEC §2.1): decimal digits, optionally with one trailing `n`, as JavaScript prints a BigInt.

use milepost_statement::JobId;

/// Why a text names no job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobRefError {
    /// Digits, but more than u64 holds: never silently taken for a label.
    #[error("job {0} is out of range: job numbers end at 18446744073709551615")]
    Overflow(String),
    /// Not a number: a host treats it as a free label, which is not billed, so a paying client must not send it.
    #[error("{0:?} names no job: expected decimal digits, optionally followed by one n")]
    Label(String),
}

/// Reads `163` or `163n`.
pub fn parse_job(text: &str) -> Result<JobId, JobRefError> {
    let digits = text.strip_suffix('n').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(JobRefError::Label(text.to_owned()));
    }
    digits.parse().map(JobId).map_err(|_| JobRefError::Overflow(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{JobRefError, parse_job};
    use milepost_statement::JobId;

    #[test]
    fn digits_with_or_without_one_n_name_a_job() {
        assert_eq!(parse_job("163"), Ok(JobId(163)));
        assert_eq!(parse_job("163n"), Ok(JobId(163)));
        assert_eq!(parse_job("18446744073709551615n"), Ok(JobId(u64::MAX)));
    }

    #[test]
    fn labels_name_no_job() {
        for label in ["user-session-001", "TEST_SESSION", "", "n", "163nn", "-163", "+163", "0x10", " 163", "1.5", "１６３"] {
            assert_eq!(parse_job(label), Err(JobRefError::Label(label.to_owned())), "{label:?}");
        }
    }

    #[test]
    fn digits_that_overflow_are_an_error_and_not_a_label() {
        let text = "18446744073709551616";
        assert_eq!(parse_job(text), Err(JobRefError::Overflow(text.to_owned())));
    }
}
