//! What an operator types: `doctor`, `jobs`, `claims`, `earnings`. Everything but `earnings withdraw`, `claims cancel` and
//! `jobs resume` only reads, also while a node runs.

pub(crate) mod by_hand;
pub(crate) mod claims;
pub(crate) mod doctor;
pub(crate) mod earnings;
pub(crate) mod jobs;
mod profit;
mod tokens;
