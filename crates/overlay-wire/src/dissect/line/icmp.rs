//! What ICMP messages say, in tcpdump's words.

use core::fmt::{self, Display, Formatter};

use crate::icmpv4::{Icmpv4Header, Icmpv4Packet, Icmpv4Unreachable};
use crate::icmpv6::{Icmpv6Header, Icmpv6Packet, Icmpv6Unreachable};
use crate::ip::{IpProtocol, UpperLayer};
use crate::ipv4::Ipv4Packet;
use crate::ipv6::Ipv6Packet;
use crate::ndp::{self, NeighbourMessage, NeighbourPacket};

/// Tells where a message is about a packet that it does not quote as far as it should.
const CUT: &str = "[|icmp]";

pub(super) fn v4(f: &mut Formatter<'_>, packet: &Icmpv4Packet<'_>, length: usize) -> fmt::Result {
    f.write_str("ICMP ")?;
    let about = Ipv4Packet::parse_cut(packet.payload()).ok();
    let dst = about.map(|about| about.dst());
    match packet.header() {
        Icmpv4Header::EchoRequest { identifier, sequence } => {
            write!(f, "echo request, id {identifier}, seq {sequence}")?;
        }
        Icmpv4Header::EchoReply { identifier, sequence } => {
            write!(f, "echo reply, id {identifier}, seq {sequence}")?;
        }
        Icmpv4Header::TimeExceeded { code } => match code {
            0 => f.write_str("time exceeded in-transit")?,
            1 => f.write_str("ip reassembly time exceeded")?,
            code => write!(f, "time exceeded-#{code}")?,
        },
        Icmpv4Header::ParameterProblem { code, pointer } => match code {
            0 => write!(f, "parameter problem - octet {pointer}")?,
            code => write!(f, "parameter problem - code {code}")?,
        },
        Icmpv4Header::DestinationUnreachable { code } => {
            let Some(about) = about else { return f.write_str(CUT) };
            v4_unreachable(f, code, &about)?;
        }
        Icmpv4Header::FragmentationNeeded { mtu } => {
            or_cut(f, dst)?;
            f.write_str(" unreachable - need to frag")?;
            if mtu > 0 {
                write!(f, " (mtu {mtu})")?;
            }
        }
        Icmpv4Header::Redirect { code, gateway } => {
            f.write_str(if code < 2 { "redirect " } else { "redirect-tos " })?;
            or_cut(f, dst)?;
            write!(f, " to {} {gateway}", if code % 2 == 0 { "net" } else { "host" })?;
        }
        Icmpv4Header::Other { kind, .. } => write!(f, "type-#{kind}")?,
    }
    write!(f, ", length {length}")
}

fn v4_unreachable(
    f: &mut Formatter<'_>,
    code: Icmpv4Unreachable,
    about: &Ipv4Packet<'_>,
) -> fmt::Result {
    let dst = about.dst();
    match code.0 {
        0 => write!(f, "net {dst} unreachable"),
        1 => write!(f, "host {dst} unreachable"),
        2 => write!(f, "{dst} protocol {} unreachable", about.protocol().0),
        3 => {
            write!(f, "{dst} ")?;
            port(f, about.upper_layer().ok())?;
            f.write_str(" unreachable")
        }
        5 => write!(f, "{dst} unreachable - source route failed"),
        6 => write!(f, "net {dst} unreachable - unknown"),
        7 => write!(f, "host {dst} unreachable - unknown"),
        8 => write!(f, "{dst} unreachable - source host isolated"),
        9 => write!(f, "net {dst} unreachable - admin prohibited"),
        10 => write!(f, "host {dst} unreachable - admin prohibited"),
        11 => write!(f, "net {dst} unreachable - tos prohibited"),
        12 => write!(f, "host {dst} unreachable - tos prohibited"),
        13 => write!(f, "host {dst} unreachable - admin prohibited filter"),
        14 => write!(f, "host {dst} unreachable - host precedence violation"),
        15 => write!(f, "host {dst} unreachable - precedence cutoff"),
        other => write!(f, "{dst} unreachable - #{other}"),
    }
}

