//! Machines, their clocks and the network between them, in one thread.
//!
//! Time goes by milliseconds. In each, what the network has for a machine is
//! delivered, and then every running machine's own runtime works until it has
//! nothing to do: its clock is tokio's paused one, so that a second costs no more
//! than the work in it. Whatever is random comes from the seed.
//!
//! Why not on `turmoil`: its machines cannot be frozen (their runtimes are private
//! and run in every step), its TCP never sends a lost segment again, so that
//! nothing ever arrives late, and peers of a machine without power hear the same
//! as those of a killed process. Frozen leaders and late messages are what this
//! test is for. Its way of stepping paused runtimes is taken over.

pub(crate) mod net;
pub(crate) mod trace;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use horai_core::time::UtcMillis;
use horai_raft::cluster_clock::BootTime;
use horai_raft::host::{Dial, Host, Incoming};
use rand_seeded::rngs::StdRng;
use rand_seeded::{RngExt, SeedableRng};
use tokio::runtime::{Builder, RngSeed, Runtime, UnhandledPanic};
use tokio::task::JoinHandle;

use net::{MachineId, Net};
use trace::Trace;

/// True time when a simulation begins: 2026-11-21T03:00:00Z.
pub(crate) const EPOCH: i64 = 1_795_230_000_000;

/// A process's end, with its reason if it failed.
pub(crate) type Exit = Result<(), String>;

#[derive(Debug)]
struct Clock {
    /// Milliseconds that this machine has counted since it was made.
    local: u64,
    /// What `local` was at its last boot.
    booted: u64,
    /// Its boots, each with another id.
    boots: u64,
    /// True time since the simulation began.
    now: u64,
    /// Wall clock minus true time.
    wall_off: i64,
    /// Syncs take between these, in milliseconds.
    sync: (u64, u64),
    rng: StdRng,
}

/// A machine as the programs on it see it; clones are the same.
#[derive(Clone)]
pub(crate) struct SimHost {
    id: MachineId,
    net: Net,
    clock: Arc<Mutex<Clock>>,
}

impl fmt::Debug for SimHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "machine {}", self.id)
    }
}

impl SimHost {
    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its number.
    pub(crate) fn id(&self) -> MachineId {
        self.id
    }

    /// Listens on one of its ports.
    pub(crate) fn listen(&self, port: u16) -> Incoming {
        self.net.listen(self.id, port)
    }

    /// Changes from boot to boot.
    pub(crate) fn boot_id(&self) -> u128 {
        (self.id as u128 + 1) << 64 | u128::from(self.clock().boots)
    }

    /// Something random of this machine.
    pub(crate) fn random(&self) -> u64 {
        self.clock().rng.random()
    }
}

impl Host for SimHost {
    fn boot_time(&self) -> BootTime {
        let clock = self.clock();
        // A second at least: nothing runs at once after a boot.
        BootTime(Duration::from_millis(1_000 + clock.local - clock.booted))
    }

    fn wall_time(&self) -> UtcMillis {
        let clock = self.clock();
        UtcMillis((EPOCH + clock.wall_off).saturating_add_unsigned(clock.now))
    }

    fn dial(&self) -> Option<Dial> {
        Some(self.net.dial(self.id))
    }

    fn has_threads(&self) -> bool {
        false
    }

    fn sync_takes(&self) -> Duration {
        let clock = &mut *self.clock();
        Duration::from_millis(clock.rng.random_range(clock.sync.0..=clock.sync.1))
    }
}

struct Machine {
    name: String,
    view: SimHost,
    process: Option<(Runtime, JoinHandle<Exit>)>,
    is_frozen: bool,
    /// How much faster than true time its clock runs, in millionths.
    drift: i64,
    /// Millionths of a millisecond that its clock still has to count.
    owed: i64,
}

/// Everything there is.
pub(crate) struct World {
    now: u64,
    rng: StdRng,
    /// The network.
    pub(crate) net: Net,
    /// What happened.
    pub(crate) trace: Trace,
    machines: Vec<Machine>,
}

