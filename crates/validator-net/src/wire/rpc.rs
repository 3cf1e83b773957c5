//! The one method of the service, on both sides.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use prost::Message;
use tonic::body::Body;
use tonic::client::Grpc as Client;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, StreamingService};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::messages::{Frame, Welcome};

/// Package, service and method as `proto/validator.proto` names them.
pub(crate) const PATH: &str = "/milepost.validator.v1.ValidatorNetwork/Exchange";

/// Protobuf in gRPC's frames; gRPC itself bounds the length before anything is read.
pub(crate) struct Protobuf<E, D>(PhantomData<fn() -> (E, D)>);

impl<E, D> Protobuf<E, D> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E: Message + 'static, D: Message + Default + 'static> Codec for Protobuf<E, D> {
    type Encode = E;
    type Decode = D;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::new()
    }

    fn decoder(&mut self) -> Self {
        Self::new()
    }
}

impl<E: Message, D> Encoder for Protobuf<E, D> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, item: E, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

impl<E, D: Message + Default> Decoder for Protobuf<E, D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        D::decode(buffer).map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

/// What the listener answers: a welcome, and perhaps the status that ends it.
pub(crate) type Answers = Pin<Box<dyn Stream<Item = Result<Welcome, Status>> + Send>>;
type Answering<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The listening side of the method.
pub(crate) trait Exchange: Send + Sync + 'static {
    fn exchange(self: Arc<Self>, request: Request<Streaming<Frame>>) -> impl Future<Output = Result<Answers, Status>> + Send;
}

/// The service: refuses frames longer than `longest`, and every other path.
pub(crate) struct Listener<T> {
    inner: Arc<T>,
    longest: usize,
}

impl<T> Clone for Listener<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), longest: self.longest }
    }
}

impl<T> Listener<T> {
    pub(crate) fn new(inner: T, longest: usize) -> Self {
        Self { inner: Arc::new(inner), longest }
    }
}

impl<T: Exchange> StreamingService<Frame> for Listener<T> {
    type Response = Welcome;
    type ResponseStream = Answers;
    type Future = Answering<Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<Streaming<Frame>>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.exchange(request).await.map(Response::new) })
    }
}

impl<T: Exchange> Service<http::Request<Body>> for Listener<T> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answering<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != PATH {
            return Box::pin(ready(Ok(Status::unimplemented("there is no such method").into_http())));
        }
        let listener = self.clone();
        Box::pin(async move {
            let codec = Protobuf::<Welcome, Frame>::new();
            let mut grpc = Grpc::new(codec).apply_max_message_size_config(Some(listener.longest), None);
            Ok(grpc.streaming(listener, request).await)
        })
    }
}

/// The dialling side of the method.
pub(crate) async fn call(
    channel: Channel,
    longest_answer: usize,
    frames: impl Stream<Item = Frame> + Send + 'static,
) -> Result<Streaming<Welcome>, Status> {
    let mut client = Client::new(channel).max_decoding_message_size(longest_answer);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = Protobuf::<Frame, Welcome>::new();
    client.streaming(Request::new(frames), PathAndQuery::from_static(PATH), codec).await.map(Response::into_inner)
}
