//! What claims name by content id: kept with the claim, and found again by the id.
//!
//! The id is a text to this crate; who makes it (a hash of the bytes) also checks it. Only what was entered is found: a receipt becomes
//! public when a claim names it, not before.

use milepost_ledger::ClaimId;

use crate::{Blob, Error, LedgerDb};

/// Which bytes of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentPart {
    /// The proof's receipt.
    Receipt,
    /// The statement's journal: what is claimed, by whom, following on from what.
    Statement,
}

impl ContentPart {
    fn letter(self) -> char {
        match self {
            Self::Receipt => 'r',
            Self::Statement => 's',
        }
    }
}

impl Blob {
    /// The entry under which a part of a claim is found by its content id.
    pub fn content(id: &str, claim: ClaimId, part: ContentPart) -> Self {
        Self::Meta { name: name(id), bytes: format!("{}{claim}", part.letter()).into_bytes() }
    }
}

impl LedgerDb {
    /// Content by its id; `None` if nothing was entered under it.
    pub fn content(&self, id: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(entry) = self.meta(&name(id))? else { return Ok(None) };
        let text = String::from_utf8_lossy(&entry);
        let claim = |letter: char| text.strip_prefix(letter).and_then(|claim| claim.parse::<ClaimId>().ok());
        if let Some(claim) = claim(ContentPart::Receipt.letter()) {
            return self.receipt(claim);
        }
        match claim(ContentPart::Statement.letter()) {
            Some(claim) => Ok(self.claim(claim)?.map(|claim| claim.statement.journal().to_vec())),
            None => Ok(None),
        }
    }
}

fn name(id: &str) -> String {
    format!("content.{id}")
}
