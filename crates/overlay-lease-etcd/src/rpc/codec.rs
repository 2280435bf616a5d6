//! Requests that are encoded once, however often they are sent.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::{BufMut, Bytes};
use tonic::Status;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

/// A request as it goes over the wire. Clones share the bytes.
#[derive(Clone)]
pub(super) struct Encoded(Bytes);

impl Encoded {
    pub(super) fn new(request: &impl Message) -> Self {
        Self(request.encode_to_vec().into())
    }
}

/// Sends what is encoded, and decodes what comes.
pub(super) struct EncodedCodec<A>(PhantomData<A>);

impl<A> Default for EncodedCodec<A> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<A: Message + Default + 'static> Codec for EncodedCodec<A> {
    type Encode = Encoded;
    type Decode = A;
    type Encoder = Copying;
    type Decoder = ProstDecoder<A>;

    fn encoder(&mut self) -> Copying {
        Copying
    }

    fn decoder(&mut self) -> ProstDecoder<A> {
        ProstDecoder::default()
    }
}

pub(super) struct Copying;

impl Encoder for Copying {
    type Item = Encoded;
    type Error = Status;

    fn encode(&mut self, request: Encoded, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(request.0);
        Ok(())
    }
}
