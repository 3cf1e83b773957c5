//! The seven positions and the line that holds between them.

use std::fmt;

use milepost_statement::{TokenCount, TokenSeq};
use serde::{Deserialize, Serialize};

/// Where an account stands. See the crate's documentation for what moves each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// M: durable tokens.
    pub metered: TokenSeq,
    /// S: in sealed checkpoints.
    pub sealed: TokenSeq,
    /// P: with a verified proof.
    pub proven: TokenSeq,
    /// U: in a signed claim that is unresolved or landed.
    pub submitted: TokenSeq,
    /// L: on the canonical chain.
    pub landed: TokenSeq,
    /// F: in a final block.
    #[serde(rename = "final")]
    pub finalized: TokenSeq,
    /// Z: in a final payout.
    pub paid: TokenSeq,
    /// W: given up, by reason.
    pub written_off: TokenCount,
}

/// Which part of the line does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The relation, as in `F ≤ L`.
    pub relation: &'static str,
    /// Left side.
    pub left: u64,
    /// Right side.
    pub right: u64,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not hold: {} > {}", self.relation, self.left, self.right)
    }
}

impl Positions {
    /// `Z ≤ F ≤ L ≤ U ≤ P ≤ S ≤ M ≤ affordable` and `Z + W ≤ M`.
    pub fn check(&self, affordable: Option<TokenCount>) -> Result<(), Broken> {
        let line = [
            ("Z ≤ F", self.paid.0, self.finalized.0),
            ("F ≤ L", self.finalized.0, self.landed.0),
            ("L ≤ U", self.landed.0, self.submitted.0),
            ("U ≤ P", self.submitted.0, self.proven.0),
            ("P ≤ S", self.proven.0, self.sealed.0),
            ("S ≤ M", self.sealed.0, self.metered.0),
            ("Z + W ≤ M", self.paid.0.saturating_add(self.written_off.0), self.metered.0),
            ("M ≤ deposit / price", self.metered.0, affordable.map_or(u64::MAX, |tokens| tokens.0)),
        ];
        match line.into_iter().find(|(_, left, right)| left > right) {
            Some((relation, left, right)) => Err(Broken { relation, left, right }),
            None => Ok(()),
        }
    }

    /// What never falls, compared with an earlier state: M, S, P, F, Z and W.
    pub fn never_fell_since(&self, earlier: &Self) -> Result<(), Broken> {
        let line = [
            ("M never falls", earlier.metered.0, self.metered.0),
            ("S never falls", earlier.sealed.0, self.sealed.0),
            ("P never falls", earlier.proven.0, self.proven.0),
            ("F never falls", earlier.finalized.0, self.finalized.0),
            ("Z never falls", earlier.paid.0, self.paid.0),
            ("W never falls", earlier.written_off.0, self.written_off.0),
        ];
        match line.into_iter().find(|(_, left, right)| left > right) {
            Some((relation, left, right)) => Err(Broken { relation, left, right }),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "M {} S {} P {} U {} L {} F {} Z {} W {}",
            self.metered, self.sealed, self.proven, self.submitted, self.landed, self.finalized, self.paid, self.written_off
        )
    }
}
