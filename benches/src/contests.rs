//! What is compared.

mod leases;
mod netlink;
mod paths;
mod reconcile;
mod wire;

pub use self::leases::{etcd_acquire, sqlite_create};
pub use self::netlink::{add, delete, distinct_gateways, dump, many_distinct_gateways, swing};
pub use self::paths::{ALL as ABOUT_PATHS, PathContest};
pub use self::reconcile::{move_peer, no_op, program_peers};
pub use self::wire::{ALL as ABOUT_PACKETS, PacketContest};

/// `overlay-netlink`, one batch.
const BATCH: &str = "overlay-netlink, one batch";
/// iproute2.
const IP_BATCH: &str = "`ip -batch`";
/// Whether the kernel tells listeners of each route whose nexthop object changes, which makes it look at all routes.
const COMPAT_MODE: &str = "net.ipv4.nexthop_compat_mode";

/// A number as people write it.
fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
