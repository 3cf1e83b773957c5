//! The messages of `proto/validator.proto`, by hand.
//!
//! Generating them would bring prost's derive macro and a protobuf compiler below the build scripts of this workspace, and with them other
//! features of what those scripts are built from: every C++ library in it would be compiled again. The bytes in
//! `proto/vectors.txt` hold the two together: the tests of this crate compare them with what stands here, `proto/check` with the
//! `.proto` file.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, bytes as octets, int32, message, skip_field, uint32, uint64};
use prost::{DecodeError, Message};

/// A message whose fields are numbers and byte strings; a field with its default value is not written.
macro_rules! plain {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $tag:literal $field:ident: $kind:ident $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub(crate) struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Message for $name {
            fn encode_raw(&self, buffer: &mut impl BufMut) {
                $(if self.$field != <$type>::default() {
                    $kind::encode($tag, &self.$field, buffer);
                })*
            }

            fn merge_field(&mut self, tag: u32, wire: WireType, buffer: &mut impl Buf, context: DecodeContext) -> Result<(), DecodeError> {
                match tag {
                    $($tag => $kind::merge(wire, &mut self.$field, buffer, context),)*
                    _ => skip_field(wire, tag, buffer, context),
                }
            }

            fn encoded_len(&self) -> usize {
                0 $(+ if self.$field == <$type>::default() { 0 } else { $kind::encoded_len($tag, &self.$field) })*
            }

            fn clear(&mut self) {
                *self = Self::default();
            }
        }
    };
}

plain! {
    /// What two nodes must agree on before anything else.
    Hello {
        /// Version of the protocol.
        1 version: uint32 u32,
        /// Number of the validator.
        2 validator: uint32 u32,
        /// Chain.
        3 chain: uint64 u64,
        /// Number of the trusted checkpoint.
        4 trusted_number: uint64 u64,
        /// Hash of the trusted checkpoint.
        5 trusted_hash: octets Bytes,
        /// Digest of the first set.
        6 trusted_set: octets Bytes,
        /// Newest set.
        7 set: uint64 u64,
        /// Digest of the newest set.
        8 set_digest: octets Bytes,
    }
}

plain! {
    /// Why a stream ends.
    Refusal {
        /// A [`Reason`].
        1 reason: int32 i32,
        /// What the other side said.
        2 theirs: uint64 u64,
        /// What holds here.
        3 ours: uint64 u64,
    }
}

plain! {
    /// What somebody who follows certificates asks (`proto/certificates.proto`).
    Question {
        /// Version of the protocol.
        1 version: uint32 u32,
        /// Chain.
        2 chain: uint64 u64,
        /// Digest of chain and trusted checkpoint.
        3 domain: octets Bytes,
        /// Blocks between two checkpoints.
        4 interval: uint64 u64,
        /// How checkpoints become final: 1 single, 2 ffg.
        5 rule: uint32 u32,
        /// Digest of the newest final link that the asker knows.
        6 known: octets Bytes,
    }
}

plain! {
    /// The answer.
    Answer {
        /// Number of the last final checkpoint.
        1 finalized: uint64 u64,
        /// The certificate that made it final, unless the asker knows it.
        2 certificate: octets Bytes,
    }
}

/// Reasons of a refusal. Zero is never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Reason {
    Version = 1,
    Chain = 2,
    Trusted = 3,
    Set = 4,
    Unknown = 5,
    Identity = 6,
    Malformed = 7,
    Silent = 8,
    Replaced = 9,
    Closing = 10,
}

/// What a frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Field 1.
    Hello(Hello),
    /// Field 2.
    Message(Bytes),
}

/// One message of the dialler.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Frame {
    /// One of two; of several in one frame the last counts, as protobuf has it.
    pub(crate) content: Option<Content>,
}

impl Message for Frame {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        match &self.content {
            Some(Content::Hello(hello)) => message::encode(1, hello, buffer),
            Some(Content::Message(bytes)) => octets::encode(2, bytes, buffer),
            None => {}
        }
    }

    fn merge_field(&mut self, tag: u32, wire: WireType, buffer: &mut impl Buf, context: DecodeContext) -> Result<(), DecodeError> {
        match tag {
            1 => {
                let mut hello = match self.content.take() {
                    Some(Content::Hello(hello)) => hello,
                    _ => Hello::default(),
                };
                message::merge(wire, &mut hello, buffer, context)?;
                self.content = Some(Content::Hello(hello));
                Ok(())
            }
            2 => {
                let mut bytes = Bytes::new();
                octets::merge(wire, &mut bytes, buffer, context)?;
                self.content = Some(Content::Message(bytes));
                Ok(())
            }
            _ => skip_field(wire, tag, buffer, context),
        }
    }

    fn encoded_len(&self) -> usize {
        match &self.content {
            Some(Content::Hello(hello)) => message::encoded_len(1, hello),
            Some(Content::Message(bytes)) => octets::encoded_len(2, bytes),
            None => 0,
        }
    }

    fn clear(&mut self) {
        self.content = None;
    }
}

/// The listener's answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Welcome {
    /// Who it is.
    pub(crate) hello: Option<Hello>,
}

impl Message for Welcome {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        if let Some(hello) = &self.hello {
            message::encode(1, hello, buffer);
        }
    }

    fn merge_field(&mut self, tag: u32, wire: WireType, buffer: &mut impl Buf, context: DecodeContext) -> Result<(), DecodeError> {
        match tag {
            1 => message::merge(wire, self.hello.get_or_insert_with(Hello::default), buffer, context),
            _ => skip_field(wire, tag, buffer, context),
        }
    }

    fn encoded_len(&self) -> usize {
        self.hello.as_ref().map_or(0, |hello| message::encoded_len(1, hello))
    }

    fn clear(&mut self) {
        self.hello = None;
    }
}
