/// What bytes begin with: a link layer, or IP at once.
///
/// Tunnels carry one or the other, and so do devices: a packet socket on an Ethernet device or a TAP device gives
/// frames, a TUN device gives packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// An Ethernet frame.
    Ethernet,
    /// An IPv4 or IPv6 packet, which its first four bits tell.
    Ip,
}
