//! The frozen vectors as a stream, and each way to lie about it.

use milepost_statement::{ChainId, Digest, JobId, Salt, SigningKey, TokenCount, TokenId, TokenSeq, TurnReceipt, request_digest};
use serde_json::Value;

use super::{Checkpoint, Error, JobIdentity, SignedReceipt, Transcript};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../statement/vectors/v1.json")).expect("the vectors are JSON")
}

fn digest(value: &Value) -> Digest {
    value.as_str().expect("text").parse().expect("a digest")
}

fn ids(value: &Value) -> Vec<TokenId> {
    value.as_array().expect("ids").iter().map(|id| u32::try_from(id.as_u64().expect("id")).expect("u32")).collect()
}

/// The vectors as a host would stream them: ids, announcements, the receipt of the last turn.
struct Stream {
    job: JobIdentity,
    salt: Salt,
    ids: Vec<TokenId>,
    checkpoints: Vec<Checkpoint>,
    receipt: SignedReceipt,
}

fn stream() -> Stream {
    let v = vectors();
    let terms = &v["terms"];
    let job = JobIdentity {
        chain_id: ChainId(terms["chainId"].as_u64().expect("number")),
        marketplace: terms["marketplace"].as_str().expect("text").parse().expect("address"),
        job_id: JobId(terms["jobId"].as_u64().expect("number")),
        host: terms["host"].as_str().expect("text").parse().expect("address"),
        model_digest: digest(&terms["modelDigest"]),
    };
    let mut all = Vec::new();
    let mut checkpoints = Vec::new();
    for (number, checkpoint) in v["checkpoints"].as_array().expect("checkpoints").iter().enumerate() {
        let run = ids(&checkpoint["ids"]);
        checkpoints.push(Checkpoint {
            number: number as u64,
            first_seq: TokenSeq(checkpoint["firstSeq"].as_u64().expect("number")),
            count: TokenCount(run.len() as u64),
            turns_digest: digest(&checkpoint["turnsDigest"]),
            head: digest(&checkpoint["head"]),
            turns: None,
        });
        all.extend(run);
    }
    all.extend(ids(&v["open"]["ids"]));
    let signature = v["turnReceipt"]["signed"]["signature"].as_str().expect("text");
    let receipt = SignedReceipt {
        receipt: TurnReceipt {
            job_id: job.job_id,
            request: request_digest("request-2"),
            sealed_head: digest(&v["checkpoints"][1]["head"]),
            sealed_tokens: TokenCount(137),
            open_tokens: TokenCount(3),
            open_digest: digest(&v["open"]["digest"]),
        },
        signature: Some(hex::decode(&signature[2..]).expect("hex")),
    };
    Stream { job, salt: Salt([0x55; 32]), ids: all, checkpoints, receipt }
}

impl Stream {
    fn transcript(&self) -> Transcript {
        Transcript::new(self.job, self.salt, &[])
    }

    /// Everything received and announced, as the stream goes.
    fn replayed(&self) -> Transcript {
        let mut transcript = self.transcript();
        self.replay(&mut transcript).expect("the frozen stream is honest");
        transcript
    }

    fn replay(&self, transcript: &mut Transcript) -> Result<(), Error> {
        for (chunk, ids) in self.ids.chunks(7).enumerate() {
            transcript.receive(TokenSeq(chunk as u64 * 7), ids)?;
            for checkpoint in &self.checkpoints {
                if transcript.end() >= checkpoint.first_seq + checkpoint.count {
                    transcript.announce(checkpoint.clone())?;
                }
            }
        }
        Ok(())
    }
}

#[test]
fn the_frozen_stream_is_accepted_to_the_last_digest() {
    let stream = stream();
    let transcript = stream.replayed();
    assert_eq!(transcript.head_at(TokenSeq::ZERO), Some(digest(&vectors()["genesis"])));
    assert_eq!((transcript.sealed(), transcript.end()), (TokenSeq(137), TokenSeq(140)));
    assert_eq!(transcript.check_receipt("request-2", &stream.receipt), Ok(()));
    assert_eq!(transcript.check_chain(TokenCount(100), stream.checkpoints[0].head), Ok(()));
    assert_eq!(transcript.check_chain(TokenCount(137), stream.checkpoints[1].head), Ok(()));
}

