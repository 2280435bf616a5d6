//! Calls with one answer: retried where that is safe, authenticated, limited in time, counted.

use std::error::Error as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use http::uri::PathAndQuery;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::codec::{Encoded, EncodedCodec};
use super::connection::{Connection, Connections, innermost};
use super::messages::*;
use super::method::{self, Method};
use super::txn::{KeyRange, Txn, TxnAnswer};
use crate::{EtcdOptions, OptionsError, RequestError};

/// How large an answer may be: a page of leases takes some 5 MB, unless they say much of themselves.
const MAX_ANSWER: usize = 256 << 20;

/// A client. Clones share connection, token and counter.
#[derive(Clone)]
pub(crate) struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    options: EtcdOptions,
    connections: Connections,
    token: Mutex<Token>,
    requests: AtomicU64,
    /// The highest revision in an answer to a transaction.
    seen: AtomicI64,
}

/// What etcd gave us for the password.
#[derive(Clone, Default)]
pub(super) struct Token {
    /// How many there have been, so that of many calls that are refused only one asks for another.
    number: u64,
    value: Option<MetadataValue<Ascii>>,
}

impl Token {
    pub(super) fn is_some(&self) -> bool {
        self.value.is_some()
    }

    pub(super) fn authorise<T>(&self, request: &mut Request<T>) {
        if let Some(value) = &self.value {
            request.metadata_mut().insert("token", value.clone());
        }
    }
}

/// Why a call failed, before it is known what to do about it.
pub(super) enum Failure {
    /// The token is not, or no longer, good. Nothing has happened.
    Token(RequestError),
    Other(RequestError),
}

impl From<Failure> for RequestError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Token(error) | Failure::Other(error) => error,
        }
    }
}

