//! What a VTEP publishes of itself.

use overlay_wire::{MacAddr, Vni};
use serde::{Deserialize, Serialize};

/// What peers must know of a VTEP: the JSON of Flannel's `BackendData` for vxlan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct VtepData {
    /// The network that it is in. Old versions of Flannel do not say.
    #[serde(rename = "VNI", default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// The MAC address of its device.
    #[serde(rename = "VtepMAC")]
    pub vtep_mac: MacAddr,
}

impl VtepData {
    /// Reads what a peer publishes. Fields that are not known are passed over.
    ///
    /// # Errors
    /// When the MAC address is missing or either value is malformed.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(json)
    }

    /// The JSON to publish.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut map = serde_json::Map::new();
        if let Some(vni) = self.vni {
            map.insert("VNI".to_owned(), vni.get().into());
        }
        map.insert("VtepMAC".to_owned(), self.vtep_mac.to_string().into());
        map.into()
    }
}