#[test]
fn a_changed_token_breaks_the_head_of_its_checkpoint() {
    let mut stream = stream();
    stream.ids[41] ^= 1;
    let refused = stream.replay(&mut stream.transcript());
    assert!(matches!(refused, Err(Error::WrongHead { number: 0, .. })), "{refused:?}");
}

#[test]
fn a_changed_open_token_breaks_the_open_digest() {
    let mut stream = stream();
    stream.ids[139] ^= 1;
    let refused = stream.replayed().check_receipt("request-2", &stream.receipt);
    assert!(matches!(refused, Err(Error::ReceiptOpenDigest { .. })), "{refused:?}");
}

#[test]
fn a_dropped_token_is_a_gap() {
    let stream = stream();
    let mut transcript = stream.transcript();
    transcript.receive(TokenSeq(0), &stream.ids[..50]).expect("the first fifty");
    assert_eq!(transcript.receive(TokenSeq(51), &stream.ids[51..]), Err(Error::Gap { expected: TokenSeq(50), got: TokenSeq(51) }));
}

#[test]
fn a_token_dropped_and_renumbered_breaks_the_head() {
    let mut stream = stream();
    stream.ids.remove(60);
    let refused = stream.replay(&mut stream.transcript());
    assert!(matches!(refused, Err(Error::WrongHead { number: 0, .. })), "{refused:?}");
}

#[test]
fn a_resumed_stream_may_overlap_but_not_rewrite() {
    let stream = stream();
    let mut transcript = stream.transcript();
    transcript.receive(TokenSeq(0), &stream.ids[..50]).expect("the first fifty");
    assert_eq!(transcript.receive(TokenSeq(40), &stream.ids[40..60]), Ok(10));
    let rewritten = transcript.receive(TokenSeq(59), &[7]);
    assert_eq!(rewritten, Err(Error::Rewritten { seq: TokenSeq(59), had: stream.ids[59], got: 7 }));
    assert_eq!(transcript.end(), TokenSeq(60));
}

#[test]
fn an_announcement_may_come_before_its_tokens_but_is_not_forgotten() {
    let stream = stream();
    let mut transcript = stream.transcript();
    transcript.announce(stream.checkpoints[0].clone()).expect("it waits");
    transcript.announce(stream.checkpoints[1].clone()).expect("it waits too");
    assert_eq!(transcript.sealed(), TokenSeq::ZERO);
    let mut ids = stream.ids.clone();
    ids[120] ^= 1;
    transcript.receive(TokenSeq(0), &ids[..110]).expect("the first checkpoint fits");
    assert_eq!(transcript.sealed(), TokenSeq(100));
    let refused = transcript.receive(TokenSeq(110), &ids[110..]);
    assert!(matches!(refused, Err(Error::WrongHead { number: 1, .. })), "{refused:?}");
}

#[test]
fn a_wrong_count_is_refused_wherever_it_stands() {
    let stream = stream();
    let mut announced = stream.transcript();
    announced.receive(TokenSeq(0), &stream.ids).expect("all tokens");
    let mut short = stream.checkpoints[0].clone();
    short.count = TokenCount(99);
    assert!(matches!(announced.announce(short), Err(Error::WrongHead { number: 0, .. })));

    for count in [0, 65_537, u64::MAX] {
        let mut size = stream.checkpoints[0].clone();
        size.count = TokenCount(count);
        assert_eq!(stream.transcript().announce(size), Err(Error::CheckpointSize { number: 0, count: TokenCount(count) }));
    }

    let transcript = stream.replayed();
    let mut receipt = stream.receipt.clone();
    receipt.receipt.open_tokens = TokenCount(4);
    sign(&mut receipt, &stream.job, &host_key());
    let refused = transcript.check_receipt("request-2", &receipt);
    assert_eq!(refused, Err(Error::ReceiptCount { receipt: TokenCount(141), captured: TokenCount(140) }));
}

