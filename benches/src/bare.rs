//! The least that one can ask of etcd to have a key that goes away by itself.

use anyhow::Result;
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// A connection to etcd.
#[derive(Clone)]
pub(crate) struct Bare {
    grpc: Grpc<Channel>,
}

impl Bare {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        Ok(Self { grpc: Grpc::new(Endpoint::from_shared(url.to_owned())?.connect().await?) })
    }

    /// Writes the key under a lease of a day, if it is not there: two requests. Whether it was not there.
    pub(crate) async fn create(mut self, key: String, value: Vec<u8>) -> Result<bool> {
        let lease: Granted =
            self.call("/etcdserverpb.Lease/LeaseGrant", Grant { ttl: 86_400 }).await?;
        let put = Put { key: key.clone().into_bytes(), value, lease: lease.id };
        let txn = Txn {
            compare: vec![Compare {
                result: 0,
                target: 0,
                key: key.into_bytes(),
                version: Some(0),
            }],
            success: vec![Operation { put: Some(put) }],
        };
        let done: Done = self.call("/etcdserverpb.KV/Txn", txn).await?;
        Ok(done.succeeded)
    }

    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.grpc.ready().await?;
        let path = PathAndQuery::from_static(path);
        let answer = self
            .grpc
            .unary(tonic::Request::new(request), path, ProstCodec::<Q, A>::default())
            .await?;
        Ok(answer.into_inner())
    }
}

// As in etcd's rpc.proto, with the fields in use.

#[derive(Clone, PartialEq, Message)]
struct Grant {
    #[prost(int64, tag = "1")]
    ttl: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Granted {
    #[prost(int64, tag = "2")]
    id: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Txn {
    #[prost(message, repeated, tag = "1")]
    compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    success: Vec<Operation>,
}

/// `EQUAL` and `VERSION` are 0.
#[derive(Clone, PartialEq, Message)]
struct Compare {
    #[prost(int32, tag = "1")]
    result: i32,
    #[prost(int32, tag = "2")]
    target: i32,
    #[prost(bytes = "vec", tag = "3")]
    key: Vec<u8>,
    /// One of several, written even if it is 0.
    #[prost(int64, optional, tag = "4")]
    version: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Operation {
    #[prost(message, optional, tag = "2")]
    put: Option<Put>,
}

#[derive(Clone, PartialEq, Message)]
struct Put {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
    #[prost(int64, tag = "3")]
    lease: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Done {
    #[prost(bool, tag = "2")]
    succeeded: bool,
}
