//! Packets and the table, for people and for machines.

use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use overlay_wire::dissect::{Dissection, Outermost};
use serde::Serialize;

use crate::out::Out;
use crate::summary::{Amount, Row, Summary, fault};
use crate::{Options, Time};

/// Prints what is found, in the form that was asked for.
pub(crate) struct Reporter {
    form: Form,
    quiet: bool,
    time: Time,
    first: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Line,
    Tree,
    Json,
}

impl Reporter {
    pub(crate) const fn new(options: &Options) -> Self {
        let form = match (options.json, options.tree) {
            (true, _) => Form::Json,
            (false, true) => Form::Tree,
            (false, false) => Form::Line,
        };
        Self { form, quiet: options.quiet, time: options.time, first: None }
    }

    /// A packet, by its number in the capture.
    pub(crate) fn packet(
        &mut self,
        out: &mut Out<impl io::Write>,
        number: u64,
        time: Duration,
        packet: &Dissection<'_, '_>,
        tunnel: Option<&Outermost>,
    ) -> anyhow::Result<()> {
        if self.quiet {
            return Ok(());
        }
        let first = *self.first.get_or_insert(time);
        let stamp = match self.time {
            Time::None => String::new(),
            Time::Relative => relative(first, time),
            Time::Utc => utc(time),
        };
        match self.form {
            Form::Line if stamp.is_empty() => out.line(packet),
            Form::Line => out.line(format_args!("{stamp} {packet}")),
            Form::Tree => {
                let bytes = match packet.is_cut() {
                    true => format!("{} of {} bytes", packet.bytes().len(), packet.length()),
                    false => format!("{} bytes", packet.length()),
                };
                let comma = if stamp.is_empty() { "" } else { ", " };
                out.line(format_args!("packet {number}{comma}{stamp}: {bytes}"))?;
                for line in format!("{packet:#}").lines() {
                    out.line(format_args!("  {line}"))?;
                }
                Ok(())
            }
            Form::Json => {
                let fault = fault(packet);
                let object = JsonPacket {
                    packet: number,
                    time: format!("{}.{:09}", time.as_secs(), time.subsec_nanos()),
                    length: packet.length(),
                    captured: packet.bytes().len(),
                    malformed: fault.is_some(),
                    error: fault.or_else(|| packet.error().map(|error| error.to_string())),
                    text: packet.to_string(),
                    layers: packet.layers().map(|layer| layer.name()).collect(),
                    tunnel: tunnel.map(JsonTunnel::new),
                };
                out.line(serde_json::to_string(&object)?)
            }
        }
    }

    /// The end, after which `ok` says whether everything could be read.
    pub(crate) fn end(
        self,
        out: &mut Out<impl io::Write>,
        summary: &Summary,
        ok: bool,
    ) -> anyhow::Result<()> {
        match self.form {
            Form::Json => out.line(serde_json::to_string(&JsonEnd {
                ok,
                read: summary.read,
                skipped: summary.skipped,
                matched: summary.matched,
                cut: summary.cut,
                malformed: summary.malformed,
                lost: summary.lost,
                seen: summary.rows(),
                total: summary.total(),
            })?),
            Form::Line | Form::Tree => {
                if !self.quiet && summary.matched > 0 {
                    out.line("")?;
                }
                out.line(table(summary).trim_end())
            }
        }
    }
}

/// A packet as a line of JSON.
#[derive(Serialize)]
struct JsonPacket {
    /// Its number in the capture, from 1.
    packet: u64,
    /// Seconds since 1970, with nine decimals, which are more than a JSON number holds everywhere.
    time: String,
    /// Bytes on the wire and in the capture.
    length: usize,
    captured: usize,
    malformed: bool,
    /// In what it is malformed, or which header the capture has cut.
    error: Option<String>,
    text: String,
    layers: Vec<&'static str>,
    tunnel: Option<JsonTunnel>,
}

#[derive(Serialize)]
struct JsonTunnel {
    encapsulation: &'static str,
    src: IpAddr,
    dst: IpAddr,
    key: Option<u32>,
    bytes: usize,
    overhead_bytes: usize,
    inner_src: Option<IpAddr>,
    inner_dst: Option<IpAddr>,
}

