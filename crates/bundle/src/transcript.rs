//! From the claim's heads down to its tokens: what an auditor recomputes, as far as it was opened.

use milepost_statement::{
    Digest, MAX_CHECKPOINT_TOKENS, Salt, TokenCount, TokenSeq, Turn, checkpoint_head, genesis_head, salt_commitment, turns_digest,
};

use crate::error::Error;
use crate::format::{Bundle, Opening};

/// The checkpoints add up to the claim and lead to its head; the job's first claim begins at the head that follows from the job.
pub(crate) fn checkpoints(bundle: &Bundle) -> Result<String, Error> {
    let statement = &bundle.statement;
    let mut total = TokenCount::ZERO;
    for (number, checkpoint) in bundle.checkpoints.iter().enumerate() {
        if checkpoint.count.0 == 0 || checkpoint.count.0 > MAX_CHECKPOINT_TOKENS {
            return Err(Error::CheckpointSize { checkpoint: number, found: checkpoint.count });
        }
        // At most 2^16 checkpoints of 2^16 tokens: no overflow.
        total = total + checkpoint.count;
    }
    if total != statement.count {
        return Err(Error::CheckpointTokens { expected: statement.count, found: total });
    }
    let last = bundle.checkpoints.last().map_or(Digest::ZERO, |checkpoint| checkpoint.head);
    if last != statement.head_after {
        return Err(Error::LastHead { expected: statement.head_after, found: last });
    }
    let number = bundle.checkpoints.len();
    if statement.first_seq != TokenSeq::ZERO {
        return Ok(format!("{number}, {total} tokens in all; the claim before it ended at token {}", statement.first_seq));
    }
    let genesis = genesis(bundle);
    if genesis != statement.head_before {
        return Err(Error::Genesis { expected: genesis, found: statement.head_before });
    }
    Ok(format!("{number}, {total} tokens in all, from the job's first head on"))
}

/// The job's first head.
pub(crate) fn genesis(bundle: &Bundle) -> Digest {
    let it = &bundle.statement;
    genesis_head(it.chain_id, it.marketplace, it.job_id, it.host, it.model_digest, bundle.salt_commitment)
}

/// These tokens in this order are what the host committed to.
pub(crate) fn tokens(bundle: &Bundle, opening: &Opening) -> Result<String, Error> {
    let (expected, found) = (bundle.statement.count.0, opening.ids.len() as u64);
    if found < expected {
        return Err(Error::MissingTokens { expected, found });
    }
    if found > expected {
        return Err(Error::ExtraTokens { expected, found });
    }
    if opening.turns_digests.len() != bundle.checkpoints.len() {
        return Err(Error::TurnsDigests { expected: bundle.checkpoints.len(), found: opening.turns_digests.len() });
    }
    let mut head = bundle.statement.head_before;
    let mut first = bundle.statement.first_seq;
    let mut rest = opening.ids.as_slice();
    for (number, (checkpoint, turns)) in bundle.checkpoints.iter().zip(&opening.turns_digests).enumerate() {
        let count = usize::try_from(checkpoint.count.0).unwrap_or(usize::MAX);
        // The sum was compared with the claim's; a bundle in which it differs is refused for that, too.
        let Some((ids, behind)) = rest.split_at_checked(count) else {
            return Err(Error::CheckpointTokens { expected: bundle.statement.count, found: checkpoint.count });
        };
        let computed = checkpoint_head(&head, first, turns, ids);
        if computed != checkpoint.head {
            return Err(Error::Tokens { checkpoint: number, expected: checkpoint.head, found: computed });
        }
        (head, rest) = (computed, behind);
        first += checkpoint.count;
    }
    Ok(format!("{found}, each where the host committed to it"))
}

/// The salt opens the job's commitment.
pub(crate) fn salt(bundle: &Bundle, salt: &Salt) -> Result<String, Error> {
    let found = salt_commitment(salt);
    if found != bundle.salt_commitment {
        return Err(Error::Salt { expected: bundle.salt_commitment, found });
    }
    Ok(if found == Digest::ZERO { "none was agreed on".into() } else { "it opens the job's commitment".into() })
}

/// The turns lie in the claim, in order, and their settings are those of their digests.
pub(crate) fn settings(bundle: &Bundle, opening: &Opening) -> Result<String, Error> {
    let mut next = bundle.statement.first_seq;
    for open in &opening.turns {
        let start = open.turn.start;
        if start < next || start >= bundle.statement.end() {
            return Err(Error::TurnPlace(start));
        }
        if open.sampler.digest() != open.turn.sampler {
            return Err(Error::Settings(start));
        }
        // Two turns may begin at one place where the first made no token.
        next = start;
    }
    Ok(format!("{} begin in it, each with the settings of its digest", opening.turns.len()))
}

/// Salt and turns lead to the turns digests that stand under the heads.
pub(crate) fn turns(bundle: &Bundle, opening: &Opening, salt: &Salt) -> Result<String, Error> {
    let mut first = bundle.statement.first_seq;
    let mut rest = opening.turns.as_slice();
    for (number, (checkpoint, expected)) in bundle.checkpoints.iter().zip(&opening.turns_digests).enumerate() {
        let end = first.checked_add(checkpoint.count).unwrap_or(TokenSeq(u64::MAX));
        let inside = rest.iter().take_while(|open| open.turn.start < end).count();
        let (these, behind) = rest.split_at(inside);
        let these: Vec<Turn> = these.iter().map(|open| open.turn).collect();
        let found = turns_digest(salt, first, &these);
        if found != *expected {
            return Err(Error::Turns { checkpoint: number, expected: *expected, found });
        }
        (first, rest) = (end, behind);
    }
    Ok("prompts, settings and requests are the ones that the heads stand on".into())
}
