//! Cases that cannot run here.

/// The list of things without which tests must fail, separated by commas: `tcpdump,vm`.
pub const REQUIRE: &str = "OVERLAY_REQUIRE";

/// Tells loudly that a test case cannot run for want of something, and says whether that is a
/// failure.
///
/// A case that silently passes because it did nothing is worse than one that fails: CI sets
/// [`REQUIRE`] to what must be there.
///
/// # Errors
///
/// A message for the test harness, when `need` is in [`REQUIRE`].
pub fn cannot_run(case: &str, need: &str, why: &str) -> Result<(), String> {
    let text = verdict(case, need, why, &std::env::var(REQUIRE).unwrap_or_default())?;
    eprintln!("\n*** {text}\n*** (set {REQUIRE}={need} to make this a failure)\n");
    Ok(())
}

fn verdict(case: &str, need: &str, why: &str, required: &str) -> Result<String, String> {
    let text = format!("{case} CANNOT RUN without {need}: {why}");
    if required.split(',').any(|entry| entry.trim() == need) {
        return Err(format!("{text}, and {REQUIRE} lists it"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required_must_not_be_missing() {
        for (required, fails) in
            [("", false), ("tcpdump", true), ("vm, tcpdump", true), ("tcpdumps,tun", false)]
        {
            let verdict = verdict("reading", "tcpdump", "no such program", required);
            assert_eq!(verdict.is_err(), fails, "{required:?}: {verdict:?}");
        }
    }
}
