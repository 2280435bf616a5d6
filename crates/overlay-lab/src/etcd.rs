//! A real etcd on loopback.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// An etcd of one member on loopback, with data and ports of its own. It ends when this is dropped, and its data with it.
///
/// It needs the programs `etcd` and `etcdctl`, from 3.4 on. Its shortest lease is of 1 second.
#[derive(Debug)]
pub struct Etcd {
    child: Option<Child>,
    dir: PathBuf,
    ports: Ports,
    options: Vec<String>,
    /// Further options of `etcdctl`, for an etcd that lets not everybody in.
    pub ctl_options: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    client: u16,
    peer: u16,
    health: u16,
}

/// How long etcd may take to answer after it was started, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often other ports are tried: those that were free may be taken by the time etcd wants them.
const ATTEMPTS: usize = 5;

impl Etcd {
    /// Starts one without data, and waits until it answers.
    ///
    /// # Errors
    /// [`Error::Io`] if the programs are not there, [`Error::TimedOut`] if it does not answer.
    pub fn start() -> Result<Self> {
        Self::start_with(|_| Vec::new())
    }

    /// Starts one with further options, which may refer to files that they put into its directory.
    ///
    /// # Errors
    /// [`Error::Io`] if the programs are not there, [`Error::TimedOut`] if it does not answer.
    pub fn start_with(options: impl FnOnce(&Path) -> Vec<String>) -> Result<Self> {
        for program in ["etcd", "etcdctl"] {
            let version = Command::new(program).arg("version").output();
            version.map_err(|error| Error::io("run", program, error))?;
        }
        let dir = temporary_directory()?;
        let ctl_options = Vec::new();
        let mut etcd =
            Self { child: None, ports: free_ports()?, options: options(&dir), dir, ctl_options };
        for _ in 1..ATTEMPTS {
            if etcd.run()? {
                return Ok(etcd);
            }
            etcd.ports = free_ports()?;
        }
        etcd.restart().map(|()| etcd)
    }

    /// Starts it on the same data again, after [`kill`](Self::kill), and waits until it answers.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if it does not.
    pub fn restart(&mut self) -> Result<()> {
        if self.run()? {
            return Ok(());
        }
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        Err(Error::TimedOut { operation: "start etcd, which says", object: log, after: PATIENCE })
    }

    /// Ends it at once, as `kill -9`.
    ///
    /// # Errors
    /// [`Error::Io`] if that cannot be done.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child
            .kill()
            .and_then(|()| child.wait())
            .map_err(|error| Error::io("kill", "etcd", error))?;
        Ok(())
    }

    /// The port for clients.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.ports.client
    }

    /// The directory that has its data in a directory of its own.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// The URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme(), self.ports.client)
    }

    /// Runs `etcdctl` with version 3 of the API, `input` to read and these arguments, and returns what it prints.
    ///
    /// # Errors
    /// [`Error::Io`] if it fails, with what it says.
    pub fn ctl(&self, arguments: &[&str], input: &str) -> Result<String> {
        let failed = |error| Error::io("run", format!("etcdctl {}", arguments.join(" ")), error);
        let mut child = command("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.url(), "--command-timeout", "10s"])
            .args(&self.ctl_options)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).map_err(failed)?;
        }
        let output = child.wait_with_output().map_err(failed)?;
        if !output.status.success() {
            return Err(failed(io::Error::other(String::from_utf8_lossy(&output.stderr))));
        }
        String::from_utf8(output.stdout).map_err(|error| failed(io::Error::other(error)))
    }

    fn scheme(&self) -> &'static str {
        let tls = self.options.iter().any(|option| option.starts_with("--cert-file"));
        if tls { "https" } else { "http" }
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Whether it answers.
    fn run(&mut self) -> Result<bool> {
        let failed = |error| Error::io("run", "etcd", error);
        let Ports { client, peer, health } = self.ports;
        let client = format!("{}://127.0.0.1:{client}", self.scheme());
        let peer = format!("http://127.0.0.1:{peer}");
        let log = File::options().create(true).append(true).open(self.log()).map_err(failed)?;
        // Even after `kill -9` nothing is left running.
        let child = command("setpriv")
            .args(["--pdeathsig", "KILL", "etcd", "--name", "lab", "--data-dir"])
            .arg(self.dir.join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("lab={peer}")])
            .args(["--listen-metrics-urls", &format!("http://127.0.0.1:{health}")])
            // The shortest lease follows from these.
            .args(["--heartbeat-interval", "10", "--election-timeout", "100"])
            .args(["--logger", "zap", "--log-level", "error"])
            .args(&self.options)
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let child = self.child.insert(child);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && child.try_wait().map_err(failed)?.is_none() {
            if is_healthy(health) {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.kill()?;
        Ok(false)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Without what the environment would have it do.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD") {
            command.env_remove(name);
        }
    }
    command
}

fn is_healthy(port: u16) -> bool {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains(r#""health":"true""#))
}

fn free_ports() -> Result<Ports> {
    let failed = |error| Error::io("find a free port on", "127.0.0.1", error);
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed);
    // Held together, so that they differ.
    let (client, peer, health) = (bind()?, bind()?, bind()?);
    let port = |bound: &TcpListener| bound.local_addr().map(|addr| addr.port()).map_err(failed);
    Ok(Ports { client: port(&client)?, peer: port(&peer)?, health: port(&health)? })
}

fn temporary_directory() -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("overlay-lab-etcd-{}-{count}", std::process::id()));
    fs::create_dir(&dir).map_err(|error| Error::io("make", dir.display().to_string(), error))?;
    Ok(dir)
}
