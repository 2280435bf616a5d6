//! A packet on one line.

use core::fmt::{self, Formatter, Write};
use core::net::IpAddr;

use super::{Kind, Layer, Layers};
use crate::arp::ArpOperation;
use crate::error::Error;
use crate::ethernet::EtherType;
use crate::geneve::GenevePacket;
use crate::gre::GrePacket;
use crate::gue::GueContent;
use crate::ip::IpProtocol;
use crate::ipv6::extension::Extension;
use crate::mac::MacAddr;
use crate::tcp::{TcpFlags, TcpOption, TcpPacket};

mod icmp;

pub(super) fn write(
    f: &mut Formatter<'_>,
    layers: Layers<'_, '_>,
    link_level: bool,
) -> fmt::Result {
    let mut layers = layers.peekable();
    let mut line = Line { f, link_level, addresses: None };
    while let Some(layer) = layers.next() {
        line.layer(&layer, layers.peek())?;
    }
    Ok(())
}

struct Line<'f, 'b> {
    f: &'f mut Formatter<'b>,
    link_level: bool,
    /// Of an IP header that waits for the ports to be printed with them.
    addresses: Option<[IpAddr; 2]>,
}

impl Line<'_, '_> {
    fn layer(&mut self, layer: &Layer<'_>, next: Option<&Layer<'_>>) -> fmt::Result {
        match layer.kind {
            Kind::Ethernet(frame) => {
                let known = next.is_some_and(|next| next.kind != Kind::Payload);
                if known && !self.link_level {
                    return Ok(());
                }
                write!(self.f, "{} > {}, ethertype ", frame.src(), frame.dst())?;
                self.ether_type(frame.ether_type(), known)?;
                write!(self.f, ", length {}", layer.length)?;
                self.colon(next.filter(|_| known))
            }
            Kind::Vlan(packet) => {
                let known = next.is_some_and(|next| next.kind != Kind::Payload);
                if known && !self.link_level {
                    return Ok(());
                }
                write!(self.f, "vlan {}, p {}", packet.vid(), packet.pcp())?;
                self.f.write_str(if packet.dei() {
                    ", DEI, ethertype "
                } else {
                    ", ethertype "
                })?;
                self.ether_type(packet.ether_type(), known)?;
                self.f.write_str(if known { ", " } else { "" })
            }
            Kind::Arp(packet) => {
                self.protocol("ARP,")?;
                match packet.operation() {
                    ArpOperation::REQUEST => {
                        write!(self.f, "Request who-has {}", packet.target_ip())?;
                        if packet.target_mac() != MacAddr([0; 6]) {
                            write!(self.f, " ({})", packet.target_mac())?;
                        }
                        write!(self.f, " tell {}", packet.sender_ip())?;
                    }
                    ArpOperation::REPLY => {
                        write!(self.f, "Reply {} is-at ", packet.sender_ip())?;
                        write!(self.f, "{}", packet.sender_mac())?;
                    }
                    other => write!(self.f, "operation {other}")?,
                }
                write!(self.f, ", length {}", layer.length)
            }
            Kind::Ipv4(packet) => {
                self.protocol("IP")?;
                match layer.missing() {
                    0 => {}
                    missing => write!(self.f, "truncated-ip - {missing} bytes missing! ")?,
                }
                let addresses = [IpAddr::V4(packet.src()), IpAddr::V4(packet.dst())];
                self.addresses(addresses, next)?;
                if packet.fragment_offset() > 0 {
                    return write!(self.f, "ip-proto-{}", packet.protocol().0);
                }
                let len = usize::from(packet.total_length()).saturating_sub(packet.header_len());
                self.unknown_protocol(packet.protocol(), len, next)
            }
            Kind::Ipv6(packet) => {
                self.protocol("IP6")?;
                match layer.missing() {
                    0 => {}
                    missing => write!(self.f, "truncated-ip6 - {missing} bytes missing!")?,
                }
                let addresses = [IpAddr::V6(packet.src()), IpAddr::V6(packet.dst())];
                self.addresses(addresses, next)?;
                self.unknown_protocol(packet.next_header(), packet.payload_length().into(), next)
            }
            Kind::Udp(packet) => {
                self.ports(packet.src_port(), packet.dst_port())?;
                // The length counts the header.
                let length = usize::from(packet.length()).saturating_sub(super::udp::LEN);
                let room = layer.length.saturating_sub(super::udp::LEN);
                match next {
                    Some(Layer { kind: Kind::Payload, .. }) | None => {
                        if length > room && !layer.in_fragment {
                            return write!(self.f, "UDP, bad length {length} > {room}");
                        }
                        write!(self.f, "UDP, length {length}")
                    }
                    Some(_) => Ok(()),
                }
            }
            Kind::Extension(extension) => self.extension(&extension, layer, next),
            Kind::Tcp(packet) => self.tcp(&packet, layer),
            Kind::Icmpv4(packet) => icmp::v4(self.f, &packet, layer.length),
            Kind::Icmpv6(packet) => icmp::v6(self.f, &packet, layer.bytes, layer.length),
            Kind::Vxlan(packet) => {
                let flags = layer.bytes.first().copied().unwrap_or_default();
                write!(self.f, "VXLAN, flags [I] ({flags:#04x}), vni {}", packet.vni())?;
                self.colon(next)
            }
            Kind::VxlanGpe(packet) => {
                self.f.write_str("VXLAN-GPE, flags [I")?;
                let flags = [(packet.next_protocol().is_some(), "P"), (packet.oam(), "O")];
                self.letters(&flags)?;
                write!(self.f, "], vni {}: ", packet.vni())?;
                self.unknown(next, |f| f.write_str("unknown-next-protocol"))
            }
            Kind::Geneve(packet) => self.geneve(&packet, next),
            Kind::Gre(packet) => self.gre(&packet, layer, next),
            Kind::Gue(packet) => {
                match packet.content() {
                    GueContent::Data(protocol) => write!(self.f, "GUE, proto {protocol}")?,
                    GueContent::Control(kind) => write!(self.f, "GUE, control {kind}")?,
                }
                match packet.flags() {
                    0 => {}
                    flags => write!(self.f, ", flags {flags:#06x}")?,
                }
                write!(self.f, ", length {}", layer.length)?;
                self.colon(next.filter(|next| next.kind != Kind::Payload))
            }
            Kind::Payload => Ok(()),
            Kind::Malformed(error) => {
                self.f.write_str("[|")?;
                for c in error.header.chars() {
                    self.f.write_char(c.to_ascii_lowercase())?;
                }
                write!(self.f, "] ({error})")
            }
            Kind::TooDeep => self.f.write_str("... (too many layers)"),
        }
    }

