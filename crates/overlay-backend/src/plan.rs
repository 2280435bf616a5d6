//! What is to be done, as a value.

use std::fmt;
use std::sync::Arc;

use overlay_netlink::{IfName, Object, Verb, scattered};

use crate::key::Layer;
use crate::table::Slot;

/// One step of a plan. Prints as the iproute2 command that does the same.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// What to do.
    pub verb: Verb,
    /// To what.
    pub object: Arc<Object<IfName>>,
    /// Why.
    pub reason: Reason,
    /// Where what becomes of it is noted, if anywhere.
    pub(crate) slot: Option<Slot>,
}

impl Step {
    pub(crate) fn is_link(&self) -> bool {
        matches!(*self.object, Object::Link(_))
    }

    /// Whether the kernel may take other objects along that the plan does not speak of.
    pub(crate) fn has_consequences(&self) -> bool {
        match *self.object {
            Object::Link(_) => true,
            Object::Address(_) => self.verb == Verb::Delete,
            Object::Fdb(_) => false,
            // One of two with the same key goes, and the kernel chooses which.
            _ => self.slot.is_none(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object.command(self.verb))
    }
}

/// Why a step is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It is wanted and not there.
    Missing,
    /// It is there and not as wanted.
    Differs,
    /// It is ours and no longer wanted.
    Stale,
    /// It cannot be changed in place and has to make room for a new one.
    Incompatible,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Differs => "differs",
            Self::Stale => "stale",
            Self::Incompatible => "incompatible",
        })
    }
}

/// Something that is wanted and cannot be had as things are. It is left alone, and so is what
/// depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// The command that would have made it.
    pub command: String,
    /// Why it cannot be had.
    pub reason: RefusedReason,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.command.lines().next().unwrap_or_default(), self.reason)
    }
}

/// Why something cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedReason {
    /// A device of that name is somebody else's.
    #[error(
        "there is a device {name} of kind {kind:?} that is not ours (its alias is not {alias:?}): \
         delete it, give it that alias to hand it over, or choose another name"
    )]
    ForeignDevice {
        /// The device.
        name: IfName,
        /// Its kind.
        kind: String,
        /// The alias that would make it ours.
        alias: String,
    },
    /// An object with that key is somebody else's, and differs.
    #[error("there is one already, which is not ours: {present}")]
    ForeignObject {
        /// The command that would have made the one that is there.
        present: String,
    },
    /// The device that it belongs to does not exist and is not ours to make.
    #[error("interface {name} does not exist")]
    NoDevice {
        /// The device.
        name: IfName,
    },
}

/// Everything that is to be done to make the kernel's state the wanted one, in order: where devices
/// come, stale ones go before them; then addresses come and go, then FDB entries, neighbours, nexthop objects, routes
/// and rules come, each before what relies on it; what is stale goes in the opposite order, and stale
/// devices with it if none came.
///
/// Prints as the iproute2 commands that do the same, one per line.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Plan {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What is left alone, and why.
    pub refused: Vec<Refused>,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How many steps it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.steps.len()
    }

    /// Puts steps in order.
    pub(crate) fn ordered(steps: Vec<Step>, refused: Vec<Refused>) -> Self {
        const LAYERS: usize = Layer::COUNT;
        let device_comes = Self::device_comes(&steps);
        let slot = |step: &Step| match (Layer::of(&step.object), step.verb == Verb::Delete) {
            // A new device may need what an old one holds.
            (Layer::Link, true) if device_comes => 0,
            (Layer::Link, false) => 1,
            (Layer::Address, false) => 2,
            // The last address of a device takes neighbours and routes along: it goes before new
            // ones come.
            (Layer::Address, true) => 3,
            (layer, false) => 2 + layer as usize,
            (layer, true) => 2 + LAYERS + (LAYERS - 1 - layer as usize),
        };
        let mut slots: [Vec<Step>; 2 * LAYERS + 2] = Default::default();
        for step in steps {
            slots[slot(&step)].push(step);
        }
        for slot in &mut slots[2 + LAYERS..] {
            let mut steps: Vec<_> = slot.drain(..).map(Some).collect();
            slot.extend(scattered(steps.len()).filter_map(|index| steps[index].take()));
        }
        Self { steps: slots.into_iter().flatten().collect(), refused }
    }

    /// Whether one of these steps makes a device. If none does, routes can leave a device that goes
    /// before it does.
    pub(crate) fn device_comes(steps: &[Step]) -> bool {
        steps.iter().any(|step| step.is_link() && step.verb == Verb::Add)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        for refused in &self.refused {
            writeln!(f, "# {refused}")?;
        }
        Ok(())
    }
}
