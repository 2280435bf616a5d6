//! Devices.
//!
//! Link messages are deeply nested and grow with every kernel, and few are sent: they are built, and
//! the attributes of each kind are read, with netlink-packet-route. Each attribute is read by itself,
//! so that one which this version cannot read costs only itself and not the device.

mod kind;
mod probe;

pub use kind::{Bridge, Df, EncapLimit, Gre, LinkKind, Tunnel, TunnelMode, VethPeer, Vxlan};

use std::fmt;
use std::process;

use netlink_packet_core::{NlasIterator, Parseable};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkHeader, LinkMessage};
use overlay_wire::MacAddr;

use crate::codec::{self, Encoder, rtm};
use crate::object::{KernelObject, Listable, sealed};
use crate::{DeviceRef, Error, IfName, Ifindex, Verb};

/// Bytes of `struct ifinfomsg`.
pub(crate) const IFINFOMSG_LEN: usize = 16;

/// Attributes (`linux/if_link.h`).
mod ifla {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const IFNAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const LINK: u16 = 5;
    pub(super) const MASTER: u16 = 10;
    pub(super) const LINKINFO: u16 = 18;
    pub(super) const IFALIAS: u16 = 20;
    pub(super) const LINK_NETNSID: u16 = 37;
    pub(super) const GSO_MAX_SIZE: u16 = 41;
}

/// The longest alias in bytes (`IFALIASZ` less the terminating zero).
const MAX_ALIAS_LEN: usize = 255;

/// A network namespace that a device is created in or moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkNamespace {
    /// That of a process.
    Pid(u32),
    /// That of an open descriptor, which must stay open until the request is sent.
    /// [`Namespace::as_link_namespace`](crate::Namespace::as_link_namespace) gives it.
    Fd(i32),
}

impl fmt::Display for LinkNamespace {
    /// As iproute2 reads it: a number, or the path by which other processes reach the descriptor.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pid(pid) => fmt::Display::fmt(pid, f),
            Self::Fd(fd) => write!(f, "/proc/{}/fd/{fd}", process::id()),
        }
    }
}

/// A device.
///
/// As the kernel reports it every field is filled. In a request, `None` is left to the kernel
/// ([`Verb::Add`]) or left as it is ([`Verb::Change`]). A request finds its device by `index`, and by
/// `name` where there is no index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Link<D = Ifindex> {
    /// The name. With an index, [`Verb::Change`] renames the device to it (it must be down).
    pub name: IfName,
    /// The number.
    pub index: Option<Ifindex>,
    /// What sort of device it is, with the sort's own attributes.
    pub kind: LinkKind<D>,
    /// The largest packet in bytes, link-layer header not counted.
    pub mtu: Option<u32>,
    /// The MAC address.
    pub address: Option<MacAddr>,
    /// Whether it is administratively up (`IFF_UP`).
    pub up: Option<bool>,
    /// Whether it resolves neighbours (no `IFF_NOARP`).
    pub arp: Option<bool>,
    /// Whether it has a carrier (`IFF_LOWER_UP`). Reported, never sent.
    pub carrier: Option<bool>,
    /// The bridge or other device that it is a port of. In a request, [`Ifindex`] 0 frees it.
    pub master: Option<D>,
    /// A text of the administrator's, at most 255 bytes.
    pub alias: Option<String>,
    /// The namespace to create it in or move it to. Never reported.
    pub namespace: Option<LinkNamespace>,
    /// For a half of a pair: the number of the other half, in that one's namespace. Reported,
    /// never sent.
    pub peer: Option<Ifindex>,
    /// The namespace of the device that this one runs over or is paired with, where that is
    /// another than its own: the number that its own namespace gives it, -1 where it gives none. The
    /// kind's `dev` is then `None`, because a number of that namespace means nothing in this one.
    /// Reported, never sent.
    pub link_netnsid: Option<i32>,
    /// The most bytes of one segmentation-offloaded packet (`IFLA_GSO_MAX_SIZE`).
    pub gso_max_size: Option<u32>,
}

impl<D: DeviceRef> Link<D> {
    /// A device with a name and a kind, all else left open.
    #[must_use]
    pub const fn new(name: IfName, kind: LinkKind<D>) -> Self {
        Self {
            name,
            index: None,
            kind,
            mtu: None,
            address: None,
            up: None,
            arp: None,
            carrier: None,
            master: None,
            alias: None,
            namespace: None,
            peer: None,
            link_netnsid: None,
            gso_max_size: None,
        }
    }

