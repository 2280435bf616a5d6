//! Properties of the bytes: they come back as what they were, other parsers read the same in them,
//! and no bytes whatever make a reader panic.

mod oracle;
mod round_trip;
mod strategies;
mod untrusted;

use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};

use crate::codec::HEADER_LEN;
use crate::object::sealed::{Decode, Encode};
use crate::{Error, Verb};

/// Checks a property, and writes nothing into the source tree when it fails.
#[track_caller]
fn check<T: Debug>(cases: u32, strategy: impl Strategy<Value = T>, property: impl Fn(T)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&strategy, |value| {
        property(value);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

fn encode(object: &impl Encode, verb: Verb) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    object.encode(verb, &mut bytes).map(|_| bytes)
}

/// Encodes and decodes again.
fn there_and_back<T: Decode + Encode>(object: &T, verb: Verb) -> T {
    let bytes = encode(object, verb).expect("it can be said");
    T::decode(&bytes[HEADER_LEN..]).expect("what was said is understood")
}
