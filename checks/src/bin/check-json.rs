//! Reads one JSON value and compares places in it: `check-json /ok=true /nodes/0/name='"vm1"' < output`.
//!
//! For scripts, which cannot rely on a JSON tool being installed.

use std::io::{Read, stdin};
use std::process::ExitCode;

use serde_json::Value;

fn main() -> ExitCode {
    let mut text = String::new();
    let read = stdin().read_to_string(&mut text).map_err(|error| error.to_string());
    let checked = read.and_then(|_| {
        let value = serde_json::from_str(&text).map_err(|error| format!("not JSON: {error}"))?;
        std::env::args().skip(1).try_for_each(|expected| check(&value, &expected))
    });
    match checked {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => {
            eprintln!("check-json: {complaint}");
            ExitCode::FAILURE
        }
    }
}

fn check(value: &Value, expected: &str) -> Result<(), String> {
    let (place, expected) = expected.split_once('=').ok_or("usage: check-json /POINTER=JSON...")?;
    let wanted: Value = serde_json::from_str(expected)
        .map_err(|error| format!("{expected} is not JSON: {error}"))?;
    match value.pointer(place) {
        Some(found) if *found == wanted => Ok(()),
        Some(found) => Err(format!("{place} is {found}, expected {wanted}")),
        None => Err(format!("nothing at {place}, expected {wanted}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_are_compared() {
        let value = json!({ "ok": true, "nodes": [{ "name": "vm1" }] });
        assert!(check(&value, "/ok=true").is_ok());
        assert!(check(&value, "/nodes/0/name=\"vm1\"").is_ok());
        for wrong in ["/ok=false", "/ok=\"true\"", "/none=null", "/ok=yes", "/ok"] {
            assert!(check(&value, wrong).is_err(), "{wrong}");
        }
    }
}
