//! Who may talk to etcd, and who is believed to be it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use overlay_lease::{Store, StoreError, StoreErrorKind, Watch};
use overlay_lease_etcd::{EtcdOptions, EtcdStore, EtcdUrl, OptionsError, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::server::Etcd;
use crate::{IPV4, changes, claim, configured, soon};

/// Certificates of one authority, as PEM files in a directory: `ca`, `server`, `client`, and the keys of the latter.
fn write_certificates(dir: &Path) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    for (name, subject) in [("server", "127.0.0.1"), ("client", "node-a")] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([subject.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

fn option(name: &str, dir: &Path, file: &str) -> String {
    format!("--{name}={}", dir.join(file).display())
}

fn server_options(dir: &Path) -> Vec<String> {
    write_certificates(dir);
    vec![option("cert-file", dir, "server.pem"), option("key-file", dir, "server.key")]
}

fn options_that_ask_for_a_certificate(dir: &Path) -> Vec<String> {
    let mut options = server_options(dir);
    options.push("--client-cert-auth".into());
    options.push(option("trusted-ca-file", dir, "ca.pem"));
    options
}

fn authority(etcd: &Etcd) -> Tls {
    Tls::from_file(etcd.directory().join("ca.pem")).unwrap()
}

async fn works(options: &EtcdOptions) {
    let store = EtcdStore::new(options).unwrap();
    let config = configured(&store, IPV4).await;
    let mut watch = store.watch(config.revision).await.unwrap();
    store.create(&claim("10.5.1.0/24", "a", &config)).await.unwrap();
    assert_eq!(changes(&mut watch).await, ["10.5.1.0/24 at 192.0.2.1"]);
}

async fn error(options: &EtcdOptions) -> StoreError {
    let options = options.clone().request_timeout(Duration::from_secs(2));
    soon(EtcdStore::new(&options).unwrap().config()).await.unwrap_err()
}

#[tokio::test]
async fn an_authority_is_enough() {
    let Some(etcd) = Etcd::start_with("TLS with an authority only", server_options) else { return };
    works(&etcd.options().tls(authority(&etcd))).await;

    // A name that the certificate is not for.
    let named = authority(&etcd).server_name("etcd.example");
    let text = error(&etcd.options().tls(named)).await.to_string();
    assert!(text.contains(&etcd.url()) && text.contains("certificate"), "{text}");
    // An authority that did not sign it.
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let stranger = Tls::new(other.cert.pem()).unwrap();
    let refused = error(&etcd.options().tls(stranger)).await;
    assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
    assert!(refused.to_string().contains("certificate"), "{refused}");
    // Without encryption.
    let plain: EtcdUrl = etcd.url().replace("https", "http").parse().unwrap();
    error(&EtcdOptions::new([plain])).await;
    // Encryption without anybody to trust is no encryption.
    let nobody = EtcdStore::new(&etcd.options());
    assert!(matches!(nobody, Err(OptionsError::NoAuthority { .. })), "{nobody:?}");
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_one_is_asked_for() {
    let case = "TLS with client certificates";
    let Some(etcd) = Etcd::start_with(case, options_that_ask_for_a_certificate) else { return };
    let dir = etcd.directory();
    let identified = authority(&etcd)
        .identity_from_files(dir.join("client.pem"), dir.join("client.key"))
        .unwrap();
    works(&etcd.options().tls(identified)).await;
    error(&etcd.options().tls(authority(&etcd))).await;

    // A certificate with the key of another one is noticed before anything is sent.
    let (certificate, key) = (dir.join("client.pem"), dir.join("server.key"));
    let mixed = authority(&etcd).identity_from_files(certificate, key).unwrap();
    let mixed = EtcdStore::new(&etcd.options().tls(mixed));
    let Err(OptionsError::Tls { .. }) = mixed else { panic!("{mixed:?}") };
}

/// Switches authentication on: `root` with all rights, and `node`, who may use Flannel's keys.
fn with_users(etcd: &mut Etcd) {
    let root = ["--user", "root:for-root-only"];
    for command in [
        &["user", "add", "root:for-root-only"][..],
        &["user", "add", "node:hunter2"],
        &["user", "add", "stranger:hunter2"],
        &["role", "add", "flannel"],
        &[
            "role",
            "grant-permission",
            "flannel",
            "--prefix=true",
            "readwrite",
            "/coreos.com/network",
        ],
        &["user", "grant-role", "node", "flannel"],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        etcd.ctl(command);
    }
    etcd.ctl_options = root.map(str::to_owned).to_vec();
}

#[tokio::test]
async fn user_and_password_open_what_they_are_for() {
    let Some(mut etcd) = Etcd::start("user and password") else { return };
    with_users(&mut etcd);
    works(&etcd.options().credentials("node", "hunter2")).await;

    for (options, words) in [
        (etcd.options(), "user name is empty"),
        (etcd.options().credentials("node", "hunter3"), "authentication failed"),
        (etcd.options().credentials("nobody", "hunter2"), "authentication failed"),
        (etcd.options().credentials("stranger", "hunter2"), "permission denied"),
        (etcd.options().credentials("node", "hunter2").prefix("/elsewhere"), "permission denied"),
    ] {
        let error = error(&options).await;
        let text = format!("{error} {error:?}");
        assert_eq!(error.kind(), StoreErrorKind::Denied, "{text}");
        assert!(text.contains(words) && !text.contains("hunter"), "{text}");
        let denied = EtcdStore::new(&options).unwrap().watch(Default::default()).await.unwrap_err();
        assert_eq!(denied.kind(), StoreErrorKind::Denied, "{denied}");
    }
    let store = EtcdStore::new(&etcd.options().credentials("node", "hunter2")).unwrap();
    let watch = store.watch(Default::default()).await.unwrap();
    let printed = format!("{store:?} {watch:?}");
    assert!(printed.contains("node") && !printed.contains("hunter2"), "{printed}");
}

#[tokio::test]
async fn a_token_that_is_no_longer_good_is_replaced() {
    let Some(mut etcd) = Etcd::start("a new token") else { return };
    // Before anybody asks for a password, having one does no harm.
    let store = EtcdStore::new(&etcd.options().credentials("node", "hunter2")).unwrap();
    let config = configured(&store, IPV4).await;
    with_users(&mut etcd);
    let lease = store.create(&claim("10.5.1.0/24", "a", &config)).await.unwrap();
    let mut watch = store.watch(lease.revision).await.unwrap();

    // etcd keeps its tokens in memory: after a restart it knows none.
    etcd.kill();
    soon(watch.next()).await.unwrap_err();
    etcd.restart();
    store.renew(&lease).await.unwrap();
    etcd.kill();
    etcd.restart();
    // The watch may be the first to notice.
    let opened = soon(async {
        loop {
            match store.watch(lease.revision).await {
                Ok(watch) => return watch,
                Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}"),
            }
        }
    });
    let mut another = opened.await;
    store.remove(&lease).await.unwrap();
    assert_eq!(changes(&mut another).await, ["10.5.1.0/24 gone"]);
    let told = soon(async {
        loop {
            if let Ok(update) = watch.next().await {
                return update;
            }
        }
    });
    assert!(told.await.revision() > lease.revision);
    // Whoever changes rights makes all tokens old.
    etcd.ctl(&["role", "add", "another"]);
    store.create(&claim("10.5.1.0/24", "a", &config)).await.unwrap();
    assert_eq!(changes(&mut another).await, ["10.5.1.0/24 at 192.0.2.1"]);
}
