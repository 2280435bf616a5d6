//! What keeps the lease of a node.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::acquire::Request;
use crate::attributes::Attributes;
use crate::backoff::seed;
use crate::clock::BootInstant;
use crate::store::Store;
use crate::tenure::{Status, Tenure};

/// Gets a lease for a node and keeps it, in a task of its own, for as long as this value lives or until it is
/// [stopped](Self::stop).
///
/// It renews the lease several times within its time to live. When the store is away it goes on trying, every few
/// seconds, and says until when the lease is the node's nevertheless. When the lease has vanished it gets it again, or
/// another one if somebody else has the subnets by now, and says so. When the network is configured anew, so that the
/// subnets are no longer among those that are leased, it gets others. Nothing makes it give up. See [`Tenure`] for what
/// holding a lease means.
///
/// Time goes on while the machine sleeps. When it wakes, it takes up to a second until the status says what has come to
/// its end meanwhile; [`Status::holds`], asked about [now](BootInstant::now), says so at once.
///
/// When it is dropped, the lease stays until its time is over: the node's next process takes it over.
#[derive(Debug)]
pub struct Keeper {
    commands: mpsc::UnboundedSender<Command>,
    status: Statuses,
}

/// How it stands with a lease, as a [`Keeper`] tells it. Clones can be given to whoever wants to know.
#[derive(Clone, Debug)]
pub struct Statuses {
    statuses: watch::Receiver<Status>,
}

#[derive(Debug)]
enum Command {
    Publish(Attributes),
    Look,
    Stop { release: bool },
}

impl Keeper {
    /// Begins to get and to keep what is requested.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime that has a timer.
    #[must_use = "it keeps the lease only as long as it lives"]
    pub fn start<S: Store + 'static>(store: S, request: Request) -> Self {
        Self::with_clock(store, request, BootInstant::now)
    }

    /// Begins to get and to keep what is requested, by another clock: for tests that hold tokio's, or that let the
    /// machine sleep. At least once in a second of tokio's time it is looked at.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime that has a timer.
    #[must_use = "it keeps the lease only as long as it lives"]
    pub fn with_clock<S: Store + 'static>(
        store: S,
        request: Request,
        clock: impl Fn() -> BootInstant + Send + 'static,
    ) -> Self {
        let tenure = Tenure::new(request, seed());
        let (commands, commanded) = mpsc::unbounded_channel();
        let (statuses, seen) = watch::channel(tenure.status());
        tokio::spawn(keep(store, tenure, clock, commanded, statuses));
        Self { commands, status: Statuses { statuses: seen } }
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.now()
    }

    /// How it stands, from now on.
    #[must_use]
    pub fn statuses(&self) -> Statuses {
        self.status.clone()
    }

    /// The node tells its peers something else from now on. The lease is changed in place.
    pub fn publish(&self, attributes: Attributes) {
        self.tell(Command::Publish(attributes));
    }

    /// Something may have happened to the lease or to the network's configuration: has a look within a second, rather
    /// than with the next renewal. A program that follows the network knows when.
    pub fn look(&self) {
        self.tell(Command::Look);
    }

    /// Keeps the lease no longer, and gives it back if it is to be `release`d. Returns how it ended, which is
    /// [`Status::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the lease may be as it was, empty, or gone.
    pub async fn stop(mut self, release: bool) -> Status {
        self.tell(Command::Stop { release });
        while self.status.changed().await.is_some() {}
        self.status.now()
    }

    fn tell(&self, command: Command) {
        // The task ends when it is told to stop, which consumes the keeper: somebody listens.
        let _ = self.commands.send(command);
    }
}

impl Statuses {
    /// How it stands.
    #[must_use]
    pub fn now(&self) -> Status {
        self.statuses.borrow().clone()
    }

    /// Waits until there is something to say that was not returned here before; `None` when there will be nothing any
    /// more. What is no longer true when this is called is left out.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped has taken nothing away.
    pub async fn changed(&mut self) -> Option<Status> {
        self.statuses.changed().await.ok()?;
        Some(self.statuses.borrow_and_update().clone())
    }
}

/// Runs the state machine until it has stopped or nobody is interested any more.
async fn keep<S: Store>(
    store: S,
    mut tenure: Tenure,
    now: impl Fn() -> BootInstant,
    mut commands: mpsc::UnboundedReceiver<Command>,
    statuses: watch::Sender<Status>,
) {
    while !matches!(*statuses.borrow(), Status::Stopped { .. }) {
        let Some(question) = tenure.question(now()) else {
            show(&mut tenure, &statuses);
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => obey(&mut tenure, now(), command),
                    None => return,
                },
                () = sleep(now(), tenure.wake()) => {}
            }
            show(&mut tenure, &statuses);
            continue;
        };
        let number = question.number;
        let mut reply = pin!(question.operation.ask(&store));
        while tenure.awaits(number) {
            show(&mut tenure, &statuses);
            tokio::select! {
                reply = &mut reply => tenure.answer(now(), number, reply),
                command = commands.recv() => match command {
                    Some(command) => obey(&mut tenure, now(), command),
                    None => return,
                },
                () = sleep(now(), tenure.wake()) => tenure.pass(now()),
            }
        }
        show(&mut tenure, &statuses);
    }
}

fn obey(tenure: &mut Tenure, now: BootInstant, command: Command) {
    match command {
        Command::Publish(attributes) => tenure.publish(attributes),
        Command::Look => tenure.look(now),
        Command::Stop { release } => tenure.stop(release),
    }
}

fn show(tenure: &mut Tenure, statuses: &watch::Sender<Status>) {
    if tenure.take_changed() {
        statuses.send_replace(tenure.status());
    }
}

/// How long tokio's timers, which stand still while the machine sleeps, are trusted.
const GLANCE: Duration = Duration::from_secs(1);

/// Sleeps until then, or until it is time to see how late it is.
async fn sleep(now: BootInstant, until: Option<BootInstant>) {
    match until {
        Some(until) => {
            tokio::time::sleep(until.saturating_duration_since(now).min(GLANCE)).await;
        }
        None => std::future::pending().await,
    }
}
