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

use std::io::{Write, stdout};
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
        Err(error) if options.json => {
            // Whom else could it be told?
            let _ = writeln!(stdout(), "{}", error::object(&error));
            ExitCode::FAILURE
        }
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
    let opened = options.open().await?;
    let store = opened.store.clone();
    let outcome = match command {
        Command::Init(init) => init::run(&store, init, &out).await,
        Command::Show(show) => show::run(&store, show, &out).await,
        Command::Acquire(acquire) => acquire::run(store, acquire, &out).await,
        Command::Release(release) => release::run(&store, release, &out).await,
        Command::Reserve(reserve) => reserve::run(&store, reserve, &out).await,
        Command::Watch(watch) => watch::run(store, watch, &out).await,
    };
    opened.close().await;
    outcome
}

/// Waits for Ctrl-C or SIGTERM.
async fn interrupted() -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.context("cannot listen for Ctrl-C"),
        _ = term.recv() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    /// A directory that goes with the value.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let name = format!("overlay-lease-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        async fn lease(&self, arguments: &str) -> anyhow::Result<()> {
            let store = format!("sqlite:{}", self.0.join("leases.db").display());
            let words = ["lease", "--json", "--store", &store].into_iter();
            run(&Options::parse_from(words.chain(arguments.split(' ')))).await
        }

        fn files(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            // What is left of a failed test does no harm.
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn only_init_makes_a_file_and_nothing_stays_beside_it() {
        let dir = Dir::new("init");
        for command in ["show", "watch -c 1", "acquire --once --node a", "release --node a"] {
            let error = error::object(&dir.lease(command).await.unwrap_err());
            let text = error["error"].as_str().unwrap();
            assert!(
                text.contains("there is no such file") && !text.contains("not allowed"),
                "{text}"
            );
            assert_eq!(error["hint"], "init makes the file; --store says where it is", "{command}");
            assert_eq!((&error["ok"], dir.files()), (&false.into(), 0), "{command}");
        }
        dir.lease("init").await.unwrap();
        assert_eq!(dir.files(), 1);
        dir.lease("acquire --once --node a --address 192.0.2.1,2001:db8::1").await.unwrap();
        dir.lease("show").await.unwrap();
        assert_eq!(dir.files(), 1);
    }

    #[tokio::test]
    async fn a_second_address_of_one_family_is_not_passed_over() {
        let dir = Dir::new("address");
        dir.lease("init").await.unwrap();
        for (addresses, family) in
            [("192.0.2.1,192.0.2.2", "IPv4"), ("2001:db8::1,2001:db8::2", "IPv6")]
        {
            let acquire = format!("acquire --once --node a --address {addresses}");
            let error = dir.lease(&acquire).await.unwrap_err().to_string();
            assert!(error.contains(&format!("more than one {family} address")), "{error}");
        }
        assert!(dir.lease("release --node a").await.is_err(), "nothing was acquired");
    }
}
