//! Why the kernel says no.

/// An errno (positive, `asm-generic/errno.h`) and, where they help, the kernel's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) errno: i32,
    pub(super) message: Option<&'static str>,
}

impl Refusal {
    /// With the kernel's own words.
    pub(super) const fn says(self, message: &'static str) -> Self {
        Self { errno: self.errno, message: Some(message) }
    }
}

macro_rules! refusals {
    ($($name:ident = $errno:literal),* $(,)?) => {
        $(pub(super) const $name: Refusal = Refusal { errno: $errno, message: None };)*
    };
}

refusals! {
    EPERM = 1,
    ENOENT = 2,
    ESRCH = 3,
    ENXIO = 6,
    EACCES = 13,
    EEXIST = 17,
    ENODEV = 19,
    EINVAL = 22,
    ENOSPC = 28,
    ELOOP = 40,
    EOPNOTSUPP = 95,
    EAFNOSUPPORT = 97,
    EADDRINUSE = 98,
    EADDRNOTAVAIL = 99,
    ENETDOWN = 100,
    ENETUNREACH = 101,
    ENOBUFS = 105,
    EHOSTUNREACH = 113,
}
