//! Checks of the workspace itself: that the crates depend on each other as `ARCHITECTURE.md` draws it, that published
//! crates carry what a registry and a reader need, that no public API names a type of a crate it must not name, and that
//! what is done for each packet can neither panic nor needs more than `core`.
//!
//! The checks are plain functions that return complaints; `tests/` applies them to this workspace and fails on any.
//! Each of them is also applied to something that is wrong on purpose, so that a check which can no longer fail is noticed.

pub mod arrows;
pub mod public_api;
pub mod reach;
pub mod workspace;
