//! Says what a network is made of.

use std::fs;
use std::io::{Read, stdin};
use std::path::Path;

use anyhow::Context;
use overlay_lease::{AnyStore, BackendConfig, ByFamily, NetworkConfig, Pool, Store};
use serde_json::json;

use crate::error::Problem;
use crate::options::Init;
use crate::out::Out;
use crate::table::config_json;

pub(crate) async fn run(store: &AnyStore, init: &Init, out: &Out) -> anyhow::Result<()> {
    let config = config(init)?;
    let before = store.config().await?;
    if let Some(before) = &before {
        if *before.config == config {
            out.say("The network is configured so already.")?;
            return out.tell(
                || json!({"ok": true, "changed": false, "config": config_json(Some(before))}),
            );
        }
        if !init.replace {
            return Err(Problem::Configured(before.clone()).into());
        }
    }
    let configured = store.configure(&config, before.map(|before| before.revision)).await?;
    out.say(config.to_json())?;
    out.tell(|| json!({"ok": true, "changed": true, "config": config_json(Some(&configured))}))
}

fn config(init: &Init) -> anyhow::Result<NetworkConfig> {
    if let Some(file) = &init.file {
        return Ok(NetworkConfig::from_json(&read(file)?)?);
    }
    let default = "10.244.0.0/16".parse().ok().filter(|_| init.ipv6.is_none());
    let v4 = init.ipv4.or(default).map(|network| match init.ipv4_len {
        Some(len) => Pool::with_subnet_len(network, len),
        None => Pool::new(network),
    });
    let v6 = init.ipv6.map(|network| match init.ipv6_len {
        Some(len) => Pool::with_subnet_len(network, len),
        None => Pool::new(network),
    });
    let backend = BackendConfig::new(init.backend.as_str(), serde_json::Map::new())?;
    Ok(NetworkConfig::new(ByFamily { v4: v4.transpose()?, v6: v6.transpose()? }, backend)?)
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(text);
    }
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
