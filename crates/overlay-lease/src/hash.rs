//! A number that stands for a node.

use crate::name::NodeId;

/// A number for each `purpose` that looks random, and stays the same on every platform and in every version: programs of
/// different versions are to look for the subnets of a node in the same places.
///
/// The FNV-1a hash of the node's name and of the purpose is the state of a SplitMix64 generator, of which this is the first
/// number and the second, behind it.
pub(crate) fn spread(node: &NodeId, purpose: &str) -> u128 {
    let mut state = fnv1a([node.as_str(), "/", purpose].concat().as_bytes());
    let (high, low) = (splitmix64(&mut state), splitmix64(&mut state));
    u128::from(high) << 64 | u128::from(low)
}

/// FNV-1a with 64 bits, as of draft-eastlake-fnv.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// SplitMix64, as of Steele, Lea and Flood: "Fast splittable pseudorandom number generators", 2014.
fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_what_they_are_called() {
        for (text, hash) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(fnv1a(text.as_bytes()), hash, "{text}");
        }
        let mut state = 1_234_567;
        for number in [6_457_827_717_110_365_317, 3_203_168_211_198_807_973] {
            assert_eq!(splitmix64(&mut state), number);
        }
    }
}
