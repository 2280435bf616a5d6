//! Subnet leases: who owns which subnet of an overlay network.

mod acquire;
mod error;
mod init;
mod options;
mod out;
mod place;
mod release;
mod reserve;
mod show;
mod table;
mod tour;
mod watch;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::options::{Command, Options};
use crate::out::Out;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if out::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lease: {error:#}");
            if let Some(hint) = error::hint(&error) {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> anyhow::Result<()> {
    let out = Out::new(options.json);
    let Some(command) = &options.command else { return tour::run(&out).await };
    let store = options.open().await?;
    match command {
        Command::Init(init) => init::run(&store, init, &out).await,
        Command::Show(show) => show::run(&store, show, &out).await,
        Command::Acquire(acquire) => acquire::run(store, acquire, &out).await,
        Command::Release(release) => release::run(&store, release, &out).await,
        Command::Reserve(reserve) => reserve::run(&store, reserve, &out).await,
        Command::Watch(watch) => watch::run(store, watch, &out).await,
    }
}

/// Waits for Ctrl-C or SIGTERM.
async fn interrupted() -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.context("cannot listen for Ctrl-C"),
        _ = term.recv() => Ok(()),
    }
}
