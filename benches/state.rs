//! What state costs as it grows: a batch that touches a few keys of many, a start, and many keys in little memory. No
//! broker; every figure is of `map_with_state` from `u64` to `u64` in a checkpoint, and its state is checked.
//!
//! `BENCH_KEYS` sets the size of the large state (10,000,000 unless set), `BENCH_SMALL_KEYS` of the small one (100,000),
//! `BENCH_TOUCHED` how many keys a batch touches (10,000), `BENCH_BATCHES` how many batches are measured (30),
//! `BENCH_MANY_KEYS` how many keys must fit (20,000,000) into a process that may have `BENCH_PROCESS_MIB` of memory (512),
//! `BENCH_LIMIT_MIB` the state's memory limit (256).
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a benchmark"
)]

pub mod common;

use std::fmt;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::variable;
use tidemill::testing::TestContext;
use tidemill::{BatchInfo, RddQueue, State, StateSpec, StreamingContext, Time};

/// How many keys a batch adds while the state is made.
const FILL: u64 = 200_000;

/// What a batch does: so many keys, from a seed or one after the other.
#[derive(Clone, Copy)]
pub enum Batch {
    Nothing,
    Range(u64, u64),
    Random { seed: u64, touched: u64, of: u64 },
}

impl Batch {
    pub fn keys(self) -> Box<dyn Iterator<Item = u64> + Send> {
        match self {
            Batch::Nothing => Box::new(std::iter::empty()),
            Batch::Range(from, until) => Box::new(from..until),
            Batch::Random { mut seed, touched, of } => Box::new((0..touched).map(move |_| {
                // xorshift64*
                seed ^= seed >> 12;
                seed ^= seed << 25;
                seed ^= seed >> 27;
                seed.wrapping_mul(0x2545_f491_4f6c_dd1d) % of
            })),
        }
    }
}