    /// A change of the device called `name`, whatever its kind: set the fields to alter and send
    /// it with [`Verb::Change`]; or, with [`Verb::Delete`], the device to delete.
    #[must_use]
    pub const fn named(name: IfName) -> Self {
        Self::new(name, LinkKind::Device)
    }

    /// The same device with this MTU in bytes.
    #[must_use]
    pub const fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// The same device with this MAC address.
    #[must_use]
    pub const fn address(mut self, address: MacAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// The same device, up.
    #[must_use]
    pub const fn up(mut self) -> Self {
        self.up = Some(true);
        self
    }

    /// The same device, down.
    #[must_use]
    pub const fn down(mut self) -> Self {
        self.up = Some(false);
        self
    }

    /// The same device with or without resolution of neighbours: without it every packet goes to the device's own address.
    #[must_use]
    pub const fn arp(mut self, arp: bool) -> Self {
        self.arp = Some(arp);
        self
    }

    /// The same device as a port of `master`.
    #[must_use]
    pub const fn master(mut self, master: D) -> Self {
        self.master = Some(master);
        self
    }

    /// The same device with an alias.
    #[must_use]
    pub fn alias(mut self, alias: impl Into<String>) -> Self {
        self.alias = Some(alias.into());
        self
    }

    /// The same device in another namespace.
    #[must_use]
    pub const fn namespace(mut self, namespace: LinkNamespace) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// The same device with the others that it refers to named another way.
    ///
    /// # Errors
    /// The first error of `f`.
    pub fn try_map_dev<E: DeviceRef, X>(
        &self,
        f: &mut impl FnMut(D) -> Result<E, X>,
    ) -> Result<Link<E>, X> {
        Ok(Link {
            name: self.name,
            index: self.index,
            kind: self.kind.try_map_dev(f)?,
            mtu: self.mtu,
            address: self.address,
            up: self.up,
            arp: self.arp,
            carrier: self.carrier,
            master: self.master.map(&mut *f).transpose()?,
            alias: self.alias.clone(),
            namespace: self.namespace,
            peer: self.peer,
            link_netnsid: self.link_netnsid,
            gso_max_size: self.gso_max_size,
        })
    }

    /// The `ip link` commands that do `verb` to it, one per line.
    #[must_use]
    pub fn command(&self, verb: Verb) -> String {
        let namespace = |namespace: LinkNamespace| format!(" netns {namespace}");
        let mut common = String::new();
        if let Some(mtu) = self.mtu {
            common.push_str(&format!(" mtu {mtu}"));
        }
        if let Some(address) = self.address {
            common.push_str(&format!(" address {address}"));
        }
        match self.master {
            Some(master) if master.is_none() => common.push_str(" nomaster"),
            Some(master) => common.push_str(&format!(" master {master}")),
            None => {}
        }
        match self.arp {
            Some(false) => common.push_str(" arp off"),
            // What a new device does unless told otherwise.
            Some(true) if verb != Verb::Add => common.push_str(" arp on"),
            _ => {}
        }
        if let Some(size) = self.gso_max_size {
            common.push_str(&format!(" gso_max_size {size}"));
        }
        let alias = self.alias.as_ref().map(|alias| format!(" alias {}", quoted(alias)));
        let up = match self.up {
            None => "",
            Some(true) => " up",
            Some(false) => " down",
        };
        match verb {
            Verb::Delete => format!("ip link del dev {}", self.name),
            Verb::Add => {
                if let Some(namespace) = self.namespace.map(namespace) {
                    common.push_str(&namespace);
                }
                if self.kind == LinkKind::Tun {
                    // Not netlink's to create, nor `ip link`'s.
                    let rest = alias.unwrap_or_default();
                    return format!(
                        "ip tuntap add dev {0} mode tun\nip link set dev {0}{common}{rest}{up}",
                        self.name
                    );
                }
                if self.up == Some(true) {
                    common.push_str(up);
                }
                let kind = self.kind.words();
                let mut command = format!("ip link add dev {}{common} type {kind}", self.name);
                if let Some(alias) = alias {
                    command.push_str(&format!("\nip link set dev {}{alias}", self.name));
                }
                command
            }
            _ => {
                if let Some(alias) = alias {
                    common.push_str(&alias);
                }
                if let Some(namespace) = self.namespace.map(namespace) {
                    common.push_str(&namespace);
                }
                common.push_str(up);
                match &self.kind {
                    LinkKind::Device | LinkKind::Tun => {}
                    kind => common.push_str(&format!(" type {}", kind.words())),
                }
                match self.index {
                    Some(index) => format!("ip link set dev {index} name {}{common}", self.name),
                    None => format!("ip link set dev {}{common}", self.name),
                }
            }
        }
    }
}

/// The text in a form that a shell, and `ip -batch` unless there is a quote inside, reads as one
/// word.
fn quoted(text: &str) -> String {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:@".contains(&b))
    {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

impl KernelObject for Link {
    fn command(&self, verb: Verb) -> String {
        self.command(verb)
    }
}

impl Link {
    fn header(&self, verb: Verb) -> LinkHeader {
        let mut header =
            LinkHeader { index: self.index.unwrap_or_default().0, ..LinkHeader::default() };
        let no_arp = self.arp.map(|arp| !arp);
        for (flag, is_set) in [(LinkFlags::Up, self.up), (LinkFlags::Noarp, no_arp)] {
            if let Some(is_set) = is_set.filter(|_| verb != Verb::Delete) {
                header.change_mask |= flag;
                header.flags.set(flag, is_set);
            }
        }
        header
    }

    fn attributes(&self) -> Vec<LinkAttribute> {
        let mut attributes = vec![LinkAttribute::IfName(self.name.to_string())];
        if let Some(mtu) = self.mtu {
            attributes.push(LinkAttribute::Mtu(mtu));
        }
        if let Some(address) = self.address {
            attributes.push(LinkAttribute::Address(address.octets().to_vec()));
        }
        if let Some(master) = self.master {
            attributes.push(LinkAttribute::Controller(master.0));
        }
        if let Some(size) = self.gso_max_size {
            attributes.push(LinkAttribute::GsoMaxSize(size));
        }
        match self.namespace {
            Some(LinkNamespace::Pid(pid)) => attributes.push(LinkAttribute::NetNsPid(pid)),
            Some(LinkNamespace::Fd(fd)) => attributes.push(LinkAttribute::NetNsFd(fd)),
            None => {}
        }
        attributes
    }
}

fn put(
    buffer: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    header: LinkHeader,
    attributes: Vec<LinkAttribute>,
) {
    let mut body = LinkMessage::default();
    body.header = header;
    body.attributes = attributes;
    let mut message = Encoder::begin(buffer, kind, flags);
    message.emit(&body);
    message.finish();
}

impl sealed::Encode for Link {
    fn encode(&self, verb: Verb, buffer: &mut Vec<u8>) -> Result<u32, Error> {
        let invalid = |reason| Error::Invalid { object: self.command(verb), reason };
        if self.alias.as_ref().is_some_and(|alias| alias.len() > MAX_ALIAS_LEN) {
            return Err(invalid("the alias is longer than 255 bytes"));
        }
        if let Some(reason) = self.kind.contradiction() {
            return Err(invalid(reason));
        }
        match verb {
            Verb::Add => {
                let Some(info) = self.kind.info() else {
                    return Err(invalid("a device of this kind cannot be created by netlink"));
                };
                if self.alias.is_some() && self.namespace.is_some() {
                    return Err(invalid(
                        "the alias of a device in another namespace is set from there",
                    ));
                }
                let mut attributes = self.attributes();
                attributes.push(LinkAttribute::LinkInfo(info));
                put(buffer, rtm::NEWLINK, verb.flags(), self.header(verb), attributes);
                let Some(alias) = &self.alias else { return Ok(1) };
                // The kernel takes no alias at creation.
                let attributes = vec![
                    LinkAttribute::IfName(self.name.to_string()),
                    LinkAttribute::IfAlias(alias.clone()),
                ];
                put(buffer, rtm::SETLINK, Verb::Change.flags(), LinkHeader::default(), attributes);
                Ok(2)
            }
            Verb::Change => {
                let mut attributes = self.attributes();
                if let Some(alias) = &self.alias {
                    attributes.push(LinkAttribute::IfAlias(alias.clone()));
                }
                let mut kind = rtm::SETLINK;
                if let Some(info) = self.kind.info() {
                    attributes.push(LinkAttribute::LinkInfo(info));
                    // Only this type reaches the attributes of the kind.
                    kind = rtm::NEWLINK;
                }
                let flags = netlink_packet_core::NLM_F_REQUEST;
                put(buffer, kind, flags, self.header(verb), attributes);
                Ok(1)
            }
            Verb::Delete => {
                let attributes = match self.index {
                    Some(_) => Vec::new(),
                    None => vec![LinkAttribute::IfName(self.name.to_string())],
                };
                put(buffer, rtm::DELLINK, verb.flags(), self.header(verb), attributes);
                Ok(1)
            }
            Verb::Replace | Verb::Append => {
                Err(invalid("devices can be added, changed and deleted, not replaced or appended"))
            }
        }
    }
}

/// Which devices to list.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LinkFilter {
    /// Only ports of this device.
    pub master: Option<Ifindex>,
}

impl Listable for Link {}

impl sealed::Decode for Link {
    type Filter = LinkFilter;

    const WHAT: &'static str = "links";
    const NEW: u16 = rtm::NEWLINK;

    fn dumps(filter: &LinkFilter) -> Vec<sealed::Dump> {
        vec![sealed::Dump {
            kind: rtm::GETLINK,
            header: vec![0; IFINFOMSG_LEN],
            attributes: filter.master.map(|master| (ifla::MASTER, master.0)).into_iter().collect(),
            absent_is_empty: false,
        }]
    }

    fn decode(body: &[u8]) -> Option<Self> {
        // A bridge's messages about its ports have the same type; they are not devices.
        if codec::u8_at(body, 0)? == codec::AF_BRIDGE {
            return None;
        }
        let index = Ifindex(codec::u32_at(body, 4)?);
        let flags = LinkFlags::from_bits_retain(codec::u32_at(body, 8)?);
        let attributes = || Some(codec::attributes(body.get(IFINFOMSG_LEN..)?));
        let (_, name) = attributes()?.find(|(kind, _)| *kind == ifla::IFNAME)?;
        let mut link = Self::named(IfName::reported(name));
        link.index = Some(index);
        link.up = Some(flags.contains(LinkFlags::Up));
        link.arp = Some(!flags.contains(LinkFlags::Noarp));
        link.carrier = Some(flags.contains(LinkFlags::LowerUp));
        let mut other_end = None;
        for (kind, value) in attributes()? {
            match kind {
                ifla::LINKINFO => link.kind = LinkKind::decode(value),
                ifla::MTU => link.mtu = codec::u32_at(value, 0),
                ifla::ADDRESS => link.address = codec::mac(value),
                ifla::MASTER => link.master = codec::u32_at(value, 0).map(Ifindex),
                ifla::IFALIAS => link.alias = Some(codec::text(value)),
                ifla::LINK => other_end = codec::u32_at(value, 0).map(Ifindex),
                ifla::LINK_NETNSID => {
                    link.link_netnsid = codec::u32_at(value, 0).map(u32::cast_signed);
                }
                ifla::GSO_MAX_SIZE => link.gso_max_size = codec::u32_at(value, 0),
                _ => {}
            }
        }
        // Devices of other kinds report what they run over in the same attribute.
        if let LinkKind::Veth(_) = link.kind {
            link.peer = other_end.filter(|index| !index.is_none());
        }
        if link.link_netnsid.is_some() {
            link.kind.forget_dev();
        }
        Some(link)
    }

    fn accepts(filter: &LinkFilter, link: &Self) -> bool {
        filter.master.is_none_or(|master| link.master == Some(master))
    }
}

/// Parses each attribute in `bytes` by itself and leaves out those that do not parse.
fn each<T>(bytes: &[u8]) -> impl Iterator<Item = T>
where
    T: for<'a> Parseable<netlink_packet_core::NlaBuffer<&'a [u8]>>,
{
    NlasIterator::new(bytes).flatten().filter_map(|nla| T::parse(&nla).ok())
}

/// The request for one device by its name or number.
pub(crate) fn encode_get(index: Option<Ifindex>, name: Option<IfName>, buffer: &mut Vec<u8>) {
    let header = LinkHeader { index: index.unwrap_or_default().0, ..LinkHeader::default() };
    let attributes = name.map(|name| LinkAttribute::IfName(name.to_string())).into_iter().collect();
    put(buffer, rtm::GETLINK, netlink_packet_core::NLM_F_REQUEST, header, attributes);
}
