//! The classic pcap file format.

use std::io::{self, Write};

use crate::capture::Frame;

const NANOSECONDS: u32 = 0xa1b2_3c4d;
const LARGEST: u32 = 1 << 18;
const ETHERNET: u32 = 1;
const RAW_IP: u32 = 101;

/// The link type for a kernel hardware type.
pub(crate) fn link_type(hardware: u16) -> u32 {
    match hardware {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => ETHERNET,
        _ => RAW_IP,
    }
}

/// Writes a whole file.
pub(crate) fn write(mut to: impl Write, link_type: u32, frames: &[Frame]) -> io::Result<()> {
    to.write_all(&NANOSECONDS.to_le_bytes())?;
    to.write_all(&[2, 0, 4, 0])?;
    for word in [0, 0, LARGEST, link_type] {
        to.write_all(&u32::to_le_bytes(word))?;
    }
    for Frame { time, bytes } in frames {
        let length = bytes.len() as u32;
        // The format has 32 bits for the seconds.
        for word in [time.as_secs() as u32, time.subsec_nanos(), length, length] {
            to.write_all(&word.to_le_bytes())?;
        }
        to.write_all(bytes)?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_file_is_laid_out_as_the_format_says() {
        let mut file = Vec::new();
        let frame = Frame { time: Duration::new(0x0102_0304, 5), bytes: vec![0xaa, 0xbb, 0xcc] };
        write(&mut file, ETHERNET, &[frame]).unwrap();
        let expected = [
            &[0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0][..],
            &[4, 3, 2, 1, 5, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 0xaa, 0xbb, 0xcc][..],
        ];
        assert_eq!(file, expected.concat());
    }
}
