//! What a program needs in order to run elsewhere.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use object::elf::{self, FileHeader64};
use object::endian::Endianness;
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};

use super::error::VmError;

/// Where the loader looks for libraries without being told, on Debian and elsewhere.
const DIRECTORIES: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// Where the loader is told to look.
const CONFIGURATION: &str = "/etc/ld.so.conf.d";

/// Files by their path.
pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Adds a program's file and all that is loaded with it. What is no ELF file, such as a script, comes alone.
pub(super) fn add_with_libraries(
    files: &mut Files,
    source: &Path,
    path: PathBuf,
) -> Result<(), VmError> {
    let directories = library_directories();
    let mut waiting = vec![(source.to_owned(), path)];
    while let Some((source, path)) = waiting.pop() {
        if files.contains_key(&path) {
            continue;
        }
        let contents = fs::read(&source).map_err(|error| VmError::file("read", &source, error))?;
        if !contents.starts_with(&elf::ELFMAG) {
            files.insert(path, contents);
            continue;
        }
        let needs = needs(&contents)
            .map_err(|error| VmError::Elf { path: source.clone(), source: error })?;
        for name in needs.libraries {
            let found = directories.iter().map(|directory| directory.join(&name));
            let library = found.into_iter().find(|path| path.is_file()).ok_or_else(|| {
                VmError::Library { name: name.display().to_string(), of: source.clone() }
            })?;
            waiting.push((library.clone(), library));
        }
        waiting.extend(needs.interpreter.map(|loader| (loader.clone(), loader)));
        files.insert(path, loaded_part(contents));
    }
    Ok(())
}

fn library_directories() -> Vec<PathBuf> {
    let mut directories: Vec<_> = DIRECTORIES.iter().map(PathBuf::from).collect();
    for file in fs::read_dir(CONFIGURATION).into_iter().flatten().flatten() {
        let lines = fs::read_to_string(file.path()).unwrap_or_default();
        directories.extend(lines.lines().filter(|line| line.starts_with('/')).map(PathBuf::from));
    }
    directories
}

struct Needs {
    interpreter: Option<PathBuf>,
    libraries: Vec<PathBuf>,
}

fn needs(contents: &[u8]) -> object::read::Result<Needs> {
    let file = ElfFile64::<Endianness>::parse(contents)?;
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    let mut interpreter = None;
    for header in file.elf_program_headers() {
        interpreter = header.interpreter(file.endian(), contents)?.map(path).or(interpreter);
    }
    let table = file.elf_dynamic_table()?;
    let needed = table.iter().filter(|entry| entry.tag == elf::DT_NEEDED);
    let libraries = needed.map(|entry| table.string(entry).map(path)).collect::<Result<_, _>>()?;
    Ok(Needs { interpreter, libraries })
}

/// The file without what no loader reads: debug information makes up most of a test program, and it would have to fit
/// into the machine's memory.
fn loaded_part(mut contents: Vec<u8>) -> Vec<u8> {
    /// `e_shoff`, and from `e_shnum` on `e_shstrndx` too, in the header of a 64-bit file.
    const SECTION_TABLE: [std::ops::Range<usize>; 2] = [40..48, 60..64];
    let bytes = contents.as_slice();
    let end = FileHeader64::<Endianness>::parse(bytes).and_then(|header| {
        let endian = header.endian()?;
        let segments = header.program_headers(endian, bytes)?;
        let ends = segments.iter().map(|segment| {
            let (start, size) = segment.file_range(endian);
            start.saturating_add(size)
        });
        Ok(ends.max().unwrap_or(u64::MAX))
    });
    let Some(end) = end.ok().and_then(|end| usize::try_from(end).ok()) else { return contents };
    if end >= contents.len() {
        return contents;
    }
    contents.truncate(end);
    for range in SECTION_TABLE {
        if let Some(field) = contents.get_mut(range) {
            field.fill(0);
        }
    }
    contents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_comes_with_its_loader_and_libraries() {
        let mut files = Files::new();
        let this = std::env::current_exe().unwrap();
        add_with_libraries(&mut files, &this, "/init".into()).unwrap();
        let names: Vec<_> = files.keys().map(|path| path.display().to_string()).collect();
        for part in ["/init", "libc.so", "/ld-linux"] {
            assert!(names.iter().any(|name| name.contains(part)), "no {part} in {names:?}");
        }
    }

    #[test]
    fn what_is_left_of_a_program_still_runs() {
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        let (before, loaded) = (this.len(), loaded_part(this));
        assert!(loaded.len() < before, "{before} bytes, nothing of which is debug information");
        let path = std::env::temp_dir().join(format!("overlay-lab-elf-{}", std::process::id()));
        fs::write(&path, &loaded).unwrap();
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
        fs::set_permissions(&path, permissions).unwrap();
        let output = std::process::Command::new(&path).args(["--list", "what_is_left"]).output();
        fs::remove_file(&path).unwrap();
        let output = output.unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("still_runs"), "{output:?}");
    }

    #[test]
    fn a_file_that_ends_early_is_an_error_and_no_panic() {
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        for length in [4, 16, 63, 64, 100, 4096] {
            assert!(needs(&this[..length]).is_err(), "{length}");
            assert!(loaded_part(this[..length].to_vec()).len() <= length);
        }
    }
}
