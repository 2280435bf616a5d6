//! Frames that a device is made to send.

use crate::error::{Error, Result};
use crate::host::Host;
use crate::sys;

/// Makes a device send a frame, in front of which there is a virtio header: what the device cannot do of what that asks for,
/// a checksum or segmentation, the kernel does.
///
/// # Errors
///
/// [`Error::Io`] when there is no such device, or the kernel refuses the frame.
///
/// # Privileges
///
/// `CAP_NET_RAW` in the user namespace, which [`enter`](crate::enter) gives.
pub fn transmit(host: &Host, device: &str, frame: &[u8]) -> Result<()> {
    let failed = |error| Error::io("send a frame through", host.object(device), error);
    let options = [(libc::PACKET_VNET_HDR, 1)];
    let socket = host.try_run(|| sys::packet_socket(device, &options))?.map_err(failed)?;
    sys::send(&socket, frame).map(drop).map_err(failed)
}
