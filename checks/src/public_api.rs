//! Which crates the public API of a crate names.
//!
//! A type of another crate in our API makes each breaking release of that crate a breaking release of ours. Rustdoc
//! writes the whole public API as JSON; every path in it resolves to the crate that defines the thing, whatever name it
//! is imported or re-exported under. So the check reads that, rather than the source.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use serde_json::Value;

use crate::workspace::{Package, Workspace, cargo};

/// What any published crate may name: the language, and the vocabulary shared by all networking code.
const ANY: &[&str] = &["alloc", "bytes", "core", "ipnet", "std"];

/// What only some may name. An asterisk ends a name that is a prefix.
const SOME: &[(&str, &[&str])] = &[
    // Backends keep their part of a lease as JSON, so they say what is in it. `serde_core` is where serde's traits live.
    ("overlay-backend*", &["serde", "serde_core", "serde_json"]),
    // What backends tell each other through leases, and what they are told by a network's configuration.
    ("overlay-lease*", &["serde_json"]),
];

/// What some may name as long as a feature has to be enabled to get it: of whom, the optional dependency, and the crates
/// it brings along.
const BEHIND_A_FEATURE: &[(&str, &str, &[&str])] =
    &[("overlay-*", "serde", &["serde", "serde_core"]), ("overlay-netlink", "tokio", &["tokio"])];

/// A place in a public API that names something of a crate it must not name.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Leak {
    /// The item of ours.
    pub item: String,
    /// The path of what it names, as its own crate calls it.
    pub names: String,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} names {}", self.item, self.names)
    }
}

/// Whether the public API of `package` may name things of the crate `named`, spelled with underscores.
pub fn may_name(workspace: &Workspace, package: &Package, named: &str) -> bool {
    let applies = |pattern: &str| match pattern.strip_suffix('*') {
        Some(prefix) => package.name.starts_with(prefix),
        None => package.name == pattern,
    };
    let optional = |name: &str| {
        let mut lines = package.dependencies.iter().filter(|dependency| dependency.name == name);
        lines.any(|dependency| dependency.optional)
    };
    ANY.contains(&named)
        || SOME.iter().any(|(pattern, crates)| applies(pattern) && crates.contains(&named))
        || BEHIND_A_FEATURE.iter().any(|(pattern, dependency, crates)| {
            applies(pattern) && crates.contains(&named) && optional(dependency)
        })
        || workspace.published().any(|package| library(&package.name) == named)
}

/// The public API of the library of `package` with all features, as rustdoc's JSON.
///
/// Cargo is told to stay offline. Stable rustdoc refuses to write JSON unless it is told that our crates may use unstable
/// options; dependencies are compiled as always. They are told by a variable that build scripts look at, so it has one
/// value for the whole workspace: with another one per crate, each would compile the dependencies again. For the same
/// reason the build has a directory of its own, apart from what ordinary builds have cached.
///
/// # Errors
///
/// What Cargo says when it fails, or that the file it should have written is not there or is not JSON.
pub fn rustdoc(workspace: &Workspace, package: &str) -> Result<Value, String> {
    let libraries: Vec<_> =
        workspace.packages.iter().map(|package| library(&package.name)).collect();
    let target = workspace.target.join("public-api");
    let output = cargo()
        .args(["rustdoc", "--quiet", "--offline", "--lib", "--all-features", "--package", package])
        .arg("--target-dir")
        .arg(&target)
        .args(["--", "-Zunstable-options", "--output-format=json", "--document-hidden-items"])
        .current_dir(&workspace.root)
        .env("RUSTC_BOOTSTRAP", libraries.join(","))
        .env_remove("RUSTDOCFLAGS")
        .output()
        .map_err(|error| format!("cannot run cargo rustdoc: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo rustdoc -p {package} (offline, see cargo fetch): {said}"));
    }
    let file = target.join("doc").join(library(package)).with_extension("json");
    let text = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", file.display()))
}

