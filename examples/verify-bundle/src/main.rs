//! Checks a proof bundle as a stranger would: by RISC Zero's own verifier and the layouts in `docs/bundle.md` and
//! `docs/statement.md`, without any crate of Milepost's, without model, chain, host or network.
//!
//!     verify-bundle FILE IMAGE_ID
//!
//! The image id is the program that one believes in (`guest/image-id.txt`): it must not come from the bundle. Exit code 0 only if
//! the proof holds for the statement in the bundle. What the chain says of the claim is not looked at here.

use std::process::ExitCode;

use risc0_zkvm::sha::{Impl, Sha256};
use risc0_zkvm::{Digest, InnerReceipt, Receipt, VerifierContext};

/// Why a bundle is not believed.
type Refusal = String;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, image_id] = arguments.as_slice() else {
        eprintln!("usage: verify-bundle FILE IMAGE_ID");
        return ExitCode::from(64);
    };
    match std::fs::read(file).map_err(|error| error.to_string()).and_then(|bytes| verify(&bytes, image_id)) {
        Ok(found) => {
            println!("{found}");
            ExitCode::SUCCESS
        }
        Err(refusal) => {
            eprintln!("REFUSED: {refusal}");
            ExitCode::FAILURE
        }
    }
}

/// What is proven by the bundle, in words, or why it is not believed.
pub fn verify(file: &[u8], image_id: &str) -> Result<String, Refusal> {
    // With this set, fake receipts pass for proofs.
    if std::env::var_os("RISC0_DEV_MODE").is_some() {
        return Err("RISC0_DEV_MODE is set: unset it".into());
    }
    let sections = sections(file)?;
    let needed = |number: usize| sections[number].ok_or(format!("section {number} is missing"));

    // Section 1: image id, salt commitment, journal. Section 2: the receipt.
    let journal = &needed(1)?[64..];
    let receipt = receipt(needed(2)?)?;
    let expected = digest(image_id)?;
    receipt
        .verify_with_context(&VerifierContext::default().with_dev_mode(false), expected)
        .map_err(|why| format!("the proof does not hold: {why}"))?;
    if receipt.journal.bytes != journal {
        return Err("the proof says something else than the bundle".into());
    }

    // The journal: ten big-endian words of 32 bytes.
    let word = |number: usize| &journal[32 * number..][..32];
    let number = |at: usize| {
        let (high, low) = word(at).split_at(24);
        if high.iter().any(|byte| *byte != 0) { Err(format!("word {at} is out of range")) } else { Ok(u64::from_be_bytes(array(low))) }
    };
    if number(0)? != 1 {
        return Err("the journal is of another version".into());
    }
    let (first, count) = (number(6)?, number(7)?);
    let end = first.checked_add(count).ok_or("the claim runs past the largest position")?;
    let opened = transcript(&sections, word(8), word(9), first, count)?;
    Ok(format!(
        "What is proven: this host committed to exactly these N tokens, following on from the last claim.\n\
         N = {count}: tokens {first} to {} of job {}, chain {}, marketplace 0x{}, host 0x{}, model 0x{}, from head 0x{} to head 0x{}.\n\
         {opened}\n\
         What is not proven: that the model produced them, or that the client received them. Vouchers, which the client countersigns, \
         say the latter.",
        end - 1,
        number(3)?,
        number(1)?,
        hex(&word(2)[12..]),
        hex(&word(4)[12..]),
        hex(word(5)),
        hex(word(8)),
        hex(word(9)),
    ))
}

