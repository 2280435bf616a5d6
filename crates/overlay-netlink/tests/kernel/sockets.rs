//! Sockets: in which namespace they are, and how long they wait.

use std::fs::File;
use std::time::{Duration, Instant};

use overlay_netlink::{Error, Fdb, Groups, Monitor, Namespace, RouteQuery, Socket};
use socket2::{SockFilter, SockRef};

use crate::world::{VXLAN, bare, furnished};
use crate::{Case, Outcome, ensure, fail, ip, mac, name, same};

pub(crate) const CASES: [Case; 4] = [
    ("sockets::in_another_namespace", in_another_namespace),
    ("sockets::no_namespace", no_namespace),
    ("sockets::no_answer", no_answer),
    ("sockets::a_panic_comes_back", a_panic_comes_back),
];

fn in_another_namespace() -> Outcome {
    let (host, _) = furnished("a")?;
    let mut sleeper = host.run(|| std::process::Command::new("sleep").arg("60").spawn())?;
    let path = format!("/proc/{}/ns/net", sleeper.id());
    let opened = [
        Namespace::from_path(&path),
        Namespace::from_pid(sleeper.id()),
        Ok(Namespace::from_fd(File::open(&path)?.into())),
        host.run(Namespace::current),
    ];
    // The descriptors hold it.
    sleeper.kill()?;
    sleeper.wait()?;
    let inode = host.namespace().inode()?;
    for namespace in opened {
        let namespace = namespace?;
        same(namespace.inode()?, inode, "inode")?;
        Socket::open_in(&namespace)?.link(&name("vx0"))?;
        Monitor::open_in(&namespace, Groups::ALL)?;
    }
    ensure(Namespace::current()?.inode()? != inode, || "this thread moved".to_owned())?;

    // A socket stays where it was opened.
    let (elsewhere, _) = bare("b")?;
    let mut socket = host.socket()?;
    elsewhere.run(|| socket.link(&name("vx0")).map(drop))?;
    Ok(())
}

fn no_namespace() -> Outcome {
    let dir = File::open("/")?;
    let results = [
        Namespace::from_path("/nonexistent").map(drop),
        Namespace::from_pid(u32::MAX).map(drop),
        Socket::open_in(&Namespace::from_fd(dir.into())).map(drop),
        Socket::open_in(&Namespace::from_path("/proc/self/ns/user")?).map(drop),
    ];
    for (result, named) in
        results.into_iter().zip(["/nonexistent", "4294967295", "descriptor", "/proc/self/ns/user"])
    {
        match result {
            Err(error @ Error::Namespace { .. }) => {
                ensure(error.to_string().contains(named), || error.to_string())?;
            }
            other => return fail(format!("{named}: {other:?}")),
        }
    }
    Ok(())
}

/// A filter that lets no answer through stands for a kernel that gives none.
fn deafen(socket: &Socket) -> Outcome {
    /// `BPF_RET | BPF_K`: take so many bytes.
    const TAKE: u16 = 6;
    let nothing = SockFilter::new(TAKE, 0, 0, 0);
    Ok(SockRef::from(socket).attach_filter(&[nothing])?)
}

fn no_answer() -> Outcome {
    let (_host, mut socket) = furnished("a")?;
    socket.set_timeout(Some(Duration::from_millis(100)))?;
    deafen(&socket)?;
    let start = Instant::now();
    let entry = Fdb::remote(mac(1), ip("10.0.0.9"), VXLAN);
    let results = [
        socket.add(&entry),
        socket.link(&name("vx0")).map(drop),
        socket.route(&RouteQuery::to(ip("10.0.0.9"))).map(drop),
    ];
    for result in results {
        ensure(matches!(result, Err(Error::Timeout { .. })), || format!("{result:?}"))?;
    }
    ensure(start.elapsed() >= Duration::from_millis(300), || "too early".to_owned())?;

    SockRef::from(&socket).detach_filter()?;
    ensure(socket.add(&entry).is_err_and(|e| e.is_exists()), || "it took effect".to_owned())?;
    ensure(socket.set_timeout(Some(Duration::ZERO)).is_err(), || "a timeout of zero".to_owned())?;
    socket.set_timeout(None)?;
    socket.link(&name("vx0"))?;
    Ok(())
}

fn a_panic_comes_back() -> Outcome {
    let (host, _) = bare("a")?;
    let result = std::panic::catch_unwind(|| {
        host.namespace().run(|| std::panic::resume_unwind(Box::new(7)))
    });
    match result {
        Err(panic) => same(panic.downcast_ref(), Some(&7), "the payload"),
        Ok(_) => fail("no panic"),
    }
}
