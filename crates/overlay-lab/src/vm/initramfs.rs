//! The file system a machine starts with, which is also the only one it has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::cpio::Archive;
use super::elf::{Files, add_with_libraries};
use super::error::VmError;
use super::kernel::Kernel;
use super::options::VmOptions;

/// The running program.
pub(super) const INIT: &str = "/init";

/// The machine's name.
pub(super) const HOSTNAME: &str = "/etc/hostname";

/// The paths of the modules, in the order in which they are loaded.
pub(super) const MODULE_ORDER: &str = "/lib/modules/order";

/// What every machine needs for its control channel and its network devices.
const OWN_MODULES: [&str; 3] = ["virtio_pci", "virtio_console", "virtio_net"];

/// Where file systems are mounted.
const MOUNT_POINTS: [&str; 5] = ["/proc", "/sys", "/dev", "/tmp", "/run"];

/// Puts everything together that the options ask for.
pub(super) fn build(options: &VmOptions, kernel: &Kernel) -> Result<Vec<u8>, VmError> {
    let mut files = Files::new();
    // Not by its path, behind which there may be another one by now.
    add_with_libraries(&mut files, Path::new("/proc/self/exe"), INIT.into())?;
    for name in &options.programs {
        let path = find_program(name)?;
        add_with_libraries(&mut files, &path, path.clone())?;
    }
    // So that the loader finds libraries where it finds them here.
    if let Ok(cache) = fs::read("/etc/ld.so.cache") {
        files.insert("/etc/ld.so.cache".into(), cache);
    }
    for (path, contents) in &options.files {
        files.insert(path.clone(), contents.clone());
    }
    let mut modules: BTreeSet<_> = options.modules.clone();
    modules.extend(OWN_MODULES.map(str::to_owned));
    let mut order = String::new();
    for source in kernel.modules(&modules)? {
        let contents = fs::read(&source).map_err(|error| VmError::file("read", &source, error))?;
        order.push_str(text(&source)?);
        order.push('\n');
        files.insert(source, contents);
    }
    files.insert(MODULE_ORDER.into(), order.into_bytes());
    files.insert(HOSTNAME.into(), options.name.clone().into_bytes());
    archive(&files)
}

fn find_program(name: &str) -> Result<PathBuf, VmError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Ordinary users of Debian do not have the others in their PATH.
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let mut candidates = directories.map(|directory| directory.join(name));
    candidates
        .find(|path| path.is_absolute() && path.is_file())
        .ok_or_else(|| VmError::Program { name: name.to_owned() })
}

fn archive(files: &Files) -> Result<Vec<u8>, VmError> {
    let mut archive = Archive::default();
    let mut directories = BTreeSet::new();
    for path in files.keys() {
        entry_name(path)?;
    }
    let parents = files.keys().filter_map(|path| path.parent());
    for path in parents.chain(MOUNT_POINTS.iter().map(Path::new)) {
        directories.extend(path.ancestors());
    }
    for path in directories.iter().filter(|path| path.parent().is_some()) {
        archive.directory(entry_name(path)?);
    }
    // The kernel opens it for the first process, which is before anything is mounted.
    archive.character_device("dev/console", 5, 1);
    for (path, contents) in files {
        archive.file(entry_name(path)?, 0o755, contents);
    }
    Ok(archive.finish())
}

fn entry_name(path: &Path) -> Result<&str, VmError> {
    let name = text(path)?;
    let plain =
        path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    match name.strip_prefix('/').filter(|name| plain && !name.contains(['\n', '\0'])) {
        Some(name) => Ok(name),
        None => Err(VmError::Invalid { what: "the path", text: name.to_owned() }),
    }
}

fn text(path: &Path) -> Result<&str, VmError> {
    path.to_str()
        .ok_or_else(|| VmError::Invalid { what: "the path", text: path.display().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_before_what_is_in_them() {
        let files = Files::from([("/a/b/c".into(), b"1".to_vec()), ("/a-b".into(), b"2".to_vec())]);
        let bytes = archive(&files).unwrap();
        let at = |name: &str| {
            let name = format!("{name}\0");
            bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap()
        };
        assert!(at("a") < at("a/b") && at("a/b") < at("a/b/c"));
        assert!(at("dev") < at("dev/console"));
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["relative", "/a/../b", "/two\nlines"] {
            let files = Files::from([(path.into(), Vec::new())]);
            assert!(matches!(archive(&files), Err(VmError::Invalid { .. })), "{path}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = find_program("no-such-program").unwrap_err();
        assert!(error.to_string().contains("no-such-program"), "{error}");
        assert!(find_program("sh").unwrap().is_absolute());
    }
}
