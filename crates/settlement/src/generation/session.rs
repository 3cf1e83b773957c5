//! A session as the deployed generations tell it: the values of a public getter one after the other, in an order that differs.

use alloy::primitives::U256;
use milepost_ledger::{Address, JobId, TokenAmount, UnixSeconds};

use crate::Error;

/// What is taken from the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) depositor: Address,
    pub(super) host: Address,
    pub(super) token: Address,
    pub(super) deposit: TokenAmount,
    pub(super) price: TokenAmount,
    pub(super) used: u64,
    pub(super) max_duration: u64,
    pub(super) start: UnixSeconds,
    pub(super) last_proof: UnixSeconds,
    /// Seconds without a proof after which anybody may end the session.
    pub(super) idle: u64,
    pub(super) status: Status,
    /// Paid to the host, and given back, once the session has ended.
    pub(super) to_host: TokenAmount,
    pub(super) to_depositor: TokenAmount,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Active,
    /// Completed or timed out: paid either way.
    Over,
}

/// Intervals without a proof after which a session can be timed out, where it has no timeout of its own.
const IDLE_INTERVALS: u64 = 3;
/// Amounts and counts lie below this in every contract we know; addresses do not.
const AMOUNT_BITS: usize = 96;

/// The order of the words.
struct Shape {
    words: usize,
    /// Where the host stands; payment token, deposit, price, tokens, duration, start, last proof and interval follow it.
    host: usize,
    /// Where the timeout stands, if there is one; the status stands behind it or behind the interval.
    timeout: bool,
    /// Whether hash and content id of the last proof follow.
    last_proof: bool,
}

/// Known shapes. Those of 18 words are told apart by what can be an address and what an amount.
const SHAPES: [Shape; 5] = [
    // Sept 2025: id, requester, host …
    Shape { words: 15, host: 2, timeout: false, last_proof: false },
    // Sept 2025: id, depositor, requester, host …
    Shape { words: 16, host: 3, timeout: false, last_proof: false },
    // Oct 2025
    Shape { words: 18, host: 3, timeout: false, last_proof: true },
    // Jan 2026: id, depositor, host …
    Shape { words: 17, host: 2, timeout: false, last_proof: true },
    // Feb 2026
    Shape { words: 18, host: 2, timeout: true, last_proof: true },
];

/// Reads a session; `None` where there is none. Exactly one shape must fit.
pub(super) fn read(job: JobId, answer: &[u8]) -> Result<Option<Session>, Error> {
    let wrong = |answer: String| Error::Answer { what: "a session", answer };
    let words: Vec<U256> = answer.as_chunks::<32>().0.iter().map(|word| U256::from_be_bytes(*word)).collect();
    if words.first().is_some_and(U256::is_zero) {
        return Ok(None);
    }
    let mut fitting: Vec<_> = SHAPES.iter().filter_map(|shape| shape.read(job, &words)).collect();
    match (fitting.pop(), fitting.pop()) {
        (Some(session), None) => session.map(Some).map_err(wrong),
        (None, _) => Err(wrong(format!("{} words in an order that no known generation has", words.len()))),
        (Some(_), Some(_)) => Err(wrong(format!("{} words that fit more than one generation", words.len()))),
    }
}

