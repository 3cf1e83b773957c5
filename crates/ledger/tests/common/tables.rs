//! A model of the database: what effects write, and what a restart reads back. Each write is checked against what stood there.

use std::collections::{BTreeMap, BTreeSet};

use milepost_ledger::{
    AccountId, AccountRecord, CheckpointMeta, CheckpointRecord, Claim, ClaimId, ClaimState, Digest, Effect, Error, Ledger, Phase, Restored,
    Salt, TokenId, TokenSeq, Turn, TurnRecord, TurnState, Tx, TxId,
};
use sha2::{Digest as _, Sha256};

#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    pub(crate) accounts: BTreeMap<AccountId, AccountRecord>,
    pub(crate) tokens: BTreeMap<AccountId, Vec<TokenId>>,
    pub(crate) turns: BTreeMap<(AccountId, u32), TurnRecord>,
    pub(crate) checkpoints: BTreeMap<(AccountId, u64), CheckpointRecord>,
    pub(crate) claims: BTreeMap<ClaimId, Claim>,
    pub(crate) txs: BTreeMap<TxId, Tx>,
}

impl Tables {
    /// Writes the effects of one event, as one batch.
    pub(crate) fn write(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::PutAccount(record) => self.put_account(record),
                Effect::PutTokens { account, first, ids } => {
                    let run = self.tokens.entry(*account).or_default();
                    assert!(!ids.is_empty(), "an empty run of tokens was written");
                    assert_eq!(first.0, run.len() as u64, "the token runs of {account} are not contiguous");
                    run.extend(ids);
                }
                Effect::PutTurn(turn) => {
                    let known = self.turns_of(turn.account).count();
                    assert_eq!(turn.number as usize, known, "turns are numbered in order");
                    assert!(self.turns_of(turn.account).all(|other| other.request != turn.request), "one request id, two turns");
                    assert_eq!(turn.start, TokenSeq(self.length(turn.account)), "a turn starts where the transcript ends");
                    self.turns.insert((turn.account, turn.number), (**turn).clone());
                }
                Effect::EndTurn { account, number, end, reason, at } => {
                    let turn = self.turns.get_mut(&(*account, *number)).expect("only a known turn ends");
                    assert_eq!(turn.state, TurnState::Active, "a turn ends once");
                    assert!(*end >= turn.start);
                    turn.end = *end;
                    turn.state = TurnState::Ended(*reason);
                    turn.ended = Some(*at);
                }
                Effect::PutCheckpoint(checkpoint) => self.put_checkpoint(checkpoint),
                Effect::PutClaim(claim) => self.put_claim(claim),
                Effect::PutTx(tx) => self.put_tx(tx),
            }
        }
    }

    fn put_account(&mut self, record: &AccountRecord) {
        if let Some(before) = self.accounts.get(&record.id) {
            assert_eq!(
                (&before.terms, before.salt, before.model, before.threshold),
                (&record.terms, record.salt, record.model, record.threshold)
            );
            assert!(before.voucher <= record.voucher, "a voucher was forgotten");
        }
        self.accounts.insert(record.id, record.clone());
    }

    fn put_checkpoint(&mut self, checkpoint: &CheckpointRecord) {
        let id = checkpoint.account;
        let before = checkpoint.number.checked_sub(1).map(|number| &self.checkpoints[&(id, number)]);
        let (end, head) = before.map_or_else(|| (0, self.genesis(id)), |last| (last.first.0 + last.count.0, last.head_after));
        assert_eq!(checkpoint.first.0, end, "checkpoints are contiguous");
        assert_eq!(checkpoint.head_before, head, "heads follow on");
        let last = end + checkpoint.count.0;
        let salt = self.accounts[&id].salt;
        let turns: Vec<Turn> = self
            .turns_of(id)
            .filter(|turn| (end..last).contains(&turn.start.0) && (turn.end > turn.start || turn.state == TurnState::Active))
            .map(|turn| Turn {
                start: turn.start,
                prompt: turn.prompt,
                sampler: turn.sampler.digest(),
                request: tagged(b"milepost:rqst:v1", &[turn.request.as_bytes()]),
            })
            .collect();
        assert_eq!(checkpoint.turns, turns, "the turns that begin in the checkpoint");
        let ids = &self.tokens[&id][usize::try_from(end).unwrap()..usize::try_from(last).unwrap()];
        assert_eq!(checkpoint.turns_digest, turns_digest(&salt, end, &turns), "turns digest, recomputed");
        assert_eq!(checkpoint.head_after, head_after(&head, end, &checkpoint.turns_digest, ids), "head, recomputed");
        assert!(self.checkpoints.insert((id, checkpoint.number), checkpoint.clone()).is_none(), "a checkpoint is written once");
    }

    fn put_claim(&mut self, claim: &Claim) {
        let id = AccountId::Job(claim.id.job);
        if let Some(before) = self.claims.get(&claim.id) {
            assert_eq!(
                (before.statement, before.first_checkpoint, before.checkpoints),
                (claim.statement, claim.first_checkpoint, claim.checkpoints)
            );
            assert!(before.is_unresolved(), "claim {} was resolved as {:?} and written again", claim.id, before.state);
            assert!(rank(&before.state) <= rank(&claim.state), "claim {} went back from {:?} to {:?}", claim.id, before.state, claim.state);
        } else {
            assert_eq!(claim.state, ClaimState::Planned, "a claim begins as planned");
            let run: Vec<_> = (0..u64::from(claim.checkpoints)).map(|i| &self.checkpoints[&(id, claim.first_checkpoint + i)]).collect();
            assert_eq!(run[0].first, claim.statement.first_seq);
            assert_eq!(run[0].head_before, claim.statement.head_before);
            assert_eq!(run[run.len() - 1].head_after, claim.statement.head_after);
            assert_eq!(run.iter().map(|checkpoint| checkpoint.count.0).sum::<u64>(), claim.statement.count.0);
        }
        self.claims.insert(claim.id, claim.clone());
        let unresolved = self.claims.values().filter(|other| other.id.job == claim.id.job && other.is_unresolved()).count();
        assert!(unresolved <= 1, "{unresolved} unresolved claims of job {}", claim.id.job);
    }

    fn put_tx(&mut self, tx: &Tx) {
        if let Some(before) = self.txs.get(&tx.id) {
            assert_eq!(before.purpose, tx.purpose, "one nonce, two purposes");
            assert!(before.is_unresolved(), "a resolved transaction was written again");
            assert!(tx.attempts.starts_with(&before.attempts), "an attempt was lost");
        }
        for claim in tx.purpose.claims() {
            let others = self.txs.values().filter(|other| other.id != tx.id && other.purpose.claims().contains(claim)).count();
            assert_eq!(others, 0, "one claim, two nonces");
        }
        let hashes: BTreeSet<_> = tx.attempts.iter().map(|attempt| attempt.hash.0).collect();
        assert_eq!(hashes.len(), tx.attempts.len(), "one attempt was stored twice");
        assert!(tx.attempts.len() <= Tx::MAX_ATTEMPTS);
        self.txs.insert(tx.id, tx.clone());
    }

    fn length(&self, id: AccountId) -> u64 {
        self.tokens.get(&id).map_or(0, Vec::len) as u64
    }

    fn turns_of(&self, id: AccountId) -> impl Iterator<Item = &TurnRecord> {
        self.turns.range((id, 0)..=(id, u32::MAX)).map(|(_, turn)| turn)
    }

    fn checkpoints_of(&self, id: AccountId) -> impl Iterator<Item = &CheckpointRecord> {
        self.checkpoints.range((id, 0)..=(id, u64::MAX)).map(|(_, checkpoint)| checkpoint)
    }

    /// What a restart reads. `paid`: paid accounts too.
    pub(crate) fn restore(&self, paid: bool) -> Result<Ledger, Error> {
        self.restore_without(paid, &BTreeSet::new())
    }

    /// The same, leaving out accounts.
    pub(crate) fn restore_without(&self, paid: bool, without: &BTreeSet<AccountId>) -> Result<Ledger, Error> {
        let wanted =
            self.accounts.values().filter(|record| !without.contains(&record.id) && (paid || !matches!(record.phase, Phase::Paid(_))));
        let accounts: Vec<Restored> = wanted.map(|record| self.restored(record)).collect();
        Ledger::restore(accounts, self.txs.values().cloned())
    }

    pub(crate) fn restored(&self, record: &AccountRecord) -> Restored {
        let id = record.id;
        let sealed = usize::try_from(record.positions.sealed.0).unwrap();
        Restored {
            record: record.clone(),
            open: self.tokens.get(&id).map(|ids| ids[sealed..].to_vec()).unwrap_or_default(),
            pending: self
                .checkpoints_of(id)
                .filter(|checkpoint| checkpoint.first >= record.positions.finalized)
                .map(|row| CheckpointMeta { number: row.number, first: row.first, count: row.count, head: row.head_after })
                .collect(),
            requests: self.turns_of(id).map(|turn| (turn.request.clone(), turn.number)).collect(),
            claim: record.claim.and_then(|claim| self.claims.get(&claim).cloned()),
        }
    }

    fn genesis(&self, id: AccountId) -> Digest {
        let record = &self.accounts[&id];
        let mut word = [0; 32];
        let commitment = if record.salt.0 == [0; 32] { Digest::ZERO } else { sha256(&[&record.salt.0]) };
        let job = id.job().unwrap_or_default().0;
        let (chain, marketplace, host) =
            record.terms.as_ref().map_or((0, [0; 20], [0; 20]), |terms| (terms.chain.0, terms.marketplace.0, terms.host.0));
        word[24..].copy_from_slice(&chain.to_be_bytes());
        let mut job_word = [0; 32];
        job_word[24..].copy_from_slice(&job.to_be_bytes());
        tagged(b"milepost:head:v1", &[&word, &marketplace, &job_word, &host, &record.model.0, &commitment.0])
    }
}

