//! What may happen to connections between a client and etcd.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy in front of a port of etcd on loopback. It ends with the runtime.
pub(crate) struct Proxy {
    port: u16,
    target: watch::Sender<u16>,
    weather: watch::Sender<Weather>,
    task: JoinHandle<()>,
}

/// What the proxy does with connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Weather {
    /// Everything passes, this much later.
    Fair(Duration),
    /// Everything that passed so far stays as it is, and nothing passes any more.
    Hole,
    /// Connections are closed as soon as they are there.
    Closed,
    /// Requests pass; of each connection, answers to this request (from 1 on) and later ones do not.
    Deaf(usize),
    /// The same, with another request for each connection since the beginning. All passes on those that follow.
    Loses(&'static [usize]),
}

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let here = listener.local_addr().unwrap().port();
        let weather = watch::Sender::new(Weather::Fair(Duration::ZERO));
        let target = watch::Sender::new(port);
        let task = tokio::spawn(serve(listener, target.subscribe(), weather.subscribe()));
        Self { port: here, target, weather, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on, new connections lead there.
    pub(crate) fn lead_to(&self, port: u16) {
        self.target.send_replace(port);
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    target: watch::Receiver<u16>,
    weather: watch::Receiver<Weather>,
) {
    for connection in 0.. {
        let Ok((near, _)) = listener.accept().await else { return };
        if *weather.borrow() == Weather::Closed {
            continue;
        }
        let port = *target.borrow();
        let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { continue };
        tokio::spawn(relay(near, far, connection, weather.clone()));
    }
}

async fn relay(
    near: TcpStream,
    far: TcpStream,
    connection: usize,
    mut weather: watch::Receiver<Weather>,
) {
    let (requests, answered) = watch::channel(0);
    let answers = Answers { connection, requests: answered };
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::select! {
        () = forward(near_read, far_write, weather.clone(), Some(requests), None) => {}
        () = forward(far_read, near_write, weather.clone(), None, Some(answers)) => {}
        _ = weather.wait_for(|weather| *weather == Weather::Closed) => {}
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    count: Option<watch::Sender<usize>>,
    answers: Option<Answers>,
) {
    let mut requests = Requests::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        if let Some(count) = &count {
            requests.read(&buffer[..length]);
            count.send_replace(requests.begun);
        }
        let passes = |weather: &Weather| match *weather {
            Weather::Fair(_) | Weather::Closed => true,
            Weather::Hole => false,
            Weather::Deaf(from) => answers.as_ref().is_none_or(|answers| answers.are_before(from)),
            Weather::Loses(from) => answers.as_ref().is_none_or(|answers| {
                from.get(answers.connection).is_none_or(|from| answers.are_before(*from))
            }),
        };
        let Ok(now) = weather.wait_for(passes).await.map(|weather| *weather) else { return };
        if let Weather::Fair(delay) = now
            && delay > Duration::ZERO
        {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// To what there have been answers on a connection.
struct Answers {
    connection: usize,
    requests: watch::Receiver<usize>,
}

impl Answers {
    fn are_before(&self, request: usize) -> bool {
        *self.requests.borrow() < request
    }
}

/// Counts the requests in what a client of HTTP/2 sends: each begins with a frame of headers (RFC 9113, section 4.1).
#[derive(Default)]
struct Requests {
    begun: usize,
    pending: Vec<u8>,
    preface_seen: bool,
}

impl Requests {
    fn read(&mut self, bytes: &[u8]) {
        const PREFACE: usize = 24;
        const HEADER: usize = 9;
        const HEADERS: u8 = 1;
        self.pending.extend_from_slice(bytes);
        if !self.preface_seen && self.pending.len() >= PREFACE {
            self.pending.drain(..PREFACE);
            self.preface_seen = true;
        }
        while self.preface_seen && self.pending.len() >= HEADER {
            let length =
                self.pending[..3].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            if self.pending.len() < HEADER + length {
                return;
            }
            self.begun += usize::from(self.pending[3] == HEADERS);
            self.pending.drain(..HEADER + length);
        }
    }
}
