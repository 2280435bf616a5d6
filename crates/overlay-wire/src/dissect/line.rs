//! A packet on one line.

use core::fmt::{self, Formatter, Write};
use core::net::IpAddr;

use super::{Kind, Layer, Layers};
use crate::ip::IpProtocol;

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
                match frame.ether_type() {
                    ether_type if known => write!(self.f, "{ether_type} ({:#06x})", ether_type.0)?,
                    unknown => write!(self.f, "Unknown ({:#06x})", unknown.0)?,
                }
                write!(self.f, ", length {}", layer.length)?;
                self.colon(next.filter(|_| known))
            }
            Kind::Ipv4(packet) => {
                self.ip("IP")?;
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
                self.unknown(packet.protocol(), len, next)
            }
            Kind::Ipv6(packet) => {
                self.ip("IP6")?;
                match layer.missing() {
                    0 => {}
                    missing => write!(self.f, "truncated-ip6 - {missing} bytes missing!")?,
                }
                let addresses = [IpAddr::V6(packet.src()), IpAddr::V6(packet.dst())];
                self.addresses(addresses, next)?;
                self.unknown(packet.next_header(), packet.payload_length().into(), next)
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
            Kind::Vxlan(packet) => {
                let flags = layer.bytes.first().copied().unwrap_or_default();
                write!(self.f, "VXLAN, flags [I] ({flags:#04x}), vni {}", packet.vni())?;
                self.colon(next)
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

    fn ip(&mut self, name: &str) -> fmt::Result {
        if self.link_level {
            return Ok(());
        }
        write!(self.f, "{name} ")
    }

    /// Prints the addresses of an IP header, unless they are to be printed with the ports behind it.
    fn addresses(&mut self, [src, dst]: [IpAddr; 2], next: Option<&Layer<'_>>) -> fmt::Result {
        match next {
            Some(Layer { kind: Kind::Udp(_), .. }) => {
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

    /// What IP carries, when that is not looked into.
    fn unknown(
        &mut self,
        protocol: IpProtocol,
        length: usize,
        next: Option<&Layer<'_>>,
    ) -> fmt::Result {
        match next {
            Some(Layer { kind: Kind::Payload, .. }) | None => match protocol {
                IpProtocol::NO_NEXT_HEADER => self.f.write_str("no next header"),
                IpProtocol(number) => write!(self.f, "ip-proto-{number} {length}"),
            },
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
