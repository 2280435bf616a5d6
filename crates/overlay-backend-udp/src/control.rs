//! What stands beside the payload of a message: its socket address, and control messages (cmsg(3)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::sys::ADDRESS_LEN;

/// `struct cmsghdr`: the length, in a machine word, and level and type, both `int`.
const HEADER_LEN: usize = size_of::<usize>() + 8;

/// Control messages to be sent with a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Control {
    bytes: [u8; Self::ROOM],
    len: usize,
}

impl Control {
    /// Enough for two messages with a number each.
    const ROOM: usize = 2 * (HEADER_LEN + 8);

    pub(crate) const fn new() -> Self {
        Self { bytes: [0; Self::ROOM], len: 0 }
    }

    /// The same with one more message; without it when there is no room.
    pub(crate) fn with(mut self, level: i32, kind: i32, data: &[u8]) -> Self {
        let len = HEADER_LEN + data.len();
        let parts: [&[u8]; 4] =
            [&len.to_ne_bytes(), &level.to_ne_bytes(), &kind.to_ne_bytes(), data];
        let end = self.len + aligned(len);
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            let bytes = parts.into_iter().flatten();
            room.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            self.len = end;
        }
        self
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The control messages in `bytes`: level, type and data of each.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (i32, i32, &[u8])> {
    std::iter::from_fn(move || {
        let (len, rest) = bytes.split_first_chunk()?;
        let (level, rest) = rest.split_first_chunk()?;
        let (kind, _) = rest.split_first_chunk()?;
        let len = usize::from_ne_bytes(*len);
        let data = bytes.get(HEADER_LEN..len)?;
        bytes = bytes.get(aligned(len)..).unwrap_or_default();
        Some((i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind), data))
    })
}

const fn aligned(len: usize) -> usize {
    len.next_multiple_of(size_of::<usize>())
}

/// A socket address as the kernel has it: `struct sockaddr_in` or `struct sockaddr_in6`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawAddress {
    bytes: [u8; ADDRESS_LEN],
    len: usize,
}

impl RawAddress {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let mut raw = Self { bytes: [0; ADDRESS_LEN], len: 0 };
        let port = address.port().to_be_bytes();
        match address {
            SocketAddr::V4(address) => {
                raw.push(&(libc::AF_INET as u16).to_ne_bytes());
                raw.push(&port);
                raw.push(&address.ip().octets());
                raw.push(&[0; 8]);
            }
            SocketAddr::V6(address) => {
                raw.push(&(libc::AF_INET6 as u16).to_ne_bytes());
                raw.push(&port);
                raw.push(&address.flowinfo().to_be_bytes());
                raw.push(&address.ip().octets());
                raw.push(&address.scope_id().to_ne_bytes());
            }
        }
        raw
    }

    fn push(&mut self, field: &[u8]) {
        let room = self.bytes.iter_mut().skip(self.len);
        room.zip(field).for_each(|(to, from)| *to = *from);
        self.len += field.len();
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The IP address in a socket address.
pub(crate) fn ip_of(address: &[u8; ADDRESS_LEN]) -> Option<IpAddr> {
    let (family, rest) = address.split_first_chunk()?;
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let octets: &[u8; 4] = rest.get(2..)?.first_chunk()?;
            Some(Ipv4Addr::from(*octets).into())
        }
        libc::AF_INET6 => {
            let octets: &[u8; 16] = rest.get(6..)?.first_chunk()?;
            Some(Ipv6Addr::from(*octets).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn control_messages_come_back() {
        let control =
            Control::new().with(17, 103, &1452_u16.to_ne_bytes()).with(0, 1, &[2, 0, 0, 0]);
        let read: Vec<_> = messages(control.as_bytes()).collect();
        assert_eq!(read, [(17, 103, &1452_u16.to_ne_bytes()[..]), (0, 1, &[2, 0, 0, 0])]);
        assert_eq!(control.as_bytes().len(), 48);
        assert_eq!(control.with(1, 2, &[3]).as_bytes(), control.as_bytes());
    }

    #[test]
    fn addresses_come_back() {
        for text in ["192.0.2.1:8285", "[fd00::1]:8285"] {
            let address: SocketAddr = text.parse().unwrap();
            let raw = RawAddress::new(address);
            assert_eq!(ip_of(&raw.bytes), Some(address.ip()));
            assert_eq!(raw.as_bytes().len(), if address.is_ipv4() { 16 } else { 28 });
        }
        assert_eq!(ip_of(&[0; ADDRESS_LEN]), None);
    }

    proptest! {
        #[test]
        fn any_control_bytes_are_read_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / HEADER_LEN);
        }
    }
}
