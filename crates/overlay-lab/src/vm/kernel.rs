//! The kernel to boot, and its modules.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use super::error::VmError;

const IMAGES: &str = "/boot";
const MODULES: &str = "/lib/modules";

/// A kernel of the distribution: its image and the directory of its modules.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Kernel {
    pub(super) release: String,
    pub(super) image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// The newest one whose image and modules are both there.
    pub(super) fn newest() -> Result<Self, VmError> {
        Self::newest_in(Path::new(IMAGES), Path::new(MODULES)).ok_or(VmError::NoKernel)
    }

    fn newest_in(images: &Path, modules: &Path) -> Option<Self> {
        let names = fs::read_dir(images).ok()?.flatten().map(|entry| entry.file_name());
        let releases =
            names.filter_map(|name| Some(name.to_str()?.strip_prefix("vmlinuz-")?.to_owned()));
        let whole = releases.filter(|release| modules.join(release).join("modules.dep").is_file());
        let release = whole.max_by_key(|release| version(release))?;
        Some(Self {
            image: images.join(format!("vmlinuz-{release}")),
            modules: modules.join(&release),
            release,
        })
    }

    /// The files of these modules and of those they depend on, in the order in which they can be loaded. What is built
    /// into the kernel has none.
    pub(super) fn modules(&self, names: &BTreeSet<String>) -> Result<Vec<PathBuf>, VmError> {
        let read = |name: &str| {
            let path = self.modules.join(name);
            fs::read_to_string(&path).map_err(|error| VmError::file("read", &path, error))
        };
        let dependencies = read("modules.dep")?;
        let index = Index::parse(&dependencies, &read("modules.builtin")?);
        let paths = index.in_order(names).map_err(|name| VmError::Module {
            name: name.to_owned(),
            kernel: self.release.clone(),
        })?;
        Ok(paths.into_iter().map(|path| self.modules.join(path)).collect())
    }
}

/// The numbers in a release, which say which is newer: 6.1.0-56 comes after 6.1.0-9.
fn version(release: &str) -> Vec<u64> {
    let digits = release.split(|character: char| !character.is_ascii_digit());
    digits.filter_map(|number| number.parse().ok()).collect()
}

/// What `modules.dep` and `modules.builtin` say (modules.dep(5)).
struct Index<'a> {
    /// By name: the file, and the files it needs, the one that has to be loaded first at the end.
    loadable: HashMap<String, Vec<&'a str>>,
    built_in: BTreeSet<String>,
}

impl<'a> Index<'a> {
    fn parse(dependencies: &'a str, built_in: &str) -> Self {
        let entry = |line: &'a str| {
            let (file, needs) = line.split_once(':')?;
            let files = std::iter::once(file).chain(needs.split_whitespace()).collect();
            Some((module_name(file), files))
        };
        Self {
            loadable: dependencies.lines().filter_map(entry).collect(),
            built_in: built_in.lines().map(module_name).collect(),
        }
    }

    fn in_order<'n>(&self, names: &'n BTreeSet<String>) -> Result<Vec<&'a str>, &'n str> {
        let mut order = Vec::new();
        for name in names {
            let wanted = module_name(name);
            let Some(files) = self.loadable.get(&wanted) else {
                if self.built_in.contains(&wanted) {
                    continue;
                }
                return Err(name);
            };
            for file in files.iter().rev() {
                if !order.contains(file) {
                    order.push(file);
                }
            }
        }
        Ok(order)
    }
}

/// A module's name: that of its file, in which a hyphen is as good as an underscore.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/net/ipv4/ipip.ko: kernel/net/ipv4/tunnel4.ko kernel/net/ipv4/ip_tunnel.ko
kernel/net/ipv4/tunnel4.ko:
kernel/net/ipv4/ip_tunnel.ko:
kernel/net/ipv6/sit.ko.xz: kernel/net/ipv4/tunnel4.ko kernel/net/ipv4/ip_tunnel.ko
kernel/drivers/virtio/virtio-thing.ko: kernel/b.ko kernel/a.ko
kernel/a.ko:
kernel/b.ko: kernel/a.ko
";

    fn order(names: &[&str]) -> Result<Vec<String>, String> {
        let index = Index::parse(DEPENDENCIES, "kernel/net/ipv6/ipv6.ko\n");
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let paths = index.in_order(&names).map_err(str::to_owned)?;
        Ok(paths.into_iter().map(module_name).collect())
    }

    #[test]
    fn what_a_module_needs_comes_before_it_and_once() {
        assert_eq!(order(&["sit", "ipip"]).unwrap(), ["ip_tunnel", "tunnel4", "ipip", "sit"]);
        assert_eq!(order(&["virtio-thing"]).unwrap(), ["a", "b", "virtio_thing"]);
        assert_eq!(order(&["virtio_thing"]), order(&["virtio-thing"]));
    }

    #[test]
    fn what_is_built_in_needs_no_file_and_what_is_missing_is_named() {
        assert_eq!(order(&["ipv6"]).unwrap(), Vec::<String>::new());
        assert_eq!(order(&["ipv6", "nonesuch"]), Err("nonesuch".to_owned()));
    }

    #[test]
    fn the_newest_kernel_with_modules_is_taken() {
        let root = std::env::temp_dir().join(format!("overlay-lab-kernel-{}", std::process::id()));
        let (images, modules) = (root.join("boot"), root.join("modules"));
        assert_eq!(Kernel::newest_in(&images, &modules), None);
        fs::create_dir_all(&images).unwrap();
        for release in ["6.1.0-9-amd64", "6.1.0-56-amd64", "6.12.1-amd64"] {
            fs::write(images.join(format!("vmlinuz-{release}")), "").unwrap();
        }
        assert_eq!(Kernel::newest_in(&images, &modules), None, "no modules");
        for release in ["6.1.0-9-amd64", "6.1.0-56-amd64", "7.0"] {
            fs::create_dir_all(modules.join(release)).unwrap();
            fs::write(modules.join(release).join("modules.dep"), "").unwrap();
        }
        let newest = Kernel::newest_in(&images, &modules).unwrap();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(newest.release, "6.1.0-56-amd64");
        assert_eq!(newest.image, images.join("vmlinuz-6.1.0-56-amd64"));
    }
}
