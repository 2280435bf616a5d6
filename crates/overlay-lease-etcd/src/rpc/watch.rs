//! A stream of changes from a revision on.

use http::uri::PathAndQuery;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::client::{Client, Failure, Token, grpc, is_stale, judge};
use super::connection::Connection;
use super::messages::*;
use super::method::WATCH;
use super::txn::KeyRange;
use crate::RequestError;

const NAME: &str = "watch";

/// An open watch.
pub(crate) struct Watcher {
    client: Client,
    connection: Connection,
    from: i64,
    /// The revision of the member when it began to watch.
    pub(crate) at: i64,
    answers: Streaming<WatchResponse>,
}

/// What a watch tells.
#[derive(Debug)]
pub(crate) enum Watched {
    /// Changes, in order, complete up to this revision. None at all is a sign of life.
    Events { revision: i64, events: Vec<Event> },
    /// Some of the changes that were asked for have been compacted away. Nothing follows.
    Compacted,
}

impl Client {
    /// Opens a watch for all changes from a revision on.
    pub(crate) async fn watch(&self, keys: &KeyRange, from: i64) -> Result<Watcher, RequestError> {
        let token = self.token(None).await?;
        match self.open(keys, from, &token).await {
            Err(Failure::Token(_)) => {
                let token = self.token(Some(&token)).await?;
                self.open(keys, from, &token).await.map_err(RequestError::from)
            }
            opened => opened.map_err(RequestError::from),
        }
    }

    async fn open(&self, keys: &KeyRange, from: i64, token: &Token) -> Result<Watcher, Failure> {
        let connection = self.connection(NAME).await.map_err(Failure::Other)?;
        let after = self.options().request_timeout;
        let opened = async {
            let mut grpc = grpc(&connection);
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            self.count();
            let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
            let path = PathAndQuery::from_static(WATCH);
            let mut answers =
                grpc.streaming(request(keys, from, token), path, codec).await?.into_inner();
            let first = answers.message().await?;
            Ok((answers, first))
        };
        let opened = match timeout(after, opened).await {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(status)) => Err(judge(NAME, &connection, &status)),
            Err(_) => {
                let endpoint = connection.endpoint.clone();
                Err(Failure::Other(RequestError::TimedOut { operation: NAME, endpoint, after }))
            }
        };
        if let Err(Failure::Other(error)) = &opened
            && error.outcome_unknown()
        {
            self.give_up(&connection).await;
        }
        let (answers, first) = opened?;
        let at = first.as_ref().and_then(|first| first.header.as_ref());
        let at = at.map_or(0, |header| header.revision);
        let watcher = Watcher { client: self.clone(), connection, from, at, answers };
        match first {
            Some(first) if first.created && !first.canceled => Ok(watcher),
            Some(refused) if refused.canceled => Err(watcher.refused(refused, token)),
            Some(_) => Err(Failure::Other(RequestError::Answer {
                operation: NAME,
                endpoint: watcher.connection.endpoint,
                problem: "the watch was not created first",
            })),
            None => Err(Failure::Other(watcher.ended())),
        }
    }
}

impl Watcher {
    /// The next changes.
    ///
    /// Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Watched, RequestError> {
        let answer = match self.answers.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                self.client.give_up(&self.connection).await;
                return Err(self.ended());
            }
            Err(status) => {
                self.client.give_up(&self.connection).await;
                return Err(judge(NAME, &self.connection, &status).into());
            }
        };
        if answer.compact_revision != 0 {
            return Ok(Watched::Compacted);
        }
        if answer.canceled {
            return Err(self.refused(answer, &Token::default()).into());
        }
        let Some(header) = answer.header else {
            return Err(RequestError::Answer {
                operation: NAME,
                endpoint: self.connection.endpoint.clone(),
                problem: "it has no revision",
            });
        };
        Ok(Watched::Events { revision: header.revision, events: answer.events })
    }

    fn refused(&self, answer: WatchResponse, token: &Token) -> Failure {
        let operation = NAME;
        if answer.compact_revision != 0 {
            return Failure::Other(RequestError::Compacted { operation, revision: self.from });
        }
        // Up to etcd 3.4 a stale token may look the same as a missing permission here.
        let reason = answer.cancel_reason.as_str();
        let stale = is_stale(reason) || (reason.contains("permission denied") && token.is_some());
        let error = RequestError::Refused {
            operation,
            endpoint: self.connection.endpoint.clone(),
            code: "Canceled".into(),
            message: answer.cancel_reason,
        };
        if stale { Failure::Token(error) } else { Failure::Other(error) }
    }

    fn ended(&self) -> RequestError {
        RequestError::Interrupted {
            operation: NAME,
            endpoint: self.connection.endpoint.clone(),
            reason: "the stream ended".into(),
        }
    }
}

fn request(
    keys: &KeyRange,
    from: i64,
    token: &Token,
) -> Request<impl tokio_stream::Stream<Item = WatchRequest> + Send + 'static> {
    let create = WatchCreateRequest {
        key: keys.key.clone(),
        range_end: keys.end.clone(),
        start_revision: from,
        progress_notify: true,
    };
    let create = WatchRequest { request_union: Some(WatchRequestUnion::Create(create)) };
    // The stream of requests stays open as long as the watch is wanted.
    let mut request = Request::new(tokio_stream::once(create).chain(tokio_stream::pending()));
    token.authorise(&mut request);
    // A member that has lost its leader ends the watch instead of leaving it silent.
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    request
}
