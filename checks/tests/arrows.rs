//! The manifests and the drawing in `ARCHITECTURE.md` say the same.

use std::fs;
use std::path::Path;

use overlay_checks::arrows::Arrows;
use overlay_checks::workspace::Workspace;

#[test]
fn crates_depend_on_each_other_as_drawn() {
    let workspace = Workspace::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))).unwrap();
    let text = fs::read_to_string(workspace.root.join("ARCHITECTURE.md")).unwrap();
    let complaints = Arrows::from_markdown(&text).unwrap().complaints(&workspace);
    assert!(
        complaints.is_empty(),
        "ARCHITECTURE.md and the manifests differ:\n  {}",
        complaints.join("\n  ")
    );
}

#[test]
fn crates_carry_what_a_registry_and_a_reader_need() {
    let workspace = Workspace::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))).unwrap();
    assert!(workspace.published().count() > 0, "no published crate found");
    let packages = workspace.packages.iter();
    let complaints: Vec<_> =
        packages.flat_map(|package| package.complaints(&workspace.root)).collect();
    assert!(complaints.is_empty(), "\n  {}", complaints.join("\n  "));
}
