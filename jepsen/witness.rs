//! The witness: what a job of the harness runs, and what it writes down.
//!
//! One file without dependencies, built by the harness itself with
//! `rustc -O -C target-feature=+crt-static`: linked statically, no preloaded clock
//! reaches it, so that its times are true times. It appends one line of JSON at
//! each event, with one `write(2)` and a sync, to a file outside every fault
//! domain. It must never ask the scheduler anything: it is the other side's word.
//!
//! `witness --to FOLDER [OPTION VALUE]…`, with
//! - `--ms N`       how long to run (default 0)
//! - `--tick MS`    append a `tick` this often meanwhile
//! - `--exit C,C…`  exit code of attempt 1, 2, …; the last one goes on (default 0)
//! - `--when M,R,C` exit with C if the nominal second of the hour leaves R divided by M
//! - `--first C,M`  the first run for an instant exits with C if its minute is a multiple
//!   of M; whatever runs for the same instant later does not
//! - `--label TEXT` repeated in each line
//! - `--lines N`    print so many lines `<attempt> <seq> <crc>` evenly over the time
//! - `--resource FOLDER` show the fencing token to a resource that keeps the largest
//! - `--memory MIB` take so much memory, and use it
//! - `--processes N` have so many more processes; exits with 3 if it is refused any
//! - `--fork yes`   leave a grandchild behind that ticks as `child` until it is killed
//! - `--stubborn yes` ignore SIGTERM
//!
//! The file is named after the worker, which is read from the path of the
//! attempt's folder: the component after `machines`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

const CLOCK_REALTIME: i32 = 0;
const CLOCK_MONOTONIC: i32 = 1;
const SIGTERM: i32 = 15;
const SIG_IGN: usize = 1;
/// What it exits with if it was refused a process.
const REFUSED: u8 = 3;
/// A grandchild that nobody ends does so itself after this.
const ORPHAN: Duration = Duration::from_secs(600);

#[repr(C)]
struct Timespec {
    sec: i64,
    nsec: i64,
}

unsafe extern "C" {
    fn clock_gettime(clock: i32, at: *mut Timespec) -> i32;
    fn signal(number: i32, handler: usize) -> usize;
}

/// Nanoseconds of a clock. The standard library hides the zero of its monotonic
/// clock, which lines of other processes are compared by.
fn now(clock: i32) -> i128 {
    let mut at = Timespec { sec: 0, nsec: 0 };
    // SAFETY: `at` is a valid timespec of a 64-bit Linux for the whole call.
    let failed = unsafe { clock_gettime(clock, &raw mut at) } != 0;
    if failed { 0 } else { i128::from(at.sec) * 1_000_000_000 + i128::from(at.nsec) }
}

fn ignore_sigterm() {
    // SAFETY: SIG_IGN is a valid disposition and no handler code is installed.
    unsafe { signal(SIGTERM, SIG_IGN) };
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn text(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[derive(Default)]
struct Options {
    to: PathBuf,
    label: String,
    ms: u64,
    tick: u64,
    exits: Vec<u8>,
    /// Divisor, rest and code.
    when: Option<[u64; 3]>,
    /// Code, and the divisor of its minutes.
    first: Option<[u64; 2]>,
    lines: u64,
    resource: Option<PathBuf>,
    memory: usize,
    processes: u64,
    idle: bool,
    fork: bool,
    stubborn: bool,
    child: bool,
}

fn options() -> Result<Options, String> {
    let mut parsed = Options::default();
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("{name} has no value"))?;
        let number = || value.parse::<u64>().map_err(|e| format!("{name} {value}: {e}"));
        match name.as_str() {
            "--to" => parsed.to = value.into(),
            "--label" => parsed.label = value,
            "--ms" => parsed.ms = number()?,
            "--tick" => parsed.tick = number()?,
            "--lines" => parsed.lines = number()?,
            "--exit" => {
                let codes = value.split(',').map(str::parse).collect::<Result<_, _>>();
                parsed.exits = codes.map_err(|e| format!("--exit {value}: {e}"))?;
            }
            "--when" => parsed.when = Some(numbers(&name, &value)?),
            "--first" => parsed.first = Some(numbers(&name, &value)?),
            "--resource" => parsed.resource = Some(value.into()),
            "--memory" => parsed.memory = usize::try_from(number()?).map_err(|e| e.to_string())?,
            "--processes" => parsed.processes = number()?,
            "--idle" => parsed.idle = value == "yes",
            "--fork" => parsed.fork = value == "yes",
            "--stubborn" => parsed.stubborn = value == "yes",
            "--child" => parsed.child = value == "yes",
            _ => return Err(format!("there is no option {name}")),
        }
    }
    if parsed.to.as_os_str().is_empty() {
        return Err("--to FOLDER is missing".into());
    }
    Ok(parsed)
}