pub(super) fn v6(
    f: &mut Formatter<'_>,
    packet: &Icmpv6Packet<'_>,
    bytes: &[u8],
    length: usize,
) -> fmt::Result {
    f.write_str("ICMP6, ")?;
    let about = Ipv6Packet::parse_cut(packet.payload()).ok();
    let dst = about.map(|about| about.dst());
    match packet.header() {
        Icmpv6Header::EchoRequest { identifier, sequence } => {
            write!(f, "echo request, id {identifier}, seq {sequence}")?;
        }
        Icmpv6Header::EchoReply { identifier, sequence } => {
            write!(f, "echo reply, id {identifier}, seq {sequence}")?;
        }
        Icmpv6Header::PacketTooBig { mtu } => write!(f, "packet too big, mtu {mtu}")?,
        Icmpv6Header::DestinationUnreachable { code } => {
            f.write_str("destination unreachable, ")?;
            let Some(about) = about else { return f.write_str(CUT) };
            v6_unreachable(f, code, &about)?;
        }
        Icmpv6Header::TimeExceeded { code } => match code {
            0 => {
                f.write_str("time exceeded in-transit for ")?;
                or_cut(f, dst)?;
            }
            1 => f.write_str("time exceeded in-transit (reassembly)")?,
            code => write!(f, "time exceeded in-transit, unknown code ({code})")?,
        },
        Icmpv6Header::ParameterProblem { code, pointer } => {
            f.write_str("parameter problem, ")?;
            match code {
                0 => f.write_str("erroneous")?,
                1 => f.write_str("next header")?,
                2 => f.write_str("option")?,
                3 => f.write_str("incomplete header chain")?,
                code => write!(f, "code-#{code}")?,
            }
            write!(f, " - octet {pointer}")?;
        }
        header => match packet.kind() {
            ndp::ROUTER_SOLICITATION => f.write_str("router solicitation")?,
            ndp::ROUTER_ADVERTISEMENT => f.write_str("router advertisement")?,
            ndp::NEIGHBOUR_SOLICITATION | ndp::NEIGHBOUR_ADVERTISEMENT => {
                neighbour(f, bytes)?;
            }
            MULTICAST_LISTENER_REPORT_2 => {
                let records = match header {
                    Icmpv6Header::Other { rest: [_, _, a, b], .. } => u16::from_be_bytes([a, b]),
                    _ => 0,
                };
                write!(f, "multicast listener report v2, {records} group record(s)")?;
            }
            kind => write!(f, "type-#{kind}")?,
        },
    }
    write!(f, ", length {length}")
}

/// RFC 9777, section 5.2. Whoever has an IPv6 address sends these.
const MULTICAST_LISTENER_REPORT_2: u8 = 143;

fn v6_unreachable(
    f: &mut Formatter<'_>,
    code: Icmpv6Unreachable,
    about: &Ipv6Packet<'_>,
) -> fmt::Result {
    let [src, dst] = [about.src(), about.dst()];
    match code {
        Icmpv6Unreachable::NO_ROUTE => write!(f, "unreachable route {dst}"),
        Icmpv6Unreachable::PROHIBITED => write!(f, "unreachable prohibited {dst}"),
        Icmpv6Unreachable::BEYOND_SCOPE => write!(f, "beyond scope {dst}, source address {src}"),
        Icmpv6Unreachable::ADDRESS => write!(f, "unreachable address {dst}"),
        Icmpv6Unreachable::PORT => {
            write!(f, "unreachable port, {dst} ")?;
            port(f, about.upper_layer().ok())
        }
        Icmpv6Unreachable(other) => write!(f, "unknown unreach code ({other})"),
    }
}

fn neighbour(f: &mut Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let Ok(packet) = NeighbourPacket::parse(bytes) else { return f.write_str(CUT) };
    match packet.message() {
        NeighbourMessage::Solicitation => f.write_str("neighbor solicitation, who has ")?,
        NeighbourMessage::Advertisement { .. } => f.write_str("neighbor advertisement, tgt is ")?,
    }
    write!(f, "{}", packet.target())
}

/// The port that could not be reached.
fn port(f: &mut Formatter<'_>, about: Option<UpperLayer<'_>>) -> fmt::Result {
    let Some(about) = about.filter(UpperLayer::has_header) else { return f.write_str(CUT) };
    let Some(&[a, b]) = about.payload.get(2..4) else { return f.write_str(CUT) };
    match about.protocol {
        IpProtocol::UDP | IpProtocol::TCP => write!(f, "{}", about.protocol)?,
        IpProtocol(other) => write!(f, "protocol {other}")?,
    }
    write!(f, " port {}", u16::from_be_bytes([a, b]))
}

fn or_cut(f: &mut Formatter<'_>, value: Option<impl Display>) -> fmt::Result {
    match value {
        Some(value) => write!(f, "{value}"),
        None => f.write_str(CUT),
    }
}
