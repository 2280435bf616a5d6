//! Runs every committed input through its target, as it is and damaged.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use overlay_fuzz::{TARGETS, Target, run_files};

#[test]
fn every_committed_input_is_harmless() {
    for target in TARGETS {
        let inputs = run_files(*target, &[here("corpus").join(target.name)]).unwrap();
        assert!(inputs > 0, "{} has an empty corpus", target.name);
    }
}

/// Packets that end elsewhere or have one bit wrong are read or refused like any others. Messages of netlink are left to
/// the fuzzer: a hundred times as slow, they would take minutes here.
#[test]
fn every_truncation_and_every_flipped_bit_is_harmless() {
    for target in TARGETS.iter().filter(|target| target.name != "netlink_messages") {
        for file in fs::read_dir(here("corpus").join(target.name)).unwrap() {
            let path = file.unwrap().path();
            let input = fs::read(&path).unwrap();
            for (damage, damaged) in truncations(&input).chain(flips(&input)) {
                let found = catch_unwind(|| (target.run)(&damaged)).is_err();
                assert!(!found, "{} {}, {damage}: {damaged:02x?}", target.name, path.display());
            }
        }
    }
}

/// A target that is in the table and nowhere else is never fuzzed; a corpus without a target is never replayed.
#[test]
fn table_binaries_and_corpora_agree() {
    let table: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(table.len(), TARGETS.len(), "two targets of one name");
    assert_eq!(table, names(&here("corpus")), "corpus/ beside the table");
    assert_eq!(table, names(&here("fuzz_targets")), "fuzz_targets/ beside the table");

    let manifest = fs::read_to_string(here("Cargo.toml")).unwrap();
    let binaries = manifest.split("\n[[bin]]\n").skip(1).map(|binary| {
        let name = binary
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        name.expect("the first line after [[bin]] is the name").to_owned()
    });
    assert_eq!(table, binaries.collect(), "Cargo.toml beside the table");
}

#[test]
fn a_finding_is_not_swallowed() {
    let target = Target { name: "finds", run: |input| assert!(!input.starts_with(b"//!")) };
    assert!(catch_unwind(|| run_files(target, &[here("tests")])).is_err());
    assert!(run_files(target, &[here("no such directory")]).is_err());
}

fn truncations(input: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..input.len()).map(|len| (format!("cut after {len} bytes"), input[..len].to_vec()))
}

fn flips(input: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..input.len() * 8).map(|bit| {
        let mut flipped = input.to_vec();
        flipped[bit / 8] ^= 0x80 >> (bit % 8);
        (format!("bit {bit} flipped"), flipped)
    })
}

/// The names of what is in a directory, without extensions; nothing if there is no such directory.
fn names(dir: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(dir) else { return BTreeSet::new() };
    let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    entries.map(|entry| stem(entry.unwrap().path())).collect()
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
