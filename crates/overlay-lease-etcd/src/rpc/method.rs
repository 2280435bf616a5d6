//! The calls, with their paths on the wire.

use prost::Message;

use super::messages::*;

/// A call with one request and one answer. Sending it twice does no harm.
pub(super) trait Method {
    type Request: Message + Clone + 'static;
    type Answer: Message + Default + 'static;
    /// As errors call it.
    const NAME: &'static str;
    const PATH: &'static str;
}

macro_rules! methods {
    ($($method:ident: $request:ty => $answer:ty, $name:literal, $path:literal;)*) => {
        $(
            pub(super) struct $method;

            impl Method for $method {
                type Request = $request;
                type Answer = $answer;
                const NAME: &'static str = $name;
                const PATH: &'static str = $path;
            }
        )*
    };
}

methods! {
    Range: RangeRequest => RangeResponse,
        "range", "/etcdserverpb.KV/Range";
    Txn: TxnRequest => TxnResponse,
        "txn", "/etcdserverpb.KV/Txn";
    LeaseGrant: LeaseGrantRequest => LeaseGrantResponse,
        "lease grant", "/etcdserverpb.Lease/LeaseGrant";
    LeaseRevoke: LeaseRevokeRequest => LeaseRevokeResponse,
        "lease revoke", "/etcdserverpb.Lease/LeaseRevoke";
    LeaseTimeToLive: LeaseTimeToLiveRequest => LeaseTimeToLiveResponse,
        "lease time to live", "/etcdserverpb.Lease/LeaseTimeToLive";
    // A stream in both directions; one request and one answer are a stream, too.
    LeaseKeepAlive: LeaseKeepAliveRequest => LeaseKeepAliveResponse,
        "lease keep alive", "/etcdserverpb.Lease/LeaseKeepAlive";
    Authenticate: AuthenticateRequest => AuthenticateResponse,
        "authenticate", "/etcdserverpb.Auth/Authenticate";
}

/// The path of the watch stream.
pub(super) const WATCH: &str = "/etcdserverpb.Watch/Watch";
