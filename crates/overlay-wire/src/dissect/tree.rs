//! A packet as a tree: a line per layer, each deeper than the one that carries it.

use core::fmt::{self, Formatter};

use super::{Kind, Layer, Layers};
use crate::ip::Ecn;

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
        Kind::Vxlan(packet) => {
            write!(f, "vni {}", packet.vni())?;
            match packet.reserved() {
                0 => Ok(()),
                reserved => write!(f, ", reserved bits {reserved:#x}"),
            }
        }
        Kind::Payload | Kind::Malformed(_) | Kind::TooDeep => Ok(()),
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
