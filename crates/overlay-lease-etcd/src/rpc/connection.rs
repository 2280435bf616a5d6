//! One connection at a time, to the first member that can be reached.

use std::time::Instant;

use tokio::sync::Mutex;
use tokio::time::timeout;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint as Transport, Identity};

use crate::{EtcdOptions, EtcdUrl, OptionsError, RequestError};

/// The members, and the connection to one of them.
pub(super) struct Connections {
    members: Vec<Member>,
    state: Mutex<State>,
}

struct Member {
    endpoint: EtcdUrl,
    transport: Transport,
}

#[derive(Default)]
struct State {
    current: Option<Connection>,
    /// Which member is tried first when there is no connection.
    next: usize,
    /// How many connections there have been.
    made: u64,
    /// The last time that no member could be reached.
    failed: Option<(Instant, Vec<(EtcdUrl, String)>)>,
}

/// A connection to a member. Clones share it.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) endpoint: EtcdUrl,
    pub(super) channel: Channel,
    member: usize,
    number: u64,
}

impl Connections {
    pub(super) fn new(options: &EtcdOptions) -> Result<Self, OptionsError> {
        let member = |endpoint: &EtcdUrl| {
            let transport = transport(endpoint, options)?;
            Ok(Member { endpoint: endpoint.clone(), transport })
        };
        let members: Result<_, OptionsError> = options.endpoints.iter().map(member).collect();
        Ok(Self { members: members?, state: Mutex::default() })
    }

    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// The present connection, or a new one to the first member that answers.
    ///
    /// Callers that come while somebody is connecting share what comes of it, failure included:
    /// otherwise each of many would wait for the time-outs of all before it.
    pub(super) async fn get(
        &self,
        operation: &'static str,
        options: &EtcdOptions,
    ) -> Result<Connection, RequestError> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.current {
            return Ok(connection.clone());
        }
        if let Some((at, failures)) = &state.failed
            && *at >= asked
        {
            return Err(RequestError::Unreachable { operation, failures: failures.clone() });
        }
        let mut failures = Vec::new();
        for (index, member) in self.from(state.next) {
            // The time-out of the transport is for the TCP connection only; TLS comes on top.
            let reason = match timeout(options.connect_timeout, member.transport.connect()).await {
                Ok(Ok(channel)) => {
                    state.made += 1;
                    let connection = Connection {
                        endpoint: member.endpoint.clone(),
                        channel,
                        member: index,
                        number: state.made,
                    };
                    state.current = Some(connection.clone());
                    return Ok(connection);
                }
                Ok(Err(error)) => innermost(&error),
                Err(_) => format!("no connection within {:?}", options.connect_timeout),
            };
            failures.push((member.endpoint.clone(), reason));
        }
        state.failed = Some((Instant::now(), failures.clone()));
        Err(RequestError::Unreachable { operation, failures })
    }

    /// No longer uses this connection; the next one begins with the next member.
    pub(super) async fn give_up(&self, connection: &Connection) {
        let mut state = self.state.lock().await;
        if state.current.as_ref().is_some_and(|current| current.number == connection.number) {
            state.current = None;
            state.next = connection.member + 1;
        }
    }

    /// All members once around, beginning with this one.
    fn from(&self, first: usize) -> impl Iterator<Item = (usize, &Member)> {
        let members = self.members.iter().enumerate().cycle();
        members.skip(first % self.members.len().max(1)).take(self.members.len())
    }
}

fn transport(endpoint: &EtcdUrl, options: &EtcdOptions) -> Result<Transport, OptionsError> {
    let refused = |error: tonic::transport::Error| OptionsError::Tls {
        endpoint: endpoint.clone(),
        reason: innermost(&error),
    };
    let transport = Transport::from_shared(endpoint.to_string())
        .map_err(refused)?
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        // etcd hangs up on clients that ask for signs of life with no stream open.
        .keep_alive_while_idle(false);
    if !endpoint.tls() {
        return Ok(transport);
    }
    let Some(tls) = &options.tls else {
        return Err(OptionsError::NoAuthority { endpoint: endpoint.clone() });
    };
    let name = tls.server_name.clone().unwrap_or_else(|| endpoint.server_name());
    let mut config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&tls.authorities))
        .domain_name(name);
    if let Some((certificate, key)) = &tls.identity {
        config = config.identity(Identity::from_pem(certificate, key));
    }
    transport.tls_config(config).map_err(refused)
}

/// The last cause in the chain, which says more than "transport error".
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
