//! Turns, tokens and seals.

use milepost_statement::{TokenCount, TokenId, TokenSeq, Turn, checkpoint_head, request_digest, turns_digest};

use super::Ledger;
use crate::effect::{CheckpointRecord, Effect, TurnRecord, TurnState};
use crate::event::{EndReason, StartTurn};
use crate::{Account, AccountId, ActiveTurn, CheckpointMeta, Error, UnixSeconds};

impl Ledger {
    pub(super) fn start_turn(&mut self, start: StartTurn) -> Result<Vec<Effect>, Error> {
        let id = start.account;
        let account = self.account_mut(id)?;
        if let Some(turn) = account.requests.get(&start.request) {
            return Err(Error::RequestExists { account: id, request: start.request, turn: *turn });
        }
        if !account.is_open() {
            return Err(Error::NotOpen(id));
        }
        if let Some(active) = &account.record.active {
            return Err(Error::Busy { account: id, request: active.request.clone() });
        }
        let record = &mut account.record;
        let turn = TurnRecord {
            account: id,
            number: record.turns,
            request: start.request,
            body: start.body,
            start: record.positions.metered,
            end: record.positions.metered,
            state: TurnState::Active,
            prompt_tokens: start.prompt_tokens,
            prompt: start.prompt,
            sampler: start.sampler,
            started: start.at,
            ended: None,
        };
        record.turns += 1;
        record.active = Some(ActiveTurn { number: turn.number, request: turn.request.clone(), start: turn.start });
        record.open_turns.push(Turn {
            start: turn.start,
            prompt: turn.prompt,
            sampler: turn.sampler.digest(),
            request: request_digest(&turn.request),
        });
        account.requests.insert(turn.request.clone(), turn.number);
        Ok(vec![Effect::PutTurn(Box::new(turn)), account.put()])
    }

    pub(super) fn metered(&mut self, id: AccountId, at: TokenSeq, ids: Vec<TokenId>) -> Result<Vec<Effect>, Error> {
        let account = self.account_mut(id)?;
        if !account.is_open() {
            return Err(Error::NotOpen(id));
        }
        if account.record.active.is_none() {
            return Err(Error::NoTurn(id));
        }
        let mut positions = account.record.positions;
        if ids.is_empty() {
            return Err(Error::WrongState { what: format!("account {id}"), event: "metered", state: "given no tokens".to_owned() });
        }
        if at != positions.metered {
            return Err(Error::OutOfOrder { account: id, expected: positions.metered, found: at });
        }
        positions.metered = at + TokenCount(ids.len() as u64);
        if let Some(affordable) = account.affordable()
            && positions.metered.0 > affordable.0
        {
            return Err(Error::Deposit { account: id, affordable, asked: positions.metered });
        }
        account.advance(positions)?;
        account.open.ids.extend_from_slice(&ids);
        let mut effects = vec![Effect::PutTokens { account: id, first: at, ids }];
        let threshold = account.record.threshold as usize;
        while account.open.ids.len() >= threshold {
            effects.push(account.seal(threshold)?);
        }
        effects.push(account.put());
        Ok(effects)
    }

    pub(super) fn end_turn(&mut self, id: AccountId, reason: EndReason, at: UnixSeconds) -> Result<Vec<Effect>, Error> {
        let account = self.account_mut(id)?;
        let turn = account.finish_turn(reason, at).ok_or(Error::NoTurn(id))?;
        Ok(vec![turn, account.put()])
    }
}

impl Account {
    /// Closes the active turn. The effect carries only what the ledger knows; the writer fills the rest from the turn's row.
    pub(super) fn finish_turn(&mut self, reason: EndReason, at: UnixSeconds) -> Option<Effect> {
        let active = self.record.active.take()?;
        let end = self.record.positions.metered;
        if end == active.start {
            // A turn without tokens leaves no trace in the transcript.
            self.record.open_turns.retain(|turn| turn.start != end || turn.request != request_digest(&active.request));
        }
        Some(Effect::EndTurn { account: self.record.id, number: active.number, end, reason, at })
    }

    /// Seals the first `count` tokens of the open run.
    pub(super) fn seal(&mut self, count: usize) -> Result<Effect, Error> {
        let mut positions = self.record.positions;
        let first = positions.sealed;
        let tokens = TokenCount(count as u64);
        positions.sealed = first + tokens;
        self.advance(positions)?;
        let rest = self.open.ids.split_off(count);
        let ids = std::mem::replace(&mut self.open.ids, rest);
        let record = &mut self.record;
        let (turns, later): (Vec<_>, Vec<_>) = record.open_turns.drain(..).partition(|turn| turn.start < positions.sealed);
        record.open_turns = later;
        let digest = turns_digest(&record.salt, first, &turns);
        let head_before = record.head;
        record.head = checkpoint_head(&head_before, first, &digest, &ids);
        let checkpoint = CheckpointRecord {
            account: record.id,
            number: record.checkpoints,
            first,
            count: tokens,
            turns_digest: digest,
            turns,
            head_before,
            head_after: record.head,
        };
        record.checkpoints += 1;
        self.pending.push_back(CheckpointMeta { number: checkpoint.number, first, count: tokens, head: record.head });
        Ok(Effect::PutCheckpoint(Box::new(checkpoint)))
    }
}