/// Every place in a public API that names a crate for which `allowed` is false.
///
/// # Errors
///
/// That the JSON does not have the form this function knows, which changes with the toolchain. Then nothing can be said
/// about the API.
pub fn leaks(api: &Value, allowed: impl Fn(&str) -> bool) -> Result<BTreeSet<Leak>, String> {
    let api = Api::new(api)?;
    let mut leaks = BTreeSet::new();
    for (id, item) in &api.items {
        let mut paths = Vec::new();
        collect_paths(&item["inner"], &mut paths);
        for path in paths {
            let (owner, names) = api.resolve(path);
            let fine = match owner {
                Owner::Own => true,
                Owner::Foreign(named) => allowed(named),
                Owner::Unknown => false,
            };
            if !fine {
                leaks.insert(Leak { item: api.name(id), names });
            }
        }
    }
    Ok(leaks)
}

/// A view of rustdoc's JSON that holds what this crate wrote and what that refers to.
struct Api<'a> {
    /// The items written in this crate, by id.
    items: HashMap<String, &'a Value>,
    /// Their parents: the module of an item, the impl of a method, the struct of a field.
    parents: HashMap<String, String>,
    /// The full path and the crate of whatever is referred to, by id.
    paths: &'a serde_json::Map<String, Value>,
    /// The names of the other crates, by number.
    crates: &'a serde_json::Map<String, Value>,
}

impl<'a> Api<'a> {
    fn new(api: &'a Value) -> Result<Self, String> {
        let version = &api["format_version"];
        let table = |name: &str| {
            api[name].as_object().ok_or_else(|| format!("rustdoc JSON {version} has no {name}"))
        };
        let index = table("index")?;
        // Rustdoc also lists what follows from the impls of others: `impl<T> Into<T> for ..`, `Send`. Nobody here
        // wrote those, and a dependency with a blanket impl would be reported for each type.
        let mut derived = HashSet::new();
        for (id, item) in index {
            let written = &item["inner"]["impl"];
            if written["is_synthetic"] == true || written["blanket_impl"].is_object() {
                derived.insert(id.clone());
                derived.extend(children(item));
            }
        }
        let items: HashMap<_, _> = index
            .iter()
            .filter(|(id, item)| item["crate_id"] == 0 && !derived.contains(*id))
            .map(|(id, item)| (id.clone(), item))
            .collect();
        let root = id_of(&api["root"]).unwrap_or_default();
        if !items.contains_key(&root) || items.values().any(|item| !item["inner"].is_object()) {
            return Err(format!("rustdoc JSON {version} has an unknown form"));
        }
        let parents = items
            .iter()
            .flat_map(|(id, item)| children(item).into_iter().map(|child| (child, id.clone())))
            .collect();
        Ok(Self { items, parents, paths: table("paths")?, crates: table("external_crates")? })
    }

    /// What a path means: who defines it, and its full path.
    fn resolve(&self, path: &'a Value) -> (Owner<'a>, String) {
        let text = path["path"].as_str().or_else(|| path["source"].as_str()).unwrap_or("?");
        let Some(id) = id_of(&path["id"]) else {
            // Only the re-export of a primitive type has no id.
            let first = text.split("::").next();
            return (first.map_or(Owner::Unknown, Owner::Foreign), text.to_owned());
        };
        let Some(target) = self.paths.get(&id) else {
            let own = self.items.contains_key(&id);
            return (if own { Owner::Own } else { Owner::Unknown }, text.to_owned());
        };
        let owner = match target["crate_id"].as_u64() {
            Some(0) => Owner::Own,
            number => {
                let foreign = number.and_then(|number| self.crates.get(&number.to_string()));
                foreign
                    .and_then(|found| found["name"].as_str())
                    .map_or(Owner::Unknown, Owner::Foreign)
            }
        };
        (owner, join(&target["path"]))
    }

