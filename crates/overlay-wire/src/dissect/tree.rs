//! A packet as a tree: a line per layer, each deeper than the one that carries it.

use core::fmt::{self, Formatter};

use super::{Dissector, Kind, Layer, Layers, Start};
use crate::gue::GueContent;
use crate::ip::Ecn;
use crate::ipv6::extension::{Extension, Ipv6Option};
use crate::ndp::NeighbourPacket;

pub(super) fn write(f: &mut Formatter<'_>, layers: Layers<'_, '_>) -> fmt::Result {
    for (depth, layer) in layers.enumerate() {
        if depth > 0 {
            f.write_str("\n")?;
        }
        write!(f, "{:indent$}{}", "", layer.name(), indent = 2 * depth)?;
        match layer.kind {
            Kind::Payload => write!(f, ": {} bytes from {}", layer.bytes.len(), layer.offset)?,
            Kind::TooDeep => write!(f, ": {} bytes not looked at", layer.bytes.len())?,
            Kind::Malformed(error) => {
                write!(
                    f,
                    ": malformed, {} bytes from {}: {error}",
                    layer.bytes.len(),
                    layer.offset
                )?;
            }
            _ => {
                write!(f, " {}+{}: ", layer.offset, layer.header_len)?;
                fields(f, &layer)?;
            }
        }
        if layer.missing() > 0 {
            let remark = if layer.in_fragment { " (in a fragment)" } else { "" };
            write!(f, ", {} bytes missing{remark}", layer.missing())?;
        }
        if let Some(checksum) = layer.checksum() {
            write!(f, ", checksum {checksum}")?;
        }
    }
    Ok(())
}

fn fields(f: &mut Formatter<'_>, layer: &Layer<'_>) -> fmt::Result {
    match layer.kind {
        Kind::Ethernet(frame) => {
            write!(f, "{} > {}, type {}", frame.src(), frame.dst(), frame.ether_type())
        }
        Kind::Vlan(packet) => {
            write!(f, "id {}, priority {}", packet.vid(), packet.pcp())?;
            flag_names(f, &[(packet.dei(), ", drop eligible")])?;
            write!(f, ", type {}", packet.ether_type())
        }
        Kind::Arp(packet) => {
            write!(f, "operation {}", packet.operation())?;
            write!(f, ", sender {} at {}", packet.sender_ip(), packet.sender_mac())?;
            write!(f, ", target {} at {}", packet.target_ip(), packet.target_mac())
        }
        Kind::Ipv4(packet) => {
            write!(f, "{} > {}, protocol {}", packet.src(), packet.dst(), packet.protocol())?;
            write!(f, ", ttl {}, id {}", packet.ttl(), packet.identification())?;
            let flags =
                [(packet.dont_fragment(), ", DF"), (packet.more_fragments(), ", more fragments")];
            flag_names(f, &flags)?;
            if packet.fragment_offset() > 0 {
                write!(f, ", fragment at {}", u32::from(packet.fragment_offset()) * 8)?;
            }
            class(f, packet.dscp(), packet.ecn())?;
            write!(f, ", length {}", packet.total_length())?;
            match packet.options().len() {
                0 => Ok(()),
                options => write!(f, ", {options} bytes of options"),
            }
        }
        Kind::Ipv6(packet) => {
            write!(f, "{} > {}, next {}", packet.src(), packet.dst(), packet.next_header())?;
            write!(f, ", hop limit {}", packet.hop_limit())?;
            if packet.flow_label() > 0 {
                write!(f, ", flow label {:#07x}", packet.flow_label())?;
            }
            class(f, packet.dscp(), packet.ecn())?;
            write!(f, ", payload length {}", packet.payload_length())
        }
        Kind::Udp(packet) => {
            let [src, dst] = [packet.src_port(), packet.dst_port()];
            write!(f, "{src} > {dst}, length {}", packet.length())
        }
        Kind::Extension(packet) => extension(f, &packet),
        Kind::Tcp(packet) => {
            write!(f, "{} > {}, flags [{}]", packet.src_port(), packet.dst_port(), packet.flags())?;
            write!(f, ", seq {}, ack {}", packet.sequence(), packet.acknowledgment())?;
            write!(f, ", window {}", packet.window())?;
            match packet.options().len() {
                0 => Ok(()),
                options => write!(f, ", {options} bytes of options"),
            }
        }
        Kind::Icmpv4(packet) => {
            write!(f, "type {}, code {}", packet.kind(), packet.code())?;
            about(f, packet.is_error(), packet.payload())
        }
        Kind::Icmpv6(packet) => {
            write!(f, "type {}, code {}", packet.kind(), packet.code())?;
            if let Ok(neighbour) = NeighbourPacket::parse(layer.bytes) {
                write!(f, ", target {}", neighbour.target())?;
                if let Some(mac) = neighbour.link_layer() {
                    write!(f, " at {mac}")?;
                }
            }
            about(f, packet.is_error(), packet.payload())
        }
        Kind::Vxlan(packet) => {
            write!(f, "vni {}", packet.vni())?;
            if let Some(policy) = packet.group_policy() {
                write!(f, ", group policy {}", policy.id)?;
                let flags = [(policy.dont_learn, " not to learn"), (policy.applied, " applied")];
                flag_names(f, &flags)?;
            }
            reserved(f, packet.reserved())
        }
        Kind::VxlanGpe(packet) => {
            write!(f, "vni {}", packet.vni())?;
            if let Some(next) = packet.next_protocol() {
                write!(f, ", next {next}")?;
            }
            let flags = [(packet.bum(), ", broadcast"), (packet.oam(), ", for the tunnel's end")];
            flag_names(f, &flags)?;
            reserved(f, packet.reserved())
        }
        Kind::Geneve(packet) => {
            write!(f, "vni {}, protocol {}", packet.vni(), packet.protocol())?;
            let flags = [
                (packet.control(), ", for the tunnel's end"),
                (packet.critical(), ", critical options"),
            ];
            flag_names(f, &flags)?;
            for option in packet.options().iter() {
                write!(f, ", option {:#06x}/{:#04x}", option.class, option.option_type)?;
                write!(f, " of {} bytes", option.data.len())?;
            }
            reserved(f, packet.reserved())
        }
        Kind::Gre(packet) => {
            write!(f, "protocol {}", packet.protocol())?;
            if let Some(key) = packet.key() {
                write!(f, ", key {key:#x}")?;
            }
            if let Some(sequence) = packet.sequence() {
                write!(f, ", seq {sequence}")?;
            }
            reserved(f, packet.reserved().into())
        }
        Kind::Gue(packet) => {
            match packet.content() {
                GueContent::Data(protocol) => write!(f, "protocol {protocol}")?,
                GueContent::Control(kind) => write!(f, "control message {kind}")?,
            }
            if packet.flags() > 0 {
                write!(f, ", flags {:#06x}", packet.flags())?;
            }
            match packet.extensions().len() {
                0 => Ok(()),
                extensions => write!(f, ", {extensions} bytes of extensions"),
            }
        }
        Kind::Payload | Kind::Malformed(_) | Kind::TooDeep => Ok(()),
    }
}