    fn protocol(&mut self, name: &str) -> fmt::Result {
        if self.link_level {
            return Ok(());
        }
        write!(self.f, "{name} ")
    }

    /// Prints the addresses of an IP header, unless they are to be printed with the ports behind it.
    fn addresses(&mut self, [src, dst]: [IpAddr; 2], next: Option<&Layer<'_>>) -> fmt::Result {
        match next {
            Some(Layer { kind: Kind::Udp(_) | Kind::Tcp(_), .. }) => {
                self.addresses = Some([src, dst]);
                Ok(())
            }
            _ => write!(self.f, "{src} > {dst}: "),
        }
    }

    fn ports(&mut self, src_port: u16, dst_port: u16) -> fmt::Result {
        match self.addresses.take() {
            Some([src, dst]) => write!(self.f, "{src}.{src_port} > {dst}.{dst_port}: "),
            None => write!(self.f, "{src_port} > {dst_port}: "),
        }
    }

    fn extension(
        &mut self,
        extension: &Extension<'_>,
        layer: &Layer<'_>,
        next: Option<&Layer<'_>>,
    ) -> fmt::Result {
        let payload_len = layer.length.saturating_sub(layer.header_len);
        match extension {
            Extension::HopByHop(_) => self.f.write_str("HBH ")?,
            Extension::DestinationOptions(_) => self.f.write_str("DSTOPT ")?,
            Extension::Routing(packet) => {
                // In units of 8 bytes, without the first 8.
                let len = (layer.header_len / 8).saturating_sub(1);
                let [kind, left] = [packet.routing_type(), packet.segments_left()];
                write!(self.f, "RT6 (len={len}, type={kind}, segleft={left}) ")?;
            }
            Extension::Fragment(packet) => {
                let offset = u32::from(packet.fragment_offset()) * 8;
                write!(self.f, "frag ({offset}|{payload_len})")?;
                if offset > 0 {
                    return Ok(());
                }
                self.f.write_str(" ")?;
            }
            Extension::Authentication(packet) => {
                write!(
                    self.f,
                    "AH(spi={:#010x},seq={:#x},icv=0x",
                    packet.spi(),
                    packet.sequence()
                )?;
                packet.icv().iter().try_for_each(|byte| write!(self.f, "{byte:02x}"))?;
                self.f.write_str("): ")?;
            }
        }
        self.unknown_protocol(extension.next_header(), payload_len, next)
    }

