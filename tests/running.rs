//! The built binary while it runs.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::ui::browser::eventually;

/// A process that does not outlive the test, and what it writes to standard error.
pub struct Running {
    process: Child,
    log: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It is ours, and of no use without the test.
        self.kill();
    }
}

impl Running {
    /// Starts it; its log is added to what is in the file `log`.
    #[track_caller]
    pub fn start(mut command: Command, log: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&log).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        Self { process: command.spawn().expect("the binary was built for this test"), log }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }

    /// Ends it at once, if it has not ended.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Has it stop, and gives its exit code.
    #[track_caller]
    pub fn stop(mut self) -> Option<i32> {
        // SAFETY: a plain system call; the child is not waited for yet, so its id is its own.
        unsafe { libc::kill(self.process.id() as i32, libc::SIGTERM) };
        self.end()
    }

    /// Waits for its end, and gives its exit code.
    #[track_caller]
    pub fn end(&mut self) -> Option<i32> {
        eventually("the end of the process", || match self.process.try_wait().expect("it is ours") {
            Some(status) if status.code().is_none() => panic!("{status}: {}", self.log()),
            Some(status) => Ok(status.code()),
            None => Err(self.log()),
        })
    }

    /// The first line of the log that has `text` in it.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        eventually(text, || {
            let log = self.log();
            log.lines().find(|line| line.contains(text)).map(str::to_owned).ok_or(log)
        })
    }
}
