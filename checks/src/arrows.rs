//! The dependency arrows that `ARCHITECTURE.md` draws, and how the manifests differ from them.
//!
//! The drawing is a code block whose language is `arrows`. A line of it is one of
//!
//! ```text
//! overlay-lab -> overlay-netlink, overlay-wire      these edges exist, and no others of overlay-lab
//! any test -> overlay-lab                           dev-dependencies may use it, nobody has to
//! overlay-examples -> any crate                     a roof: may use every crate, and nobody may use it
//! overlay-checks -> nothing                         a roof that uses no crate
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::workspace::{Kind, Package, Workspace};

/// The drawing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Arrows {
    edges: BTreeSet<(String, String)>,
    for_tests: BTreeSet<String>,
    /// The packages nobody may depend on, and whether they may use the crates.
    roofs: BTreeMap<String, bool>,
}

impl Arrows {
    /// Reads the one block of arrows in a Markdown text.
    ///
    /// # Errors
    ///
    /// Says which line has none of the known forms, or that the number of blocks is not one.
    pub fn from_markdown(text: &str) -> Result<Self, String> {
        let mut arrows = Self::default();
        let mut blocks = 0;
        let mut inside = false;
        for line in text.lines().map(str::trim) {
            if line == "```arrows" {
                inside = true;
                blocks += 1;
            } else if line.starts_with("```") {
                inside = false;
            } else if inside && !line.is_empty() {
                arrows.read(line)?;
            }
        }
        if blocks == 1 {
            Ok(arrows)
        } else {
            Err(format!("{blocks} blocks of arrows, expected one"))
        }
    }

    /// How the manifests differ from the drawing, one sentence each; empty when they agree.
    pub fn complaints(&self, workspace: &Workspace) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut found = BTreeSet::new();
        for package in &workspace.packages {
            let known = self.roofs.contains_key(&package.name) || package.is_crate();
            if !known {
                complaints
                    .push(format!("{} is neither under crates/ nor drawn as a roof", package.name));
            }
            for dependency in package.dependencies.iter().filter(|dependency| dependency.local) {
                let edge = (package.name.clone(), dependency.name.clone());
                if self.roofs.contains_key(&edge.1) {
                    complaints.push(format!("{} -> {}: nothing may depend on {1}", edge.0, edge.1));
                } else if !self.allows(package, &edge, dependency.kind) {
                    let table = match dependency.kind {
                        Kind::Normal => "dependencies",
                        Kind::Development => "dev-dependencies",
                        Kind::Build => "build-dependencies",
                    };
                    let manifest = package.dir.join("Cargo.toml");
                    complaints.push(format!(
                        "{} -> {}: in [{table}] of {}, not drawn",
                        edge.0,
                        edge.1,
                        manifest.display()
                    ));
                }
                if dependency.kind != Kind::Development {
                    found.insert(edge);
                }
            }
        }
        for (from, to) in self.edges.difference(&found) {
            complaints.push(format!("{from} -> {to}: drawn, in no manifest"));
        }
        let named = self.roofs.keys().chain(&self.for_tests);
        for name in named.filter(|name| workspace.package(name).is_none()) {
            complaints.push(format!("{name}: drawn, but no such package"));
        }
        complaints
    }

    fn allows(&self, package: &Package, edge: &(String, String), kind: Kind) -> bool {
        match self.roofs.get(&package.name) {
            Some(any_crate) => *any_crate,
            None => {
                self.edges.contains(edge)
                    || kind == Kind::Development && self.for_tests.contains(&edge.1)
            }
        }
    }

    fn read(&mut self, line: &str) -> Result<(), String> {
        let (from, to) = line.split_once("->").ok_or_else(|| format!("not an arrow: {line}"))?;
        let (from, to) = (from.trim(), to.trim());
        match (from, to) {
            ("", _) | (_, "") => return Err(format!("an arrow without an end: {line}")),
            ("any test", to) => self.for_tests.extend(names(to)),
            (from, "any crate") => {
                self.roofs.insert(from.to_owned(), true);
            }
            (from, "nothing") => {
                self.roofs.insert(from.to_owned(), false);
            }
            (from, to) => self.edges.extend(names(to).map(|to| (from.to_owned(), to))),
        }
        Ok(())
    }
}

