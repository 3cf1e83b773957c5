//! The emptiest program there is: it halts. What proving it costs, every proof costs; figures are given against it.

/// Where it lies: in the memory of machine mode, as the guest does.
const START: u32 = 0xC000_0000;
/// `a7 = terminate; a0 = exit code 0; a1 = 0; ecall` (the conventions of `guest/src/abi.rs`).
const CODE: [u32; 4] = [0x0000_0893, 0x0000_0513, 0x0000_0593, 0x0000_0073];
/// Bytes of an ELF header and of a program header, 32 bits.
const HEADER: u16 = 52;
const PROGRAM_HEADER: u16 = 32;

/// The program as an ELF file.
pub(crate) fn elf() -> Vec<u8> {
    let code: Vec<u8> = CODE.iter().flat_map(|word| word.to_le_bytes()).collect();
    let size = u32::try_from(code.len()).expect("16 bytes");
    let at = u32::from(HEADER + PROGRAM_HEADER);
    let mut elf = b"\x7fELF\x01\x01\x01".to_vec();
    elf.resize(16, 0);
    let halves = |values: &[u16]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let words = |values: &[u32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    // Executable, RISC-V; version, entry, program headers, no section headers, flags; sizes and one program header.
    elf.extend(halves(&[2, 243]));
    elf.extend(words(&[1, START, u32::from(HEADER), 0, 0]));
    elf.extend(halves(&[HEADER, PROGRAM_HEADER, 1, 0, 0, 0]));
    // To be loaded: from where in the file, to where, how much, readable and executable, aligned.
    elf.extend(words(&[1, at, START, START, size, size, 5, 4]));
    elf.extend(code);
    elf
}

#[cfg(test)]
mod tests {
    use crate::execute::{MAX_SEGMENT_PO2, run};

    #[test]
    fn the_empty_program_runs_in_one_segment_no_larger_than_the_guests_smallest() {
        let run = run(&super::elf(), &[], MAX_SEGMENT_PO2).unwrap();
        let po2: Vec<u32> = run.segments.iter().map(|segment| segment.po2).collect();
        assert!(po2.len() == 1 && po2[0] <= 14, "{po2:?}");
        assert!(run.user_cycles < 100, "{} cycles", run.user_cycles);
    }
}
