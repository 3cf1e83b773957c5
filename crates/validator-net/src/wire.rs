//! What is on the wire (`proto/validator.proto`), and how it becomes the gadget's types.

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod generated {
    tonic::include_proto!("milepost.validator.v1");
}

use bytes::Bytes;
use finality_gadget::network::Hello;
use finality_gadget::{BlockHash, ChainId, CheckpointNumber, Domain, FinalityCheckpoint, SetDigest, SetId, TrustedCheckpoint, ValidatorId};

pub(crate) use generated::frame::Content;
pub(crate) use generated::validator_network_client::ValidatorNetworkClient;
pub(crate) use generated::validator_network_server::{ValidatorNetwork, ValidatorNetworkServer};
pub(crate) use generated::{Frame, Reason, Refusal, Welcome};

/// Bytes that protobuf and gRPC put around a message, at most.
pub(crate) const FRAME_OVERHEAD: usize = 64;

pub(crate) fn hello_frame(hello: &Hello) -> Frame {
    Frame { content: Some(Content::Hello(encode(hello))) }
}

pub(crate) fn message_frame(message: Bytes) -> Frame {
    Frame { content: Some(Content::Message(message)) }
}

pub(crate) fn welcome(hello: &Hello) -> Welcome {
    Welcome { hello: Some(encode(hello)) }
}

fn encode(hello: &Hello) -> generated::Hello {
    let trusted = &hello.domain.trusted;
    generated::Hello {
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
pub(crate) fn decode(hello: &generated::Hello) -> Result<Hello, &'static str> {
    let other_version = hello.version != finality_gadget::network::PROTOCOL_VERSION;
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
    Ok(Hello {
        version: hello.version,
        validator: ValidatorId(hello.validator),
        domain: Domain { chain: ChainId(hello.chain), trusted: TrustedCheckpoint { checkpoint, set } },
        set: SetId(hello.set),
        set_digest: SetDigest(digest(&hello.set_digest, "the digest of the newest set must have 32 bytes")?),
    })
}
