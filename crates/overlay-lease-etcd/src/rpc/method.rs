//! The calls, with their paths on the wire.

use prost::Message;

use super::messages::*;

/// A call with one request and one answer.
pub(super) trait Method {
    type Request: Message + Clone + 'static;
    type Answer: Message + Default + 'static;
    /// As errors call it.
    const NAME: &'static str;
    const PATH: &'static str;
    /// Whether sending it twice does what sending it once does, so that it may be repeated when
    /// the outcome is unknown.
    const REPEATABLE: bool;
}

macro_rules! methods {
    ($($method:ident: $request:ty => $answer:ty, $name:literal, $path:literal, $repeatable:literal;)*) => {
        $(
            pub(super) struct $method;

            impl Method for $method {
                type Request = $request;
                type Answer = $answer;
                const NAME: &'static str = $name;
                const PATH: &'static str = $path;
                const REPEATABLE: bool = $repeatable;
            }
        )*
    };
}

methods! {
    Range: RangeRequest => RangeResponse,
        "range", "/etcdserverpb.KV/Range", true;
    ReadTxn: TxnRequest => TxnResponse,
        "txn", "/etcdserverpb.KV/Txn", true;
    WriteTxn: TxnRequest => TxnResponse,
        "txn", "/etcdserverpb.KV/Txn", false;
    LeaseGrant: LeaseGrantRequest => LeaseGrantResponse,
        "lease grant", "/etcdserverpb.Lease/LeaseGrant", false;
    LeaseRevoke: LeaseRevokeRequest => LeaseRevokeResponse,
        "lease revoke", "/etcdserverpb.Lease/LeaseRevoke", false;
    LeaseTimeToLive: LeaseTimeToLiveRequest => LeaseTimeToLiveResponse,
        "lease time to live", "/etcdserverpb.Lease/LeaseTimeToLive", true;
    // A stream in both directions; one request and one answer are a stream, too.
    LeaseKeepAlive: LeaseKeepAliveRequest => LeaseKeepAliveResponse,
        "lease keep alive", "/etcdserverpb.Lease/LeaseKeepAlive", true;
    Authenticate: AuthenticateRequest => AuthenticateResponse,
        "authenticate", "/etcdserverpb.Auth/Authenticate", true;
}

/// The path of the watch stream.
pub(super) const WATCH: &str = "/etcdserverpb.Watch/Watch";
