//! Challenges and session tokens. Both are stateless: the host can be restarted, or be many boxes, and still know its own.
//!
//! A **challenge** is 16 random bytes and a MAC over them, the job and the expiry, under a key of this process. Giving one out
//! costs no memory, so nobody can crowd out another's. One that was *used* is remembered until it expires.
//!
//! A **token** is job, depositor, expiry, epoch and a MAC under a secret that lives in the ledger's database. Raising the epoch
//! makes every token void.

use std::collections::BTreeSet;
use std::sync::Mutex;

use hmac::{Hmac, Mac};
use milepost_ledger::{Address, Digest, JobId, UnixSeconds};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::error::Error;
use crate::sync::lock;

/// How every session token begins, so that another's API key is told from a bad token of ours.
pub const TOKEN_PREFIX: &str = "mps_";

/// Seconds for which a challenge can be answered: a person may have to confirm in a wallet.
pub const CHALLENGE_SECONDS: u64 = 120;

/// Used challenges remembered at a time. Each took a depositor's signature, so more than this is a flood.
const MAX_USED_CHALLENGES: usize = 65_536;

const MAC_LEN: usize = 32;
const CLAIMS_LEN: usize = 8 + 20 + 8 + 8;

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The job it may spend and end.
    pub(crate) job: JobId,
    /// Who opened the session.
    pub(crate) depositor: Address,
    /// Until when.
    pub(crate) expires: UnixSeconds,
}

/// Makes and checks challenges and tokens.
pub(crate) struct Keys {
    token_secret: [u8; 32],
    epoch: u64,
    challenge_secret: [u8; 32],
    used: Mutex<BTreeSet<(UnixSeconds, Digest)>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys(epoch {})", self.epoch)
    }
}

fn mac(secret: &[u8; 32], parts: &[&[u8]]) -> [u8; MAC_LEN] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

impl Keys {
    /// Keys from the database's secret.
    pub(crate) fn new(token_secret: [u8; 32], epoch: u64) -> Self {
        Self { token_secret, epoch, challenge_secret: rand::random(), used: Mutex::default() }
    }

    /// A challenge for a job.
    pub(crate) fn challenge(&self, job: JobId, now: UnixSeconds) -> (Digest, UnixSeconds) {
        let expires = now.plus(CHALLENGE_SECONDS);
        let mut challenge = [0; 32];
        challenge[..16].copy_from_slice(&rand::random::<[u8; 16]>());
        let tag = self.challenge_tag(&challenge, job, expires);
        challenge[16..].copy_from_slice(&tag);
        (Digest(challenge), expires)
    }

    fn challenge_tag(&self, challenge: &[u8; 32], job: JobId, expires: UnixSeconds) -> [u8; 16] {
        let full = mac(&self.challenge_secret, &[b"challenge", &challenge[..16], &job.0.to_be_bytes(), &expires.0.to_be_bytes()]);
        let mut tag = [0; 16];
        tag.copy_from_slice(&full[..16]);
        tag
    }

    /// Whether this host gave out the challenge for that job, and it is still good.
    pub(crate) fn check_challenge(&self, challenge: &Digest, job: JobId, expires: UnixSeconds, now: UnixSeconds) -> Result<(), Error> {
        let tag = self.challenge_tag(&challenge.0, job, expires);
        if !bool::from(tag.ct_eq(&challenge.0[16..])) {
            return Err(Error::BadChallenge { reason: "was not given by this host for this job and expiry" });
        }
        if now > expires {
            return Err(Error::BadChallenge { reason: "is too old" });
        }
        if lock(&self.used).contains(&(expires, *challenge)) {
            return Err(Error::BadChallenge { reason: "was used" });
        }
        Ok(())
    }

    /// Uses up a challenge. Call after its signature was checked; of two who come at once one is refused.
    pub(crate) fn use_challenge(&self, challenge: &Digest, expires: UnixSeconds, now: UnixSeconds) -> Result<(), Error> {
        let mut used = lock(&self.used);
        let live = used.split_off(&(now, Digest::ZERO));
        *used = live;
        if used.len() >= MAX_USED_CHALLENGES {
            return Err(Error::RateLimited { reason: "too many sessions were opened".into(), retry_after: CHALLENGE_SECONDS });
        }
        if used.insert((expires, *challenge)) { Ok(()) } else { Err(Error::BadChallenge { reason: "was used" }) }
    }