impl Client {
    pub(crate) fn new(options: &EtcdOptions) -> Result<Self, OptionsError> {
        options.validate()?;
        let shared = Shared {
            options: options.clone(),
            connections: Connections::new(options)?,
            token: Mutex::default(),
            requests: AtomicU64::new(0),
            seen: AtomicI64::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(crate) fn options(&self) -> &EtcdOptions {
        &self.shared.options
    }

    /// How many requests have been sent so far, opened watches and authentication included.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    pub(crate) async fn range(
        &self,
        keys: KeyRange,
        limit: i64,
        revision: i64,
    ) -> Result<RangeResponse, RequestError> {
        let KeyRange { key, end: range_end, .. } = keys;
        let request = RangeRequest { key, range_end, limit, revision, serializable: false };
        let answer = self.call::<method::Range>(request).await;
        answer.map_err(|error| match error {
            RequestError::Refused { operation, message, .. } if message.contains("compacted") => {
                RequestError::Compacted { operation, revision }
            }
            error => error,
        })
    }

    /// Where the outcome is unknown, the transaction is sent again: its comparisons must be such that its effect
    /// happens once, and [`TxnAnswer::repeated`] says that they may have failed because it has.
    pub(crate) async fn txn(&self, txn: Txn) -> Result<TxnAnswer, RequestError> {
        self.send(&txn).await
    }

    /// A transaction that only reads, answered with what one member has, unless this client has seen later things: then with
    /// what all have. So it sees its own writes, and whatever an answer has told it; of what others write it may hear a moment
    /// late, as it may of any answer that was on its way.
    pub(super) async fn glance(&self, txn: Txn) -> Result<TxnAnswer, RequestError> {
        let seen = self.shared.seen.load(Ordering::Relaxed);
        let txn = txn.at_once(true);
        let answer = self.send(&txn).await?;
        if answer.revision >= seen { Ok(answer) } else { self.send(&txn.at_once(false)).await }
    }

    async fn send(&self, txn: &Txn) -> Result<TxnAnswer, RequestError> {
        let (answer, repeated) = self.repeat::<method::Txn>(txn.request()).await?;
        let answer = TxnAnswer::new(answer, repeated);
        self.shared.seen.fetch_max(answer.revision, Ordering::Relaxed);
        Ok(answer)
    }

    /// A new lease of so many seconds, at least: etcd may have a higher minimum.
    ///
    /// When an answer is lost, there may be one more that nobody uses. It goes after its time.
    pub(crate) async fn grant(&self, ttl: i64) -> Result<LeaseGrantResponse, RequestError> {
        self.call::<method::LeaseGrant>(LeaseGrantRequest { ttl, id: 0 }).await
    }

    pub(crate) async fn revoke(&self, id: i64) -> Result<(), RequestError> {
        self.call::<method::LeaseRevoke>(LeaseRevokeRequest { id }).await.map(drop)
    }

    /// Begins the lease's term anew: its seconds from now on, 0 if there is no such lease.
    pub(crate) async fn keep_alive(&self, id: i64) -> Result<i64, RequestError> {
        let answer = self.call::<method::LeaseKeepAlive>(LeaseKeepAliveRequest { id }).await?;
        Ok(answer.ttl)
    }

    pub(crate) async fn time_to_live(
        &self,
        id: i64,
    ) -> Result<LeaseTimeToLiveResponse, RequestError> {
        self.call::<method::LeaseTimeToLive>(LeaseTimeToLiveRequest { id }).await
    }

    async fn call<M: Method>(&self, request: M::Request) -> Result<M::Answer, RequestError> {
        self.repeat::<M>(&request).await.map(|(answer, _)| answer)
    }

    /// Sends the request until its outcome is known, but not forever. Also tells whether it was sent more than once.
    async fn repeat<M: Method>(
        &self,
        request: &M::Request,
    ) -> Result<(M::Answer, bool), RequestError> {
        let request = Encoded::new(request);
        // One more than there are members: the first attempt may use a connection that broke long ago.
        let mut left = self.shared.connections.members();
        let mut unknown = None;
        let mut renewed = false;
        loop {
            let token = self.token(None).await?;
            let (used, result) = match self.attempt::<M>(request.clone(), &token).await {
                Ok(sent) => sent,
                Err(unreachable) => return Err(unknown.unwrap_or(unreachable)),
            };
            match result {
                Ok(answer) => return Ok((answer, unknown.is_some())),
                Err(Failure::Token(_)) if !renewed => {
                    renewed = true;
                    self.token(Some(&token)).await?;
                }
                Err(Failure::Other(error)) if error.outcome_unknown() => {
                    self.shared.connections.give_up(&used).await;
                    if left == 0 {
                        return Err(error);
                    }
                    left -= 1;
                    unknown = Some(error);
                }
                // What is refused now may have been done before.
                Err(refused) => return Err(unknown.unwrap_or_else(|| refused.into())),
            }
        }
    }

    /// Sends the request once. The error is that no member could be reached.
    async fn attempt<M: Method>(
        &self,
        request: Encoded,
        token: &Token,
    ) -> Result<(Connection, Result<M::Answer, Failure>), RequestError> {
        let connection = self.connection(M::NAME).await?;
        let after = self.shared.options.request_timeout;
        let mut request = Request::new(request);
        token.authorise(&mut request);
        let mut grpc = grpc(&connection);
        let answer = async {
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            self.count();
            let codec = EncodedCodec::<M::Answer>::default();
            grpc.unary(request, PathAndQuery::from_static(M::PATH), codec).await
        };
        // Pinned here, since it is large and would be moved to the timer.
        let result = match timeout(after, pin!(answer)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(judge(M::NAME, &connection, &status)),
            Err(_) => {
                let endpoint = connection.endpoint.clone();
                Err(Failure::Other(RequestError::TimedOut { operation: M::NAME, endpoint, after }))
            }
        };
        Ok((connection, result))
    }

    pub(super) async fn connection(
        &self,
        operation: &'static str,
    ) -> Result<Connection, RequestError> {
        self.shared.connections.get(operation, &self.shared.options).await
    }

    pub(super) async fn give_up(&self, connection: &Connection) {
        self.shared.connections.give_up(connection).await;
    }

    pub(super) fn count(&self) {
        self.shared.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// The token, or, if it is the one that was refused, another one.
    pub(super) async fn token(&self, refused: Option<&Token>) -> Result<Token, RequestError> {
        let Some(credentials) = &self.shared.options.credentials else {
            return Ok(Token::default());
        };
        let mut token = self.shared.token.lock().await;
        if token.number != 0 && refused.is_none_or(|refused| refused.number != token.number) {
            return Ok(token.clone());
        }
        let request = Encoded::new(&AuthenticateRequest {
            name: credentials.user.clone(),
            password: credentials.password.reveal().to_owned(),
        });
        let mut left = self.shared.connections.members();
        loop {
            let none = Token::default();
            let (used, result) =
                self.attempt::<method::Authenticate>(request.clone(), &none).await?;
            let value = match result {
                Ok(answer) => {
                    let mut value = MetadataValue::try_from(answer.token).map_err(|_| {
                        RequestError::Answer {
                            operation: method::Authenticate::NAME,
                            endpoint: used.endpoint.clone(),
                            problem: "the token does not fit into a header",
                        }
                    })?;
                    value.set_sensitive(true);
                    Some(value)
                }
                // Nobody asks for a password there; then none is needed.
                Err(Failure::Other(RequestError::Refused { message, .. }))
                    if message.contains("authentication is not enabled") =>
                {
                    None
                }
                Err(Failure::Other(error)) if error.outcome_unknown() && left > 0 => {
                    self.shared.connections.give_up(&used).await;
                    left -= 1;
                    continue;
                }
                Err(failure) => return Err(failure.into()),
            };
            *token = Token { number: token.number + 1, value };
            return Ok(token.clone());
        }
    }
}

/// What calls are made with on this connection.
pub(super) fn grpc(connection: &Connection) -> Grpc<Channel> {
    Grpc::new(connection.channel.clone()).max_decoding_message_size(MAX_ANSWER)
}

/// Whether etcd says that it does not, or no longer, take the token, or that there should be one by now.
pub(super) fn is_stale(message: &str) -> bool {
    ["invalid auth token", "revision of auth store is old", "user name is empty"]
        .iter()
        .any(|words| message.contains(words))
}

/// What a status says about what has happened.
pub(super) fn judge(operation: &'static str, connection: &Connection, status: &Status) -> Failure {
    let endpoint = connection.endpoint.clone();
    let message = match status.source() {
        Some(source) => innermost(source),
        None => status.message().to_owned(),
    };
    match status.code() {
        Code::Unavailable
        | Code::Unknown
        | Code::Internal
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Aborted => {
            Failure::Other(RequestError::Interrupted { operation, endpoint, reason: message })
        }
        code => {
            let stale =
                ["invalid auth token", "revision of auth store is old", "user name is empty"]
                    .iter()
                    .any(|words| message.contains(words));
            let code = format!("{code:?}");
            let error = RequestError::Refused { operation, endpoint, code, message };
            if stale { Failure::Token(error) } else { Failure::Other(error) }
        }
    }
}