fn rank(state: &ClaimState) -> u8 {
    match state {
        ClaimState::Planned => 0,
        ClaimState::Proving => 1,
        ClaimState::Proven => 2,
        ClaimState::Submitted(_) => 3,
        ClaimState::Final(_) | ClaimState::Reverted { .. } | ClaimState::Replaced | ClaimState::Abandoned { .. } => 4,
    }
}

// The hashes of `docs/statement.md`, written down a second time on purpose.

fn sha256(parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    Digest(hash.finalize().into())
}

fn tagged(tag: &[u8; 16], parts: &[&[u8]]) -> Digest {
    let all: Vec<u8> = tag.iter().copied().chain(parts.iter().flat_map(|part| part.iter().copied())).collect();
    sha256(&[&all])
}

fn turns_digest(salt: &Salt, first: u64, turns: &[Turn]) -> Digest {
    let count = u32::try_from(turns.len()).unwrap().to_le_bytes();
    let rows: Vec<u8> = turns
        .iter()
        .flat_map(|turn| [&turn.start.0.to_le_bytes()[..], &turn.prompt.0, &turn.sampler.0, &turn.request.0].concat())
        .collect();
    tagged(b"milepost:turn:v1", &[&salt.0, &first.to_le_bytes(), &count, &rows])
}

fn head_after(head: &Digest, first: u64, turns: &Digest, ids: &[TokenId]) -> Digest {
    let count = ids.len() as u64;
    let words: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    tagged(b"milepost:ckpt:v1", &[&head.0, &first.to_le_bytes(), &count.to_le_bytes(), &turns.0, &words])
}
