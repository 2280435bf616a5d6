//! Maps: what programs and this process have in common.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::error::Error;
use crate::sys;

const TYPE_HASH: u32 = 1;
const TYPE_ARRAY: u32 = 2;
const TYPE_PERCPU_ARRAY: u32 = 6;
const TYPE_LPM_TRIE: u32 = 11;

/// Entries are allocated when they are made, not before.
const NO_PREALLOC: u32 = 1;

/// The most entries of one call: a call holds up others of the same map, and cannot be interrupted.
const BATCH: usize = 4096;

/// `ENOTSUPP`, which is the kernel's own and has no name here: this kind of map has no batches.
const ENOTSUPP: i32 = 524;

/// How a map finds its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MapKind {
    /// By the whole key.
    Hash,
    /// By a number from 0 on, in 4 bytes of the machine's order.
    Array,
    /// By the longest prefix: a length in bits, in 4 bytes of the machine's order, and then the bits of the prefix.
    LpmTrie,
}

/// A map with keys of `K` bytes and values of `V`.
#[derive(Debug)]
pub struct Map<const K: usize, const V: usize> {
    map: sys::Map,
    name: String,
}

impl<const K: usize, const V: usize> Map<K, V> {
    /// Makes an empty map of at most `max_entries`. The name is for people; the kernel keeps 15 bytes of it.
    ///
    /// # Errors
    ///
    /// [`Error::Map`] when the kernel refuses: it lacks the kind, the memory, or this process the privilege.
    ///
    /// # Privileges
    ///
    /// `CAP_BPF` (before Linux 5.8 `CAP_SYS_ADMIN`), outside of any user namespace; for [`MapKind::LpmTrie`]
    /// `CAP_NET_ADMIN` on some kernels, too.
    pub fn create(kind: MapKind, name: &str, max_entries: u32) -> Result<Self, Error> {
        let (kind, flags) = match kind {
            MapKind::Hash => (TYPE_HASH, NO_PREALLOC),
            MapKind::Array => (TYPE_ARRAY, 0),
            MapKind::LpmTrie => (TYPE_LPM_TRIE, NO_PREALLOC),
        };
        let spec =
            sys::MapSpec { kind, name, key_len: K, value_len: V, values: 1, max_entries, flags };
        let map = sys::Map::create(&spec).map_err(|source| Error::map("create", name, source))?;
        Ok(Self { map, name: name.to_owned() })
    }

    /// The value of a key, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Map`] when the kernel refuses.
    pub fn lookup(&self, key: &[u8; K]) -> Result<Option<[u8; V]>, Error> {
        let mut value = [0; V];
        present(self.map.lookup(key, &mut value))
            .map(|found| found.then_some(value))
            .map_err(|source| Error::map("look up in", &self.name, source))
    }

    /// Makes an entry, or puts it in the place of that with its key. A program sees the old value or the new one.
    ///
    /// # Errors
    ///
    /// [`Error::Map`] when the map is full (`ENOSPC`), or the kernel refuses the key.
    pub fn update(&self, key: &[u8; K], value: &[u8; V]) -> Result<(), Error> {
        self.map.update(key, value).map_err(|source| Error::map("update", &self.name, source))
    }

    /// Makes or replaces many entries, in few system calls where the kernel can do that (Linux 5.6, for tries 5.17).
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update); those before the one that failed are done.
    pub fn update_all(&self, entries: &[([u8; K], [u8; V])]) -> Result<(), Error> {
        for chunk in entries.chunks(BATCH) {
            let keys: Vec<u8> = chunk.iter().flat_map(|(key, _)| *key).collect();
            let values: Vec<u8> = chunk.iter().flat_map(|(_, value)| *value).collect();
            // At most `BATCH`, which fits.
            match self.map.update_batch(&keys, &values, chunk.len() as u32) {
                Ok(()) => {}
                Err((error, 0)) if lacks_batches(&error) => {
                    chunk.iter().try_for_each(|(key, value)| self.update(key, value))?;
                }
                Err((source, _)) => return Err(Error::map("update", &self.name, source)),
            }
        }
        Ok(())
    }

    /// Removes an entry; returns whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Map`] when the kernel refuses.
    pub fn delete(&self, key: &[u8; K]) -> Result<bool, Error> {
        present(self.map.delete(key))
            .map_err(|source| Error::map("delete from", &self.name, source))
    }
}

impl<const K: usize, const V: usize> AsFd for Map<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

/// An array of values of `V` bytes that each processor has for itself, so that it can count without locks.
#[derive(Debug)]
pub struct PerCpuArray<const V: usize> {
    map: sys::Map,
    name: String,
    processors: usize,
}

impl<const V: usize> PerCpuArray<V> {
    /// Makes an array of `entries` values, all zero.
    ///
    /// # Errors
    ///
    /// As [`Map::create`], and when `/sys` does not say how many processors there can be.
    ///
    /// # Privileges
    ///
    /// As [`Map::create`].
    pub fn create(name: &str, entries: u32) -> Result<Self, Error> {
        let make = || {
            let processors = possible_processors()?;
            let spec = sys::MapSpec {
                kind: TYPE_PERCPU_ARRAY,
                name,
                key_len: 4,
                value_len: V,
                values: processors,
                max_entries: entries,
                flags: 0,
            };
            Ok((sys::Map::create(&spec)?, processors))
        };
        let (map, processors) = make().map_err(|source| Error::map("create", name, source))?;
        Ok(Self { map, name: name.to_owned(), processors })
    }

    /// The values of all processors at an index.
    ///
    /// # Errors
    ///
    /// [`Error::Map`] when there is no such index.
    pub fn lookup(&self, index: u32) -> Result<Vec<[u8; V]>, Error> {
        let stride = V.next_multiple_of(8);
        let len = if self.processors == 1 { V } else { stride * self.processors };
        let mut values = vec![0; len];
        self.map
            .lookup(&index.to_ne_bytes(), &mut values)
            .map_err(|source| Error::map("look up in", &self.name, source))?;
        Ok(values.chunks(stride).filter_map(|value| value.first_chunk().copied()).collect())
    }
}

impl<const V: usize> AsFd for PerCpuArray<V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

fn present(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Kernels before batches say `EINVAL`, and those that have them for other kinds of maps `ENOTSUPP`.
fn lacks_batches(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP))
}

/// How many processors the machine can ever have, which is what the kernel makes room for.
fn possible_processors() -> io::Result<usize> {
    let text = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    highest(&text).map(|last| last + 1).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The last number of a list such as `0-3,8`.
fn highest(list: &str) -> Option<usize> {
    list.trim().rsplit([',', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read() {
        for (list, last) in
            [("0\n", Some(0)), ("0-3", Some(3)), ("0-3,8-11\n", Some(11)), ("", None)]
        {
            assert_eq!(highest(list), last, "{list:?}");
        }
    }
}
