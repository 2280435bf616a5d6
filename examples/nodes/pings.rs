//! A few pings and what came of them.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use overlay_lab::{Host, PingRequest, ping};
use serde::{Deserialize, Serialize};

/// What came of pings.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pings {
    /// Requests that were sent.
    pub sent: u32,
    /// Requests that were answered.
    pub received: u32,
    /// From each request to its answer.
    pub rtts: Vec<Duration>,
    /// The TTL or hop limit of the last answer.
    pub ttl: Option<u8>,
    /// What else was answered.
    pub errors: Vec<String>,
}

impl Pings {
    /// Pings five times.
    ///
    /// # Errors
    ///
    /// When the host cannot send at all.
    pub fn send(from: &Host, dst: IpAddr) -> anyhow::Result<Self> {
        let request = PingRequest::to(dst)
            .count(5)
            .interval(Duration::from_millis(10))
            .timeout(Duration::from_secs(2));
        let report = ping(from, &request)?;
        Ok(Self {
            sent: report.sent,
            received: report.received,
            rtts: report.replies.iter().map(|reply| reply.rtt).collect(),
            ttl: report.replies.last().map(|reply| reply.ttl),
            errors: report.errors.iter().map(ToString::to_string).collect(),
        })
    }

    /// Adds others.
    pub fn extend(&mut self, others: Self) {
        self.sent += others.sent;
        self.received += others.received;
        self.rtts.extend(others.rtts);
        self.ttl = others.ttl.or(self.ttl);
        self.errors.extend(others.errors);
    }

    /// The time in the middle.
    #[must_use]
    pub fn median(&self) -> Option<Duration> {
        let mut rtts = self.rtts.clone();
        rtts.sort_unstable();
        rtts.get(rtts.len() / 2).copied()
    }

    /// Whether some were sent, and each was answered.
    #[must_use]
    pub const fn all_answered(&self) -> bool {
        self.sent > 0 && self.received == self.sent
    }
}

impl fmt::Display for Pings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.received, self.sent)?;
        if let Some(ttl) = self.ttl {
            write!(f, ", ttl {ttl}")?;
        }
        if let Some(rtt) = self.median() {
            write!(f, ", median {:.3} ms", rtt.as_secs_f64() * 1e3)?;
        }
        self.errors.iter().try_for_each(|error| write!(f, "; {error}"))
    }
}
