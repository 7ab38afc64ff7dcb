//! All devices at once: a few threads, each with its share of the devices, each device a task.
//!
//! A thread has a runtime of its own, so that a device's wake-ups never cross threads.
//!
//! Must not know: what is shown of it.
//!
//! Invariant: connections start no faster than the rate, and no more than [`MAX_CONNECTING`] are being made at once in
//! each thread.
//! Invariant: stopping is bounded: every device says goodbye within the patience of a link, or does not.

use std::future::poll_fn;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ostler_core::identity::SymmetricKey;
use ostler_core::time::{Timestamp, TICKS_PER_SEC};
use tokio::sync::{watch, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::counters::{Counters, Totals};
use super::device::{backoff, Device, Now};
use super::door::Door;
use super::link::{End, Link};
use super::random::{Random, Stream};
use crate::exit::{Failure, Result};

/// Each being made costs a TLS handshake's worth of memory, and the hub's backlog is not endless.
const MAX_CONNECTING: usize = 256;
/// A connection that lived this long, in ms, was a good one: the next failure starts from the shortest wait.
const GOOD_LIFE: u64 = 30_000;
/// How long all devices together may take to say goodbye.
const STOP_PATIENCE: Duration = Duration::from_secs(8);
const TICKS_PER_MS: i64 = TICKS_PER_SEC / 1000;

/// One device with what it signs in with.
pub struct Member {
    pub device: Device,
    pub index: u64,
    pub key: SymmetricKey,
}

/// How connections are made, beyond where.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// New connections per second, of all threads together.
    pub rate: f64,
    /// In ms, of the first wait and of the longest.
    pub backoff: (u64, u64),
    pub seed: u64,
    pub threads: usize,
}

/// What the devices of one thread share.
pub struct Shard {
    pub counters: Counters,
    door: Arc<Door>,
    started: Instant,
    wall: Timestamp,
    pace: Pace,
    /// When the next connection may start, in µs since the start.
    next_slot: Mutex<u64>,
    connecting: Semaphore,
}

/// A running simulation.
pub struct Fleet {
    shards: Vec<Arc<Shard>>,
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    /// Gone once the last thread has ended.
    alive: tokio::sync::mpsc::Receiver<()>,
}

impl Fleet {
    /// Starts the threads; the devices connect from now on.
    pub fn start(door: Door, members: Vec<Member>, pace: Pace) -> Result<Self> {
        let (stop, _) = watch::channel(false);
        let (alive, all_gone) = tokio::sync::mpsc::channel(1);
        let door = Arc::new(door);
        // Together, so that what devices report as the time is the time.
        let (started, wall) = (Instant::now(), super::wall_clock());
        let mut parts: Vec<Vec<Member>> = (0..pace.threads).map(|_| Vec::new()).collect();
        for (place, member) in members.into_iter().enumerate() {
            parts[place % pace.threads].push(member);
        }
        let mut fleet = Self { shards: Vec::new(), threads: Vec::new(), stop, alive: all_gone };
        for (number, part) in parts.into_iter().enumerate() {
            let shard = Arc::new(Shard {
                counters: Counters::default(),
                door: Arc::clone(&door),
                started,
                wall,
                pace,
                next_slot: Mutex::new(0),
                connecting: Semaphore::new(MAX_CONNECTING),
            });
            fleet.shards.push(Arc::clone(&shard));
            let (stopped, alive) = (fleet.stop.subscribe(), alive.clone());
            let failed = |error: std::io::Error| Failure::failed(format!("cannot start: {error}"));
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
            let thread = std::thread::Builder::new()
                .name(format!("devices-{number}"))
                .spawn(move || {
                    runtime.block_on(run_all(part, shard, stopped));
                    drop(alive);
                })
                .map_err(failed)?;
            fleet.threads.push(thread);
        }
        Ok(fleet)
    }

    /// What has been counted so far.
    pub fn totals(&self) -> Totals {
        Totals::of(self.shards.iter().map(|shard| &shard.counters))
    }

    /// Lets all devices say goodbye.
    ///
    /// # Errors
    /// When some could not within the time there is, or a thread has broken.
    pub async fn stop(mut self) -> Result {
        // Nobody listens when all threads have ended already.
        let _ = self.stop.send(true);
        let over = tokio::time::timeout(STOP_PATIENCE, self.alive.recv()).await;
        if over.is_err() {
            return Err(Failure::failed("not all devices had said goodbye in time"));
        }
        for thread in self.threads {
            thread
                .join()
                .map_err(|_| Failure::failed("a thread of the simulation broke; this is a defect"))?;
        }
        Ok(())
    }
}

