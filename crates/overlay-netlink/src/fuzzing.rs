//! What a fuzz target needs of the inside.

use std::fmt::Debug;

use crate::codec::{self, HEADER_LEN};
use crate::monitor::read_events;
use crate::object::{Listable, sealed};
use crate::socket::{Messages, Refusal, describe};
use crate::{Address, Fdb, IfName, Link, Neighbour, Nexthop, Route, Rule, Verb};

const VERBS: [Verb; 5] = [Verb::Add, Verb::Replace, Verb::Append, Verb::Change, Verb::Delete];

/// Reads `bytes` as a datagram from the kernel in every way there is, and its messages as objects
/// of every kind.
///
/// # Panics
/// When a reader does, or when an object that was read does not survive being sent.
pub fn netlink_messages(bytes: &[u8]) {
    for event in read_events(bytes) {
        let _ = format!("{event:?}");
    }
    for message in Messages::new(bytes).flatten() {
        let _ = Refusal::parse(message.flags, message.body);
        let _ = Refusal::parse_done(message.body);
        body(message.body);
    }
    let _ = describe(bytes, |_| Some(IfName::reported(bytes)));
    body(bytes);
}

fn body(body: &[u8]) {
    survives::<Link>(body);
    survives::<Address>(body);
    survives::<Neighbour>(body);
    survives::<Fdb>(body);
    survives::<Route>(body);
    survives::<Rule>(body);
    survives::<Nexthop>(body);
}

/// What is read may hold what is never sent, such as a carrier. Sent once, it is sent as the same
/// again.
fn survives<T: Listable + Debug + PartialEq>(body: &[u8]) {
    let Some(object) = T::decode(body) else { return };
    let _ = T::accepts(&<T as sealed::Decode>::Filter::default(), &object);
    for verb in VERBS {
        let _ = object.command(verb);
        let Some(once) = sent(&object, verb) else { continue };
        if verb != Verb::Delete {
            let twice = sent(&once, verb);
            assert_eq!(Some(&once), twice.as_ref(), "{verb:?} {object:?}");
        }
    }
}

/// The object as the kernel would read it from the first message; `None` when it cannot be said.
fn sent<T: Listable + Debug>(object: &T, verb: Verb) -> Option<T> {
    let mut buffer = vec![0xa5];
    let Ok(count) = object.encode(verb, &mut buffer) else {
        assert_eq!(buffer, [0xa5], "an error leaves the buffer as it was");
        return None;
    };
    let messages: Vec<_> = Messages::new(&buffer[1..]).collect();
    assert_eq!(messages.len(), count as usize);
    assert_eq!(buffer.len() % 4, 1, "messages are aligned");
    let len = codec::u32_at(&buffer, 1).map_or(0, |len| len as usize);
    let decoded = T::decode(&buffer[1 + HEADER_LEN..1 + len]);
    assert!(decoded.is_some() || verb == Verb::Delete, "{verb:?} {object:?}");
    decoded
}
