//! Where leases are kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use overlay_lease::{AnyStore, MemoryStore, NetworkName};
use overlay_lease_etcd::{EtcdOptions, EtcdStore, Tls};
use overlay_lease_sqlite::SqliteStore;

use crate::error::Problem;
use crate::options::{Command, Etcd, Options};

/// A kind of store, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this process, for as long as it runs.
    Memory,
    /// A database file.
    Sqlite(PathBuf),
    /// The client URLs of one cluster.
    Etcd(Vec<String>),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            Some(("etcd", urls)) if !urls.is_empty() => {
                Ok(Self::Etcd(urls.split(',').map(|url| url.trim().to_owned()).collect()))
            }
            _ => Err("expected memory:, sqlite:PATH, or etcd:URL as in etcd:http://127.0.0.1:2379"
                .into()),
        }
    }
}

/// A store that is open.
pub(crate) struct Opened {
    pub(crate) store: AnyStore,
    /// What has to be closed.
    file: Option<SqliteStore>,
}

impl Opened {
    pub(crate) async fn close(self) {
        if let Some(file) = self.file {
            file.close().await;
        }
    }
}

impl Options {
    /// The store that the command line names. Nothing has been asked of it yet.
    pub(crate) async fn open(&self) -> anyhow::Result<Opened> {
        let store = match &self.store {
            Place::Memory => AnyStore::new(MemoryStore::new()),
            Place::Sqlite(path) => {
                let file = self.open_file(path).await?;
                return Ok(Opened { store: AnyStore::new(file.clone()), file: Some(file) });
            }
            Place::Etcd(urls) => {
                let unnamed = EtcdStore::new(&self.etcd.connection(urls)?)?;
                AnyStore::new(match &self.network {
                    Some(network) => unnamed.named(network)?,
                    None => unnamed,
                })
            }
        };
        Ok(Opened { store, file: None })
    }

    /// Only init makes a file: elsewhere a path that leads nowhere is a mistake.
    async fn open_file(&self, path: &Path) -> anyhow::Result<SqliteStore> {
        let network = self.network.clone().unwrap_or_else(default_name);
        if let Some(Command::Init(_)) = self.command {
            return Ok(SqliteStore::open(path, &network).await?);
        }
        SqliteStore::open_existing(path, &network).await.map_err(|error| match path.exists() {
            true => error.into(),
            false => Problem::NoFile(error).into(),
        })
    }
}

impl Etcd {
    fn connection(&self, urls: &[String]) -> anyhow::Result<EtcdOptions> {
        let mut options = EtcdOptions::parse(&urls.join(","))?.prefix(&self.prefix);
        if let Some(ca) = &self.ca {
            let mut tls = Tls::from_file(ca)?;
            if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
                tls = tls.identity_from_files(cert, key)?;
            }
            options = options.tls(tls);
        }
        if let (Some(user), Some(file)) = (&self.user, &self.password_file) {
            let password = fs::read_to_string(file)
                .with_context(|| format!("cannot read the password from {}", file.display()))?;
            options = options.credentials(user, password.trim_end_matches(['\r', '\n']));
        }
        Ok(options)
    }
}

/// The network of those who have only one, where it needs a name.
fn default_name() -> NetworkName {
    NetworkName::new("default").expect("lower-case letters are a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        for (text, place) in [
            ("memory:", Place::Memory),
            ("sqlite:/var/lib/leases.db", Place::Sqlite("/var/lib/leases.db".into())),
            (
                "etcd:http://a:2379,http://b:2379",
                Place::Etcd(vec!["http://a:2379".into(), "http://b:2379".into()]),
            ),
        ] {
            assert_eq!(text.parse(), Ok(place));
        }
        for wrong in ["", "memory", "memory:x", "sqlite:", "etcd:", "redis:x", "/var/lib/leases.db"]
        {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
