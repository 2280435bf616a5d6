//! Network namespaces as open descriptors.

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::{io, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Error, LinkNamespace};

/// A network namespace, held open: it lives at least as long as this value.
#[derive(Clone)]
pub struct Namespace {
    fd: Arc<OwnedFd>,
    label: Arc<str>,
}

impl Namespace {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// [`Error::Namespace`] when `/proc` is not mounted.
    pub fn current() -> Result<Self, Error> {
        Self::open("/proc/thread-self/ns/net".as_ref(), "of this thread")
    }

    /// The namespace that a file stands for, such as `/run/netns/NAME` as `ip netns` makes it.
    ///
    /// # Errors
    /// [`Error::Namespace`] when it cannot be opened.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::open(path, &path.display().to_string())
    }

    /// The namespace of a process.
    ///
    /// # Errors
    /// [`Error::Namespace`] when there is no such process.
    ///
    /// # Privileges
    /// The right to trace the process (`CAP_SYS_PTRACE`, or the same user and a child user
    /// namespace).
    pub fn from_pid(pid: u32) -> Result<Self, Error> {
        Self::open(format!("/proc/{pid}/ns/net").as_ref(), &format!("of process {pid}"))
    }

    /// The namespace that an open descriptor stands for.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        let label = format!("of descriptor {}", fd.as_raw_fd()).into();
        Self { fd: Arc::new(fd), label }
    }

    fn open(path: &Path, label: &str) -> Result<Self, Error> {
        let file = File::open(path)
            .map_err(|source| Error::Namespace { namespace: label.to_owned(), source })?;
        Ok(Self { fd: Arc::new(file.into()), label: label.into() })
    }

    /// Runs `f` on a thread of its own inside this namespace and returns what it returns. A panic
    /// of `f` goes on in the caller.
    ///
    /// # Errors
    /// [`Error::Namespace`] when the descriptor is no network namespace or may not be entered.
    ///
    /// # Privileges
    /// `CAP_SYS_ADMIN` in the user namespace of the caller and in the one that owns this
    /// namespace.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, Error> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(|errno| Error::Namespace {
                        namespace: self.label.to_string(),
                        source: errno.into(),
                    })?;
                Ok(f())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// This namespace as the place to create a device in or move one to. Valid while this value
    /// lives.
    #[must_use]
    pub fn as_link_namespace(&self) -> LinkNamespace {
        LinkNamespace::Fd(self.fd.as_raw_fd())
    }

    /// The number of the namespace's inode: equal for two values of the same namespace.
    ///
    /// # Errors
    /// [`Error::Namespace`] when the descriptor cannot be examined.
    pub fn inode(&self) -> Result<u64, Error> {
        let inode =
            || -> io::Result<u64> { Ok(File::from(self.fd.try_clone()?).metadata()?.ino()) };
        inode().map_err(|source| Error::Namespace { namespace: self.label.to_string(), source })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({})", self.label)
    }
}
