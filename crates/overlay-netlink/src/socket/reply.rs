//! Reading what the kernel sends back.

use std::mem;

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_ALIGNTO};

use crate::Error;
use crate::codec::{self, HEADER_LEN};

/// A message that ends before its content does, or says that it is longer than its datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cut;

impl Cut {
    pub(crate) const fn during(self, operation: &'static str) -> Error {
        Error::Malformed { operation, reason: "a message is cut short" }
    }
}

/// One message of a datagram.
pub(crate) struct ReplyMessage<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// The messages of a datagram. One that is cut short is the last: where the next would start is
/// unknown, and a listing without it must not pass for a whole one.
pub(crate) struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    pub(crate) const fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<ReplyMessage<'a>, Cut>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let datagram = mem::take(&mut self.rest);
        Some(self.split(datagram).ok_or(Cut))
    }
}

impl<'a> Messages<'a> {
    fn split(&mut self, datagram: &'a [u8]) -> Option<ReplyMessage<'a>> {
        let len = codec::u32_at(datagram, 0)? as usize;
        let message = ReplyMessage {
            kind: codec::u16_at(datagram, 4)?,
            flags: codec::u16_at(datagram, 6)?,
            sequence: codec::u32_at(datagram, 8)?,
            body: datagram.get(HEADER_LEN..len)?,
        };
        let next = len.checked_next_multiple_of(usize::from(NLMSG_ALIGNTO))?;
        self.rest = datagram.get(next..).unwrap_or_default();
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
    /// Reads `struct nlmsgerr` with what follows it; `None` is an acknowledgement.
    pub(crate) fn parse(flags: u16, body: &[u8]) -> Result<Option<Self>, Cut> {
        let errno = codec::u32_at(body, 0).ok_or(Cut)? as i32;
        if errno == 0 {
            return Ok(None);
        }
        let request = body.get(4..).unwrap_or_default();
        // A capped answer repeats only the header of the request.
        let repeated = match flags & NLM_F_CAPPED {
            0 => codec::u32_at(request, 0).ok_or(Cut)? as usize,
            _ => HEADER_LEN,
        };
        let attributes = match flags & NLM_F_ACK_TLVS {
            0 => None,
            _ => repeated.checked_next_multiple_of(4).and_then(|at| request.get(at..)),
        };
        Ok(Some(Self::new(errno, attributes.unwrap_or_default())))
    }

    /// Reads the end of a dump: a number, negative for an error, then the same attributes.
    pub(crate) fn parse_done(body: &[u8]) -> Result<Option<Self>, Cut> {
        let errno = codec::u32_at(body, 0).ok_or(Cut)? as i32;
        let attributes = body.get(4..).unwrap_or_default();
        Ok((errno < 0).then(|| Self::new(errno, attributes)))
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

    fn error(
        flags: u16,
        errno: i32,
        request: &[u8],
        attributes: &[u8],
    ) -> Result<Option<Refusal>, Cut> {
        let mut body = errno.to_ne_bytes().to_vec();
        body.extend_from_slice(request);
        body.extend_from_slice(attributes);
        Refusal::parse(flags, &body)
    }

    #[test]
    fn the_kernels_text_is_found_behind_a_capped_and_a_whole_request() {
        let text = [7, 0, 1, 0, b'n', b'o', 0, 0];
        let mut request = [0; HEADER_LEN + 8];
        request[..4].copy_from_slice(&(HEADER_LEN as u32 + 8).to_ne_bytes());
        let capped = error(NLM_F_CAPPED | NLM_F_ACK_TLVS, -95, &request[..HEADER_LEN], &text);
        let whole = error(NLM_F_ACK_TLVS, -95, &request, &text);
        let expected = Refusal { errno: 95, message: Some("no".to_owned()), offset: None };
        assert_eq!(capped, Ok(Some(expected)));
        assert_eq!(whole, capped);
    }

    #[test]
    fn an_acknowledgement_is_no_refusal() {
        assert_eq!(error(0, 0, &[0; HEADER_LEN], &[]), Ok(None));
        assert_eq!(Refusal::parse_done(&0i32.to_ne_bytes()), Ok(None));
    }

    /// Not an acknowledgement, and not the good end of a dump: an empty list would be made of it.
    #[test]
    fn an_answer_without_a_number_is_cut() {
        assert_eq!(Refusal::parse(0, &[]), Err(Cut));
        assert_eq!(Refusal::parse(0, &[0xff; 3]), Err(Cut));
        assert_eq!(Refusal::parse(0, &(-22i32).to_ne_bytes()), Err(Cut));
        assert_eq!(Refusal::parse_done(&[]), Err(Cut));
    }

    #[test]
    fn a_number_of_either_sign_refuses_a_request() {
        for errno in [-22, 22] {
            let refusal = error(0, errno, &[0; HEADER_LEN], &[]).unwrap().unwrap();
            assert_eq!(refusal.errno, 22);
        }
        let refusal = error(0, i32::MIN, &[0; HEADER_LEN], &[]).unwrap().unwrap();
        assert_eq!(refusal.errno, i32::MAX);
    }

    #[test]
    fn a_request_that_lies_about_its_length_takes_the_text_with_it() {
        let text = [7, 0, 1, 0, b'n', b'o', 0, 0];
        let refusal = error(NLM_F_ACK_TLVS, -95, &[0xff; HEADER_LEN], &text).unwrap().unwrap();
        assert_eq!((refusal.errno, refusal.message), (95, None));
    }

    #[test]
    fn a_refused_dump_is_a_refusal() {
        let refusal = Refusal::parse_done(&(-22i32).to_ne_bytes()).unwrap().unwrap();
        assert_eq!(refusal.errno, 22);
    }

    #[test]
    fn a_cut_message_is_seen_and_ends_the_datagram() {
        let cut = |datagram: &[u8]| Messages::new(datagram).map(|m| m.is_err()).collect::<Vec<_>>();
        assert_eq!(cut(&[]), []);
        assert_eq!(cut(&[1, 2, 3]), [true]);
        let mut message = [0; HEADER_LEN];
        message[0] = HEADER_LEN as u8;
        assert_eq!(cut(&message), [false]);
        assert_eq!(cut(&[message, message].concat()), [false, false]);
        for len in [0, 1, HEADER_LEN as u8 - 1, HEADER_LEN as u8 + 1, 0xff] {
            message[0] = len;
            assert_eq!(cut(&message), [true], "{len}");
            assert_eq!(cut(&[message, [0; HEADER_LEN]].concat()).last(), Some(&true), "{len}");
        }
        assert_eq!(cut(&[0xff; 2 * HEADER_LEN]), [true]);
    }
}
