//! Which functions a contract has, from its bytecode alone: a dispatcher compares the call's selector with constants that it
//! pushes.

use std::collections::BTreeSet;

use alloy::sol_types::SolCall;

use crate::bindings::{HostRegistry, JobMarketplace};

/// Every constant of at most four bytes that the code pushes. PUSH4 holds a selector; one with leading zero bytes is pushed
/// shorter (`0x00f714ce` as PUSH3). Data after the code may add constants, never hide one.
pub fn pushed_selectors(code: &[u8]) -> BTreeSet<u32> {
    const PUSH1: u8 = 0x60;
    const PUSH32: u8 = 0x7f;
    let mut found = BTreeSet::new();
    let mut at = 0;
    while let Some(&op) = code.get(at) {
        at += 1;
        if (PUSH1..=PUSH32).contains(&op) {
            let len = usize::from(op - PUSH1) + 1;
            if let (true, Some(bytes)) = (len <= 4, code.get(at..at + len)) {
                found.insert(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)));
            }
            at += len;
        }
    }
    found
}

/// Signature and selector of everything that settlement calls on the marketplace (`true`) and on the registry (`false`).
pub fn required_functions() -> Vec<(bool, &'static str, u32)> {
    fn of<C: SolCall>(marketplace: bool) -> (bool, &'static str, u32) {
        (marketplace, C::SIGNATURE, u32::from_be_bytes(C::SELECTOR))
    }
    vec![
        of::<JobMarketplace::submitProofOfWorkCall>(true),
        of::<JobMarketplace::requestCloseCall>(true),
        of::<JobMarketplace::finalizeCall>(true),
        of::<JobMarketplace::getSessionCall>(true),
        of::<JobMarketplace::feeBpsCall>(true),
        of::<JobMarketplace::MIN_PROVEN_TOKENSCall>(true),
        of::<JobMarketplace::claimWindowCall>(true),
        of::<JobMarketplace::RATE_BURSTCall>(true),
        of::<JobMarketplace::imageIdCall>(true),
        of::<JobMarketplace::testDeploymentCall>(true),
        of::<JobMarketplace::hostRegistryCall>(true),
        of::<JobMarketplace::hostEarningsCall>(true),
        of::<HostRegistry::isActiveCall>(false),
        of::<HostRegistry::isSubmitterCall>(false),
        of::<HostRegistry::priceOfCall>(false),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_inside_other_push_data_is_not_found() {
        // PUSH32 of zeros that hold the bytes 63 c8 c6 64 ee, then PUSH4 0x01020304, then PUSH3 0xf714ce.
        let mut code = vec![0x7f];
        code.extend([0; 10]);
        code.extend([0x63, 0xc8, 0xc6, 0x64, 0xee]);
        code.extend([0; 17]);
        code.extend([0x63, 1, 2, 3, 4, 0x62, 0xf7, 0x14, 0xce]);
        let found = pushed_selectors(&code);
        assert!(found.contains(&0x0102_0304) && found.contains(&0x00f7_14ce));
        assert!(!found.contains(&0xc8c6_64ee));
    }

    #[test]
    fn code_that_ends_within_a_push_is_read_to_its_end() {
        assert!(pushed_selectors(&[0x63, 1, 2]).is_empty());
        assert!(pushed_selectors(&[]).is_empty());
    }
}
