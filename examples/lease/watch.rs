//! Follows what happens in a network.

use overlay_lease::{AnyStore, Configured, Difference, Follower, Knowledge, News};
use serde_json::{Value, json};

use crate::error::chain;
use crate::options::Watch;
use crate::out::Out;
use crate::table::{config_json, lease_json, line};

pub(crate) async fn run(store: AnyStore, watch: &Watch, out: &Out) -> anyhow::Result<()> {
    let mut follower = Follower::new(store);
    let mut knowledge = Knowledge::Unknown;
    let mut seen = 0;
    loop {
        let news = tokio::select! {
            news = follower.next() => news,
            ended = crate::interrupted() => return ended,
        };
        tell(&news, &mut knowledge, out)?;
        for difference in &news.differences {
            out.say(text(difference))?;
            out.tell(|| object(difference))?;
            seen += 1;
            if watch.count.is_some_and(|count| seen >= count) {
                return Ok(());
            }
        }
    }
}

/// What is known of the network has become more or less.
fn tell(news: &News, knowledge: &mut Knowledge, out: &Out) -> anyhow::Result<()> {
    for skipped in &news.skipped {
        out.say(format!("? cannot read {skipped}"))?;
        out.tell(|| json!({"event": "skipped", "key": skipped.key, "reason": skipped.reason}))?;
    }
    if news.knowledge == *knowledge && news.error.is_none() {
        return Ok(());
    }
    *knowledge = news.knowledge;
    let why = news.error.as_ref().map(|error| chain(error));
    let (event, text) = match news.knowledge {
        Knowledge::Unknown => ("unknown", "nothing is known of the network"),
        Knowledge::Current => ("current", "this is how it is"),
        Knowledge::Stale => ("stale", "this is how it was: the store does not answer"),
    };
    out.say(match &why {
        Some(why) => format!("! {text}: {why}"),
        None => format!("! {text}"),
    })?;
    out.tell(|| json!({"event": event, "error": why}))
}

pub(crate) fn text(difference: &Difference) -> String {
    match difference {
        Difference::Config { to, .. } => match to {
            Some(Configured { config, .. }) => format!("* {}", config.to_json()),
            None => "* the network is no longer configured".into(),
        },
        Difference::Added(lease) => format!("+ {}", line(lease)),
        Difference::Changed { to, .. } => format!("~ {}", line(to)),
        Difference::Removed(lease) => format!("- {}", line(lease)),
    }
}

fn object(difference: &Difference) -> Value {
    match difference {
        Difference::Config { to, .. } => {
            json!({"event": "config", "config": config_json(to.as_ref())})
        }
        Difference::Added(lease) => json!({"event": "added", "lease": lease_json(lease)}),
        Difference::Changed { from, to } => {
            json!({"event": "changed", "from": lease_json(from), "lease": lease_json(to)})
        }
        Difference::Removed(lease) => json!({"event": "removed", "lease": lease_json(lease)}),
    }
}
