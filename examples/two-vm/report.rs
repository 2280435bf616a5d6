//! What was found, for people and for machines.

use std::net::IpAddr;

use overlay_examples::{Pings, Seen, table};
use overlay_wire::IpVersion;
use serde::Serialize;

/// One backend with one family.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    backend: &'static str,
    family: &'static str,
    supported: bool,
    /// Why it is not supported.
    reason: Option<String>,
    pings_sent: u32,
    pings_received: u32,
    /// Microseconds.
    rtt_us_median: Option<f64>,
    /// The path MTU between the containers, in bytes.
    pub(crate) mtu: Option<u32>,
    /// An echo request and its reply as vm1 sees them on eth0.
    pub(crate) wire: Vec<Seen>,
    #[serde(skip)]
    pings: Pings,
    #[serde(skip)]
    lines: Vec<String>,
}

impl Row {
    pub(crate) fn new(backend: &'static str, version: IpVersion) -> Self {
        Self {
            backend,
            family: match version {
                IpVersion::V4 => "ipv4",
                IpVersion::V6 => "ipv6",
            },
            supported: true,
            reason: None,
            pings_sent: 0,
            pings_received: 0,
            rtt_us_median: None,
            mtu: None,
            wire: Vec::new(),
            pings: Pings::default(),
            lines: Vec::new(),
        }
    }

    pub(crate) fn unsupported(backend: &'static str, version: IpVersion, reason: String) -> Self {
        Self { supported: false, reason: Some(reason), ..Self::new(backend, version) }
    }

    pub(crate) fn add_ping(&mut self, from: &str, dst: IpAddr, pings: Pings) {
        self.lines.push(format!("ping {from} -> {dst}: {pings}"));
        self.pings.extend(pings);
        self.pings_sent = self.pings.sent;
        self.pings_received = self.pings.received;
        self.rtt_us_median = self.pings.median().map(|rtt| rtt.as_secs_f64() * 1e6);
    }

    /// Whether it is not supported, or all pings were answered.
    pub(crate) const fn is_ok(&self) -> bool {
        !self.supported || self.pings.all_answered()
    }

    /// What was seen, a line each.
    pub(crate) fn summary(&self) -> String {
        if let Some(reason) = &self.reason {
            return format!("not possible: {reason}");
        }
        let mut lines = self.lines.clone();
        lines.extend(self.wire.iter().map(captured));
        lines.extend(self.mtu.map(|mtu| format!("path MTU {mtu} bytes")));
        lines.join("\n")
    }

    fn cells(&self) -> [String; 6] {
        let dash = || "-".to_owned();
        [
            self.backend.to_owned(),
            self.family.to_owned(),
            self.wire.first().map_or_else(dash, |packet| packet.headers.clone()),
            match self.supported {
                true => format!("{}/{}", self.pings_received, self.pings_sent),
                false => "no".to_owned(),
            },
            self.rtt_us_median.map_or_else(dash, |us| format!("{:.1} ms", us / 1e3)),
            self.mtu.map_or_else(dash, |mtu| mtu.to_string()),
        ]
    }
}

/// A packet as the article shows it: at the time tcpdump said of an IPv4 packet in another which protocol that is.
fn captured(Seen { text, headers }: &Seen) -> String {
    let note = if headers.starts_with("IPv4/IPv4/") { " (ipip-proto-4)" } else { "" };
    format!("vm1 eth0: {text}{note}")
}

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether every supported backend answered every ping.
    ok: bool,
    /// The release of the machines' kernel.
    kernel: String,
    /// How long both machines took to boot.
    boot_seconds: f64,
    /// The bare underlay, host to host.
    direct: Vec<Row>,
    backends: Vec<Row>,
}

impl Report {
    pub(crate) const fn new(kernel: String, boot_seconds: f64) -> Self {
        Self { ok: false, kernel, boot_seconds, direct: Vec::new(), backends: Vec::new() }
    }

    pub(crate) fn push_direct(&mut self, row: Row) {
        self.direct.push(row);
        self.judge();
    }

    pub(crate) fn push(&mut self, row: Row) {
        self.backends.push(row);
        self.judge();
    }

    fn judge(&mut self) {
        let mut supported = self.backends.iter().filter(|row| row.supported).peekable();
        // A run in which nothing could be shown shows nothing.
        self.ok = supported.peek().is_some() && self.rows().all(Row::is_ok);
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.direct.iter().chain(&self.backends)
    }

    pub(crate) const fn is_ok(&self) -> bool {
        self.ok
    }

    pub(crate) fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    pub(crate) fn table(&self) -> String {
        let mut rows: Vec<&Row> = self.rows().collect();
        rows.sort_by_key(|row| row.family);
        let heads = ["backend", "family", "on the wire", "pings", "rtt median", "path MTU"];
        let mut cells = vec![heads.map(str::to_owned)];
        cells.extend(rows.iter().map(|row| row.cells()));
        let mut text = table(&cells, 3);
        for Row { backend, family, reason, .. } in rows {
            if let Some(reason) = reason {
                text.push_str(&format!("{backend} {family}: {reason}\n"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pings(sent: u32, received: u32) -> Pings {
        Pings { sent, received, ..Pings::default() }
    }

    fn row(sent: u32, received: u32) -> Row {
        let mut row = Row::new("vxlan", IpVersion::V4);
        row.add_ping("ns245", [172, 246, 0, 2].into(), pings(sent, received));
        row
    }

    #[test]
    fn a_report_is_good_if_something_was_shown_and_no_ping_lost() {
        let no = || Row::unsupported("ipip", IpVersion::V4, "no module".to_owned());
        let ok = |rows: Vec<Row>| {
            let mut report = Report::new("6.1".to_owned(), 1.0);
            rows.into_iter().for_each(|row| report.push(row));
            report.is_ok()
        };
        assert!(ok(vec![row(5, 5), no()]));
        assert!(!ok(vec![row(5, 5), row(5, 4)]));
        assert!(!ok(vec![row(0, 0)]));
        assert!(!ok(vec![no()]));
        assert!(!ok(Vec::new()));
    }

    #[test]
    fn an_ipv4_packet_in_another_is_marked_as_in_the_article() {
        let seen = |headers: &str| Seen { text: "IP".to_owned(), headers: headers.to_owned() };
        assert_eq!(captured(&seen("IPv4/IPv4/ICMP")), "vm1 eth0: IP (ipip-proto-4)");
        assert_eq!(captured(&seen("IPv4/ICMP")), "vm1 eth0: IP");
        assert_eq!(captured(&seen("IPv6/IPv6/ICMPv6")), "vm1 eth0: IP");
    }
}
