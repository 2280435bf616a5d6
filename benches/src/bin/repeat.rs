//! Does one thing many times, to be looked at by valgrind or perf: `benches/instructions` uses it.

use anyhow::{Context, Result, bail};
use overlay_benches::contests::{ABOUT_PACKETS, PacketContest};
use overlay_benches::still::StillOverlay;
use overlay_benches::{codec, peer, peers};

/// So many peers there are when what one of them costs is counted.
const OTHERS: u32 = 1000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, times] = &arguments[..] else {
        for name in names()? {
            println!("{name}");
        }
        return Ok(());
    };
    let times: u32 = times.parse().context("how often?")?;
    match name.as_str() {
        "set_peers, per peer" => StillOverlay::new()?.set_peers(peers(times)),
        "set_peers and plan, per peer" => {
            let mut overlay = StillOverlay::new()?;
            overlay.set_peers(peers(times))?;
            overlay.plan().map(drop)
        }
        "set_peers, plan and apply, per peer" => {
            let mut overlay = StillOverlay::new()?;
            overlay.set_peers(peers(times))?;
            let plan = overlay.plan()?;
            overlay.apply(plan).map(drop)
        }
        "make the peers alone, per peer" => {
            drop(peers(times));
            Ok(())
        }
        "follow one peer among 1000" => {
            let mut overlay = StillOverlay::new()?;
            overlay.set_peers(peers(OTHERS))?;
            let plan = overlay.plan()?;
            overlay.apply(plan)?;
            for turn in 0..times {
                let mut changed = peer(turn % OTHERS);
                changed.endpoints = peer(OTHERS + turn).endpoints;
                overlay.follow(changed)?;
            }
            Ok(())
        }
        name => {
            if let Some((packets, name)) = packets(name) {
                let mut contest = (packets.of)(packets.usual)?.with_objects(times);
                let at = contest.contestants.iter().position(|contestant| contestant.name == name);
                let Some(at) = at else { bail!("there is no {name}") };
                return contest.run(at).map(drop);
            }
            let routine = codec::routines()?.into_iter().find(|routine| routine.name == name);
            let Some(mut routine) = routine else { bail!("there is no {name}") };
            (0..times).for_each(|_| (routine.run)());
            Ok(())
        }
    }
}

/// The contest about packets that the first part of a name is, and who takes part in it.
fn packets(name: &str) -> Option<(PacketContest, &str)> {
    let (id, name) = name.split_once(": ")?;
    let packets = ABOUT_PACKETS.into_iter().find(|packets| packets.id == id)?;
    Some((packets, name))
}

fn names() -> Result<Vec<String>> {
    let reconciler = [
        "make the peers alone, per peer",
        "set_peers, per peer",
        "set_peers and plan, per peer",
        "set_peers, plan and apply, per peer",
        "follow one peer among 1000",
    ];
    let codec = codec::routines()?.into_iter().map(|routine| routine.name);
    let mut names: Vec<String> = codec.chain(reconciler.map(str::to_owned)).collect();
    for packets in ABOUT_PACKETS {
        let contest = (packets.of)(packets.usual)?;
        let all = contest.contestants.iter();
        names.extend(all.map(|contestant| format!("{}: {}", packets.id, contestant.name)));
    }
    Ok(names)
}
