//! What can be wrong with the options, and what can go wrong between this process and etcd.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use overlay_lease::NetworkName;

use crate::EtcdUrl;

/// What is wrong with the options. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// There is nobody to talk to.
    #[error("no etcd endpoint given; one looks like https://HOST:2379")]
    NoEndpoint,

    /// Not a client URL of etcd.
    #[error(
        "etcd endpoint {endpoint}: {problem}; right would be https://HOST:2379 or http://HOST:2379"
    )]
    Endpoint {
        /// What was given, without user and password.
        endpoint: String,
        /// What is wrong about it.
        problem: &'static str,
    },

    /// No key can begin like this.
    #[error(
        "etcd prefix {prefix:?}: a prefix begins with a slash, does not end with one, and has no empty part"
    )]
    Prefix {
        /// What was given.
        prefix: String,
    },

    /// Keys of this network would be taken for something else.
    #[error("network {network}: the name is used for something else next to it in etcd")]
    Network {
        /// The name.
        network: NetworkName,
    },

    /// An encrypted connection needs somebody to trust.
    #[error("etcd endpoint {endpoint}: https needs the certificate of an authority to trust")]
    NoAuthority {
        /// The endpoint.
        endpoint: EtcdUrl,
    },

    /// Everybody on the way could read the password.
    #[error(
        "etcd endpoint {endpoint}: a password would go over the network in clear text; use https"
    )]
    CleartextPassword {
        /// The endpoint.
        endpoint: EtcdUrl,
    },

    /// A certificate or key that is none.
    #[error("{what}: there is no PEM block {label} in it")]
    Pem {
        /// Of which option.
        what: &'static str,
        /// How the block would begin.
        label: &'static str,
    },

    /// A file that cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },

    /// Certificates and key that TLS does not accept.
    #[error("TLS for etcd endpoint {endpoint}: {reason}")]
    Tls {
        /// The endpoint.
        endpoint: EtcdUrl,
        /// What the TLS library says.
        reason: String,
    },
}

/// What went wrong between this process and etcd.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No member could be reached. The request was not sent.
    #[error("etcd {operation}: no member can be reached: {}", Listed(.failures))]
    Unreachable {
        /// What was to be done, by the name it has in etcd's API.
        operation: &'static str,
        /// What happened at each member.
        failures: Vec<(EtcdUrl, String)>,
    },

    /// The connection broke, or the member could not get its peers to agree. It is not known whether the request has
    /// been, or will be, carried out.
    #[error("etcd {operation} at {endpoint}: interrupted, outcome unknown: {reason}")]
    Interrupted {
        /// What was to be done, by the name it has in etcd's API.
        operation: &'static str,
        /// Where.
        endpoint: EtcdUrl,
        /// What the connection or the member says.
        reason: String,
    },

    /// No answer in time. It is not known whether the request has been, or will be, carried out.
    #[error("etcd {operation} at {endpoint}: no answer within {after:?}, outcome unknown")]
    TimedOut {
        /// What was to be done, by the name it has in etcd's API.
        operation: &'static str,
        /// Where.
        endpoint: EtcdUrl,
        /// How long it was waited for.
        after: Duration,
    },

    /// etcd said no. Nothing has happened.
    #[error("etcd {operation} at {endpoint}: refused: {message} ({code})")]
    Refused {
        /// What was to be done, by the name it has in etcd's API.
        operation: &'static str,
        /// Where.
        endpoint: EtcdUrl,
        /// The gRPC status code by name.
        code: String,
        /// etcd's own words.
        message: String,
    },

    /// An answer that does not fit the question.
    #[error("etcd {operation} at {endpoint}: the answer makes no sense: {problem}")]
    Answer {
        /// What was to be done, by the name it has in etcd's API.
        operation: &'static str,
        /// Where.
        endpoint: EtcdUrl,
        /// What is wrong about it.
        problem: &'static str,
    },

    /// The history that was asked for has been compacted away.
    #[error("etcd {operation}: revision {revision} has been compacted")]
    Compacted {
        /// What was to be done, by the name it has in etcd's API.
        operation: &'static str,
        /// The revision that is no longer there.
        revision: i64,
    },
}

impl RequestError {
    /// Whether the request may have been carried out although it failed.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Interrupted { .. } | Self::TimedOut { .. } | Self::Answer { .. })
    }
}

struct Listed<'a>(&'a [(EtcdUrl, String)]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (endpoint, reason)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{endpoint}: {reason}")?;
        }
        Ok(())
    }
}
