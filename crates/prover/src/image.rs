//! The image id of the committed guest: the identity of the program whose proofs are believed.

use milepost_statement::Digest;

/// What every receipt must say was run. Committed beside the guest and compared with it by `scripts/guest check`; the prover
/// computes it anew from the ELF it holds and says it in its greeting.
pub const IMAGE_ID: Digest = Digest(parse(include_str!("../../../guest/image-id.txt")));

/// Reads 64 hexadecimal digits; anything else does not compile.
const fn parse(text: &str) -> [u8; 32] {
    let text = text.as_bytes();
    assert!(text.len() == 65 && text[64] == b'\n', "guest/image-id.txt holds 64 hexadecimal digits and a newline");
    let mut out = [0; 32];
    let mut at = 0;
    while at < 32 {
        out[at] = nibble(text[2 * at]) << 4 | nibble(text[2 * at + 1]);
        at += 1;
    }
    out
}

const fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => panic!("not a lower-case hexadecimal digit"),
    }
}
