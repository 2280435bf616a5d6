//! Desired state, plan and reconciler for overlay network backends.
