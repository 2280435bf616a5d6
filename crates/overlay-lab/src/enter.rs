//! The program's own user and network namespace.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::process::{getegid, geteuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::error::{EnterError, Error, Result};
use crate::links;

const OUTSIDE: u8 = 0;
const NETWORK_ONLY: u8 = 1;
const USER_AND_NETWORK: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(OUTSIDE);

/// Moves the program into its own user and network namespace, where it is root over its network and
/// over nothing else.
///
/// Call it first in `main`. Everything the lab makes hangs on this process: when it ends, even by
/// `SIGKILL`, the kernel takes all of it away. A real root is treated like everybody else, so that
/// tests behave the same everywhere; only where user namespaces are forbidden altogether does root
/// get a network namespace alone. A second call does nothing.
///
/// Inside, the program's user and group appear as 0 and everybody else's as nobody; the
/// environment, working directory and open files stay as they are.
///
/// # Errors
///
/// [`EnterError`] says what forbids it and what to do: more than one thread, a sysctl, a limit, a
/// security policy.
///
/// # Privileges
///
/// None, where the kernel lets ordinary users make user namespaces; otherwise `CAP_SYS_ADMIN`.
pub fn enter() -> Result<()> {
    if STATE.load(Ordering::Relaxed) != OUTSIDE {
        return Ok(());
    }
    only_one_thread()?;
    let (user, group) = (geteuid(), getegid());
    let state = match unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) {
        Ok(()) => {
            map("setgroups", "deny")?;
            map("uid_map", &format!("0 {} 1", user.as_raw()))?;
            map("gid_map", &format!("0 {} 1", group.as_raw()))?;
            USER_AND_NETWORK
        }
        Err(error) => {
            let fallback = user.is_root() && unshare(UnshareFlags::NEWNET).is_ok();
            if !fallback {
                return Err(diagnose(error, &read_number).into());
            }
            NETWORK_ONLY
        }
    };
    links::loopback_up("the program").map(drop)?;
    STATE.store(state, Ordering::Relaxed);
    Ok(())
}

/// Moves the program into its own network namespace and leaves it the user it is, for what the kernel
/// keeps from user namespaces however much they are root inside: loading programs into it (`bpf(2)`).
///
/// In all else it is as [`enter`], which is what to call unless this is needed. A second call does
/// nothing, nor does one after [`enter`]: a program cannot get back what it has given up.
///
/// # Errors
///
/// [`EnterError::Threads`], and [`EnterError::NotRoot`] for everybody else.
///
/// # Privileges
///
/// `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`, as root has them.
pub fn enter_as_root() -> Result<()> {
    if STATE.load(Ordering::Relaxed) != OUTSIDE {
        return Ok(());
    }
    only_one_thread()?;
    unshare(UnshareFlags::NEWNET).map_err(|source| EnterError::NotRoot { source })?;
    links::loopback_up("the program").map(drop)?;
    STATE.store(NETWORK_ONLY, Ordering::Relaxed);
    Ok(())
}

fn only_one_thread() -> Result<()> {
    let count = threads().map_err(|error| Error::io("count", "threads", error))?;
    if count > 1 { Err(EnterError::Threads { count }.into()) } else { Ok(()) }
}

/// Whether the program is in a user namespace of its own, as [`enter`] made it.
pub(crate) fn in_user_namespace() -> bool {
    STATE.load(Ordering::Relaxed) == USER_AND_NETWORK
}

/// Moves the calling thread into a new network namespace.
pub(crate) fn unshare_network() -> Result<(), EnterError> {
    unshare(UnshareFlags::NEWNET).map_err(|error| diagnose(error, &read_number))
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the file descriptor table stays shared: `FILES` is never among the flags.
    unsafe { unshare_unsafe(flags) }.map_err(io::Error::from)
}

fn threads() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

fn map(file: &'static str, text: &str) -> Result<(), EnterError> {
    fs::write(format!("/proc/self/{file}"), text).map_err(|source| {
        let refused = source.raw_os_error() == Some(libc::EPERM);
        if refused && read_number(APPARMOR) == Some(1) {
            EnterError::AppArmor
        } else {
            EnterError::Map { file, source }
        }
    })
}

const APPARMOR: &str = "kernel.apparmor_restrict_unprivileged_userns";
const CLONE: &str = "kernel.unprivileged_userns_clone";
const LIMITS: [&str; 2] = ["user.max_user_namespaces", "user.max_net_namespaces"];

fn read_number(key: &str) -> Option<u64> {
    let path = format!("/proc/sys/{}", key.replace('.', "/"));
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn diagnose(source: io::Error, sysctl: &dyn Fn(&str) -> Option<u64>) -> EnterError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if sysctl(CLONE) == Some(0) => {
            EnterError::UnprivilegedCloneOff
        }
        Some(libc::EPERM | libc::EACCES) if sysctl(APPARMOR) == Some(1) => EnterError::AppArmor,
        Some(libc::ENOSPC | libc::EUSERS) => {
            // The lower one is the one that was hit first.
            let lowest = LIMITS.into_iter().filter_map(|key| Some((sysctl(key)?, key))).min();
            match lowest {
                Some((limit, sysctl)) => EnterError::Limit { sysctl, limit },
                None => EnterError::Forbidden { source },
            }
        }
        Some(libc::EINVAL | libc::ENOSYS) => EnterError::Unsupported { source },
        _ => EnterError::Forbidden { source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnosis(errno: i32, known: &[(&str, u64)]) -> String {
        let known = known.to_vec();
        let lookup =
            move |key: &str| known.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        diagnose(io::Error::from_raw_os_error(errno), &lookup).to_string()
    }

    #[test]
    fn the_sysctl_that_forbids_is_named() {
        assert!(
            diagnosis(libc::EPERM, &[(CLONE, 0)])
                .contains("sysctl -w kernel.unprivileged_userns_clone=1")
        );
        assert!(
            diagnosis(libc::EPERM, &[(CLONE, 1), (APPARMOR, 1)])
                .contains("restrict_unprivileged_userns=0")
        );
        assert!(diagnosis(libc::EPERM, &[(CLONE, 1), (APPARMOR, 0)]).contains("seccomp"));
        assert!(diagnosis(libc::EPERM, &[]).contains("seccomp"));
    }

    #[test]
    fn the_limit_that_is_reached_is_named() {
        let text = diagnosis(libc::ENOSPC, &[(LIMITS[0], 0), (LIMITS[1], 90_000)]);
        assert!(text.contains("user.max_user_namespaces is 0"), "{text}");
        let text = diagnosis(libc::ENOSPC, &[(LIMITS[0], 90_000), (LIMITS[1], 3)]);
        assert!(text.contains("user.max_net_namespaces is 3"), "{text}");
    }

    #[test]
    fn a_kernel_without_namespaces_is_named() {
        assert!(diagnosis(libc::EINVAL, &[]).contains("CONFIG_USER_NS"));
    }

    #[test]
    fn a_test_thread_is_one_thread_too_many() {
        let error = std::thread::spawn(enter).join().unwrap().unwrap_err();
        assert!(
            matches!(error, Error::Enter(EnterError::Threads { count }) if count > 1),
            "{error}"
        );
    }
}
