//! A real etcd on loopback, with data of its own, that ends with the test.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use overlay_lease_etcd::{EtcdOptions, EtcdStore};

/// What tests need, by the name it has in `OVERLAY_REQUIRE`.
const NEED: &str = "etcd";

/// How long etcd may take to answer after it was started, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often other ports are tried: those that were free may be taken by the time etcd wants them.
const ATTEMPTS: usize = 5;

/// A running etcd of one member.
pub(crate) struct Etcd {
    child: Option<Child>,
    dir: PathBuf,
    ports: Ports,
    options: Vec<String>,
    /// What etcd's own client needs to get in.
    pub(crate) ctl_options: Vec<String>,
}

#[derive(Clone, Copy)]
struct Ports {
    client: u16,
    peer: u16,
    health: u16,
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
        for program in ["etcd", "etcdctl"] {
            if let Err(error) = Command::new(program).arg("version").output() {
                let why = format!("{program}: {error}");
                overlay_lab::cannot_run(case, NEED, &why).expect("etcd is required");
                return None;
            }
        }
        let dir = temporary_directory();
        let options = options(&dir);
        for _ in 0..ATTEMPTS {
            let mut etcd = Self {
                child: None,
                dir: dir.clone(),
                ports: free_ports(),
                options: options.clone(),
                ctl_options: Vec::new(),
            };
            if etcd.run() {
                return Some(etcd);
            }
            // Its directory is still needed.
            etcd.dir = PathBuf::new();
        }
        panic!("etcd does not start: {}", log(&dir));
    }

    /// Starts it again on the same data, after [`kill`](Self::kill).
    pub(crate) fn restart(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        assert!(self.run(), "etcd does not start again: {}", log(&self.dir));
    }

    /// Ends it at once, as with `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is ours");
            child.wait().expect("it was killed");
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports.client
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme(), self.ports.client)
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
        let mut child = Command::new("etcdctl")
            .env_clear()
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.url(), "--command-timeout", "10s"])
            .args(&self.ctl_options)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn scheme(&self) -> &'static str {
        let tls = self.options.iter().any(|option| option.starts_with("--cert-file"));
        if tls { "https" } else { "http" }
    }

    fn run(&mut self) -> bool {
        let Ports { client, peer, health } = self.ports;
        let client = format!("{}://127.0.0.1:{client}", self.scheme());
        let peer = format!("http://127.0.0.1:{peer}");
        let logs = File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let child = Command::new("etcd")
            .env_clear()
            .args(["--name", "test", "--data-dir"])
            .arg(self.dir.join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}")])
            .args(["--listen-metrics-urls", &format!("http://127.0.0.1:{health}")])
            // The shortest lease follows from these: 1 second.
            .args(["--heartbeat-interval", "10", "--election-timeout", "100"])
            .args(["--logger", "zap", "--log-level", "error"])
            .args(&self.options)
            .stdout(logs.try_clone().unwrap())
            .stderr(logs)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if healthy(health) {
                return true;
            }
            if let Some(child) = &mut self.child
                && child.try_wait().unwrap().is_some()
            {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
        false
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
        if !self.dir.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn healthy(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains(r#""health":"true""#))
}

fn free_ports() -> Ports {
    let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let [client, peer, health] =
        [listener(), listener(), listener()].map(|bound| bound.local_addr().unwrap().port());
    Ports { client, peer, health }
}

fn temporary_directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("overlay-lease-etcd-{}-{count}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    fs::create_dir(&dir).unwrap();
    dir
}

fn log(dir: &Path) -> String {
    fs::read_to_string(dir.join("log")).unwrap_or_default()
}
