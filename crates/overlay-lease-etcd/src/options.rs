//! How to reach etcd, and as whom.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::{EtcdUrl, OptionsError};

/// Where Flannel keeps its keys unless told otherwise.
pub const DEFAULT_PREFIX: &str = "/coreos.com/network";

/// How to reach etcd. What is not set is as Flannel and etcd's own clients have it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EtcdOptions {
    /// The members, in the order in which they are tried. One connection is used at a time; when it fails, the next
    /// member is tried, and after the last the first again.
    pub endpoints: Vec<EtcdUrl>,
    /// What all keys begin with: [`DEFAULT_PREFIX`] unless set. A named network lives one level below.
    pub prefix: String,
    /// Whom to trust, and as whom to appear. Needed for `https` endpoints.
    pub tls: Option<Tls>,
    /// User and password, where etcd has authentication switched on.
    pub credentials: Option<Credentials>,
    /// Whether the password may be sent to an `http` endpoint on another machine, where everybody on the way can
    /// read it: not unless set.
    pub allow_cleartext_password: bool,
    /// How long to try to connect to one member: 3 seconds unless set.
    pub connect_timeout: Duration,
    /// How long to wait for one answer: 5 seconds unless set.
    pub request_timeout: Duration,
    /// How long the connection may be silent, while something is waited for, before the member is asked for a sign of
    /// life: 10 seconds unless set. etcd hangs up on clients that ask more often than every 5 seconds.
    pub keepalive_interval: Duration,
    /// How long to wait for that sign before the connection counts as broken: 5 seconds unless set.
    pub keepalive_timeout: Duration,
}

impl EtcdOptions {
    /// Options for these members.
    pub fn new(endpoints: impl IntoIterator<Item = EtcdUrl>) -> Self {
        Self {
            endpoints: endpoints.into_iter().collect(),
            prefix: DEFAULT_PREFIX.to_owned(),
            tls: None,
            credentials: None,
            allow_cleartext_password: false,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
        }
    }

    /// Options for members as one writes them on a command line: `https://a:2379,https://b:2379`.
    ///
    /// # Errors
    ///
    /// [`OptionsError::Endpoint`] for the first that is none.
    pub fn parse(endpoints: &str) -> Result<Self, OptionsError> {
        let endpoints: Result<Vec<_>, _> = endpoints.split(',').map(str::parse).collect();
        endpoints.map(Self::new)
    }

    /// Sets [`prefix`](Self::prefix).
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets [`tls`](Self::tls).
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets [`credentials`](Self::credentials).
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<Password>) -> Self {
        self.credentials = Some(Credentials { user: user.into(), password: password.into() });
        self
    }

    /// Sets [`allow_cleartext_password`](Self::allow_cleartext_password).
    pub fn allow_cleartext_password(mut self, allow: bool) -> Self {
        self.allow_cleartext_password = allow;
        self
    }

    /// Sets [`connect_timeout`](Self::connect_timeout).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets [`request_timeout`](Self::request_timeout).
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Sets [`keepalive_interval`](Self::keepalive_interval) and [`keepalive_timeout`](Self::keepalive_timeout).
    pub fn keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.keepalive_interval = interval;
        self.keepalive_timeout = timeout;
        self
    }

    /// What can be told to be wrong without asking etcd.
    pub(crate) fn validate(&self) -> Result<(), OptionsError> {
        if self.endpoints.is_empty() {
            return Err(OptionsError::NoEndpoint);
        }
        let segments = self.prefix.strip_prefix('/').map(|prefix| prefix.split('/'));
        if !segments.is_some_and(|mut segments| segments.all(|segment| !segment.is_empty())) {
            return Err(OptionsError::Prefix { prefix: self.prefix.clone() });
        }
        let cleartext = |endpoint: &&EtcdUrl| !endpoint.tls() && !endpoint.is_loopback();
        if self.credentials.is_some()
            && !self.allow_cleartext_password
            && let Some(endpoint) = self.endpoints.iter().find(cleartext)
        {
            return Err(OptionsError::CleartextPassword { endpoint: endpoint.clone() });
        }
        Ok(())
    }
}

/// User and password.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user's name in etcd.
    pub user: String,
    /// The user's password in etcd.
    pub password: Password,
}