fn numbers<const N: usize>(name: &str, value: &str) -> Result<[u64; N], String> {
    let parts = value.split(',').map(str::parse).collect::<Result<Vec<u64>, _>>();
    let parts = parts.map_err(|e| format!("{name} {value}: {e}"))?;
    parts.try_into().map_err(|_| format!("{name} {value}: {N} numbers are asked for"))
}

/// Minute and second of the instant that this is for; none if it is for none.
fn nominal() -> Option<(u64, u64)> {
    let text = env("HORAI_NOMINAL_TIME");
    let part = |from: usize| text.get(from..from + 2)?.parse::<u64>().ok();
    Some((part(14)?, part(17)?))
}

/// True if no other run for this instant has begun before. Who is first leaves its
/// number, so that all its attempts are of the first run.
fn is_first(folder: &PathBuf) -> Result<bool, String> {
    let folder = folder.join("first");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let path = folder.join(format!("{}@{}", env("HORAI_JOB"), env("HORAI_NOMINAL_TIME")));
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.map_err(|e| format!("{}: {e}", path.display()))?;
    file.lock().map_err(|e| e.to_string())?;
    let (mut known, own) = (String::new(), env("HORAI_RUN_ID"));
    file.read_to_string(&mut known).map_err(|e| e.to_string())?;
    if known.is_empty() {
        file.write_all(own.as_bytes()).map_err(|e| e.to_string())?;
    }
    Ok(known.is_empty() || known == own)
}

/// What the instant says of the exit code, if it says something.
fn code_of_instant(options: &Options) -> Result<Option<u8>, String> {
    let Some((minute, second)) = nominal() else { return Ok(None) };
    let code = |code: u64| u8::try_from(code).map_err(|e| e.to_string()).map(Some);
    if let Some([of, rest, then]) = options.when
        && (minute * 60 + second) % of.max(1) == rest
    {
        return code(then);
    }
    match options.first {
        Some([then, of]) if minute % of.max(1) == 0 && is_first(&options.to)? => code(then),
        _ => Ok(None),
    }
}

/// Whose attempt this is, in the fields of every line.
struct Witness {
    file: File,
    who: String,
    attempt: String,
    count: u64,
    token: u64,
}

impl Witness {
    fn open(options: &Options) -> Result<Self, String> {
        let output = env("HORAI_OUTPUT");
        let mut parts = output.split('/').skip_while(|part| *part != "machines");
        let worker = parts.nth(1).unwrap_or("unknown").to_owned();
        let path = options.to.join(format!("{worker}.jsonl"));
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(|e| format!("{}: {e}", path.display()))?;
        let attempt = env("HORAI_ATTEMPT");
        let count = attempt.rsplit('.').next().and_then(|k| k.parse().ok()).unwrap_or(0);
        let token: u64 = env("HORAI_FENCING_TOKEN").parse().unwrap_or(0);
        let mut boot = String::new();
        let opened = File::open("/proc/sys/kernel/random/boot_id");
        let _ = opened.and_then(|mut f| f.read_to_string(&mut boot));
        let who = format!(
            "\"job\":{},\"action\":{},\"nominal\":{},\"due\":{},\"run\":{},\"attempt\":{count},\
             \"attempt_id\":{},\"cause\":{},\"shard\":{},\"token\":{token},\"worker\":{},\
             \"label\":{},\"pid\":{},\"boot\":{}",
            text(&env("HORAI_JOB")),
            text(&env("HORAI_ACTION_ID")),
            text(&env("HORAI_NOMINAL_TIME")),
            text(&env("HORAI_DUE_TIME")),
            text(&env("HORAI_RUN_ID")),
            text(&attempt),
            text(&env("HORAI_ATTEMPT_CAUSE")),
            env("HORAI_SHARD_INDEX").parse::<u64>().unwrap_or(0),
            text(&worker),
            text(&options.label),
            std::process::id(),
            text(boot.trim()),
        );
        Ok(Self { file, who, attempt, count, token })
    }

    fn say(&mut self, event: &str, more: &str) -> Result<(), String> {
        let (utc, mono) = (now(CLOCK_REALTIME), now(CLOCK_MONOTONIC));
        // The line before may have been cut short: a process that is killed in a write
        // leaves what was on the page before.
        let line =
            format!("\n{{\"e\":\"{event}\",\"utc_ns\":{utc},\"t\":{mono},{}{more}}}\n", self.who);
        let written = self.file.write(line.as_bytes()).map_err(|e| e.to_string())?;
        if written != line.len() {
            return Err(format!("only {written} of {} bytes of a line were written", line.len()));
        }
        self.file.sync_data().map_err(|e| e.to_string())
    }

