//! What a node tells its peers about its data path.

use serde::de::{self, Unexpected};
use serde::{Deserialize, Serialize};

/// What a node publishes for its peers: whether packets may come to it as they are inside a kernel.
///
/// Flannel's nodes publish nothing at all, which reads as "no".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(clippy::exhaustive_structs)]
pub struct PathData {
    /// Whether a program in the kernel takes the packets out of their datagrams. It copes with
    /// super-packets and unfinished inner checksums, which a virtual underlay device hands over as they
    /// are and a plain socket does not understand; and with datagrams over IPv6 without a checksum.
    #[serde(default)]
    pub fast_path: bool,
}

impl PathData {
    /// As JSON, in the manner of Flannel's `BackendData`: `{"FastPath":true}`.
    #[must_use]
    pub fn to_json(self) -> serde_json::Value {
        serde_json::json!({ "FastPath": self.fast_path })
    }

    /// From JSON; members that are not known are passed over, and `null` is what Flannel's nodes say.
    ///
    /// # Errors
    /// When it is no object, or a member has the wrong type.
    pub fn from_json(data: &serde_json::Value) -> Result<Self, serde_json::Error> {
        if data.is_null() {
            return Ok(Self::default());
        }
        if data.is_array() {
            // What serde would read the members of in order.
            return Err(de::Error::invalid_type(Unexpected::Seq, &"an object"));
        }
        Self::deserialize(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_flannel_publishes_is_a_plain_peer() {
        for plain in [json!(null), json!({}), json!({ "FastPath": false, "Other": 1 })] {
            assert_eq!(PathData::from_json(&plain).unwrap(), PathData::default());
        }
    }

    #[test]
    fn data_comes_back_as_it_was_written() {
        for fast_path in [false, true] {
            let data = PathData { fast_path };
            assert_eq!(PathData::from_json(&data.to_json()).unwrap(), data);
        }
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        for bad in [json!([]), json!("x"), json!({ "FastPath": 1 })] {
            assert!(PathData::from_json(&bad).is_err(), "{bad}");
        }
    }
}