    /// A token.
    pub(crate) fn token(&self, grant: &Grant) -> String {
        let mut bytes = Vec::with_capacity(CLAIMS_LEN + MAC_LEN);
        bytes.extend(grant.job.0.to_be_bytes());
        bytes.extend(grant.depositor.0);
        bytes.extend(grant.expires.0.to_be_bytes());
        bytes.extend(self.epoch.to_be_bytes());
        let tag = mac(&self.token_secret, &[b"token", &bytes]);
        bytes.extend(tag);
        format!("{TOKEN_PREFIX}{}", hex::encode(bytes))
    }

    /// What a token grants. `None` for text that is no token of any Milepost host (an OpenAI client must send some key).
    pub(crate) fn grant(&self, token: &str, now: UnixSeconds) -> Result<Option<Grant>, Error> {
        let Some(text) = token.strip_prefix(TOKEN_PREFIX) else { return Ok(None) };
        let refused = |reason: &str| Error::Unauthorized { reason: format!("the session token {reason}; open the session again") };
        let bytes = hex::decode(text).ok().filter(|bytes| bytes.len() == CLAIMS_LEN + MAC_LEN).ok_or_else(|| refused("is damaged"))?;
        let (claims, tag) = bytes.split_at(CLAIMS_LEN);
        if !bool::from(mac(&self.token_secret, &[b"token", claims]).ct_eq(tag)) {
            return Err(refused("is not from this host"));
        }
        let word = |at: usize| u64::from_be_bytes(claims[at..at + 8].try_into().expect("eight bytes of a slice whose length was checked"));
        let mut depositor = Address::ZERO;
        depositor.0.copy_from_slice(&claims[8..28]);
        let grant = Grant { job: JobId(word(0)), depositor, expires: UnixSeconds(word(28)) };
        if word(36) != self.epoch {
            return Err(refused("was withdrawn"));
        }
        if now > grant.expires {
            return Err(refused("has expired"));
        }
        Ok(Some(grant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_000);
    const JOB: JobId = JobId(163);

    fn keys() -> Keys {
        Keys::new([7; 32], 1)
    }

    #[test]
    fn the_mac_is_the_published_one() {
        // RFC 4231, test case 2, whose key is shorter than ours may be: checked through the same library call.
        let mut mac = Hmac::<Sha256>::new_from_slice(b"Jefe").expect("any length");
        mac.update(b"what do ya want for nothing?");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(mac.finalize().into_bytes()), expected);
    }

    #[test]
    fn a_challenge_is_good_once_for_its_job_until_it_expires() {
        let keys = keys();
        let (challenge, expires) = keys.challenge(JOB, NOW);
        assert!(keys.check_challenge(&challenge, JOB, expires, NOW).is_ok());
        assert!(keys.check_challenge(&challenge, JobId(164), expires, NOW).is_err());
        assert!(keys.check_challenge(&challenge, JOB, expires.plus(1), NOW).is_err());
        assert!(keys.check_challenge(&challenge, JOB, expires, expires.plus(1)).is_err());
        assert!(keys.check_challenge(&Digest([9; 32]), JOB, expires, NOW).is_err());
        assert!(keys.use_challenge(&challenge, expires, NOW).is_ok());
        assert!(keys.check_challenge(&challenge, JOB, expires, NOW).is_err());
        assert!(keys.use_challenge(&challenge, expires, NOW).is_err());
    }

    #[test]
    fn used_challenges_are_forgotten_when_they_expire() {
        let keys = keys();
        for step in 0..100 {
            let now = UnixSeconds(NOW.0 + step * 60);
            let (challenge, expires) = keys.challenge(JOB, now);
            keys.use_challenge(&challenge, expires, now).expect("fresh");
        }
        assert!(lock(&keys.used).len() <= 3);
    }

    #[test]
    fn a_token_says_what_it_was_given_for_and_no_changed_one_does() {
        let keys = keys();
        let grant = Grant { job: JOB, depositor: Address([3; 20]), expires: UnixSeconds(2_000) };
        let token = keys.token(&grant);
        assert_eq!(keys.grant(&token, NOW).expect("good"), Some(grant));
        assert!(keys.grant(&token, UnixSeconds(2_001)).is_err(), "expired");
        assert!(Keys::new([8; 32], 1).grant(&token, NOW).is_err(), "another host");
        assert!(Keys::new([7; 32], 2).grant(&token, NOW).is_err(), "a later epoch");
        for at in TOKEN_PREFIX.len()..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert!(keys.grant(std::str::from_utf8(&changed).expect("ascii"), NOW).is_err(), "digit {at}");
        }
        assert!(keys.grant(&token[..token.len() - 2], NOW).is_err());
        assert_eq!(keys.grant("sk-anything", NOW).expect("not ours"), None);
    }
}
