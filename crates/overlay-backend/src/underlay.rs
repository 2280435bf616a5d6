//! This node's place in the underlay.

use std::net::IpAddr;

use ipnet::IpNet;
use overlay_netlink::{
    Address, AddressFilter, IfName, Link, LinkFilter, Route, RouteFilter, RouteKind, Scope, Socket,
    Via, table,
};
use overlay_wire::IpVersion;

/// The device that carries the overlay, as far as backends need to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Underlay {
    /// The device.
    pub dev: IfName,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses of global scope, each with the prefix of its link: those that peers can be told
    /// of, which leaves out temporary, deprecated and tentative ones.
    pub addresses: Vec<IpNet>,
    /// The prefixes that it reaches without a router.
    pub on_link: Vec<IpNet>,
}

impl Underlay {
    /// Asks the kernel about the device called `dev`.
    ///
    /// # Errors
    /// [`UnderlayError::NoDevice`] when there is none of that name, [`UnderlayError::Netlink`] when
    /// the kernel cannot be asked.
    pub fn observe(socket: &mut Socket, dev: &IfName) -> Result<Self, UnderlayError> {
        let link = match socket.link(dev) {
            Ok(link) => link,
            Err(error) if error.is_not_found() => {
                let links: Vec<Link> = socket.list(&LinkFilter::default())?;
                let names = links.iter().map(|link| link.name.to_string()).collect::<Vec<_>>();
                return Err(UnderlayError::NoDevice { dev: *dev, present: names.join(", ") });
            }
            Err(error) => return Err(error.into()),
        };
        let index = link.index.unwrap_or_default();
        let mut addresses: Vec<Address> = socket.list(&AddressFilter::on(index))?;
        // Those that may pass are the node's too, but the last to choose.
        addresses.sort_by_key(|address| !is_lasting(address));
        let routes: Vec<Route> = socket.list(&RouteFilter::table(table::MAIN).dev(index))?;
        Ok(Self {
            dev: *dev,
            mtu: link.mtu.unwrap_or_default(),
            addresses: addresses
                .iter()
                .filter(|address| address.scope == Scope::UNIVERSE)
                .map(|address| address.net)
                .collect(),
            on_link: routes
                .iter()
                .filter(|route| route.kind == RouteKind::Unicast)
                .filter(|route| matches!(&route.via, Via::Hop(hop) if hop.gateway.is_none()))
                .map(|route| route.dst)
                .collect(),
        })
    }

    /// The node's address of this family: the first one. [`observe`](Self::observe) puts temporary,
    /// deprecated and tentative ones last.
    #[must_use]
    pub fn address(&self, version: IpVersion) -> Option<IpAddr> {
        self.addresses.iter().map(IpNet::addr).find(|address| IpVersion::of(*address) == version)
    }

    /// Whether `address` is one of this node's.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|net| net.addr() == address)
    }

    /// Whether the device reaches `address` without a router.
    #[must_use]
    pub fn is_on_link(&self, address: IpAddr) -> bool {
        self.on_link.iter().any(|net| net.contains(&address))
    }
}

/// Whether peers can be told of it: it answers already, and will be there tomorrow.
const fn is_lasting<D>(address: &Address<D>) -> bool {
    !address.temporary && !address.deprecated && !address.tentative
}

/// Why the underlay cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnderlayError {
    /// There is no such device.
    #[error("interface {dev} does not exist; there are: {present}")]
    NoDevice {
        /// The name that was given.
        dev: IfName,
        /// The names of those that exist.
        present: String,
    },
    /// The device has no address of the family that is needed.
    #[error("interface {dev} has no {version} address to send from")]
    NoAddress {
        /// The device.
        dev: IfName,
        /// The family.
        version: IpVersion,
    },
    /// The MTU of the device leaves no room for the encapsulation.
    #[error(
        "interface {dev} has an MTU of {mtu} bytes, too small for {backend} and the overlay's packets"
    )]
    MtuTooSmall {
        /// The device.
        dev: IfName,
        /// Its MTU in bytes.
        mtu: u32,
        /// The backend.
        backend: &'static str,
    },
    /// The kernel could not be asked.
    #[error(transparent)]
    Netlink(#[from] overlay_netlink::Error),
}
