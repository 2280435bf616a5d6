//! What is done inside a machine: one process serves commands and remembers, others hand them to it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{Context, anyhow};
use overlay_backend::Peer;
use overlay_examples::{Addresses, Echoes, End, Kind, Machine, Pings};
use overlay_lab::vm::Function;
use overlay_lab::{Capture, Host, capture, path_mtu};
use serde::Serialize;
use serde_json::Value;

use crate::command::{Announced, Command, Sender, version};

/// What can be called.
pub(crate) const FUNCTIONS: [Function; 3] = [
    (SERVE, |arguments| told(serve(arguments))),
    (TELL, |arguments| told(tell(arguments))),
    (PCAP, |_| told(pcap())),
];

/// Prepares the machine, says [`READY`] and serves commands. Arguments: the machine's name, its number, the MTU of `eth0`.
pub(crate) const SERVE: &str = "serve";

/// Hands one command to the process that serves, and prints its answer. Argument: the command.
pub(crate) const TELL: &str = "tell";

/// Prints all that has crossed `eth0`, as a file.
pub(crate) const PCAP: &str = "pcap";

/// What is printed when commands are served.
pub(crate) const READY: &str = "ready";

/// Where commands are served.
const SOCKET: &str = "/run/two-vm";

/// Where frames are kept.
const FRAMES: &str = "/run/eth0.pcap";

fn told(outcome: anyhow::Result<()>) -> Result<(), String> {
    outcome.map_err(|error| format!("{error:#}"))
}

fn serve(arguments: &[String]) -> anyhow::Result<()> {
    let [name, number, mtu] = arguments else { return Err(anyhow!("not the arguments it takes")) };
    let mut inside = Inside::new(name, Addresses::of(number.parse()?, 32)?, mtu.parse()?)?;
    let listener = UnixListener::bind(SOCKET).context("listen")?;
    println!("{READY}");
    for connection in listener.incoming() {
        let mut connection = connection.context("accept")?;
        let mut text = String::new();
        connection.read_to_string(&mut text).context("read a command")?;
        let answer = serde_json::from_str(&text)
            .context("understand a command")
            .and_then(|command| inside.obey(command))
            .map_err(|error| format!("{error:#}"));
        serde_json::to_writer(&connection, &answer).context("answer")?;
    }
    Ok(())
}

fn tell(arguments: &[String]) -> anyhow::Result<()> {
    let [command] = arguments else { return Err(anyhow!("not one command")) };
    println!("{}", ask(command)?);
    Ok(())
}

fn pcap() -> anyhow::Result<()> {
    ask(&serde_json::to_string(&Command::Save)?)?;
    let mut file = File::open(FRAMES).context(FRAMES)?;
    io::copy(&mut file, &mut io::stdout().lock())?;
    Ok(())
}

fn ask(command: &str) -> anyhow::Result<Value> {
    let mut connection = UnixStream::connect(SOCKET).context("ask the process that serves")?;
    connection.write_all(command.as_bytes())?;
    connection.shutdown(Shutdown::Write)?;
    let answer: Result<Value, String> = serde_json::from_reader(connection)?;
    answer.map_err(|error| anyhow!(error))
}

/// A machine, and what it has of an overlay.
struct Inside {
    machine: Machine,
    end: Option<End>,
    echoes: Option<Echoes>,
    frames: Capture,
}

impl Inside {
    fn new(name: &str, addresses: Addresses, mtu: u32) -> anyhow::Result<Self> {
        let machine = Machine::build(Host::here(name)?, addresses)?;
        let host = &machine.host;
        host.mtu("eth0", mtu)?;
        host.set_up("eth0")?;
        host.addresses("eth0", &machine.addresses.underlay)?;
        host.wait_running("eth0")?;
        let frames = capture(host, "eth0")?;
        Ok(Self { machine, end: None, echoes: None, frames })
    }

    fn obey(&mut self, command: Command) -> anyhow::Result<Value> {
        match command {
            Command::Prepare { backend, ipv6 } => {
                let kind = Kind::ALL.into_iter().find(|kind| kind.name() == backend);
                let kind = kind.with_context(|| format!("there is no backend {backend}"))?;
                value(match End::prepare(&self.machine, kind, version(ipv6))? {
                    Ok(end) => Ok(Announced::from(self.end.insert(end).announce())),
                    Err(reason) => Err(reason),
                })
            }
            Command::Plan(peers) => {
                let end = self.end()?;
                value(match end.introduce(&known(peers))? {
                    Ok(()) => Ok(end.commands()?),
                    Err(reason) => Err(reason),
                })
            }
            Command::Start => {
                let end = self.end()?;
                value(end.start().map(|()| Announced::from(end.announce())))
            }
            Command::Join(peers) => {
                let end = self.end()?;
                value(match end.introduce(&known(peers))? {
                    Ok(()) => end.apply()?.map(|()| end.mtu()),
                    Err(reason) => Err(reason),
                })
            }
            Command::Mtu(mtu) => value(self.machine.set_container_mtu(mtu)?),
            Command::Watch => {
                self.echoes = Some(Echoes::watch(&self.machine.host)?);
                value(())
            }
            Command::Ping { from, to } => value(Pings::send(self.sender(from), to)?),
            Command::Seen { src, dst } => {
                value(self.echoes.take().context("nobody watches")?.seen(src, dst)?)
            }
            Command::PathMtu { from, to } => value(path_mtu(self.sender(from), to)?),
            Command::Clear => {
                let end = self.end.take();
                let carried = end.as_ref().map(End::carried).unwrap_or_default();
                end.map_or(Ok(()), End::clear)?;
                value(carried)
            }
            Command::Save => value(self.frames.write_pcap(FRAMES)?),
        }
    }

    fn end(&mut self) -> anyhow::Result<&mut End> {
        self.end.as_mut().context("nothing is prepared")
    }

    const fn sender(&self, from: Sender) -> &Host {
        match from {
            Sender::Host => &self.machine.host,
            Sender::Container => &self.machine.container,
        }
    }
}

fn value(answer: impl Serialize) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(answer)?)
}

fn known(peers: Vec<Announced>) -> Vec<Peer> {
    peers.into_iter().map(Peer::from).collect()
}
