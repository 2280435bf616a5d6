//! Reading what the kernel sends back.

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_ALIGNTO};

use crate::codec::{self, HEADER_LEN};

/// One message of a datagram.
pub(crate) struct ReplyMessage<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// The messages of a datagram. Stops at one that is malformed.
pub(crate) struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    pub(crate) const fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = ReplyMessage<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let len = codec::u32_at(self.rest, 0)? as usize;
        let message = ReplyMessage {
            kind: codec::u16_at(self.rest, 4)?,
            flags: codec::u16_at(self.rest, 6)?,
            sequence: codec::u32_at(self.rest, 8)?,
            body: self.rest.get(HEADER_LEN..len)?,
        };
        let next = len.checked_next_multiple_of(usize::from(NLMSG_ALIGNTO))?;
        self.rest = self.rest.get(next..).unwrap_or_default();
        Some(message)
    }
}

/// The kernel's refusal of one message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) errno: i32,
    pub(crate) message: Option<String>,
    pub(crate) offset: Option<u32>,
}

impl Refusal {
    /// Reads `struct nlmsgerr` with what follows it. `None` when it is cut short, `Some(None)` for
    /// an acknowledgement.
    pub(crate) fn parse(flags: u16, body: &[u8]) -> Option<Option<Self>> {
        let errno = codec::u32_at(body, 0)? as i32;
        if errno == 0 {
            return Some(None);
        }
        let request = body.get(4..)?;
        // A capped answer repeats only the header of the request.
        let repeated = match flags & NLM_F_CAPPED {
            0 => (codec::u32_at(request, 0)? as usize).next_multiple_of(4),
            _ => HEADER_LEN,
        };
        let attributes = match flags & NLM_F_ACK_TLVS {
            0 => &[],
            _ => request.get(repeated..).unwrap_or_default(),
        };
        Some(Some(Self::new(errno, attributes)))
    }

    /// Reads the end of a dump: an error number, then the same attributes.
    pub(crate) fn parse_done(body: &[u8]) -> Option<Option<Self>> {
        // A dump that ends without a number ends well.
        let Some(errno) = codec::u32_at(body, 0) else { return Some(None) };
        let errno = errno as i32;
        let attributes = body.get(4..).unwrap_or_default();
        Some((errno < 0).then(|| Self::new(errno, attributes)))
    }

    fn new(errno: i32, attributes: &[u8]) -> Self {
        // NLMSGERR_ATTR_MSG and NLMSGERR_ATTR_OFFS in linux/netlink.h.
        const MSG: u16 = 1;
        const OFFS: u16 = 2;
        let mut refusal =
            Self { errno: errno.checked_abs().unwrap_or(i32::MAX), message: None, offset: None };
        for (kind, value) in codec::attributes(attributes) {
            match kind {
                MSG => refusal.message = Some(codec::text(value)),
                OFFS => refusal.offset = codec::u32_at(value, 0),
                _ => {}
            }
        }
        refusal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(flags: u16, errno: i32, request: &[u8], attributes: &[u8]) -> Option<Option<Refusal>> {
        let mut body = errno.to_ne_bytes().to_vec();
        body.extend_from_slice(request);
        body.extend_from_slice(attributes);
        Refusal::parse(flags, &body)
    }

    #[test]
    fn the_kernels_text_is_found_behind_a_capped_and_a_whole_request() {
        let text = [7, 0, 1, 0, b'n', b'o', 0, 0];
        let mut request = [0; HEADER_LEN + 8];
        request[..4].copy_from_slice(&(request.len() as u32).to_ne_bytes());
        let capped = error(NLM_F_CAPPED | NLM_F_ACK_TLVS, -95, &request[..HEADER_LEN], &text);
        let whole = error(NLM_F_ACK_TLVS, -95, &request, &text);
        let expected = Refusal { errno: 95, message: Some("no".to_owned()), offset: None };
        assert_eq!(capped, Some(Some(expected)));
        assert_eq!(whole, capped);
    }

    #[test]
    fn an_acknowledgement_is_no_refusal() {
        assert_eq!(error(0, 0, &[0; HEADER_LEN], &[]), Some(None));
        assert_eq!(Refusal::parse_done(&0i32.to_ne_bytes()), Some(None));
        assert_eq!(Refusal::parse_done(&[]), Some(None));
    }

    #[test]
    fn a_refused_dump_is_a_refusal() {
        let refusal = Refusal::parse_done(&(-22i32).to_ne_bytes()).unwrap().unwrap();
        assert_eq!(refusal.errno, 22);
    }

    #[test]
    fn cut_messages_end_a_datagram() {
        assert_eq!(Messages::new(&[1, 2, 3]).count(), 0);
        let mut message = [0; HEADER_LEN];
        message[0] = HEADER_LEN as u8;
        assert_eq!(Messages::new(&message).count(), 1);
        message[0] = HEADER_LEN as u8 + 1;
        assert_eq!(Messages::new(&message).count(), 0);
        message[0] = 0;
        assert_eq!(Messages::new(&message).count(), 0);
    }
}