/// The file's sections by number: `number u8 ‖ length u32le ‖ payload`, in rising order.
fn sections(file: &[u8]) -> Result<[Option<&[u8]>; 11], Refusal> {
    let mut rest = file.strip_prefix(b"MILEPOST BUNDLE 1\n").ok_or("this is not a bundle of version 1")?;
    let mut found = [None; 11];
    let mut last = 0;
    while let Some((number, behind)) = rest.split_first() {
        let number = usize::from(*number);
        let length = behind.get(..4).ok_or("the file is cut")?;
        let length = usize::try_from(u32::from_le_bytes(array(length))).map_err(|_| "the file is cut")?;
        let payload = behind[4..].get(..length).ok_or("the file is cut")?;
        if number <= last || number >= found.len() || (number == 1 && length != 384) {
            return Err(format!("section {number} does not belong where it stands"));
        }
        found[number] = Some(payload);
        (last, rest) = (number, &behind[4 + length..]);
    }
    Ok(found)
}

/// The receipt file: its tag, then RISC Zero's receipt in postcard. Only composite receipts (variant 0) are taken.
fn receipt(file: &[u8]) -> Result<Receipt, Refusal> {
    let body = file.strip_prefix(b"MILEPOST RECEIPT 1\n").ok_or("the receipt is no STARK; a mock proof proves nothing")?;
    if body.first() != Some(&0) {
        return Err("the receipt is not a composite STARK".into());
    }
    let (receipt, behind) = postcard::take_from_bytes::<Receipt>(body).map_err(|why| format!("the receipt is damaged: {why}"))?;
    match &receipt.inner {
        InnerReceipt::Composite(_) if behind.is_empty() => Ok(receipt),
        _ => Err("the receipt is not a composite STARK, or something stands behind it".into()),
    }
}

/// Sections 3 to 5: the checkpoints lead to the claim's head, and so do the token ids, where they are given.
fn transcript(sections: &[Option<&[u8]>; 11], before: &[u8], after: &[u8], first: u64, count: u64) -> Result<String, Refusal> {
    let checkpoints: Vec<&[u8]> = sections[3].ok_or("section 3 is missing")?.chunks(40).collect();
    let size = |checkpoint: &[u8]| u64::from_le_bytes(array(&checkpoint[..8]));
    let bytes = |tokens: u64| usize::try_from(4 * tokens).map_err(|_| "this machine is too small");
    if checkpoints.iter().any(|it| it.len() != 40 || !(1..=65_536).contains(&size(it))) {
        return Err("a checkpoint is malformed".into());
    }
    if checkpoints.iter().map(|it| size(it)).sum::<u64>() != count || checkpoints.last().map(|it| &it[8..]) != Some(after) {
        return Err("the checkpoints do not add up to the claim".into());
    }
    let (Some(turns), Some(mut ids)) = (sections[4], sections[5]) else {
        return Ok(format!("The token ids, in {} checkpoints, are not opened here.", checkpoints.len()));
    };
    if turns.len() != 32 * checkpoints.len() || ids.len() as u64 != 4 * count {
        return Err("there are more or fewer token ids than tokens".into());
    }
    let (mut head, mut position) = (before.to_vec(), first);
    for (checkpoint, turns) in checkpoints.iter().zip(turns.chunks(32)) {
        let (these, behind) = ids.split_at(bytes(size(checkpoint))?);
        let hashed = [b"milepost:ckpt:v1", &head[..], &position.to_le_bytes(), &size(checkpoint).to_le_bytes(), turns, these].concat();
        head = Impl::hash_bytes(&hashed).as_bytes().to_vec();
        if head != checkpoint[8..] {
            return Err(format!("the token ids from {position} on are not those that the host committed to"));
        }
        (ids, position) = (behind, position + size(checkpoint));
    }
    Ok(format!("The {count} token ids in the bundle, in this order, are those that the host committed to."))
}

fn digest(text: &str) -> Result<Digest, Refusal> {
    let digits = text.trim().trim_start_matches("0x");
    let wrong = || format!("{text} is no image id: 64 hexadecimal digits are expected");
    if digits.len() != 64 || !digits.is_ascii() {
        return Err(wrong());
    }
    let bytes = (0..32).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16)).collect::<Result<Vec<_>, _>>();
    bytes.ok().and_then(|bytes| Digest::try_from(bytes.as_slice()).ok()).ok_or_else(wrong)
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("a slice of that length")
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
