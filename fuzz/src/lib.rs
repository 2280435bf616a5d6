//! Fuzz targets of the Overlay libraries.
//!
//! The bodies of the targets are functions here, so that libFuzzer, the replay of the corpora in `cargo test`, and
//! [`replay`] on a file someone sent all run the same code. `README.md` says how to fuzz and how to add a target.

mod lease;
mod wire;

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

pub use lease::{lease_attributes, network_config};
pub use wire::{
    checksum, coalesce, dissect, encapsulate, ethernet, etherparse_ip, etherparse_link,
    etherparse_transport, geneve, gre, gue, icmp, ip_in_ip, ipv4, ipv6, segment, tcp, udp, vxlan,
};

#[cfg(fuzzing)]
#[doc(hidden)]
pub use libfuzzer_sys;

/// A target by its name, which is also the name of its binary and of its directory in `corpus/`.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// What is done with one input. It panics when it finds something.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "netlink_messages", run: netlink_messages },
    Target { name: "ethernet", run: ethernet },
    Target { name: "ipv4", run: ipv4 },
    Target { name: "ipv6", run: ipv6 },
    Target { name: "udp", run: udp },
    Target { name: "tcp", run: tcp },
    Target { name: "icmp", run: icmp },
    Target { name: "vxlan", run: vxlan },
    Target { name: "gre", run: gre },
    Target { name: "gue", run: gue },
    Target { name: "geneve", run: geneve },
    Target { name: "ip_in_ip", run: ip_in_ip },
    Target { name: "dissect", run: dissect },
    Target { name: "encapsulate", run: encapsulate },
    Target { name: "segment", run: segment },
    Target { name: "coalesce", run: coalesce },
    Target { name: "checksum", run: checksum },
    Target { name: "etherparse_link", run: etherparse_link },
    Target { name: "etherparse_ip", run: etherparse_ip },
    Target { name: "etherparse_transport", run: etherparse_transport },
    Target { name: "network_config", run: network_config },
    Target { name: "lease_attributes", run: lease_attributes },
];

/// What the kernel sends: whole datagrams, events, refusals, and objects of every kind, which are sent
/// back and read again.
pub fn netlink_messages(input: &[u8]) {
    overlay_netlink::fuzzing::netlink_messages(input);
}

/// Runs one target over files, directories meaning the files in them, and returns how many inputs that were.
///
/// # Errors
///
/// Which file or directory cannot be read.
///
/// # Panics
///
/// When the target does; the name of the file is printed before.
pub fn run_files(target: Target, paths: &[impl AsRef<Path>]) -> Result<usize, String> {
    let mut inputs = 0;
    for path in paths.iter().map(AsRef::as_ref) {
        let failed = |error| format!("{}: {error}", path.display());
        if path.is_dir() {
            let entries = fs::read_dir(path).map_err(failed)?;
            let mut files: Vec<_> = entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<_, _>>()
                .map_err(failed)?;
            files.sort();
            inputs += run_files(target, &files)?;
        } else {
            let input = fs::read(path).map_err(failed)?;
            println!("{} {}", target.name, path.display());
            (target.run)(&input);
            inputs += 1;
        }
    }
    Ok(inputs)
}

/// The `main` of a target that is built without libFuzzer: runs the files named on the command line through it.
pub fn replay(target: Target, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match run_files(target, &arguments.skip(1).collect::<Vec<_>>()) {
        Ok(0) => {
            eprintln!(
                "usage: {} FILE-OR-DIRECTORY...  (to fuzz: cargo fuzz run -s none {0})",
                target.name
            );
            ExitCode::from(2)
        }
        Ok(inputs) => {
            println!("{inputs} inputs, nothing found");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The `main` of a target: libFuzzer's when cargo-fuzz builds it, else [`replay`].
#[macro_export]
macro_rules! main {
    ($name:ident) => {
        #[cfg(fuzzing)]
        $crate::libfuzzer_sys::fuzz_target!(|input: &[u8]| $crate::$name(input));

        #[cfg(not(fuzzing))]
        fn main() -> std::process::ExitCode {
            let target = $crate::Target { name: stringify!($name), run: $crate::$name };
            $crate::replay(target, std::env::args_os())
        }
    };
}