fn extension(f: &mut Formatter<'_>, extension: &Extension<'_>) -> fmt::Result {
    write!(f, "next {}", extension.next_header())?;
    match extension {
        Extension::HopByHop(packet) | Extension::DestinationOptions(packet) => {
            for option in packet.iter() {
                match option {
                    Ok(Ipv6Option::TunnelEncapsulationLimit(limit)) => {
                        write!(f, ", tunnel encapsulation limit {limit}")?;
                    }
                    Ok(Ipv6Option::Other { kind, data }) => {
                        write!(f, ", option {kind} of {} bytes", data.len())?;
                    }
                    Err(error) => write!(f, ", {error}")?,
                }
            }
            Ok(())
        }
        Extension::Routing(packet) => {
            let [kind, left] = [packet.routing_type(), packet.segments_left()];
            write!(f, ", type {kind}, segments left {left}")
        }
        Extension::Fragment(packet) => {
            let offset = u32::from(packet.fragment_offset()) * 8;
            write!(f, ", id {:#010x}, fragment at {offset}", packet.identification())?;
            flag_names(f, &[(packet.more_fragments(), ", more fragments")])
        }
        Extension::Authentication(packet) => {
            write!(f, ", spi {:#010x}, seq {}", packet.spi(), packet.sequence())
        }
    }
}

/// The packet that an ICMP error is about, as far as it is quoted.
fn about(f: &mut Formatter<'_>, is_error: bool, quoted: &[u8]) -> fmt::Result {
    if !is_error {
        return Ok(());
    }
    // A line: a quoted error would not be followed any further.
    write!(f, ", about {}", Dissector::new(Start::Ip).dissect_cut(quoted, usize::MAX))
}

fn reserved(f: &mut Formatter<'_>, bits: u64) -> fmt::Result {
    match bits {
        0 => Ok(()),
        bits => write!(f, ", reserved bits {bits:#x}"),
    }
}

/// Differentiated services and congestion notification, unless there is nothing special about them.
fn class(f: &mut Formatter<'_>, dscp: u8, ecn: Ecn) -> fmt::Result {
    if dscp > 0 {
        write!(f, ", dscp {dscp}")?;
    }
    match ecn {
        Ecn::NotEct => Ok(()),
        Ecn::Ect0 => f.write_str(", ECT(0)"),
        Ecn::Ect1 => f.write_str(", ECT(1)"),
        Ecn::Ce => f.write_str(", CE"),
    }
}

fn flag_names(f: &mut Formatter<'_>, flags: &[(bool, &str)]) -> fmt::Result {
    flags.iter().filter(|(set, _)| *set).try_for_each(|(_, name)| f.write_str(name))
}
