//! Offload features of devices, by the ethtool ioctl.

use std::io;

use crate::sys;

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
const NAME: usize = 32;

/// Switches a feature of a device in the calling thread's namespace.
pub(crate) fn set(device: &str, feature: &str, on: bool) -> io::Result<()> {
    let Some(bit) = names(device)?.iter().position(|name| name == feature) else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no such feature"));
    };
    match change(device, &[bit], on)? {
        0 => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "the device cannot change it")),
    }
}

/// Switches off whatever of the features the device has and can switch.
pub(crate) fn clear_supported(device: &str, features: &[&str]) -> io::Result<()> {
    let names = names(device)?;
    let bits: Vec<usize> =
        (0..names.len()).filter(|bit| features.contains(&names[*bit].as_str())).collect();
    change(device, &bits, false).map(drop)
}

/// The kernel's names of the feature bits.
fn names(device: &str) -> io::Result<Vec<String>> {
    // struct ethtool_sset_info: cmd, reserved, mask (u64), one length per bit
    let mut info = [ETHTOOL_GSSET_INFO, 0, 0, 0, 0];
    set_mask(&mut info, 1 << ETH_SS_FEATURES);
    call(device, &mut info)?;
    let count = info[4] as usize;
    // struct ethtool_gstrings: cmd, string set, len, names of 32 bytes
    let mut strings = vec![0_u32; 3 + count * NAME / 4];
    strings[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, info[4]]);
    call(device, &mut strings)?;
    let bytes: Vec<u8> = strings[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let text = |name: &[u8]| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
    Ok(bytes.chunks(NAME).map(text).collect())
}

/// Asks for the bits; the answer is 0 when the device now is as asked.
fn change(device: &str, bits: &[usize], on: bool) -> io::Result<i32> {
    // struct ethtool_sfeatures: cmd, size, pairs of valid and requested for 32 features each; the
    // kernel wants all blocks.
    let blocks = names(device)?.len().div_ceil(32);
    let mut change = vec![0_u32; 2 + 2 * blocks];
    change[..2].copy_from_slice(&[ETHTOOL_SFEATURES, blocks as u32]);
    for bit in bits {
        change[2 + bit / 32 * 2] |= 1 << (bit % 32);
        change[3 + bit / 32 * 2] |= u32::from(on) << (bit % 32);
    }
    call(device, &mut change)
}

fn set_mask(info: &mut [u32; 5], mask: u64) {
    let bytes = mask.to_ne_bytes();
    info[2] = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    info[3] = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
}

fn call(device: &str, command: &mut [u32]) -> io::Result<i32> {
    // SAFETY: every command of this module has the room that its counts promise, and the number of
    // features, by which the kernel goes, is the same for as long as it runs.
    unsafe { sys::ethtool(device, command) }
}
