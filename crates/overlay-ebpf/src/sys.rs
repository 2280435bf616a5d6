//! The bpf(2) system call: the only place with `unsafe`.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::asm::Instruction;

/// Commands of bpf(2) (`enum bpf_cmd` in `linux/bpf.h`).
mod command {
    pub(super) const MAP_CREATE: libc::c_int = 0;
    pub(super) const MAP_LOOKUP_ELEM: libc::c_int = 1;
    pub(super) const MAP_UPDATE_ELEM: libc::c_int = 2;
    pub(super) const MAP_DELETE_ELEM: libc::c_int = 3;
    pub(super) const PROG_LOAD: libc::c_int = 5;
    pub(super) const PROG_TEST_RUN: libc::c_int = 10;
    pub(super) const MAP_UPDATE_BATCH: libc::c_int = 26;
    pub(super) const LINK_CREATE: libc::c_int = 28;
}

/// The most bytes of a name that the kernel keeps, its end included.
const NAME_LEN: usize = 16;

/// `union bpf_attr`, as much of it as the commands here use; the kernel takes what it does not know as long as it is 0.
#[repr(C, align(8))]
struct Attr([u8; 128]);

impl Attr {
    const fn new() -> Self {
        Self([0; 128])
    }

    fn put(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn put_u64(mut self, at: usize, value: u64) -> Self {
        self.0[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn put_fd(self, at: usize, fd: BorrowedFd<'_>) -> Self {
        self.put(at, fd.as_raw_fd().cast_unsigned())
    }

    fn put_pointer<T>(self, at: usize, pointer: *const T) -> Self {
        self.put_u64(at, pointer.expose_provenance() as u64)
    }

    /// A name: the kernel allows letters, digits, `_` and `.`.
    fn put_name(mut self, at: usize, name: &str) -> Self {
        let allowed = |c: u8| if c.is_ascii_alphanumeric() || c == b'.' { c } else { b'_' };
        for (to, from) in self.0[at..at + NAME_LEN - 1].iter_mut().zip(name.bytes()) {
            *to = allowed(from);
        }
        self
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_ne_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
}

/// Makes the call.
///
/// # Safety
///
/// The pointers and lengths in `attr` describe memory that `command` may read or write during the call.
unsafe fn bpf(command: libc::c_int, attr: &mut Attr) -> io::Result<libc::c_int> {
    // SAFETY: `attr` is as long as is said; what it points to is promised by the caller.
    let code = unsafe {
        libc::syscall(libc::SYS_bpf, command, (&raw mut *attr), size_of::<Attr>() as libc::c_uint)
    };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code as libc::c_int) }
}

/// Makes a call that answers with a new descriptor.
///
/// # Safety
///
/// As [`bpf`]; `command` creates a map, a program or a link.
unsafe fn bpf_create(command: libc::c_int, attr: &mut Attr) -> io::Result<OwnedFd> {
    // SAFETY: promised by the caller.
    let fd = unsafe { bpf(command, attr) }?;
    // SAFETY: such a command returns a descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

/// What a map is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapSpec<'a> {
    pub(crate) kind: u32,
    pub(crate) name: &'a str,
    pub(crate) key_len: usize,
    pub(crate) value_len: usize,
    /// For each processor there is a value of its own.
    pub(crate) values: usize,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
}

/// A map that knows how long its keys and values are, so that nothing else can be handed to the kernel.
#[derive(Debug)]
pub(crate) struct Map {
    fd: OwnedFd,
    key_len: usize,
    /// Bytes that the kernel reads or writes for a value.
    value_len: usize,
}

impl Map {
    pub(crate) fn create(spec: &MapSpec<'_>) -> io::Result<Self> {
        let mut attr = Attr::new()
            .put(0, spec.kind)
            .put(4, spec.key_len as u32)
            .put(8, spec.value_len as u32)
            .put(12, spec.max_entries)
            .put(16, spec.flags)
            .put_name(28, spec.name);
        // SAFETY: the command takes no pointers.
        let fd = unsafe { bpf_create(command::MAP_CREATE, &mut attr) }?;
        let value_len = match spec.values {
            1 => spec.value_len,
            // Values of processors stand one after the other, each in whole units of 8 bytes.
            values => spec.value_len.next_multiple_of(8) * values,
        };
        Ok(Self { fd, key_len: spec.key_len, value_len })
    }

    pub(crate) fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<()> {
        if key.len() != self.key_len || value.len() != self.value_len {
            return Err(invalid());
        }
        let mut attr = self.element(key).put_pointer(16, value.as_mut_ptr());
        // SAFETY: `key` and `value` are as long as the map's, and outlive the call.
        unsafe { bpf(command::MAP_LOOKUP_ELEM, &mut attr) }.map(drop)
    }

    pub(crate) fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if key.len() != self.key_len || value.len() != self.value_len {
            return Err(invalid());
        }
        let mut attr = self.element(key).put_pointer(16, value.as_ptr());
        // SAFETY: `key` and `value` are as long as the map's, outlive the call, and are only read.
        unsafe { bpf(command::MAP_UPDATE_ELEM, &mut attr) }.map(drop)
    }

    pub(crate) fn delete(&self, key: &[u8]) -> io::Result<()> {
        if key.len() != self.key_len {
            return Err(invalid());
        }
        // SAFETY: `key` is as long as the map's, outlives the call, and is only read.
        unsafe { bpf(command::MAP_DELETE_ELEM, &mut self.element(key)) }.map(drop)
    }

    /// Updates `count` entries; an error comes with how many were done.
    pub(crate) fn update_batch(
        &self,
        keys: &[u8],
        values: &[u8],
        count: u32,
    ) -> Result<(), (io::Error, u32)> {
        let entries = count as usize;
        if keys.len() != self.key_len * entries || values.len() != self.value_len * entries {
            return Err((invalid(), 0));
        }
        const COUNT: usize = 32;
        let mut attr = Attr::new()
            .put_pointer(16, keys.as_ptr())
            .put_pointer(24, values.as_ptr())
            .put(COUNT, count)
            .put_fd(36, self.fd.as_fd());
        // SAFETY: `keys` and `values` hold `count` of the map's, outlive the call, and are only read.
        match unsafe { bpf(command::MAP_UPDATE_BATCH, &mut attr) } {
            Ok(_) => Ok(()),
            // A kernel that does not know the command leaves the count as it was.
            Err(error) => {
                let done = attr.u32_at(COUNT);
                Err((error, if done < count { done } else { 0 }))
            }
        }
    }

    fn element(&self, key: &[u8]) -> Attr {
        Attr::new().put_fd(0, self.fd.as_fd()).put_pointer(8, key.as_ptr())
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a program is loaded from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProgramSpec<'a> {
    pub(crate) kind: u32,
    pub(crate) name: &'a str,
    pub(crate) licence: &'a CStr,
    pub(crate) flags: u32,
    pub(crate) instructions: &'a [Instruction],
}

/// Loads a program; with a log, the verifier writes into that what it thinks.
pub(crate) fn load(spec: &ProgramSpec<'_>, log: Option<&mut [u8]>) -> io::Result<OwnedFd> {
    let count = u32::try_from(spec.instructions.len()).map_err(|_| invalid())?;
    let mut attr = Attr::new()
        .put(0, spec.kind)
        .put(4, count)
        .put_pointer(8, spec.instructions.as_ptr())
        .put_pointer(16, spec.licence.as_ptr())
        .put(44, spec.flags)
        .put_name(48, spec.name);
    if let Some(log) = log {
        const LEVEL: u32 = 1;
        let len = u32::try_from(log.len()).map_err(|_| invalid())?;
        attr = attr.put(24, LEVEL).put(28, len).put_pointer(32, log.as_mut_ptr());
    }
    // SAFETY: instructions and licence are read, the log of the given length is written, and all outlive the call.
    unsafe { bpf_create(command::PROG_LOAD, &mut attr) }
}

/// What a program made of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TestRun {
    pub(crate) answer: u32,
    pub(crate) len: usize,
    pub(crate) nanoseconds: u32,
}

/// Runs a program on a packet that came from nowhere. What it becomes stands in `output`.
pub(crate) fn test_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    output: &mut [u8],
    repeat: u32,
) -> io::Result<TestRun> {
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| invalid());
    let mut attr = Attr::new()
        .put_fd(0, program)
        .put(8, len(packet)?)
        .put(12, len(output)?)
        .put_pointer(16, packet.as_ptr())
        .put_pointer(24, output.as_mut_ptr())
        .put(32, repeat);
    // SAFETY: `packet` is read, at most the given length of `output` is written, and both outlive the call.
    unsafe { bpf(command::PROG_TEST_RUN, &mut attr) }?;
    Ok(TestRun {
        answer: attr.u32_at(4),
        len: attr.u32_at(12) as usize,
        nanoseconds: attr.u32_at(36),
    })
}

/// Attaches a program to a device; closing the descriptor takes it off again.
pub(crate) fn link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr =
        Attr::new().put_fd(0, program).put(4, ifindex).put(8, attach_type).put(12, flags);
    // SAFETY: the command takes no pointers here.
    unsafe { bpf_create(command::LINK_CREATE, &mut attr) }
}