fn main() {
    let keys = variable("BENCH_KEYS", 10_000_000);
    let small = variable("BENCH_SMALL_KEYS", 100_000);
    let touched = variable("BENCH_TOUCHED", 10_000);
    let batches = variable("BENCH_BATCHES", 30);
    let many = variable("BENCH_MANY_KEYS", 20_000_000);
    if let Ok(folder) = std::env::var("BENCH_FILL_ONLY") {
        // In a process of its own, so that nothing else is in its memory.
        let rate = fill(Path::new(&folder), many);
        println!("{many} keys in: {rate:.0} keys/s, peak memory {:.0} MiB", peak_mib());
        return;
    }
    if let Ok(folder) = std::env::var("BENCH_TO_BE_KILLED") {
        let test = go_on(Path::new(&folder), keys, 3 * batches, &random(keys, touched, 0..BEFORE_KILL));
        test.ssc.start().unwrap();
        (0..BEFORE_KILL).for_each(|_| test.step().unwrap());
        println!("{KILL_ME}");
        loop {
            std::thread::park();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let states = [small, keys].map(|n| (folder.path().join(n.to_string()), n));
    for (path, n) in &states {
        let rate = fill(path, *n);
        println!("{n} keys: made at {rate:.0} keys/s, {} MiB on disk", size_mib(path));
    }
    let measured = measure(&states, touched, batches);
    for ((_, n), (started, random, hot)) in states.iter().zip(&measured) {
        println!("{n} keys: started in {:.0} ms", started * 1e3);
        println!("{n} keys: a batch that touches {touched} keys, any ones: {random}");
        println!("{n} keys: a batch that touches {touched} keys, the same ones: {hot}");
    }
    let recovered = recover(&states[1].0, keys, touched, 3 * batches);
    println!("{keys} keys: from kill -9 to the first committed batch in {:.0} ms", recovered * 1e3);
    let [(_, random, hot), (_, large_random, large_hot)] = &measured;
    for (which, small, large) in [("any", random, large_random), ("the same", hot, large_hot)] {
        let (time, cpu) = (large.whole / small.whole, large.cpu.batches / small.cpu.batches);
        println!("{keys} to {}, {which} keys: {time:.2}, of CPU {cpu:.2}", states[0].1);
    }
    let path = folder.path().join("many");
    let mut filling = Command::new(std::env::current_exe().unwrap());
    // glibc keeps what each of its arenas was given back, some 100 MiB here, unless it is told otherwise.
    filling.envs([("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "1048576")]);
    let limit = variable("BENCH_PROCESS_MIB", 512) << 20;
    // SAFETY: only a system call is made between fork and exec.
    unsafe { filling.env("BENCH_FILL_ONLY", &path).pre_exec(move || limit_memory(limit)) };
    assert!(filling.status().unwrap().success());
}

/// Whoever asks for more memory of its own than `bytes` gets none.
fn limit_memory(bytes: u64) -> std::io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: it reads `limit`, and nothing else.
    match unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// A context whose state counts how often each key came, at `second` seconds.
fn context(folder: &Path, queue: &RddQueue<Batch>, second: u64) -> TestContext {
    let limit = variable("BENCH_LIMIT_MIB", 256) as usize;
    let builder = StreamingContext::builder("bench").checkpoint(folder).state_memory_limit(limit << 20);
    let test = TestContext::from_builder(builder, Time::from_millis(second as i64 * 1_000)).unwrap();
    let count = StateSpec::function(|_: &u64, n: Option<u64>, total: &mut State<u64>| {
        total.update(total.get_option().unwrap_or(&0) + n?);
        None::<()>
    });
    let pairs = test.ssc.queue_stream(queue).flat_map(|batch| batch.keys().map(|key| (key, 1)));
    pairs.map_with_state(count).foreach_rdd(|_| ());
    test
}

/// Makes a state of `keys` keys; gives the keys per second.
pub fn fill(folder: &Path, keys: u64) -> f64 {
    let queue = RddQueue::new();
    (0..keys)
        .step_by(FILL as usize)
        .for_each(|from| queue.push([Batch::Range(from, (from + FILL).min(keys))]));
    let test = context(folder, &queue, 0);
    let begun = Instant::now();
    test.run(keys.div_ceil(FILL) as usize).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let last = test.completed_batches().pop().unwrap();
    assert_eq!(last.state[0].1.keys, keys);
    keys as f64 / seconds
}

/// Medians of batches, in milliseconds.
struct Batches {
    whole: f64,
    /// Per batch, of the threads that run them, and of those that put the store in order beside them.
    cpu: Cpu,
    phases: Vec<(&'static str, f64)>,
}

impl Batches {
    fn of(batches: &[BatchInfo], used: Cpu) -> Self {
        let median = |of: &dyn Fn(&BatchInfo) -> Duration| {
            let mut all: Vec<f64> = batches.iter().map(|b| of(b).as_secs_f64() * 1e3).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let phase = |i: usize| (batches[0].phases[i].0, median(&|b| b.phases[i].1));
        let phases = (0..batches[0].phases.len()).map(phase).collect();
        let each = |seconds: f64| seconds * 1e3 / batches.len() as f64;
        let cpu = Cpu { batches: each(used.batches), beside: each(used.beside) };
        Self { whole: median(&|b| b.processing_duration.unwrap()), cpu, phases }
    }
}

impl fmt::Display for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms, CPU {:.1} + {:.1} beside", self.whole, self.cpu.batches, self.cpu.beside)?;
        self.phases.iter().try_for_each(|(name, ms)| write!(f, ", {name} {ms:.1}"))
    }
}

/// A context over a filled state, in which so many batches have run already and these are to come.
pub fn go_on(folder: &Path, keys: u64, done: u64, next: &[Batch]) -> TestContext {
    let begun = keys.div_ceil(FILL) + done;
    let queue = RddQueue::new();
    // What was taken is not taken again.
    (0..begun).for_each(|_| queue.push([Batch::Nothing]));
    next.iter().for_each(|batch| queue.push([*batch]));
    context(folder, &queue, begun)
}

pub fn random(keys: u64, touched: u64, seeds: std::ops::Range<u64>) -> Vec<Batch> {
    seeds.map(|seed| Batch::Random { seed: (seed + 1) << 32, touched, of: keys }).collect()
}

/// How many batches the process runs that is killed, and what it says then.
const BEFORE_KILL: u64 = 20;
const KILL_ME: &str = "kill me";

/// Seconds from the kill of a process that ran batches to the end of the first batch of the next one.
fn recover(folder: &Path, keys: u64, touched: u64, done: u64) -> f64 {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .env("BENCH_TO_BE_KILLED", folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(victim.stdout.take().unwrap()).lines().any(|line| line.unwrap() == KILL_ME);
    assert!(said, "{:?}", victim.wait());
    victim.kill().unwrap();
    victim.wait().unwrap();
    let begun = Instant::now();
    let next = random(keys, touched, BEFORE_KILL..BEFORE_KILL + 1);
    let test = go_on(folder, keys, done + BEFORE_KILL, &next);
    test.ssc.start().unwrap();
    test.step().unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    test.ssc.stop(true).unwrap();
    assert_eq!(test.completed_batches().last().unwrap().state[0].1.keys, keys);
    seconds
}

/// Seconds to start, and how long batches take that touch any keys, and always the same ones.
type Measured = (f64, Batches, Batches);

/// Measures both states by turns, batch by batch, so that whatever else the machine does weighs on both alike.
fn measure(states: &[(PathBuf, u64); 2], touched: u64, batches: u64) -> [Measured; 2] {
    let mut contexts = states.each_ref().map(|(folder, keys)| {
        // The first ones are not measured.
        let mut next = random(*keys, touched, 0..2 * batches);
        next.extend(vec![next[0]; batches as usize]);
        let begun = Instant::now();
        let test = go_on(folder, *keys, 0, &next);
        test.ssc.start().unwrap();
        (test, begun.elapsed().as_secs_f64(), [Cpu::default(); 3])
    });
    for phase in 0..3 {
        // What was written before is still put in order: whoever fills a store at a stretch pays for that, and not these.
        settle();
        for _ in 0..batches {
            for (test, _, used) in &mut contexts {
                let before = Cpu::used();
                test.step().unwrap();
                let after = Cpu::used();
                used[phase].batches += after.batches - before.batches;
                used[phase].beside += after.beside - before.beside;
            }
        }
    }
    let mut keys = states.iter().map(|(_, keys)| *keys);
    contexts.map(|(test, started, [_, random_cpu, hot_cpu])| {
        test.ssc.stop(true).unwrap();
        let done = test.completed_batches();
        assert_eq!(Some(done.last().unwrap().state[0].1.keys), keys.next());
        let (random, hot) = done[batches as usize..].split_at(batches as usize);
        (started, Batches::of(random, random_cpu), Batches::of(hot, hot_cpu))
    })
}

/// Seconds of the processor.
#[derive(Clone, Copy, Default)]
pub struct Cpu {
    pub batches: f64,
    pub beside: f64,
}

impl Cpu {
    /// What this process's threads have used so far. Those that run batches live as long as their context.
    pub fn used() -> Self {
        let mut used = Self::default();
        // SAFETY: it only reads a setting.
        let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
        for thread in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            let Ok(stat) = std::fs::read_to_string(thread.path().join("stat")) else { continue };
            let (name, rest) = stat.rsplit_once(')').unwrap();
            let fields: Vec<&str> = rest.split_whitespace().collect();
            // User and system time are the 14th and the 15th field; the name was the second.
            let seconds = fields[11..13].iter().map(|n| n.parse::<f64>().unwrap()).sum::<f64>() / ticks;
            *(if name.contains("rocksdb") { &mut used.beside } else { &mut used.batches }) += seconds;
        }
        used
    }
}

/// Waits until this process has nothing to do.
pub fn settle() {
    const LOOK_EVERY: Duration = Duration::from_millis(500);
    let all = || {
        let Cpu { batches, beside } = Cpu::used();
        batches + beside
    };
    let mut before = f64::MIN;
    while all() - before > 0.03 {
        before = all();
        std::thread::sleep(LOOK_EVERY);
    }
}

fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

fn size_mib(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>() >> 20
}
