//! The contracts as types, made from `contracts/artifacts`; nothing here is written by hand. Selectors and topics are pinned by
//! `tests/golden.rs`.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

use alloy::sol;

sol!(
    #[derive(Debug)]
    JobMarketplace,
    "../../contracts/artifacts/JobMarketplace.json"
);
sol!(
    #[derive(Debug)]
    HostEarnings,
    "../../contracts/artifacts/HostEarnings.json"
);
sol!(
    #[derive(Debug)]
    HostRegistry,
    "../../contracts/artifacts/HostRegistry.json"
);
