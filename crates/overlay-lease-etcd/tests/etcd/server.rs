//! A real etcd on loopback, with data of its own, that ends with the test.

use std::ops::{Deref, DerefMut};
use std::path::Path;

use overlay_lab::Error;
use overlay_lease_etcd::{EtcdOptions, EtcdStore};

/// What tests need, by the name it has in `OVERLAY_REQUIRE`.
const NEED: &str = "etcd";

/// A running etcd of one member.
pub(crate) struct Etcd {
    etcd: overlay_lab::Etcd,
}

impl Etcd {
    /// Starts one without data. Nothing, loudly, if there is no etcd here and none is required.
    pub(crate) fn start(case: &str) -> Option<Self> {
        Self::start_with(case, |_| Vec::new())
    }

    /// Starts one with further options, which may refer to files in its directory.
    pub(crate) fn start_with(
        case: &str,
        options: impl FnOnce(&Path) -> Vec<String>,
    ) -> Option<Self> {
        match overlay_lab::Etcd::start_with(options) {
            Ok(etcd) => Some(Self { etcd }),
            Err(error @ Error::Io { .. }) => {
                overlay_lab::cannot_run(case, NEED, &error.to_string()).expect("etcd is required");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn restart(&mut self) {
        self.etcd.restart().unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.etcd.kill().unwrap();
    }

    pub(crate) fn options(&self) -> EtcdOptions {
        EtcdOptions::parse(&self.url()).unwrap()
    }

    pub(crate) fn store(&self) -> EtcdStore {
        EtcdStore::new(&self.options()).unwrap()
    }

    /// Runs etcd's own client, and returns what it says. It is another implementation of what is tested.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        self.ctl_with_input(arguments, "")
    }

    /// The same, with something to read.
    pub(crate) fn ctl_with_input(&self, arguments: &[&str], input: &str) -> String {
        self.etcd.ctl(arguments, input).unwrap()
    }
}

impl Deref for Etcd {
    type Target = overlay_lab::Etcd;

    fn deref(&self) -> &overlay_lab::Etcd {
        &self.etcd
    }
}

impl DerefMut for Etcd {
    fn deref_mut(&mut self) -> &mut overlay_lab::Etcd {
        &mut self.etcd
    }
}
