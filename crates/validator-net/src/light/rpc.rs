//! The one question, on both sides (`proto/certificates.proto`).

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use finality_gadget::network::PROTOCOL_VERSION;
use finality_gadget::{FinalityRule, LinkDigest};
use tonic::body::Body;
use tonic::client::Grpc as Client;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, UnaryService};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::door::Board;
use crate::refusal::{Reason, Refusal};
use crate::set_file::Agreement;
use crate::wire::{Answer, Protobuf, Question};

/// Package, service and method as `proto/certificates.proto` names them.
pub(super) const PATH: &str = "/milepost.validator.v1.Certificates/Newest";
/// Longest question: some 90 bytes, with room for fields of later versions.
pub(super) const MAX_QUESTION_BYTES: usize = 1024;

type Answering<T> = Pin<Box<dyn Future<Output = T> + Send>>;

fn rule(rule: FinalityRule) -> u32 {
    match rule {
        FinalityRule::Single => 1,
        FinalityRule::Ffg => 2,
    }
}

/// What to ask of somebody who should agree with `agreement`.
pub(super) fn question(agreement: &Agreement, known: Option<LinkDigest>) -> Question {
    Question {
        version: PROTOCOL_VERSION,
        chain: agreement.schedule.domain().chain.0,
        domain: Bytes::copy_from_slice(&agreement.schedule.domain_digest().0),
        interval: agreement.interval,
        rule: rule(agreement.rule),
        known: known.map(|known| Bytes::copy_from_slice(&known.0)).unwrap_or_default(),
    }
}

/// Why such a question is not answered: who asks would not understand.
pub(super) fn check(agreement: &Agreement, asked: &Question) -> Result<(), Refusal> {
    let ours = question(agreement, None);
    let numbers = |reason, what: &str, theirs: u64, ours: u64| {
        let words = format!("{what} {theirs} is asked for, here it is {ours}");
        Err(Refusal { reason, theirs, ours, words })
    };
    if asked.version != ours.version {
        return numbers(Reason::Version, "version", asked.version.into(), ours.version.into());
    }
    if asked.chain != ours.chain {
        return numbers(Reason::Chain, "chain", asked.chain, ours.chain);
    }
    if asked.domain != ours.domain {
        return Err(Refusal::plain(Reason::Trusted, "the question trusts another checkpoint or another first set"));
    }
    if asked.interval != ours.interval {
        return numbers(Reason::Trusted, "an interval of", asked.interval, ours.interval);
    }
    if asked.rule != ours.rule {
        return numbers(Reason::Trusted, "rule (1 single, 2 ffg)", asked.rule.into(), ours.rule.into());
    }
    Ok(())
}

/// The answering side.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) agreement: std::sync::Arc<Agreement>,
    pub(super) board: Board,
}

impl UnaryService<Question> for Desk {
    type Response = Answer;
    type Future = std::future::Ready<Result<Response<Answer>, Status>>;

    fn call(&mut self, request: Request<Question>) -> Self::Future {
        let asked = request.into_inner();
        ready(match check(&self.agreement, &asked) {
            Ok(()) => Ok(Response::new(self.board.answer(&asked.known))),
            Err(refusal) => Err(refusal.to_status()),
        })
    }
}

impl Service<http::Request<Body>> for Desk {
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
        let desk = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(Protobuf::<Answer, Question>::new()).apply_max_message_size_config(Some(MAX_QUESTION_BYTES), None);
            Ok(grpc.unary(desk, request).await)
        })
    }
}

/// The asking side: one question on a connection that stands.
pub(super) async fn ask(client: &mut Client<Channel>, question: Question) -> Result<Answer, Status> {
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = Protobuf::<Question, Answer>::new();
    client.unary(Request::new(question), PathAndQuery::from_static(PATH), codec).await.map(Response::into_inner)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn the_bytes_are_those_that_were_checked_against_the_proto_file() {
        let line = |what: &str, bytes: Vec<u8>| format!("{what}: {}", hex::encode(bytes));
        let (domain, known) = (Bytes::from_static(&[0xd0; 32]), Bytes::from_static(&[0x11; 32]));
        let first = Question { version: 1, chain: u64::MAX, domain, interval: 300, rule: 2, known: Bytes::new() };
        let later = Question { known, ..first.clone() };
        let written = [
            format!("path: {PATH}"),
            line("Question first", first.encode_to_vec()),
            line("Question later", later.encode_to_vec()),
            line("Answer new", Answer { finalized: 300, certificate: Bytes::from_static(b"\x01\xff") }.encode_to_vec()),
            line("Answer known", Answer { finalized: 300, certificate: Bytes::new() }.encode_to_vec()),
            line("Answer nothing", Answer::default().encode_to_vec()),
        ];
        let checked: Vec<&str> = include_str!("../../proto/certificates.txt").lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(written.iter().map(String::as_str).collect::<Vec<_>>(), checked);
        assert_eq!(Question::decode(&*later.encode_to_vec()), Ok(later));
    }
}
