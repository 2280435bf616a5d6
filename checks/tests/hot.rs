//! What `overlay-wire` does for each packet, as compiled for release: it cannot panic, and needs nothing but `core`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use overlay_checks::reach::{Graph, Reach};
use overlay_checks::workspace::{Workspace, cargo};

/// What every target provides without an operating system: compilers call these for copies and comparisons.
const PROVIDED: [&str; 5] = ["bcmp", "memcmp", "memcpy", "memmove", "memset"];

#[test]
fn nothing_hot_can_panic() {
    let hot = graph().symbols("hot_");
    assert!(hot.len() >= 12, "only {hot:?}");
    let panics: Vec<_> = hot
        .iter()
        .filter_map(|function| reach(function).panic.map(|way| way.join("\n    -> ")))
        .collect();
    assert!(panics.is_empty(), "ways to panic:\n  {}", panics.join("\n  "));
}

#[test]
fn nothing_hot_needs_more_than_core() {
    for function in graph().symbols("hot_") {
        let missing = reach(function).missing;
        let missing: Vec<_> =
            missing.iter().filter(|name| !PROVIDED.contains(&name.as_str())).collect();
        assert!(missing.is_empty(), "{function} needs {missing:?}");
    }
}

/// What is unusual is encapsulated and decapsulated through pointers, which relocations do not show. What they can point to
/// is what making a template or a decapsulator takes the addresses of.
#[test]
fn what_is_called_through_pointers_is_looked_at() {
    for (maker, function) in [("hot_template", "write_as"), ("hot_decapsulator", "any")] {
        let names = reach(maker).names;
        assert!(names.iter().any(|name| name.contains(function)), "{maker}: {names:?}");
    }
}

/// The tests above pass when all is well and would also pass if they saw nothing.
#[test]
fn what_panics_is_found_out() {
    let cold = graph().symbols("cold_");
    assert_eq!(cold, BTreeSet::from(["cold_chunks", "cold_index", "cold_pointer"]));
    for function in cold {
        let way = reach(function).panic.unwrap_or_default();
        assert_eq!(way.first().map(String::as_str), Some(function));
        assert!(way.len() > 1, "{way:?}");
    }
    assert_eq!(graph().reach("no such function"), None);
}

fn reach(function: &str) -> Reach {
    graph().reach(function).expect("a function that was listed")
}

/// The static library of `fixtures/hot`, built once.
///
/// It is no member of the workspace, but depends on one. So it is built elsewhere with a copy of the workspace's lock
/// file: then Cargo finds offline what the workspace was built with.
fn graph() -> &'static Graph {
    static GRAPH: OnceLock<Graph> = OnceLock::new();
    GRAPH.get_or_init(|| {
        let workspace =
            Workspace::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))).unwrap();
        let fixture = workspace.root.join("checks/fixtures/hot");
        let dir = workspace.target.join("fixtures/hot");
        fs::create_dir_all(dir.join("src")).unwrap();
        let manifest = fs::read_to_string(fixture.join("Cargo.toml")).unwrap();
        let crates = workspace.root.join("crates");
        let manifest = manifest.replace("../../../crates", crates.to_str().unwrap());
        fs::write(dir.join("Cargo.toml"), manifest).unwrap();
        fs::copy(fixture.join("src/lib.rs"), dir.join("src/lib.rs")).unwrap();
        fs::copy(workspace.root.join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
        let output = cargo()
            .args(["build", "--release", "--offline", "--quiet"])
            .arg("--target-dir")
            .arg(dir.join("target"))
            .current_dir(&dir)
            .env_remove("RUSTFLAGS")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let library = fs::read(dir.join("target/release/libhot.a")).unwrap();
        Graph::of_archive(&library).unwrap()
    })
}