    fn name(&self, id: &str) -> String {
        if let Some(target) = self.paths.get(id) {
            return join(&target["path"]);
        }
        let Some(item) = self.items.get(id) else { return "?".to_owned() };
        let written = &item["inner"]["impl"];
        if written.is_object() {
            let of = match &written["for"]["resolved_path"] {
                Value::Null => "..".to_owned(),
                path => self.resolve(path).1,
            };
            return match &written["trait"] {
                Value::Null => of,
                path => format!("<{of} as {}>", self.resolve(path).1),
            };
        }
        let parent = self.parents.get(id).map(|parent| self.name(parent)).unwrap_or_default();
        match item["name"].as_str() {
            Some(name) => format!("{parent}::{name}"),
            None => format!(
                "use {} in {parent}",
                item["inner"]["use"]["source"].as_str().unwrap_or("?")
            ),
        }
    }
}

/// Who defines what a path means.
enum Owner<'a> {
    /// The crate whose API this is.
    Own,
    /// Another crate, by name.
    Foreign(&'a str),
    /// Rustdoc's JSON does not say.
    Unknown,
}

/// The ids of what is inside an item: all lists of numbers in it are lists of ids.
fn children(item: &Value) -> Vec<String> {
    fn collect(value: &Value, ids: &mut Vec<String>) {
        match value {
            Value::Array(values) => {
                ids.extend(values.iter().filter_map(id_of));
                values.iter().for_each(|value| collect(value, ids));
            }
            Value::Object(fields) => {
                // The impls of a trait or a type are beside it, not inside it.
                let inside = |name: &str| name != "impls" && name != "implementations";
                let fields = fields.iter().filter(|(name, _)| inside(name));
                fields.for_each(|(_, value)| collect(value, ids));
            }
            _ => {}
        }
    }
    let mut ids = Vec::new();
    collect(&item["inner"], &mut ids);
    ids
}

/// Everything inside `value` that refers to an item by id: paths in types and bounds, and re-exports.
fn collect_paths<'a>(value: &'a Value, paths: &mut Vec<&'a Value>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect_paths(value, paths)),
        Value::Object(fields) => {
            if fields.contains_key("id") {
                paths.push(value);
            }
            fields.values().for_each(|value| collect_paths(value, paths));
        }
        _ => {}
    }
}

fn id_of(value: &Value) -> Option<String> {
    value.as_u64().map(|id| id.to_string())
}

fn join(path: &Value) -> String {
    let segments = path.as_array().into_iter().flatten().filter_map(Value::as_str);
    segments.collect::<Vec<_>>().join("::")
}