    /// What a resource does that is safe even if two attempts are alive: it keeps
    /// the largest token and turns smaller ones away.
    fn show_token(&mut self, folder: &PathBuf) -> Result<(), String> {
        let path = folder.join(env("HORAI_JOB"));
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(|e| format!("{}: {e}", path.display()))?;
        file.lock().map_err(|e| e.to_string())?;
        let mut kept = String::new();
        file.read_to_string(&mut kept).map_err(|e| e.to_string())?;
        let largest: u64 = kept.trim().parse().unwrap_or(0);
        let accepted = self.token >= largest;
        if accepted {
            file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(|e| e.to_string())?;
            file.write_all(self.token.to_string().as_bytes()).map_err(|e| e.to_string())?;
        }
        // Said under the lock: the order of the lines is the order of the resource.
        self.say("token", &format!(",\"accepted\":{accepted},\"largest\":{largest}"))
    }
}

fn crc(text: &str) -> u32 {
    let mut crc = !0_u32;
    for byte in text.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

fn be_a_child(witness: &mut Witness, tick: Duration) -> Result<(), String> {
    let end = Instant::now() + ORPHAN;
    while Instant::now() < end {
        witness.say("child", "")?;
        std::thread::sleep(tick);
    }
    Ok(())
}

/// What it has beside itself, until it is dropped.
struct Taken {
    memory: Vec<Vec<u8>>,
    processes: Vec<Child>,
    refused: u64,
}

impl Taken {
    fn take(options: &Options) -> Result<Self, String> {
        let me = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut taken = Self { memory: Vec::new(), processes: Vec::new(), refused: 0 };
        for n in 0..options.memory {
            // Not all the same: a page of zeros may be no page.
            taken.memory.push(std::hint::black_box(vec![n as u8 | 1; 1 << 20]));
        }
        for _ in 0..options.processes {
            let mut idle = Command::new(&me);
            match idle.arg("--to").arg(&options.to).args(["--idle", "yes"]).spawn() {
                Ok(child) => taken.processes.push(child),
                Err(_) => taken.refused += 1,
            }
        }
        Ok(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        std::hint::black_box(&self.memory);
        for child in &mut self.processes {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn run(options: &Options) -> Result<u8, String> {
    if options.idle {
        std::thread::sleep(ORPHAN);
        return Ok(0);
    }
    let mut witness = Witness::open(options)?;
    let of_instant = if options.child { None } else { code_of_instant(options)? };
    let tick = Duration::from_millis(if options.tick == 0 { 200 } else { options.tick });
    if options.child {
        be_a_child(&mut witness, tick)?;
        return Ok(0);
    }
    let begun = Instant::now();
    witness.say("start", "")?;
    if options.stubborn {
        ignore_sigterm();
    }
    if options.fork {
        let me = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut child = Command::new(me);
        child.arg("--to").arg(&options.to).args(["--child", "yes", "--label", &options.label]);
        child.args(["--tick", &tick.as_millis().to_string()]).process_group(0);
        child.spawn().map_err(|e| e.to_string())?;
    }
    if let Some(folder) = &options.resource {
        witness.show_token(folder)?;
    }
    let taken = Taken::take(options)?;
    let whole = Duration::from_millis(options.ms);
    let (mut ticks, mut lines) = (1, 0);
    let mut out = std::io::stdout();
    loop {
        let gone = begun.elapsed();
        let due = if whole.is_zero() {
            options.lines
        } else {
            let share = gone.as_nanos().min(whole.as_nanos()) * u128::from(options.lines);
            u64::try_from(share / whole.as_nanos()).unwrap_or(options.lines)
        };
        while lines < due {
            let body = format!("{} {lines}", witness.attempt);
            // A reader that is gone is no reason to fail the job.
            let _ = out.write_all(format!("{body} {:08x}\n", crc(&body)).as_bytes());
            lines += 1;
        }
        if options.tick > 0 && gone >= tick * ticks {
            witness.say("tick", &format!(",\"seq\":{ticks}"))?;
            ticks += 1;
        }
        if gone >= whole {
            break;
        }
        let pause = if options.lines > 0 { 20 } else { 200 };
        let next = if options.tick > 0 { tick * ticks } else { whole };
        let wait = next.min(whole).saturating_sub(begun.elapsed());
        std::thread::sleep(wait.min(Duration::from_millis(pause)));
    }
    let which = usize::try_from(witness.count.max(1) - 1).unwrap_or(0);
    let last = options.exits.len().saturating_sub(1);
    let refused = (taken.refused > 0).then_some(REFUSED);
    drop(taken);
    let code = refused.or(of_instant).or_else(|| options.exits.get(which.min(last)).copied()).unwrap_or(0);
    witness.say("end", &format!(",\"exit\":{code}"))?;
    Ok(code)
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(code) => code.into(),
        Err(fault) => {
            let _ = writeln!(std::io::stderr(), "witness: {fault}");
            // Not a code that a test asks for.
            ExitCode::from(97)
        }
    }
}
