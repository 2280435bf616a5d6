//! What was found, for people and for machines.

use std::fmt::Write;
use std::net::IpAddr;

use overlay_examples::{Pings, table};
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
    /// An echo request and its reply as they cross the underlay, as tcpdump would print them.
    pub(crate) wire: Vec<String>,
    /// The path MTU between the containers, in bytes.
    pub(crate) mtu: Option<u32>,
    /// One TCP flow between the containers, in bits per second.
    throughput_bps: Option<f64>,
    /// What the bare underlay carried right before, in bits per second.
    direct_bps: Option<f64>,
    /// The throughput as a part of that.
    relative_to_direct: Option<f64>,
    #[serde(skip)]
    pings: Pings,
    #[serde(skip)]
    lines: Vec<String>,
}

impl Row {
    pub(crate) fn supported(backend: &'static str, version: IpVersion) -> Self {
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
            wire: Vec::new(),
            mtu: None,
            throughput_bps: None,
            direct_bps: None,
            relative_to_direct: None,
            pings: Pings::default(),
            lines: Vec::new(),
        }
    }

    pub(crate) fn unsupported(backend: &'static str, version: IpVersion, reason: String) -> Self {
        Self { supported: false, reason: Some(reason), ..Self::supported(backend, version) }
    }

    pub(crate) fn add_ping(&mut self, from: &str, dst: IpAddr, pings: Pings) {
        self.lines.push(format!("ping {from} -> {dst}: {pings}"));
        self.pings.extend(pings);
        self.pings_sent = self.pings.sent;
        self.pings_received = self.pings.received;
        self.rtt_us_median = self.pings.median().map(|rtt| rtt.as_secs_f64() * 1e6);
    }

    pub(crate) const fn throughput(&mut self, bits_per_second: f64) {
        self.throughput_bps = Some(bits_per_second);
    }

    /// Compares its throughput with that of the bare underlay.
    pub(crate) fn relative_to(&mut self, direct: f64) {
        self.direct_bps = Some(direct);
        self.relative_to_direct = self.throughput_bps.map(|rate| rate / direct);
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
        lines.extend(self.wire.iter().map(|packet| format!("on the wire: {packet}")));
        if let (Some(mtu), Some(rate)) = (self.mtu, self.throughput_bps) {
            let mut line = format!("path MTU {mtu} bytes, TCP {}", gigabits(rate));
            if let Some(direct) = self.direct_bps {
                let _ = write!(line, ", directly {} right before", gigabits(direct));
            }
            lines.push(line);
        }
        lines.join("\n")
    }
}

fn gigabits(bits_per_second: f64) -> String {
    format!("{:.1} Gbit/s", bits_per_second / 1e9)
}

/// Everything that was found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Whether every supported backend answered every ping.
    ok: bool,
    /// The bare underlay, host to host.
    pub(crate) direct: Vec<Row>,
    backends: Vec<Row>,
}

impl Report {
    pub(crate) fn push(&mut self, row: Row) {
        self.backends.push(row);
        self.ok = self.is_ok();
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.direct.iter().chain(&self.backends).all(Row::is_ok)
    }

    pub(crate) fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    pub(crate) fn table(&self) -> String {
        let mut cells = vec![
            ["backend", "family", "pings", "rtt median", "path MTU", "TCP", "of direct"]
                .map(str::to_owned),
        ];
        let mut notes = Vec::new();
        let mut rows: Vec<&Row> = self.direct.iter().chain(&self.backends).collect();
        rows.sort_by_key(|row| row.family);
        for row in rows {
            let dash = || "-".to_owned();
            if let Some(reason) = &row.reason {
                notes.push(format!("{} {}: {reason}", row.backend, row.family));
            }
            cells.push([
                row.backend.to_owned(),
                row.family.to_owned(),
                if row.supported {
                    format!("{}/{}", row.pings_received, row.pings_sent)
                } else {
                    "no".to_owned()
                },
                row.rtt_us_median.map_or_else(dash, |us| format!("{:.3} ms", us / 1e3)),
                row.mtu.map_or_else(dash, |mtu| mtu.to_string()),
                row.throughput_bps.map_or_else(dash, gigabits),
                match row.relative_to_direct {
                    _ if row.backend == "direct" => "100 %".to_owned(),
                    Some(part) => format!("{:.0} %", part * 100.0),
                    None => dash(),
                },
            ]);
        }
        let mut table = table(&cells, 2);
        for note in notes {
            let _ = writeln!(table, "{note}");
        }
        table
    }
}