fn library(package: &str) -> String {
    package.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_argument_of_a_method_is_seen_through_references_and_generics() {
        let leaky = json!({ "borrowed_ref": { "type": { "resolved_path": {
            "path": "Option", "id": 11, "args": { "angle_bracketed": { "args": [
                { "type": { "resolved_path": { "path": "Alias", "id": 12, "args": null } } }
            ] } }
        } } } });
        let found = leaks(&api(&leaky, false), |named| named == "core").unwrap();
        let [leak] = found.iter().collect::<Vec<_>>()[..] else { panic!("{found:?}") };
        assert_eq!(leak.to_string(), "ours::Socket::send names netlink_sys::socket::Address");
    }

    #[test]
    fn what_is_allowed_or_our_own_is_no_leak() {
        let own = json!({ "resolved_path": { "path": "Socket", "id": 1, "args": null } });
        assert_eq!(leaks(&api(&own, false), |_| false).unwrap().len(), 0);
        let foreign = json!({ "resolved_path": { "path": "Alias", "id": 12, "args": null } });
        assert_eq!(leaks(&api(&foreign, false), |named| named == "netlink_sys").unwrap().len(), 0);
    }

    #[test]
    fn what_cannot_be_resolved_is_reported() {
        let lost = json!({ "resolved_path": { "path": "Lost", "id": 99, "args": null } });
        assert_eq!(leaks(&api(&lost, false), |_| true).unwrap().len(), 1);
    }

    #[test]
    fn impls_that_follow_from_impls_of_others_are_not_ours() {
        let foreign = json!({ "resolved_path": { "path": "Alias", "id": 12, "args": null } });
        assert_eq!(leaks(&api(&foreign, true), |_| false).unwrap().len(), 0);
    }

    #[test]
    fn an_unknown_form_is_an_error() {
        assert!(leaks(&json!({ "format_version": 999 }), |_| true).is_err());
        let mut changed = api(&json!({ "primitive": "u8" }), false);
        changed["root"] = json!("0:1");
        assert!(leaks(&changed, |_| true).is_err());
    }

    #[test]
    fn the_allow_list_applies_by_crate_and_feature() {
        let package = |name: &str, optional: bool| {
            json!({
                "name": name, "manifest_path": "/house/crates/x/Cargo.toml", "publish": null,
                "keywords": [], "categories": [],
                "dependencies": [
                    { "name": "tokio", "kind": null, "optional": optional },
                    { "name": "serde", "kind": null, "optional": optional },
                ],
            })
        };
        let workspace = |optional| {
            Workspace::from_metadata(&json!({
                "workspace_root": "/house", "target_directory": "/house/target",
                "packages": [package("overlay-netlink", optional), package("overlay-backend-vxlan", optional)],
            }))
            .unwrap()
        };
        let may = |optional, name, named| {
            let workspace = workspace(optional);
            may_name(&workspace, workspace.package(name).unwrap(), named)
        };
        assert!(may(true, "overlay-netlink", "tokio"));
        assert!(!may(false, "overlay-netlink", "tokio"));
        assert!(!may(true, "overlay-backend-vxlan", "tokio"));
        assert!(may(false, "overlay-backend-vxlan", "serde_json"));
        assert!(may(true, "overlay-netlink", "serde_core"));
        assert!(!may(false, "overlay-netlink", "serde_core"));
        assert!(!may(true, "overlay-netlink", "serde_json"));
        assert!(may(false, "overlay-netlink", "ipnet"));
        assert!(may(false, "overlay-backend-vxlan", "overlay_netlink"));
        assert!(!may(false, "overlay-backend-vxlan", "overlay_lab"));
        for named in ["netlink_sys", "netlink_packet_core", "netlink_packet_route", "thiserror"] {
            assert!(!may(true, "overlay-netlink", named));
        }
    }

    /// A crate with `struct Socket` and a method `send` that takes `argument`; the impl may be one rustdoc derived.
    fn api(argument: &Value, derived: bool) -> Value {
        json!({
            "format_version": 57,
            "root": 0,
            "index": {
                "0": { "crate_id": 0, "name": "ours", "inner": { "module": { "items": [1] } } },
                "1": { "crate_id": 0, "name": "Socket", "inner": { "struct": { "kind": "unit", "impls": [2] } } },
                "2": { "crate_id": 0, "name": null, "inner": { "impl": {
                    "is_synthetic": derived, "blanket_impl": null, "trait": null, "items": [3],
                    "for": { "resolved_path": { "path": "Socket", "id": 1, "args": null } },
                } } },
                "3": { "crate_id": 0, "name": "send", "inner": { "function": {
                    "sig": { "inputs": [["to", argument]], "output": null },
                } } },
            },
            "paths": {
                "0": { "crate_id": 0, "path": ["ours"] },
                "1": { "crate_id": 0, "path": ["ours", "Socket"] },
                "11": { "crate_id": 2, "path": ["core", "option", "Option"] },
                "12": { "crate_id": 20, "path": ["netlink_sys", "socket", "Address"] },
            },
            "external_crates": { "2": { "name": "core" }, "20": { "name": "netlink_sys" } },
        })
    }
}
