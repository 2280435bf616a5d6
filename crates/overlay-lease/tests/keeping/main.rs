//! Getting, keeping, giving back and following leases, over a store in memory that can be made to fail.

mod acquire;
mod flaky;
mod follow;
mod keeper;