impl Shape {
    /// `None` if the words cannot be in this order; an error if they are, and one of them means nothing we know.
    fn read(&self, job: JobId, words: &[U256]) -> Option<Result<Session, String>> {
        let host = self.host;
        let word = |at: usize| words.get(at).copied();
        let small = |at: usize| word(at).and_then(|value| u64::try_from(value).ok());
        let amount = |at: usize| word(at).filter(|value| value.bit_len() <= AMOUNT_BITS).and_then(|value| u128::try_from(value).ok());
        let address = |at: usize| {
            let bytes = word(at)?.to_be_bytes::<32>();
            let number = U256::from_be_bytes(bytes);
            // Zero is the chain's coin; anything else as small as an amount is one.
            let fits = bytes[..12] == [0; 12] && (number.is_zero() || number.bit_len() > AMOUNT_BITS);
            fits.then(|| Address(bytes[12..].try_into().unwrap_or_default()))
        };
        let status = host + 9 + usize::from(self.timeout);
        // Behind the status: paid to the host, given back, then where the conversation's text begins, and the last proof.
        let text = word(status + 3)? == U256::from(self.words * 32);
        let last = !self.last_proof || small(status + 5).is_some_and(|at| at > self.words as u64 * 32 && at < words.len() as u64 * 32);
        let behind = if self.last_proof { 3 } else { 1 };
        let ends = status + 3 + behind == self.words;
        if !(text && last && ends && small(0)? == job.0 && words.len() > self.words) {
            return None;
        }
        let depositor = address(1)?;
        // A requester is an address like the depositor.
        (2..host).try_for_each(|at| address(at).map(|_| ()))?;
        let (deposit, price) = (amount(host + 2)?, amount(host + 3)?);
        let (start, last_proof) = (small(host + 6)?, small(host + 7)?);
        if deposit == 0 || price == 0 || last_proof < start || start == 0 {
            return None;
        }
        let interval = small(host + 8)?;
        let idle = if self.timeout { small(host + 9)? } else { interval.saturating_mul(IDLE_INTERVALS) };
        let session = Session {
            depositor,
            host: address(host)?,
            token: address(host + 1)?,
            deposit: TokenAmount(deposit),
            price: TokenAmount(price),
            used: small(host + 4)?,
            max_duration: small(host + 5)?,
            start: UnixSeconds(start),
            last_proof: UnixSeconds(last_proof),
            idle,
            status: Status::Active,
            to_host: TokenAmount(amount(status + 1)?),
            to_depositor: TokenAmount(amount(status + 2)?),
        };
        Some(match small(status)? {
            0 => Ok(session),
            1 | 2 => Ok(Session { status: Status::Over, ..session }),
            other => Err(format!("status {other}, which no known generation has")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPOSITOR: u8 = 0xd0;
    const HOST: u8 = 0xb0;
    const TOKEN: u8 = 0xc0;

    fn address(byte: u8) -> U256 {
        U256::from_be_slice(&[byte; 20])
    }

    /// The words of one generation, and the texts behind them.
    fn words(requester: Option<bool>, timeout: bool, last_proof: bool, token: U256) -> Vec<U256> {
        let mut words = vec![U256::from(7)];
        match requester {
            // The first generation had a requester only.
            Some(false) | None => words.push(address(DEPOSITOR)),
            Some(true) => words.extend([address(DEPOSITOR), address(DEPOSITOR)]),
        }
        words.extend([address(HOST), token]);
        words.extend([2_000_000_u64, 2_000, 300, 3_600, 1_700_000_000, 1_700_000_050, 100].map(U256::from));
        if timeout {
            words.push(U256::from(450));
        }
        words.extend([1_u64, 540_000, 1_400_000].map(U256::from));
        let head = words.len() + if last_proof { 3 } else { 1 };
        words.push(U256::from(head * 32));
        if last_proof {
            words.extend([U256::from(0xabc), U256::from((head + 1) * 32)]);
        }
        words.push(U256::ZERO);
        if last_proof {
            words.extend([U256::from(4), U256::from_be_slice(b"bafk") << 224]);
        }
        words
    }

    fn bytes(words: &[U256]) -> Vec<u8> {
        words.iter().flat_map(U256::to_be_bytes::<32>).collect()
    }

    #[test]
    fn every_order_of_the_words_is_read_right_with_coins_and_with_tokens() {
        let shapes = [(None, false, false, 300), (Some(true), false, false, 300), (Some(true), false, true, 300)];
        let later = [(None, false, true, 300), (None, true, true, 450)];
        for (requester, timeout, last, idle) in shapes.into_iter().chain(later) {
            for token in [U256::ZERO, address(TOKEN)] {
                let read = read(JobId(7), &bytes(&words(requester, timeout, last, token))).unwrap().unwrap();
                let expected = Session {
                    depositor: Address([DEPOSITOR; 20]),
                    host: Address([HOST; 20]),
                    token: Address(token.to_be_bytes::<32>()[12..].try_into().unwrap()),
                    deposit: TokenAmount(2_000_000),
                    price: TokenAmount(2_000),
                    used: 300,
                    max_duration: 3_600,
                    start: UnixSeconds(1_700_000_000),
                    last_proof: UnixSeconds(1_700_000_050),
                    idle,
                    status: Status::Over,
                    to_host: TokenAmount(540_000),
                    to_depositor: TokenAmount(1_400_000),
                };
                assert_eq!(read, expected, "{requester:?} {timeout} {last}");
            }
        }
    }

    #[test]
    fn no_session_is_no_error_and_another_order_is_one() {
        assert_eq!(read(JobId(7), &[0; 600]).unwrap(), None);
        let mut strange = words(Some(true), false, true, U256::ZERO);
        strange.insert(5, U256::from(1));
        assert!(read(JobId(7), &bytes(&strange)).unwrap_err().to_string().contains("no known generation"));
        assert!(read(JobId(8), &bytes(&words(None, true, true, U256::ZERO))).is_err(), "another job's");
        assert!(read(JobId(7), &bytes(&words(None, true, true, U256::ZERO))[..300]).is_err(), "cut off");
        let mut disputed = words(None, false, true, U256::ZERO);
        disputed[11] = U256::from(9);
        assert!(read(JobId(7), &bytes(&disputed)).unwrap_err().to_string().contains("status 9"));
    }
}
