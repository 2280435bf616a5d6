//! `/proc/sys/net` as the calling thread's network namespace shows it.

use std::fs;

use crate::error::{Error, Result};

/// Writes a value; the calling thread decides by its namespace whose.
pub(crate) fn write(key: &str, value: &str) -> Result<()> {
    fs::write(path(key)?, value)
        .map_err(|error| Error::io("write sysctl", format!("{key}={value}"), error))
}

/// Reads a value, without the newline.
pub(crate) fn read(key: &str) -> Result<String> {
    let text =
        fs::read_to_string(path(key)?).map_err(|error| Error::io("read sysctl", key, error))?;
    Ok(text.trim_end().to_owned())
}

// As in sysctl(8): the first separator decides, so that `net/ipv4/conf/eth0.100/forwarding` reaches
// a device with a dot.
fn path(key: &str) -> Result<String> {
    let slashed = match key.find(['.', '/']).map(|at| key.as_bytes()[at]) {
        Some(b'/') => key.to_owned(),
        Some(_) => key.replace('.', "/"),
        None => String::new(),
    };
    if slashed.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(Error::Key { key: key.to_owned() });
    }
    Ok(format!("/proc/sys/{slashed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_and_slashes() {
        assert_eq!(path("net.ipv4.ip_forward").unwrap(), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/conf/eth0.5/mtu").unwrap(), "/proc/sys/net/ipv4/conf/eth0.5/mtu");
    }

    #[test]
    fn a_key_cannot_leave_the_directory() {
        for key in ["", "net", "net/../kernel/x", "../x", "/etc/passwd", "net..ipv4", "net/./x"] {
            assert!(path(key).is_err(), "{key}");
        }
    }
}
