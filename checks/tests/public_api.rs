//! Published crates name only types of crates that they may name.

use std::path::Path;

use overlay_checks::public_api::{leaks, may_name, rustdoc};
use overlay_checks::workspace::Workspace;

#[test]
fn no_published_crate_names_a_type_it_must_not() {
    let workspace = Workspace::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))).unwrap();
    let mut complaints = Vec::new();
    for package in workspace.published() {
        let api = rustdoc(&workspace, &package.name).unwrap();
        let found = leaks(&api, |named| may_name(&workspace, package, named)).unwrap();
        complaints.extend(found.iter().map(ToString::to_string));
    }
    assert!(
        complaints.is_empty(),
        "types of other crates in our APIs:\n  {}",
        complaints.join("\n  ")
    );
}

/// The check above passes when all is well and would also pass if it saw nothing. So it has to find, with the toolchain
/// of today, what is wrong in a crate that is wrong in every way.
#[test]
fn a_leaky_crate_is_found_out() {
    let workspace = Workspace::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))).unwrap();
    let mut fixture = Workspace::load(&workspace.root.join("checks/fixtures/leaky")).unwrap();
    fixture.target = workspace.target.join("fixtures/leaky");
    let api = rustdoc(&fixture, "leaky").unwrap();
    let found = leaks(&api, |named| matches!(named, "alloc" | "core" | "std")).unwrap();
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "<leaky::Own as core::convert::From> names foreign::Type",
            "<leaky::Own as core::convert::From>::from names foreign::Type",
            "<leaky::Own as foreign::Trait> names foreign::Trait",
            "leaky::Alias names foreign::Type",
            "leaky::Default names foreign::Type",
            "leaky::Field::field names foreign::Type",
            "leaky::Own::method names foreign::Type",
            "leaky::Variant::Tuple::0 names foreign::Type",
            "leaky::argument names foreign::Type",
            "leaky::associated names foreign::Type",
            "leaky::bound names foreign::Trait",
            "leaky::hidden names foreign::Type",
            "leaky::hidden_type names foreign::Trait",
            "leaky::object names foreign::Trait",
            "leaky::output names foreign::Type",
            "leaky::pointer names foreign::Type",
            "leaky::private::Reexported::0 names foreign::Type",
            "use foreign in leaky names foreign",
            "use foreign::inner in leaky names foreign::inner",
            "use foreign::inner::Deep in leaky names foreign::inner::Deep",
        ]
    );
}