    fn tcp(&mut self, packet: &TcpPacket<'_>, layer: &Layer<'_>) -> fmt::Result {
        self.ports(packet.src_port(), packet.dst_port())?;
        let flags = packet.flags();
        write!(self.f, "Flags [{flags}]")?;
        let length = layer.length.saturating_sub(layer.header_len);
        let seq = packet.sequence();
        if length > 0 {
            write!(self.f, ", seq {seq}:{}", seq.wrapping_add(length as u32))?;
        } else if [TcpFlags::SYN, TcpFlags::FIN, TcpFlags::RST].iter().any(|f| flags.contains(*f)) {
            write!(self.f, ", seq {seq}")?;
        }
        if flags.contains(TcpFlags::ACK) {
            write!(self.f, ", ack {}", packet.acknowledgment())?;
        }
        write!(self.f, ", win {}", packet.window())?;
        if flags.contains(TcpFlags::URG) {
            write!(self.f, ", urg {}", packet.urgent())?;
        }
        if !packet.options().is_empty() {
            for (at, option) in packet.options_iter().enumerate() {
                self.f.write_str(if at == 0 { ", options [" } else { "," })?;
                self.tcp_option(option)?;
            }
            self.f.write_str("]")?;
        }
        write!(self.f, ", length {length}")
    }

    fn tcp_option(&mut self, option: Result<TcpOption<'_>, Error>) -> fmt::Result {
        match option {
            Ok(TcpOption::End) => self.f.write_str("eol"),
            Ok(TcpOption::NoOperation) => self.f.write_str("nop"),
            Ok(TcpOption::Mss(mss)) => write!(self.f, "mss {mss}"),
            Ok(TcpOption::WindowScale(shift)) => write!(self.f, "wscale {shift}"),
            Ok(TcpOption::SackPermitted) => self.f.write_str("sackOK"),
            Ok(TcpOption::Sack(blocks)) => {
                write!(self.f, "sack {} ", blocks.iter().len())?;
                blocks.iter().try_for_each(|(from, to)| write!(self.f, "{{{from}:{to}}}"))
            }
            Ok(TcpOption::Timestamps { value, echo_reply }) => {
                write!(self.f, "TS val {value} ecr {echo_reply}")
            }
            Ok(TcpOption::Other { kind, data }) => {
                write!(self.f, "unknown-{kind}")?;
                if !data.is_empty() {
                    self.f.write_str(" 0x")?;
                }
                data.iter().try_for_each(|byte| write!(self.f, "{byte:02x}"))
            }
            Err(_) => self.f.write_str("[bad opt]"),
        }
    }

