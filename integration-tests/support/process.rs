//! Child processes that never outlive the test process.

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use super::eventually;

/// A running child; killed when dropped.
pub struct Process {
    child: Child,
}

impl Process {
    pub fn spawn(command: Command) -> Process {
        Process { child: spawn(command) }
    }

    /// How the child ended, if it did.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours")
    }

    /// The most bytes of memory that the child has had so far.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the child runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts it");
        let kilobytes = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
        kilobytes * 1_024
    }

    /// Sends a signal; panics if the child ended before.
    #[track_caller]
    pub fn signal(&mut self, signal: i32) {
        if let Some(status) = self.exit_status() {
            panic!("no process to signal: it ended with {status}");
        }
        // SAFETY: a plain system call; the child is not waited for, so its id cannot belong to another process.
        let result = unsafe { libc::kill(self.child.id() as i32, signal) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    /// Waits for the end; `logs` is called for the message when `limit` is over.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration, logs: impl Fn() -> String) -> ExitStatus {
        eventually(limit, "the end of a process", || self.exit_status().ok_or_else(&logs))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a child that the kernel kills as soon as this process ends, in whichever way that happens.
fn spawn(command: Command) -> Child {
    type Request = (Command, mpsc::Sender<io::Result<Child>>);
    static KEEPER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();

    // The kernel takes the thread that spawned for the parent, and a test's thread ends with its test.
    let keeper = KEEPER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, reply) in requests {
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let program = command.get_program().to_owned();
    let (sender, reply) = mpsc::channel();
    keeper.send((die_with_parent(command), sender)).expect("the keeper lives as long as the process");
    let child = reply.recv().expect("the keeper replies to each request");
    child.unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()))
}

fn die_with_parent(mut command: Command) -> Command {
    let parent = std::process::id();
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // It may have ended before the kernel knew that we want to hear of it.
            if libc::getppid() as u32 != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    command
}

/// Runs a command to its end and returns what it printed; panics if it failed.
#[track_caller]
pub fn output(mut command: Command, input: &str) -> String {
    let name = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command);
    let mut stdin = child.stdin.take().expect("it was asked for");
    let output = thread::scope(|scope| {
        // A child that ends before it has read all breaks the pipe: its status tells more than that.
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        child.wait_with_output().expect("the child is ours")
    });
    let [printed, complained] =
        [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    assert!(output.status.success(), "{name}: {}\n{printed}{complained}", output.status);
    printed
}

/// The last lines of a log file.
pub fn tail(path: &Path) -> String {
    let log = fs::read(path).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    let last = lines[lines.len().saturating_sub(40)..].join("\n");
    format!("the end of {}:\n{last}", path.display())
}