impl World {
    /// An empty one.
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let net = Net::new(rng.random(), trace.clone());
        Self { now: 0, rng, net, trace, machines: Vec::new() }
    }

    /// True time since the beginning, in milliseconds.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Adds a machine without a process, and turns it on.
    pub(crate) fn add(&mut self, name: &str) -> SimHost {
        let id = self.net.add(name);
        let clock = Clock {
            local: self.rng.random_range(0..100_000_000),
            booted: 0,
            boots: 1,
            now: self.now,
            wall_off: 0,
            sync: (0, 1),
            rng: StdRng::seed_from_u64(self.rng.random()),
        };
        let view = SimHost { id, net: self.net.clone(), clock: Arc::new(Mutex::new(clock)) };
        self.net.power_on(id);
        let name = name.to_owned();
        let machine = Machine {
            name,
            view: view.clone(),
            process: None,
            is_frozen: false,
            drift: 0,
            owed: 0,
        };
        self.machines.push(machine);
        view
    }

    /// Starts the machine's process.
    pub(crate) fn start(
        &mut self,
        id: MachineId,
        program: impl Future<Output = Exit> + Send + 'static,
    ) {
        let seed: [u8; 16] = self.rng.random();
        let machine = &mut self.machines[id];
        assert!(machine.process.is_none(), "{} runs already", machine.name);
        self.trace.event(format_args!("{} start {}", self.now, machine.name));
        self.net.power_on(id);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .rng_seed(RngSeed::from_bytes(&seed))
            .unhandled_panic(UnhandledPanic::ShutdownRuntime)
            .build()
            .expect("a runtime without input and output needs nothing of the system");
        let handle = runtime.spawn(program);
        (machine.is_frozen, machine.owed) = (false, 0);
        machine.process = Some((runtime, handle));
    }

    /// True while the machine's process runs, frozen or not.
    pub(crate) fn runs(&self, id: MachineId) -> bool {
        self.machines[id].process.is_some()
    }

    /// Ends the process at once; its machine goes on.
    pub(crate) fn kill(&mut self, id: MachineId) {
        self.trace.event(format_args!("{} kill {}", self.now, self.machines[id].name));
        self.net.kill(id);
        drop(self.machines[id].process.take());
    }

    /// Takes the power away: the process ends, nobody is told, boot time begins anew.
    pub(crate) fn cut_power(&mut self, id: MachineId) {
        self.trace.event(format_args!("{} power cut {}", self.now, self.machines[id].name));
        self.net.power_off(id);
        drop(self.machines[id].process.take());
        let clock = &mut *self.machines[id].view.clock();
        clock.booted = clock.local;
        clock.boots += 1;
    }

    /// Stops the process where it is, without its knowing.
    pub(crate) fn freeze(&mut self, id: MachineId) {
        self.trace.event(format_args!("{} freeze {}", self.now, self.machines[id].name));
        self.machines[id].is_frozen = true;
    }

    /// Lets it go on: for its clocks the time has passed.
    pub(crate) fn thaw(&mut self, id: MachineId) {
        if std::mem::replace(&mut self.machines[id].is_frozen, false) {
            self.trace.event(format_args!("{} thaw {}", self.now, self.machines[id].name));
        }
    }

    /// Sets how much faster than true time a machine's clock runs, in millionths.
    pub(crate) fn set_drift(&mut self, id: MachineId, drift: i64) {
        self.machines[id].drift = drift;
    }

    /// Sets a machine's wall clock.
    pub(crate) fn set_wall(&mut self, id: MachineId, off: i64) {
        self.trace.event(format_args!("{} wall {} {off}", self.now, self.machines[id].name));
        self.machines[id].view.clock().wall_off = off;
    }

    /// Sets how long a machine's syncs take, in milliseconds.
    pub(crate) fn set_sync(&mut self, id: MachineId, sync: (u64, u64)) {
        self.machines[id].view.clock().sync = sync;
    }

    /// Lets a millisecond pass; the answer is whose process has ended, and how.
    pub(crate) fn step(&mut self) -> Vec<(MachineId, Exit)> {
        self.net.deliver(self.now);
        let mut ended = Vec::new();
        for (id, machine) in self.machines.iter_mut().enumerate() {
            machine.owed += 1_000_000 + machine.drift;
            let steps = u64::try_from(machine.owed / 1_000_000).unwrap_or(0);
            if machine.is_frozen {
                continue;
            }
            machine.owed -= i64::try_from(steps).unwrap_or(0) * 1_000_000;
            let Some((runtime, handle)) = &machine.process else {
                machine.view.clock().local += steps;
                continue;
            };
            let mut steps = steps;
            if steps > 2 {
                // It was frozen: its clock is far ahead before anything runs.
                machine.view.clock().local += steps - 1;
                let jump = Duration::from_millis(steps - 1);
                runtime.block_on(async { tokio::time::advance(jump).await });
                steps = 1;
            }
            for _ in 0..steps {
                runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
                machine.view.clock().local += 1;
            }
            if handle.is_finished() {
                let (runtime, handle) = machine.process.take().expect("it is there, see above");
                let exit = runtime.block_on(handle).unwrap_or_else(|e| Err(e.to_string()));
                self.net.kill(id);
                drop(runtime);
                self.trace.event(format_args!("{} exit {} {exit:?}", self.now, machine.name));
                ended.push((id, exit));
            }
        }
        self.now += 1;
        for machine in &self.machines {
            machine.view.clock().now = self.now;
        }
        ended
    }
}