    fn geneve(&mut self, packet: &GenevePacket<'_>, next: Option<&Layer<'_>>) -> fmt::Result {
        let flags = [(packet.control(), "O"), (packet.critical(), "C")];
        self.f.write_str("Geneve, Flags [")?;
        match flags.iter().any(|(set, _)| *set) {
            true => self.letters(&flags)?,
            false => self.f.write_str("none")?,
        }
        write!(self.f, "], vni {:#x}", packet.vni().get())?;
        match packet.reserved() & 0xff {
            0 => {}
            reserved => write!(self.f, ", rsvd {reserved:#x}")?,
        }
        let known = next.is_some_and(|next| next.kind != Kind::Payload);
        self.carried(packet.protocol(), known)?;
        match packet.options().as_bytes().len() {
            0 => {}
            options => write!(self.f, ", options [{options} bytes]")?,
        }
        self.f.write_str(": ")?;
        self.unknown(next, |f| write!(f, "geneve-proto-{:#x}", packet.protocol().0))
    }

    fn gre(
        &mut self,
        packet: &GrePacket<'_>,
        layer: &Layer<'_>,
        next: Option<&Layer<'_>>,
    ) -> fmt::Result {
        self.f.write_str("GREv0")?;
        if packet.checksum().is_some() {
            // RFC 1701 had an offset beside the checksum, which is reserved now.
            let offset = match layer.bytes.get(6..8) {
                Some(&[a, b]) => u16::from_be_bytes([a, b]),
                _ => 0,
            };
            write!(self.f, ", off {offset:#x}")?;
        }
        if let Some(key) = packet.key() {
            write!(self.f, ", key={key:#x}")?;
        }
        if let Some(sequence) = packet.sequence() {
            write!(self.f, ", seq {sequence}")?;
        }
        let known = next.is_some_and(|next| next.kind != Kind::Payload);
        self.carried(packet.protocol(), known)?;
        write!(self.f, ", length {}: ", layer.length)?;
        self.unknown(next, |f| write!(f, "gre-proto-{:#x}", packet.protocol().0))
    }

    /// What an encapsulation carries, told where link-level headers are.
    fn carried(&mut self, protocol: EtherType, known: bool) -> fmt::Result {
        if !self.link_level {
            return Ok(());
        }
        self.f.write_str(", proto ")?;
        match known {
            true => write!(self.f, "{protocol} ({:#06x})", protocol.0),
            false => write!(self.f, "unknown ({:#06x})", protocol.0),
        }
    }

    fn ether_type(&mut self, ether_type: EtherType, known: bool) -> fmt::Result {
        match known {
            true => write!(self.f, "{ether_type} ({:#06x})", ether_type.0),
            false => write!(self.f, "Unknown ({:#06x})", ether_type.0),
        }
    }

    fn letters(&mut self, flags: &[(bool, &str)]) -> fmt::Result {
        flags.iter().filter(|(set, _)| *set).try_for_each(|(_, letter)| self.f.write_str(letter))
    }

    /// What IP carries, when that is not looked into.
    fn unknown_protocol(
        &mut self,
        protocol: IpProtocol,
        length: usize,
        next: Option<&Layer<'_>>,
    ) -> fmt::Result {
        self.unknown(next, |f| match protocol {
            IpProtocol::NO_NEXT_HEADER => f.write_str("no next header"),
            IpProtocol(number) => write!(f, "ip-proto-{number} {length}"),
        })
    }

    /// Prints something if what is next is not looked into.
    fn unknown(
        &mut self,
        next: Option<&Layer<'_>>,
        print: impl FnOnce(&mut Formatter<'_>) -> fmt::Result,
    ) -> fmt::Result {
        match next {
            Some(Layer { kind: Kind::Payload, .. }) | None => print(self.f),
            Some(_) => Ok(()),
        }
    }

    fn colon(&mut self, next: Option<&Layer<'_>>) -> fmt::Result {
        match next {
            Some(_) => self.f.write_str(": "),
            None => Ok(()),
        }
    }
}
