//! How a disk works, and how it stops: a flush takes its time, and a power cut comes
//! in the middle of one where it can.
//!
//! After a cut nobody is answered: a machine without power does not see its disk fail.
//! Only when its processes have ended, those in the system who still wait see errors.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::platter::{Platter, Tear, Torn};

/// A flush takes so long, as on a disk of the cheaper sort.
const FLUSH: Duration = Duration::from_millis(3);
/// A cut waits so long for something that is not flushed.
const MOMENT: Duration = Duration::from_millis(400);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// Gone: nobody is answered.
    Cut,
    /// Gone, and each request fails.
    Off,
}

struct State {
    platter: Platter,
    power: Power,
}

/// A disk that many may ask at once.
pub(super) struct Drive {
    state: Mutex<State>,
    changed: Condvar,
}

impl Drive {
    pub(super) fn new(platter: Platter) -> Self {
        let state = Mutex::new(State { platter, power: Power::On });
        Self { state, changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each call leaves it whole, or the process ends.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for so long, or while something holds.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        limit: Duration,
        holds: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout_while(state, limit, |state| holds(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Works on it, when there is power or it is known that there is none.
    fn with<T>(
        &self,
        state: MutexGuard<'_, State>,
        work: impl FnOnce(&mut Platter) -> io::Result<T>,
    ) -> io::Result<T> {
        let cut = |state: &mut State| state.power == Power::Cut;
        let mut state = self.changed.wait_while(state, cut).unwrap_or_else(PoisonError::into_inner);
        match state.power {
            Power::On => work(&mut state.platter),
            Power::Cut | Power::Off => Err(rustix::io::Errno::IO.into()),
        }
    }

    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.with(self.lock(), |platter| platter.read(offset, into))
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let done = self.with(self.lock(), |platter| platter.write(offset, bytes));
        self.changed.notify_all();
        done
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        let state = self.wait(self.lock(), FLUSH, |state| state.power == Power::On);
        self.with(state, Platter::flush)
    }

    /// The power goes, at a moment when something is not flushed if there is one soon.
    pub(super) fn cut(&self, tear: Tear) -> io::Result<Torn> {
        let end = Instant::now() + MOMENT;
        let mut rng = ChaCha12Rng::seed_from_u64(!tear.seed);
        let mut state = self.lock();
        while Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            state = self.wait(state, left, |state| !state.platter.is_dirty());
            // Not always at the first write: within what one flush takes.
            let later = rng.random_range(Duration::ZERO..FLUSH);
            state = self.wait(state, later, |_| true);
            if state.platter.is_dirty() {
                break;
            }
        }
        state.power = Power::Cut;
        let torn = state.platter.cut(tear);
        self.changed.notify_all();
        torn
    }

    fn set(&self, power: Power) {
        self.lock().power = power;
        self.changed.notify_all();
    }

    /// Whoever waits sees the disk fail.
    pub(super) fn power_off(&self) {
        self.set(Power::Off);
    }

    pub(super) fn power_on(&self) {
        self.set(Power::On);
    }

    pub(super) fn set_lies(&self, lies: bool) {
        self.lock().platter.set_lies(lies);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const NONE: Tear = Tear { keep: 0, seed: 1 };

    fn drive() -> Drive {
        let image = tempfile::tempfile().unwrap();
        image.set_len(1 << 20).unwrap();
        Drive::new(Platter::new(image))
    }

    fn first(drive: &Drive) -> u8 {
        let mut byte = [9];
        drive.read(0, &mut byte).unwrap();
        byte[0]
    }

    #[test]
    fn a_cut_comes_in_the_middle_and_a_flush_that_was_not_over_is_not_answered() {
        let drive = drive();
        let flushed = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for n in 1.. {
                    drive.write(0, &[u8::try_from(n % 200 + 1).unwrap(); 512])?;
                    drive.flush()?;
                    flushed.store(n, Ordering::SeqCst);
                }
                Ok::<(), io::Error>(())
            });
            while flushed.load(Ordering::SeqCst) < 5 {
                std::thread::yield_now();
            }
            let torn = drive.cut(NONE).unwrap();
            assert_eq!(torn, Torn { dropped: 1, ..Torn::default() }, "it was in the middle");
            let known = flushed.load(Ordering::SeqCst);
            std::thread::sleep(10 * FLUSH);
            assert!(!writer.is_finished(), "nobody is answered");
            drive.power_off();
            assert!(writer.join().unwrap().is_err(), "then it fails");
            assert_eq!(flushed.load(Ordering::SeqCst), known);
            assert!(drive.write(0, &[1]).is_err() && drive.flush().is_err());
            drive.power_on();
            assert_eq!(u32::from(first(&drive)), known % 200 + 1, "what was flushed last");
        });
    }

    #[test]
    fn a_disk_at_rest_is_cut_soon_and_loses_nothing() {
        let drive = drive();
        drive.write(0, &[3; 512]).unwrap();
        drive.flush().unwrap();
        assert_eq!(drive.cut(NONE).unwrap(), Torn::default());
        drive.power_on();
        assert_eq!(first(&drive), 3);
    }
}