impl JsonTunnel {
    fn new(tunnel: &Outermost) -> Self {
        Self {
            encapsulation: tunnel.encapsulation.name(),
            src: tunnel.src,
            dst: tunnel.dst,
            key: tunnel.key,
            bytes: tunnel.outer_len,
            overhead_bytes: tunnel.overhead(),
            inner_src: tunnel.inner.map(|(src, _)| src),
            inner_dst: tunnel.inner.map(|(_, dst)| dst),
        }
    }
}

/// The last line of JSON.
#[derive(Serialize)]
struct JsonEnd {
    ok: bool,
    read: u64,
    skipped: u64,
    matched: u64,
    cut: u64,
    malformed: u64,
    lost: u64,
    seen: Vec<Row>,
    total: Amount,
}

fn table(summary: &Summary) -> String {
    let mut text = String::new();
    let rows = summary.rows();
    if !rows.is_empty() {
        let heads = ["encapsulation", "outer", "vni/key", "packets", "bytes", "overhead", "share"];
        let mut cells = vec![heads.map(str::to_owned)];
        let dash = || "-".to_owned();
        let amount = |amount: &Amount| {
            [
                amount.packets.to_string(),
                amount.bytes.to_string(),
                amount.overhead_bytes.to_string(),
                format!("{:.1} %", amount.overhead_share * 100.0),
            ]
        };
        cells.extend(rows.iter().map(|row| {
            let outer = row.src.zip(row.dst).map(|(src, dst)| format!("{src} > {dst}"));
            let key = row.key.map(|key| key.to_string());
            let [packets, bytes, overhead, share] = amount(&row.amount);
            let (outer, key) = (outer.unwrap_or_else(dash), key.unwrap_or_else(dash));
            [row.encapsulation.to_owned(), outer, key, packets, bytes, overhead, share]
        }));
        let [packets, bytes, overhead, share] = amount(&summary.total());
        cells.push(["total".to_owned(), dash(), dash(), packets, bytes, overhead, share]);
        for row in &cells {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = cells.iter().map(|row| row[column].len()).max().unwrap_or_default();
                let _ = match column {
                    0 | 1 => write!(line, "{cell:<width$}  "),
                    _ => write!(line, "{cell:>width$}  "),
                };
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    let plural = if summary.read == 1 { "" } else { "s" };
    let _ = write!(text, "{} packet{plural}, {} shown", summary.read, summary.matched);
    for (count, what) in [
        (summary.skipped, "skipped"),
        (summary.cut, "cut by the capture"),
        (summary.malformed, "malformed"),
        (summary.lost, "lost by the kernel"),
    ] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    text
}

/// Seconds since the first packet; captures of several devices may go back a little.
fn relative(first: Duration, time: Duration) -> String {
    let (sign, since) = match time.checked_sub(first) {
        Some(since) => ("", since),
        None => ("-", first.saturating_sub(time)),
    };
    format!("{sign}{}.{:06}", since.as_secs(), since.subsec_micros())
}

/// Date and time of day since 1970, in the Gregorian calendar, without leap seconds.
fn utc(time: Duration) -> String {
    let seconds = time.as_secs();
    let (mut year, mut days) = (1970_u64, seconds / 86_400);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // The format of captures ends in the year 2106, or for pcapng somewhat later.
    days %= 146_097 * 100;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let [hour, minute, second] = [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60];
    let (day, micros) = (days + 1, time.subsec_micros());
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date() {
        // As `date -u -d @NUMBER` says.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000007Z"),
            (951_782_399, "2000-02-28T23:59:59.000007Z"),
            (951_782_400, "2000-02-29T00:00:00.000007Z"),
            (951_868_800, "2000-03-01T00:00:00.000007Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000007Z"),
            (4_294_967_295, "2106-02-07T06:28:15.000007Z"),
        ] {
            assert_eq!(utc(Duration::new(seconds, 7_000)), text);
        }
        assert!(utc(Duration::MAX).ends_with('Z'));
    }

    #[test]
    fn times_may_go_back() {
        let [early, late] = [Duration::from_micros(1_500_000), Duration::from_secs(3)];
        assert_eq!(relative(early, late), "1.500000");
        assert_eq!(relative(late, early), "-1.500000");
    }
}
