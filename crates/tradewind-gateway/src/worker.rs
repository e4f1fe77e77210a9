//! The threads that serve. Each has an event loop, connections and a view of its own, and accepts from the same socket;
//! what they share are atomics.

use std::{cell::RefCell, rc::Rc, sync::Arc, thread, time::Duration};

use arc_swap::{ArcSwapOption, Cache};
use tokio::{
    net::TcpListener,
    sync::{broadcast, oneshot},
    task::LocalSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tradewind_core::{balance::Heat, retry::Budget, traffic::Sequence};

use crate::{
    gateway::{Error, Gateway},
    link::Links,
    server,
    world::World,
};

/// Unused connections are looked at this often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The world as this thread last saw it; the pointer tells whether there is a newer one.
type Seen = Cache<Arc<ArcSwapOption<World>>, Option<Arc<World>>>;

/// What one thread serves with.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) links: Links,
    world: RefCell<Seen>,
    models: RefCell<foldhash::HashMap<Arc<str>, Rc<Own>>>,
    random: RefCell<Sequence>,
}

/// What one thread keeps of one model.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) heat: RefCell<Heat>,
    budget: RefCell<(Budget, Instant)>,
}

impl Own {
    pub(crate) fn asked(&self) {
        self.budget.borrow_mut().0.deposit();
    }

    pub(crate) fn may_try_again(&self) -> bool {
        let (budget, looked) = &mut *self.budget.borrow_mut();
        let now = Instant::now();
        budget.pass(now - *looked);
        *looked = now;
        budget.withdraw()
    }
}

impl Worker {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        Self {
            world: RefCell::new(Cache::new(Arc::clone(&gateway.world))),
            gateway,
            links: Links::default(),
            models: RefCell::default(),
            random: RefCell::new(Sequence::new(rand::random())),
        }
    }

    /// The newest world; `None` before the first snapshot.
    pub(crate) fn world(&self) -> Option<Arc<World>> {
        self.world.borrow_mut().load().clone()
    }

    pub(crate) fn random(&self) -> u64 {
        self.random.borrow_mut().next()
    }

    pub(crate) fn model(&self, name: &Arc<str>) -> Rc<Own> {
        if let Some(own) = self.models.borrow().get(name) {
            return Rc::clone(own);
        }
        let own = Rc::new(Own { heat: RefCell::default(), budget: RefCell::new((Budget::default(), Instant::now())) });
        self.models.borrow_mut().insert(Arc::clone(name), Rc::clone(&own));
        own
    }

    /// Keeps connections and models in order until `shutdown`.
    async fn tidy(&self, mut lost: broadcast::Receiver<u64>, shutdown: &CancellationToken) {
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                target = lost.recv() => match target {
                    Ok(target) => self.links.lost(target),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.links.lose_unhealthy(),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                _ = sweep.tick() => {
                    self.links.sweep();
                    if let Some(world) = self.world() {
                        self.models.borrow_mut().retain(|name, _| world.models.contains_key(name));
                    }
                }
            }
        }
    }
}

/// Told how a thread ended; told nothing when it panicked.
pub(crate) type Thread = oneshot::Receiver<Result<(), Error>>;

/// Starts a thread that serves until `shutdown` and then lets what is in flight finish.
pub(crate) fn spawn(
    gateway: Arc<Gateway>,
    listener: std::net::TcpListener,
    shutdown: CancellationToken,
    cut: CancellationToken,
) -> Result<Thread, Error> {
    on_thread("gateway-worker", cut, async move || {
        let listener = TcpListener::from_std(listener).map_err(Error::Inherited)?;
        // Outlives the server's drain.
        let over = CancellationToken::new();
        let lost = gateway.lost.subscribe();
        let worker = Rc::new(Worker::new(gateway));
        let serve = async {
            server::run(&worker, listener, shutdown).await;
            over.cancel();
        };
        tokio::join!(serve, worker.tidy(lost, &over));
        Ok(())
    })
}

/// Runs `main` on a thread and an event loop of its own. `cut` ends it wherever it is, with all that it has spawned.
pub(crate) fn on_thread(
    name: &str,
    cut: CancellationToken,
    main: impl AsyncFnOnce() -> Result<(), Error> + Send + 'static,
) -> Result<Thread, Error> {
    let (tell, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let result = LocalSet::new().block_on(&runtime, cut.run_until_cancelled_owned(main()));
            // Nobody listens any more when the gateway's future was dropped.
            let _ = tell.send(result.unwrap_or(Ok(())));
        })
        .map_err(Error::Thread)?;
    Ok(ended)
}