impl Shard {
    /// The time.
    pub fn now(&self) -> Now {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let ticks = i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(TICKS_PER_MS);
        Now { ms, wall: Timestamp::from_ticks(self.wall.ticks().saturating_add(ticks)) }
    }

    /// A time in ms as tokio tells it. What is far away is as good as never.
    pub fn instant(&self, ms: u64) -> Instant {
        const FAR: u64 = 30 * 365 * 86_400_000;
        self.started + Duration::from_millis(ms.min(FAR))
    }

    /// A device is connected and subscribed.
    pub fn welcome(&self, first: bool) {
        if first {
            Counters::add(&self.counters.ever_connected);
        }
        self.counters.connected.fetch_add(1, Relaxed);
        self.counters.connecting.fetch_sub(1, Relaxed);
        Counters::add(&self.counters.connects);
    }

    /// Waits for the turn to connect.
    async fn turn(&self) {
        let interval = (self.pace.threads as f64 * 1e6 / self.pace.rate) as u64;
        let now = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let slot = {
            let mut next = self.next_slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let slot = now.max(*next);
            *next = slot + interval;
            slot
        };
        if slot > now {
            tokio::time::sleep_until(self.started + Duration::from_micros(slot)).await;
        }
    }
}

async fn run_all(members: Vec<Member>, shard: Arc<Shard>, stop: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    for member in members {
        tasks.spawn(live(member, Arc::clone(&shard), stop.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// A device's life: connect, take part, and again, until told to stop.
async fn live(member: Member, shard: Arc<Shard>, mut stop: watch::Receiver<bool>) {
    let Member { mut device, index, key } = member;
    let mut random = Random::new(shard.pace.seed, index, Stream::Reconnect);
    // An error means that nobody is left who could say stop, which is as good.
    let stopped = async move { stop.wait_for(|stop| *stop).await.map(drop).unwrap_or_default() };
    tokio::pin!(stopped);
    let mut failures = 0;
    loop {
        // In a box: making a connection takes far more state than keeping one.
        let entering = Box::pin(async {
            shard.turn().await;
            let permit = shard.connecting.acquire().await;
            shard.counters.connecting.fetch_add(1, Relaxed);
            let entered = shard.door.enter(device.id(), &key, index, shard.now().ms).await;
            drop(permit);
            entered
        });
        let entered = tokio::select! {
            biased;
            entered = entering => entered,
            () = &mut stopped => return,
        };
        let (pause, was_good) = match entered {
            Err(cause) => {
                shard.counters.connecting.fetch_sub(1, Relaxed);
                shard.counters.error(cause);
                (None, false)
            }
            Ok((stream, session)) => {
                let since = shard.now().ms;
                let mut link = Box::new(Link::new(stream, session, &device, &shard));
                let end = tokio::select! {
                    biased;
                    end = poll_fn(|cx| link.poll(&mut device, &shard, cx)) => Some(end),
                    () = &mut stopped => None,
                };
                farewell(&link, &shard);
                device.handle_lost();
                let Some(end) = end else { return link.leave().await };
                let pause = tokio::select! {
                    pause = close(link, end, &shard) => pause,
                    () = &mut stopped => return,
                };
                (pause, shard.now().ms - since >= GOOD_LIFE)
            }
        };
        let (first, most) = shard.pace.backoff;
        let wait = match pause {
            Some(wait) => {
                failures = 0;
                wait
            }
            None => {
                failures = if was_good { 0 } else { failures };
                let wait = backoff(failures, first, most, &mut random);
                failures = failures.saturating_add(1);
                wait
            }
        };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait)) => {}
            () = &mut stopped => return,
        }
    }
}

/// Keeps the gauges right when a connection is over.
fn farewell(link: &Link, shard: &Shard) {
    let gauge = if link.is_subscribed() { &shard.counters.connected } else { &shard.counters.connecting };
    gauge.fetch_sub(1, Relaxed);
}

/// Ends a connection in the way the device wants. Returns the wait before the next one, or `None` after a failure.
async fn close(link: Box<Link>, end: End, shard: &Shard) -> Option<u64> {
    match end {
        End::Lost(cause) => {
            shard.counters.error(cause);
            None
        }
        End::Leave { rude, down_ms } => {
            Counters::add(&shard.counters.leaves);
            if !rude {
                link.leave().await;
            }
            Some(down_ms)
        }
        End::Vanish { gone_ms } => {
            Counters::add(&shard.counters.vanishes);
            tokio::time::sleep(Duration::from_millis(gone_ms)).await;
            Some(0)
        }
    }
}
