//! The contracts as types, made from `contracts/artifacts`.
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
sol!(
    #[derive(Debug)]
    TestUSDC,
    "../../contracts/artifacts/TestUSDC.json"
);
