//! What is on the wire (`proto/validator.proto`), and how it becomes the gadget's types.

mod messages;
mod rpc;

use bytes::Bytes;
use finality_gadget::network::{self, PROTOCOL_VERSION};
use finality_gadget::{BlockHash, ChainId, CheckpointNumber, Domain, FinalityCheckpoint, SetDigest, SetId, TrustedCheckpoint, ValidatorId};

pub(crate) use messages::{Answer, Content, Frame, Question, Reason, Refusal, Welcome};
pub(crate) use rpc::{Answers, Exchange, Listener, Protobuf, call};

use messages::Hello;

/// Bytes that protobuf puts around a message, at most.
pub(crate) const FRAME_OVERHEAD: usize = 64;

pub(crate) fn hello_frame(hello: &network::Hello) -> Frame {
    Frame { content: Some(Content::Hello(encode(hello))) }
}

pub(crate) fn message_frame(message: Bytes) -> Frame {
    Frame { content: Some(Content::Message(message)) }
}

pub(crate) fn welcome(hello: &network::Hello) -> Welcome {
    Welcome { hello: Some(encode(hello)) }
}

fn encode(hello: &network::Hello) -> Hello {
    let trusted = &hello.domain.trusted;
    Hello {
        version: hello.version,
        validator: hello.validator.0,
        chain: hello.domain.chain.0,
        trusted_number: trusted.checkpoint.number.0,
        trusted_hash: Bytes::copy_from_slice(&trusted.checkpoint.hash.0),
        trusted_set: Bytes::copy_from_slice(&trusted.set.0),
        set: hello.set.0,
        set_digest: Bytes::copy_from_slice(&hello.set_digest.0),
    }
}

/// Reads a hello. Of another version only the version is read: nothing else in it need mean anything.
pub(crate) fn decode(hello: &Hello) -> Result<network::Hello, &'static str> {
    let other_version = hello.version != PROTOCOL_VERSION;
    let digest = |bytes: &Bytes, what| match <[u8; 32]>::try_from(&bytes[..]) {
        Ok(digest) => Ok(digest),
        Err(_) if other_version => Ok([0; 32]),
        Err(_) => Err(what),
    };
    let checkpoint = FinalityCheckpoint {
        number: CheckpointNumber(hello.trusted_number),
        hash: BlockHash(digest(&hello.trusted_hash, "the trusted checkpoint's hash must have 32 bytes")?),
    };
    let set = SetDigest(digest(&hello.trusted_set, "the digest of the first set must have 32 bytes")?);
    Ok(network::Hello {
        version: hello.version,
        validator: ValidatorId(hello.validator),
        domain: Domain { chain: ChainId(hello.chain), trusted: TrustedCheckpoint { checkpoint, set } },
        set: SetId(hello.set),
        set_digest: SetDigest(digest(&hello.set_digest, "the digest of the newest set must have 32 bytes")?),
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn hello() -> network::Hello {
        let checkpoint = FinalityCheckpoint { number: CheckpointNumber(300), hash: BlockHash([0x11; 32]) };
        network::Hello {
            version: PROTOCOL_VERSION,
            validator: ValidatorId(7),
            domain: Domain { chain: ChainId(u64::MAX), trusted: TrustedCheckpoint { checkpoint, set: SetDigest([0x22; 32]) } },
            set: SetId(1),
            set_digest: SetDigest([0x33; 32]),
        }
    }

    fn line(what: &str, message: &impl prost::Message) -> String {
        message.encode_to_vec().iter().fold(format!("{what}: "), |text, byte| text + &format!("{byte:02x}"))
    }

    #[test]
    fn the_bytes_are_those_that_were_checked_against_the_proto_file() {
        let written = [
            format!("path: {}", rpc::PATH),
            line("Frame hello", &hello_frame(&hello())),
            line("Frame message", &message_frame(Bytes::from_static(b"\x01\x03\0\xff"))),
            line("Frame empty-message", &message_frame(Bytes::new())),
            line("Frame nothing", &Frame::default()),
            line("Welcome hello", &welcome(&hello())),
            line("Refusal chain", &Refusal { reason: Reason::Chain as i32, theirs: 300, ours: u64::MAX }),
            line("Refusal closing", &Refusal { reason: Reason::Closing as i32, theirs: 0, ours: 0 }),
        ];
        let checked: Vec<&str> = include_str!("../../proto/vectors.txt").lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(written.iter().map(String::as_str).collect::<Vec<_>>(), checked);
    }

    #[test]
    fn a_hello_is_read_as_it_was_written() {
        assert_eq!(decode(&encode(&hello())), Ok(hello()));
        let frame = hello_frame(&hello());
        assert_eq!(Frame::decode(&*frame.encode_to_vec()), Ok(frame));
        let welcome = welcome(&hello());
        assert_eq!(Welcome::decode(&*welcome.encode_to_vec()), Ok(welcome));
    }

    #[test]
    fn a_digest_of_another_length_is_refused_unless_the_version_is_another() {
        let short = Hello { set_digest: Bytes::from_static(&[1; 31]), ..encode(&hello()) };
        assert_eq!(decode(&short), Err("the digest of the newest set must have 32 bytes"));
        let newer = Hello { version: PROTOCOL_VERSION + 1, ..short };
        assert_eq!(decode(&newer).map(|hello| hello.version), Ok(PROTOCOL_VERSION + 1));
    }

    #[test]
    fn fields_of_later_versions_are_passed_over_and_wrong_types_are_refused() {
        let mut bytes = encode(&hello()).encode_to_vec();
        bytes.extend_from_slice(&[0xfa, 0x07, 0x02, 0xaa, 0xbb]);
        assert_eq!(Hello::decode(&*bytes), Ok(encode(&hello())), "field 127 is not known");
        assert!(Hello::decode(&[0x0a, 0x01, 0x00][..]).is_err(), "a version is no byte string");
        assert!(Frame::decode(&[0x12, 0x05, 0x00][..]).is_err(), "a message shorter than it says");
    }
}
