//! The guest against the statement crate, run without proving.

use milepost_prover::{IMAGE_ID, ProofRequest, encode_receipt, verify};
use milepost_statement::{Digest, TokenCount, TokenSeq, checkpoint_head};

use crate::bench::claim;
use crate::execute::{self, MAX_SEGMENT_PO2, Refused};
use crate::{guest, prove};

fn run(request: &ProofRequest) -> anyhow::Result<execute::Execution> {
    execute::execute(&request.guest_input(), MAX_SEGMENT_PO2)
}

/// A claim whose checkpoints have these many tokens.
fn with_checkpoints(first: u64, counts: &[usize]) -> ProofRequest {
    let total: usize = counts.iter().sum();
    let mut request = claim(total.max(1));
    let ids: Vec<u32> = request.checkpoints.iter().flat_map(|checkpoint| checkpoint.ids.clone()).collect();
    let mut rest = &ids[..];
    request.statement.first_seq = TokenSeq(first);
    let (mut head, mut at) = (request.statement.head_before, request.statement.first_seq);
    request.checkpoints.clear();
    for (index, count) in counts.iter().enumerate() {
        let (ids, others) = rest.split_at(*count);
        rest = others;
        let turns = Digest([u8::try_from(index % 251).expect("below 251"); 32]);
        head = checkpoint_head(&head, at, &turns, ids);
        at = TokenSeq(at.0.wrapping_add(*count as u64));
        request.checkpoints.push(milepost_prover::CheckpointInput { turns, ids: ids.to_vec() });
    }
    request.statement.count = TokenCount(total as u64);
    request.statement.head_after = head;
    request
}

/// The exit code with which the guest refuses an input.
fn refusal(input: &[u8]) -> Option<u16> {
    execute::execute(input, MAX_SEGMENT_PO2).err().map(|error| error.downcast::<Refused>().expect("a refusal").0)
}

#[test]
fn the_committed_image_id_is_that_of_the_committed_guest() {
    assert_eq!(guest::image_id(guest::ELF).unwrap(), IMAGE_ID);
}

#[test]
fn the_guest_commits_the_journal_that_the_host_computes() {
    // Around every block and buffer boundary: a block is 16 words, the buffer 128, the header 24.
    for count in (1..=140).chain(200..=300).chain([1_000, 4_095, 65_535, 65_536]) {
        let request = with_checkpoints(7, &[count]);
        let journal = run(&request).unwrap_or_else(|why| panic!("{count} tokens: {why:#}")).journal;
        assert_eq!(journal, request.statement.journal(), "{count} tokens");
    }
}

#[test]
fn no_claim_fills_more_segments_than_are_waited_for() {
    // Small checkpoints take the most cycles for each byte of their input.
    for counts in [vec![1; 3_000], vec![2; 2_000], vec![100; 200], vec![1], vec![65_536; 2]] {
        let request = with_checkpoints(0, &counts);
        let (input, segments) = (request.guest_input().len(), run(&request).unwrap().segments.len());
        let most = milepost_prover::most_segments(input);
        println!("{} checkpoints of {}: {input} bytes, {segments} segments, at most {most}", counts.len(), counts[0]);
        assert!(segments <= most);
    }
}

#[test]
fn checkpoints_of_different_sizes_follow_on_from_each_other() {
    let request = with_checkpoints((1 << 40) + 3, &[100, 1, 104, 105, 17, 232, 100, 65, 300, 99]);
    assert_eq!(run(&request).unwrap().journal, request.statement.journal());
}

#[test]
fn the_guest_refuses_what_it_must() {
    let good = with_checkpoints(5, &[100, 50]);
    let input = good.guest_input();
    assert_eq!(refusal(&input), None);

    let with = |at: usize, bytes: &[u8]| {
        let mut input = input.clone();
        input[at..at + bytes.len()].copy_from_slice(bytes);
        refusal(&input)
    };
    assert_eq!(with(0, &[2]), Some(1), "another version");
    assert_eq!(with(4, &[0]), Some(2), "no checkpoints");
    assert_eq!(with(4, &[3]), Some(5), "more checkpoints than there are");
    assert_eq!(with(4, &[1]), Some(7), "fewer checkpoints than the statement's count");
    let first_checkpoint = 8 + 256;
    assert_eq!(with(first_checkpoint, &[0]), Some(3), "a checkpoint without tokens");
    assert_eq!(with(first_checkpoint, &65_537_u32.to_le_bytes()), Some(3), "too many tokens");
    assert_eq!(with(first_checkpoint + 4, &[1]), Some(3), "a count beyond u32");
    assert_eq!(refusal(&input[..input.len() - 1]), Some(5), "cut short");
    assert_eq!(refusal(&[]), Some(5), "nothing");
    // Journal words 1, 2, 3, 4, 6 and 7 are shorter than 32 bytes: their first byte must be zero.
    for word in [1, 2, 3, 4, 6, 7] {
        assert_eq!(with(8 + 32 * (word - 1), &[1]), Some(6), "journal word {word} out of range");
    }
}

#[test]
fn token_numbers_do_not_wrap_around() {
    assert_eq!(refusal(&with_checkpoints(u64::MAX - 149, &[100, 50]).guest_input()), Some(4));
    assert_eq!(refusal(&with_checkpoints(u64::MAX - 150, &[100, 50]).guest_input()), None);
}

#[test]
fn the_smallest_segment_holds_a_thousand_tokens() {
    assert_eq!(run(&claim(1_000)).unwrap().po2(), [14]);
    assert_eq!(run(&claim(2_000)).unwrap().po2(), [15]);
}

#[test]
fn a_claim_of_several_segments_is_one_proof() {
    // Segments of the smallest size, so that a claim just above its capacity takes two.
    let request = claim(1_150);
    let run = execute::execute(&request.guest_input(), 14).unwrap();
    assert_eq!(run.po2(), [14, 14]);
    let mut told = Vec::new();
    let receipt = prove::prove(&run.segments, &run.journal, |segments| told.push(segments)).unwrap();
    assert_eq!(told, [1, 2]);
    let verified = verify(&encode_receipt(&receipt).unwrap(), IMAGE_ID, &request.statement).unwrap();
    assert_eq!((verified.segments, verified.statement), (2, request.statement));

    // Neither half stands for the whole, in whatever order.
    for keep in [&[0][..], &[1], &[1, 0], &[0, 0, 1]] {
        let mut part = receipt.clone();
        let risc0_zkvm::InnerReceipt::Composite(composite) = &mut part.inner else { panic!("not composite") };
        composite.segments = keep.iter().map(|at| composite.segments[*at].clone()).collect();
        assert!(verify(&encode_receipt(&part).unwrap(), IMAGE_ID, &request.statement).is_err(), "segments {keep:?}");
    }
}