#[test]
fn a_wrong_head_is_refused_in_announcement_receipt_and_chain() {
    let stream = stream();
    let mut transcript = stream.transcript();
    transcript.receive(TokenSeq(0), &stream.ids).expect("all tokens");
    let mut announced = stream.checkpoints[0].clone();
    announced.head = Digest([9; 32]);
    assert!(matches!(transcript.announce(announced), Err(Error::WrongHead { number: 0, .. })));

    let transcript = stream.replayed();
    let mut receipt = stream.receipt.clone();
    receipt.receipt.sealed_head = Digest([9; 32]);
    sign(&mut receipt, &stream.job, &host_key());
    assert!(matches!(transcript.check_receipt("request-2", &receipt), Err(Error::ReceiptHead { .. })));
    assert!(matches!(transcript.check_chain(TokenCount(137), Digest([9; 32])), Err(Error::ChainHead { .. })));
    assert_eq!(transcript.check_chain(TokenCount(99), Digest([9; 32])), Err(Error::ChainBoundary { tokens: TokenCount(99) }));
    let beyond = transcript.check_chain(TokenCount(141), stream.checkpoints[1].head);
    assert_eq!(beyond, Err(Error::ChainBeyond { chain: TokenCount(141), captured: TokenCount(140) }));
}

#[test]
fn a_wrong_signer_is_refused_and_a_submitter_key_is_not() {
    let stream = stream();
    let other = SigningKey::from_bytes(&[0x42; 32]).expect("a key");
    let mut receipt = stream.receipt.clone();
    sign(&mut receipt, &stream.job, &other);
    let mut transcript = stream.replayed();
    let refused = transcript.check_receipt("request-2", &receipt);
    assert_eq!(refused, Err(Error::WrongSigner { signer: other.address(), host: stream.job.host }));
    transcript.add_signer(other.address());
    assert_eq!(transcript.check_receipt("request-2", &receipt), Ok(()));
    receipt.signature = None;
    assert_eq!(transcript.check_receipt("request-2", &receipt), Err(Error::Unsigned));
}

#[test]
fn a_receipt_of_another_job_or_request_is_refused() {
    let stream = stream();
    let transcript = stream.replayed();
    assert!(matches!(transcript.check_receipt("request-1", &stream.receipt), Err(Error::ReceiptRequest { .. })));
    let mut receipt = stream.receipt.clone();
    receipt.receipt.job_id = JobId(164);
    assert!(matches!(transcript.check_receipt("request-2", &receipt), Err(Error::ReceiptJob { .. })));
}

#[test]
fn seals_that_were_not_announced_are_asked_for() {
    let stream = stream();
    let mut transcript = stream.transcript();
    transcript.receive(TokenSeq(0), &stream.ids).expect("all tokens");
    let missing = Err(Error::MissingCheckpoints { have: TokenSeq::ZERO, sealed: TokenCount(137) });
    assert_eq!(transcript.check_receipt("request-2", &stream.receipt), missing);
    assert_eq!(transcript.check_chain(TokenCount(137), stream.checkpoints[1].head), missing);
}

#[test]
fn a_receipt_stays_good_when_its_open_tokens_are_sealed_later() {
    let mut stream = stream();
    let transcript = stream.replayed();
    // A last checkpoint over the three open tokens, as the end of a session makes it.
    let turns = milepost_statement::turns_digest(&stream.salt, TokenSeq(137), &[]);
    let head = milepost_statement::checkpoint_head(&transcript.head(), TokenSeq(137), &turns, &stream.ids[137..]);
    stream.checkpoints.push(Checkpoint {
        number: 2,
        first_seq: TokenSeq(137),
        count: TokenCount(3),
        turns_digest: turns,
        head,
        turns: None,
    });
    let transcript = stream.replayed();
    assert_eq!(transcript.sealed(), TokenSeq(140));
    assert_eq!(transcript.check_receipt("request-2", &stream.receipt), Ok(()));
}

