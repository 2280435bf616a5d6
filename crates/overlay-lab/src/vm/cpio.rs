//! The archive an initramfs is: cpio in the format "newc", as `Documentation/driver-api/early-userspace/buffer-format.rst`
//! of the kernel's sources describes it.

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive that grows entry by entry. Paths have no leading slash, and a directory comes before what is in it.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    /// Inode numbers differ, or the kernel would take two files for links to one.
    entries: u32,
}

impl Archive {
    pub(super) fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    pub(super) fn file(&mut self, path: &str, permissions: u32, contents: &[u8]) {
        self.entry(path, REGULAR | permissions, (0, 0), contents);
    }

    pub(super) fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, CHARACTER_DEVICE | 0o600, (major, minor), &[]);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        self.entries += 1;
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let fields = [
            self.entries,
            mode,
            0, // owner
            0, // group
            1, // links
            0, // time of the last change
            length(contents.len()),
            0, // the device it is on
            0,
            device.0,
            device.1,
            length(path.len() + 1),
            0, // checksum, which this format has none of
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_laid_out_as_the_kernel_documents_it() {
        let mut archive = Archive::default();
        archive.file("a/b", 0o755, b"12345");
        let bytes = archive.finish();
        let expected = concat!(
            "070701",
            "00000001",
            "000081ed",
            "00000000",
            "00000000",
            "00000001",
            "00000000",
            "00000005",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000004",
            "00000000",
            "a/b\0\0\0",
            "12345\0\0\0",
            "070701",
        );
        assert_eq!(String::from_utf8_lossy(&bytes[..expected.len()]), expected);
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"), "{:?}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn everything_begins_at_a_multiple_of_four() {
        for (path, contents) in [("a", ""), ("ab", "1"), ("abc", "12"), ("abcd", "123")] {
            let mut archive = Archive::default();
            archive.directory(path);
            archive.character_device("console", 5, 1);
            archive.file(path, 0o644, contents.as_bytes());
            let bytes = archive.finish();
            let starts: Vec<_> =
                (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"070701")).collect();
            assert_eq!(starts.len(), 4);
            assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
            assert_eq!(bytes.len() % 4, 0);
        }
    }
}
