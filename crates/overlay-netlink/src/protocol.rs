//! Who made an object, how far it reaches, and in which table it is.

use std::fmt;

/// Who made a route, neighbour, rule, nexthop object or address: the mark of ownership
/// (`RTPROT_*` in `linux/rtnetlink.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Nobody said: `RTPROT_UNSPEC`.
    pub const UNSPEC: Self = Self(0);
    /// The kernel itself, for example the connected route of an address: `RTPROT_KERNEL`.
    pub const KERNEL: Self = Self(2);
    /// Someone by hand, iproute2's default: `RTPROT_BOOT`.
    pub const BOOT: Self = Self(3);
    /// An administrator, to be kept by routing daemons: `RTPROT_STATIC`.
    pub const STATIC: Self = Self(4);
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::KERNEL => f.write_str("kernel"),
            Self::BOOT => f.write_str("boot"),
            Self::STATIC => f.write_str("static"),
            Self(number) => fmt::Display::fmt(&number, f),
        }
    }
}

/// How far the destination of a route or an address reaches (`RT_SCOPE_*` in `linux/rtnetlink.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Scope(pub u8);

impl Scope {
    /// Anywhere: `RT_SCOPE_UNIVERSE`, shown as `global`.
    pub const UNIVERSE: Self = Self(0);
    /// Within the site: `RT_SCOPE_SITE`.
    pub const SITE: Self = Self(200);
    /// On the attached link: `RT_SCOPE_LINK`.
    pub const LINK: Self = Self(253);
    /// On this host: `RT_SCOPE_HOST`.
    pub const HOST: Self = Self(254);
    /// Nowhere; in a request to delete, any scope: `RT_SCOPE_NOWHERE`.
    pub const NOWHERE: Self = Self(255);
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UNIVERSE => f.write_str("global"),
            Self::SITE => f.write_str("site"),
            Self::LINK => f.write_str("link"),
            Self::HOST => f.write_str("host"),
            Self(number) => fmt::Display::fmt(&number, f),
        }
    }
}

/// The routing tables that every kernel has (`RT_TABLE_*` in `linux/rtnetlink.h`).
pub mod table {
    /// The default table, empty unless somebody fills it.
    pub const DEFAULT: u32 = 253;
    /// The table that routes go to unless another is named.
    pub const MAIN: u32 = 254;
    /// Local and broadcast addresses, kept by the kernel.
    pub const LOCAL: u32 = 255;
}
