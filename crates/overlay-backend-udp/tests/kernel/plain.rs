//! Nothing yet.
use crate::Case;
pub(crate) const CASES: [Case; 0] = [];