/// A password. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Password {
    fn from(password: T) -> Self {
        Self(password.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Whom to trust and as whom to appear, as PEM.
///
/// A certificate authority is enough: it makes sure that the server is the right one. A client certificate comes on top
/// where etcd asks for it (`--client-cert-auth`).
#[derive(Clone)]
pub struct Tls {
    pub(crate) authorities: Vec<u8>,
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
    pub(crate) server_name: Option<String>,
}

impl Tls {
    /// Trusts servers whose certificates one of these authorities has signed: one or more PEM certificates.
    ///
    /// # Errors
    ///
    /// [`OptionsError::Pem`] if there is no certificate in it.
    pub fn new(authorities: impl Into<Vec<u8>>) -> Result<Self, OptionsError> {
        let authorities = authorities.into();
        expect_pem(&authorities, "CERTIFICATE", "certificate authorities")?;
        Ok(Self { authorities, identity: None, server_name: None })
    }

    /// [`new`](Self::new), from a file.
    ///
    /// # Errors
    ///
    /// [`OptionsError::File`] if it cannot be read, [`OptionsError::Pem`] if there is no certificate in it.
    pub fn from_file(authorities: impl AsRef<Path>) -> Result<Self, OptionsError> {
        Self::new(read(authorities.as_ref())?)
    }

    /// Presents this certificate chain, and proves it with this private key.
    ///
    /// # Errors
    ///
    /// [`OptionsError::Pem`] if there is no certificate in the one or no private key in the other.
    pub fn identity(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Result<Self, OptionsError> {
        let (certificate, key) = (certificate.into(), key.into());
        expect_pem(&certificate, "CERTIFICATE", "client certificate")?;
        expect_pem(&key, "PRIVATE KEY", "client key")?;
        self.identity = Some((certificate, key));
        Ok(self)
    }

    /// [`identity`](Self::identity), from files.
    ///
    /// # Errors
    ///
    /// [`OptionsError::File`] if one cannot be read, [`OptionsError::Pem`] if the wrong thing is in it.
    pub fn identity_from_files(
        self,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, OptionsError> {
        self.identity(read(certificate.as_ref())?, read(key.as_ref())?)
    }

    /// The name the servers' certificates must be for: the endpoint's host unless set.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// Looks for the line that begins what is wanted; TLS itself would ignore a file without it.
fn expect_pem(pem: &[u8], label: &'static str, what: &'static str) -> Result<(), OptionsError> {
    let found = String::from_utf8_lossy(pem).lines().any(|line| {
        line.trim()
            .strip_prefix("-----BEGIN ")
            .and_then(|line| line.strip_suffix("-----"))
            .is_some_and(|found| found.ends_with(label))
    });
    if found { Ok(()) } else { Err(OptionsError::Pem { what, label }) }
}

fn read(path: &Path) -> Result<Vec<u8>, OptionsError> {
    std::fs::read(path).map_err(|source| OptionsError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n-----END EC PRIVATE KEY-----\n";

    #[test]
    fn secrets_do_not_print() {
        let tls = Tls::new(CERTIFICATE).unwrap().identity(CERTIFICATE, KEY).unwrap();
        let options = EtcdOptions::parse("https://etcd1,https://etcd2")
            .unwrap()
            .credentials("root", "hunter2")
            .tls(tls);
        let printed = format!("{options:?} {options:#?}");
        assert!(printed.contains("root") && printed.contains("etcd2"), "{printed}");
        assert!(!printed.contains("hunter2") && !printed.contains("c2VjcmV0"), "{printed}");
    }

    #[test]
    fn a_password_goes_to_other_machines_only_encrypted() {
        let options = |endpoints: &str| {
            EtcdOptions::parse(endpoints).unwrap().credentials("root", "hunter2").validate()
        };
        assert!(options("https://etcd1,http://localhost").is_ok());
        let error = options("https://etcd1,http://etcd2").unwrap_err();
        assert!(matches!(error, OptionsError::CleartextPassword { .. }), "{error}");
        assert!(error.to_string().contains("http://etcd2:2379"), "{error}");

        let allowed = EtcdOptions::parse("http://etcd2")
            .unwrap()
            .credentials("root", "hunter2")
            .allow_cleartext_password(true);
        assert!(allowed.validate().is_ok());
    }

    #[test]
    fn a_prefix_is_a_path() {
        for (prefix, right) in [
            (DEFAULT_PREFIX, true),
            ("/a", true),
            ("a", false),
            ("/", false),
            ("", false),
            ("/a/", false),
            ("/a//b", false),
        ] {
            let options = EtcdOptions::parse("http://localhost").unwrap().prefix(prefix);
            assert_eq!(options.validate().is_ok(), right, "{prefix}");
        }
        assert!(matches!(EtcdOptions::new([]).validate(), Err(OptionsError::NoEndpoint)));
    }

    #[test]
    fn pem_of_the_wrong_kind_is_refused() {
        assert!(matches!(Tls::new(KEY), Err(OptionsError::Pem { .. })));
        assert!(Tls::new("").is_err());
        let tls = Tls::new(CERTIFICATE).unwrap();
        assert!(tls.clone().identity(KEY, KEY).is_err());
        assert!(tls.clone().identity(CERTIFICATE, CERTIFICATE).is_err());
        let missing = tls.identity_from_files("/nonexistent/a.pem", "/nonexistent/b.pem");
        let error = missing.unwrap_err().to_string();
        assert!(error.contains("/nonexistent/a.pem"), "{error}");
    }
}
