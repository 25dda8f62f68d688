//! The modules that clients have uploaded, and the pools that run their tasks: one for each module that is in use.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use sandpool::pool::Isolation;
use sandpool::{Limits, Module, Pool, Sandbox};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, spawn_blocking};

use crate::refusal::Refusal;

const MODULES_MAX: usize = 256;
/// Pools that are open at once. Each has [`WORKERS`] processes that wait for tasks.
const POOLS_MAX: usize = 4;
const WORKERS: usize = 2;
/// Tasks of one module that wait or run. Beyond that number, clients are told to come back.
const PENDING_MAX: u64 = 1000;

/// Starts a pool with everything that a module of an unknown author may have: no file, no variable, and these limits.
fn start(module: &Module) -> sandpool::Result<Pool> {
    let limits = Limits::default().memory_max(64 << 20).arena_size(256 << 20).processes_max(16);
    Pool::builder(module)
        .sandbox(Sandbox::new().limits(limits))
        .processes(WORKERS)
        // No client finds data that another client has sent.
        .isolation(Isolation::Task)
        .output_max(1 << 20)
        .task_timeout(Duration::from_secs(1))
        .start_timeout(Duration::from_secs(5))
        .build()
}

pub(crate) struct Modules {
    hosted: Mutex<HashMap<String, Arc<Hosted>>>,
    /// A permit for each pool that may be open.
    pools: Arc<Semaphore>,
    /// A permit to compile. Compiling takes all processors: one at a time.
    compiler: Arc<Semaphore>,
    /// Counts the requests for pools.
    clock: AtomicU64,
}

pub(crate) struct Hosted {
    pub(crate) id: String,
    pub(crate) module: Module,
    pool: tokio::sync::Mutex<Option<Arc<Open>>>,
    /// The time of the last request for the pool, by the common clock.
    used: AtomicU64,
}

/// A pool, and its permit to be open, which outlives it.
pub(crate) struct Open {
    pub(crate) pool: Pool,
    _permit: OwnedSemaphorePermit,
}

impl Modules {
    pub(crate) fn new() -> Self {
        Self {
            hosted: Mutex::default(),
            pools: Arc::new(Semaphore::new(POOLS_MAX)),
            compiler: Arc::new(Semaphore::new(1)),
            clock: AtomicU64::new(0),
        }
    }

    /// Checks and compiles a module. Uploading it again gives the same module.
    pub(crate) async fn add(&self, bytes: Bytes) -> Result<Arc<Hosted>, Refusal> {
        let id = Sha256::digest(&bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
        if let Ok(hosted) = self.get(&id) {
            return Ok(hosted);
        }
        let turn = self.compiler.clone().acquire_owned().await.map_err(|_| unavailable("it is closed"))?;
        let name = format!("module {id}");
        let module = spawn_blocking(move || {
            let _turn = turn;
            Module::from_bytes(name, &bytes)
        });
        let module = module.await??;
        if module.tasks().is_empty() {
            let hint = "a task is a function with #[sandpool_guest::task]".to_owned();
            let refusal = Refusal::new(StatusCode::BAD_REQUEST, "module", "the module has no tasks");
            return Err(refusal.with_hint(Some(hint)));
        }
        let hosted = Hosted { id, module, pool: tokio::sync::Mutex::default(), used: AtomicU64::new(0) };
        let mut all = self.all();
        if all.len() >= MODULES_MAX {
            return Err(unavailable("there are too many modules"));
        }
        Ok(all.entry(hosted.id.clone()).or_insert_with(|| Arc::new(hosted)).clone())
    }

    pub(crate) fn get(&self, id: &str) -> Result<Arc<Hosted>, Refusal> {
        let refusal = || Refusal::new(StatusCode::NOT_FOUND, "no-module", format!("there is no module {id}"));
        self.all().get(id).cloned().ok_or_else(refusal)
    }

    /// Forgets a module. Its pool is closed when nobody uses it any more.
    pub(crate) fn remove(&self, id: &str) -> Result<(), Refusal> {
        let hosted = self.get(id)?;
        self.all().remove(id);
        spawn_blocking(move || drop(hosted));
        Ok(())
    }

    /// Returns the pool of a module, which is started if there is none. The pool stays open for as long as somebody
    /// has it.
    pub(crate) async fn pool(&self, hosted: &Arc<Hosted>) -> Result<Arc<Open>, Refusal> {
        hosted.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let mut slot = hosted.pool.lock().await;
        if let Some(open) = &*slot
            && open.pool.ended().is_none()
        {
            if open.pool.stats().pending >= PENDING_MAX {
                return Err(unavailable("too many tasks of this module wait"));
            }
            return Ok(open.clone());
        }
        *slot = None;
        let permit = self.make_room().await?;
        let module = hosted.clone();
        let open = spawn_blocking(move || start(&module.module).map(|pool| Open { pool, _permit: permit }));
        Ok(slot.insert(Arc::new(open.await??)).clone())
    }

    /// Returns a permit for one more pool. If there is no permit left, the least recently used pool is closed.
    async fn make_room(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        loop {
            if let Ok(permit) = self.pools.clone().try_acquire_owned() {
                return Ok(permit);
            }
            let idle =
                self.take_idle().ok_or_else(|| unavailable("the pools of too many modules are busy"))?;
            spawn_blocking(move || drop(idle)).await?;
        }
    }

    fn take_idle(&self) -> Option<Arc<Open>> {
        let all = self.all();
        let pools = all.values().filter_map(|hosted| Some((hosted, hosted.pool.try_lock().ok()?)));
        let idle = pools.filter(|(_, slot)| slot.as_ref().is_some_and(|open| Arc::strong_count(open) == 1));
        let (_, mut slot) = idle.min_by_key(|(hosted, _)| hosted.used.load(Ordering::Relaxed))?;
        slot.take()
    }

    /// Closes all pools, and waits until their processes have ended.
    pub(crate) async fn close(&self) -> anyhow::Result<()> {
        let all = std::mem::take(&mut *self.all());
        Ok(spawn_blocking(move || drop(all)).await?)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<Hosted>>> {
        self.hosted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unavailable(why: &str) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", why).with_hint(Some("try again later".to_owned()))
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error)
    }
}