fn names(list: &str) -> impl Iterator<Item = String> {
    list.split(',').map(|name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const DRAWING: &str = "
Some words.

```arrows
wire -> nothing-else
net     -> wire
any test -> lab
lab -> net
examples -> any crate
checks -> nothing
```

```text
not -> read
```
";

    #[test]
    fn a_faithful_workspace_has_no_complaints() {
        let drawing = DRAWING.replace("wire -> nothing-else\n", "");
        let arrows = Arrows::from_markdown(&drawing).unwrap();
        assert_eq!(arrows.complaints(&workspace(&[])), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_named() {
        let arrows = Arrows::from_markdown(DRAWING).unwrap();
        let changed = workspace(&[
            ("crates/wire", "net", json!(null)),
            ("crates/wire", "net", json!("dev")),
            ("crates/wire", "net", json!("build")),
            ("crates/net", "examples", json!("dev")),
            ("checks", "wire", json!(null)),
            ("stray", "wire", json!(null)),
        ]);
        assert_eq!(
            arrows.complaints(&changed),
            [
                "wire -> net: in [dependencies] of crates/wire/Cargo.toml, not drawn",
                "wire -> net: in [dev-dependencies] of crates/wire/Cargo.toml, not drawn",
                "wire -> net: in [build-dependencies] of crates/wire/Cargo.toml, not drawn",
                "net -> examples: nothing may depend on examples",
                "checks -> wire: in [dependencies] of checks/Cargo.toml, not drawn",
                "stray is neither under crates/ nor drawn as a roof",
                "stray -> wire: in [dependencies] of stray/Cargo.toml, not drawn",
                "wire -> nothing-else: drawn, in no manifest",
            ]
        );
    }

    #[test]
    fn a_test_dependency_does_not_stand_for_a_drawn_arrow() {
        let arrows = Arrows::from_markdown("```arrows\nb -> a\n```").unwrap();
        let metadata = metadata(&[("crates/a", &[]), ("crates/b", &[("a", json!("dev"))])]);
        let workspace = Workspace::from_metadata(&metadata).unwrap();
        assert_eq!(arrows.complaints(&workspace), ["b -> a: drawn, in no manifest"]);
    }

    #[test]
    fn a_drawn_package_that_is_gone_is_named() {
        let arrows = Arrows::from_markdown("```arrows\nfuzz -> any crate\n```").unwrap();
        let workspace = Workspace::from_metadata(&metadata(&[])).unwrap();
        assert_eq!(arrows.complaints(&workspace), ["fuzz: drawn, but no such package"]);
    }

    #[test]
    fn malformed_drawings_are_refused() {
        assert!(Arrows::from_markdown("no block").is_err());
        assert!(Arrows::from_markdown("```arrows\n```\n```arrows\n```").is_err());
        assert!(Arrows::from_markdown("```arrows\na - b\n```").is_err());
        assert!(Arrows::from_markdown("```arrows\na ->\n```").is_err());
    }

    /// A workspace that agrees with the drawing but for `extra`: directory, dependency, kind.
    fn workspace(extra: &[(&str, &str, Value)]) -> Workspace {
        let mut packages: Vec<(&str, Vec<(&str, Value)>)> = vec![
            ("crates/wire", vec![("lab", json!("dev"))]),
            ("crates/net", vec![("wire", json!(null))]),
            ("crates/lab", vec![("net", json!(null))]),
            ("examples", vec![("wire", json!(null)), ("lab", json!(null))]),
            ("checks", vec![]),
        ];
        for (dir, to, kind) in extra {
            let edge = (*to, kind.clone());
            match packages.iter_mut().find(|(known, _)| known == dir) {
                Some((_, edges)) => edges.push(edge),
                None => packages.push((dir, vec![edge])),
            }
        }
        let packages: Vec<_> =
            packages.iter().map(|(dir, edges)| (*dir, edges.as_slice())).collect();
        Workspace::from_metadata(&metadata(&packages)).unwrap()
    }

    fn metadata(packages: &[(&str, &[(&str, Value)])]) -> Value {
        let packages: Vec<_> = packages
            .iter()
            .map(|(dir, edges)| {
                let edges: Vec<_> = edges
                    .iter()
                    .map(|(to, kind)| json!({ "name": to, "kind": kind, "path": "/somewhere" }))
                    .chain([json!({ "name": "foreign", "kind": null })])
                    .collect();
                json!({
                    "name": dir.rsplit('/').next(),
                    "manifest_path": format!("/house/{dir}/Cargo.toml"),
                    "publish": null,
                    "keywords": [],
                    "categories": [],
                    "dependencies": edges,
                })
            })
            .collect();
        json!({ "workspace_root": "/house", "target_directory": "/house/target", "packages": packages })
    }
}
