//! What `cargo metadata` says of the workspace, reduced to what the checks ask.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The packages of a workspace and where it lives.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The directory of the root manifest.
    pub root: PathBuf,
    /// Where Cargo builds, whatever the environment says about it.
    pub target: PathBuf,
    /// Every member.
    pub packages: Vec<Package>,
}

/// One member of the workspace.
#[derive(Clone, Debug)]
pub struct Package {
    /// The package name.
    pub name: String,
    /// The directory of its manifest, relative to the workspace root.
    pub dir: PathBuf,
    /// Whether it may be published.
    pub published: bool,
    /// The fields a published package must fill: the field name and what it says.
    pub fields: Vec<(&'static str, Option<String>)>,
    /// The categories, which registries limit in number.
    pub categories: usize,
    /// The keywords, which registries limit in number.
    pub keywords: usize,
    /// Everything it depends on, inside and outside the workspace.
    pub dependencies: Vec<Dependency>,
}

/// One line of a dependency table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dependency {
    /// The package depended on, not the name it may be given locally.
    pub name: String,
    /// Which table the line is in.
    pub kind: Kind,
    /// Whether a feature switches it on.
    pub optional: bool,
    /// Whether it names a directory, which only members of the workspace do.
    pub local: bool,
}

/// The dependency table a line is in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `[dependencies]`
    Normal,
    /// `[dev-dependencies]`
    Development,
    /// `[build-dependencies]`
    Build,
}

impl Workspace {
    /// The workspace that holds `dir`.
    ///
    /// # Errors
    ///
    /// What Cargo says when it refuses, or which field of its answer has an unexpected form.
    pub fn load(dir: &Path) -> Result<Self, String> {
        let output = cargo()
            .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
            .current_dir(dir)
            .output()
            .map_err(|error| format!("cannot run cargo metadata: {error}"))?;
        if !output.status.success() {
            return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
        }
        let metadata = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("cargo metadata does not print JSON: {error}"))?;
        Self::from_metadata(&metadata)
    }

    /// The workspace that an answer of `cargo metadata --no-deps` describes.
    ///
    /// # Errors
    ///
    /// Which field of the answer has an unexpected form.
    pub fn from_metadata(metadata: &Value) -> Result<Self, String> {
        let root = PathBuf::from(string(metadata, "workspace_root")?);
        let target = PathBuf::from(string(metadata, "target_directory")?);
        let packages = array(metadata, "packages")?
            .iter()
            .map(|package| Package::from_metadata(package, &root))
            .collect::<Result<_, _>>()?;
        Ok(Self { root, target, packages })
    }

    /// The member of that name.
    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// The members that may be published.
    pub fn published(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.published)
    }
}

impl Package {
    /// Whether it is one of the libraries under `crates/`.
    pub fn is_crate(&self) -> bool {
        self.dir.starts_with("crates")
    }

    /// What is missing for a registry or a reader of the package.
    pub fn complaints(&self, root: &Path) -> Vec<String> {
        let name = &self.name;
        let mut complaints = Vec::new();
        if self.is_crate() && !root.join(&self.dir).join("README.md").is_file() {
            complaints.push(format!("{name} has no README.md"));
        }
        if !self.published {
            return complaints;
        }
        for (field, value) in &self.fields {
            if value.as_deref().is_none_or(|value| value.trim().is_empty()) {
                complaints.push(format!("{name} is published but says no {field}"));
            }
        }
        if !(1..=5).contains(&self.keywords) || !(1..=5).contains(&self.categories) {
            complaints.push(format!(
                "{name} must name one to five keywords and one to five categories, it names {} and {}",
                self.keywords, self.categories
            ));
        }
        complaints
    }

    fn from_metadata(package: &Value, root: &Path) -> Result<Self, String> {
        let manifest = PathBuf::from(string(package, "manifest_path")?);
        let dir = manifest.parent().unwrap_or(&manifest);
        let field = |name: &str| package[name].as_str().map(str::to_owned);
        Ok(Self {
            name: string(package, "name")?.to_owned(),
            dir: dir.strip_prefix(root).unwrap_or(dir).to_owned(),
            published: package["publish"].is_null(),
            fields: vec![
                ("description", field("description")),
                ("license", field("license")),
                ("readme", field("readme")),
                ("rust-version", field("rust_version")),
            ],
            categories: array(package, "categories")?.len(),
            keywords: array(package, "keywords")?.len(),
            dependencies: array(package, "dependencies")?
                .iter()
                .map(Dependency::from_metadata)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Dependency {
    fn from_metadata(dependency: &Value) -> Result<Self, String> {
        let kind = match dependency["kind"].as_str() {
            None => Kind::Normal,
            Some("dev") => Kind::Development,
            Some("build") => Kind::Build,
            Some(other) => return Err(format!("cargo metadata: unknown dependency kind {other}")),
        };
        Ok(Self {
            name: string(dependency, "name")?.to_owned(),
            kind,
            optional: dependency["optional"].as_bool().unwrap_or(false),
            local: dependency["path"].is_string(),
        })
    }
}

/// The Cargo that runs this test, else the one of the path.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn string<'a>(value: &'a Value, field: &str) -> Result<&'a str, String> {
    value[field].as_str().ok_or_else(|| format!("cargo metadata: {field} is not a string"))
}

fn array<'a>(value: &'a Value, field: &str) -> Result<&'a Vec<Value>, String> {
    value[field].as_array().ok_or_else(|| format!("cargo metadata: {field} is not an array"))
}