#[test]
fn an_announcement_out_of_order_or_changed_is_refused() {
    let stream = stream();
    let mut transcript = stream.transcript();
    let refused = transcript.announce(stream.checkpoints[1].clone());
    assert_eq!(refused, Err(Error::CheckpointNumber { expected: 0, got: 1 }));
    let mut shifted = stream.checkpoints[0].clone();
    shifted.first_seq = TokenSeq(1);
    let refused = transcript.announce(shifted);
    assert_eq!(refused, Err(Error::CheckpointStart { number: 0, expected: TokenSeq::ZERO, got: TokenSeq(1) }));
    let mut transcript = stream.replayed();
    assert_eq!(transcript.announce(stream.checkpoints[0].clone()), Ok(()));
    let mut changed = stream.checkpoints[0].clone();
    changed.turns_digest = Digest([1; 32]);
    assert_eq!(transcript.announce(changed), Err(Error::CheckpointChanged { number: 0 }));
}

#[test]
fn listed_turns_must_be_our_own_and_give_the_turns_digest() {
    let v = vectors();
    let stream = stream();
    let turn = |start, request: &str| milepost_statement::Turn {
        start: TokenSeq(start),
        prompt: digest(&v["prompt"]["digest"]),
        sampler: digest(&v["sampler"]["digest"]),
        request: request_digest(request),
    };
    let mut listed = stream.checkpoints[0].clone();
    listed.turns = Some(vec![turn(0, "request-1"), turn(60, "request-2")]);
    let received = |own: &[(u64, &str)]| {
        let mut transcript = stream.transcript();
        for (start, request) in own {
            transcript.note_turn(TokenSeq(*start), request);
        }
        transcript.receive(TokenSeq(0), &stream.ids).expect("all tokens");
        transcript
    };
    assert_eq!(received(&[(0, "request-1"), (60, "request-2")]).announce(listed.clone()), Ok(()));
    let foreign = received(&[(0, "request-1")]).announce(listed.clone());
    assert_eq!(foreign, Err(Error::ForeignTurn { number: 0, start: TokenSeq(60) }));
    listed.turns = Some(vec![turn(0, "request-1")]);
    let wrong = received(&[(0, "request-1")]).announce(listed);
    assert!(matches!(wrong, Err(Error::WrongTurns { number: 0, .. })), "{wrong:?}");
}

#[test]
fn announcements_without_tokens_are_bounded() {
    let stream = stream();
    let mut transcript = stream.transcript();
    for number in 0..super::MAX_PENDING as u64 {
        let mut checkpoint = stream.checkpoints[0].clone();
        checkpoint.number = number;
        checkpoint.first_seq = TokenSeq(number * 100);
        transcript.announce(checkpoint).expect("it waits");
    }
    let mut one_more = stream.checkpoints[0].clone();
    one_more.number = super::MAX_PENDING as u64;
    one_more.first_seq = TokenSeq(super::MAX_PENDING as u64 * 100);
    assert_eq!(transcript.announce(one_more), Err(Error::TooManyAnnounced { waiting: super::MAX_PENDING }));
}

/// The vectors' host is account 0 of the development mnemonic.
fn host_key() -> SigningKey {
    use alloy::signers::local::{MnemonicBuilder, coins_bip39::English};
    let signer = MnemonicBuilder::<English>::default()
        .phrase("test test test test test test test test test test test junk")
        .build()
        .expect("the development mnemonic");
    SigningKey::from_bytes(&signer.to_bytes().0).expect("a key")
}

fn sign(receipt: &mut SignedReceipt, job: &JobIdentity, key: &SigningKey) {
    receipt.signature = Some(key.sign(&receipt.receipt.digest(&job.domain())).to_vec());
}
