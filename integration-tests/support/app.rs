//! The built binary, run as a user runs it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::eventually;
use super::process::{Process, tail};

/// A `tidemill` command with a folder of its own and no environment but what is given to it.
#[derive(Clone)]
pub struct App {
    arguments: Vec<String>,
    on_terminal: bool,
    environment: Vec<(String, String)>,
    folder: Arc<TempDir>,
    runs: Arc<AtomicU32>,
}

/// The command with these arguments, in a fresh folder.
pub fn tidemill(arguments: &[&str]) -> App {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    fs::create_dir(folder.path().join("work")).expect("a temporary folder can be made");
    App {
        arguments: Vec::new(),
        on_terminal: false,
        environment: Vec::new(),
        folder: Arc::new(folder),
        runs: Arc::default(),
    }
    .arguments(arguments)
}

impl App {
    /// The same folder and environment with other arguments.
    pub fn arguments(&self, arguments: &[&str]) -> App {
        App { arguments: arguments.iter().map(|&it| it.to_owned()).collect(), ..self.clone() }
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> App {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Writes a file into the folder.
    pub fn file(self, name: &str, content: &str) -> App {
        fs::write(self.dir().join(name), content).expect("a temporary file can be written");
        self
    }

    /// On a terminal of its own, which `script` (of util-linux) makes: what is shown there is its standard output.
    pub fn on_terminal(&self) -> App {
        App { on_terminal: true, ..self.clone() }
    }

    /// The folder in which the command runs.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Runs the command with other arguments until it has ended well, and gives what it printed.
    #[track_caller]
    pub fn done(&self, arguments: &[&str], limit: Duration) -> String {
        let mut run = self.arguments(arguments).start();
        let code = run.wait_exit(limit).code();
        assert_eq!(code, Some(0), "{arguments:?}: {}{}", run.stdout(), run.stderr());
        run.stdout()
    }

    /// Starts the command; once more in the same folder if it ran before.
    pub fn start(&self) -> Run {
        let run = self.runs.fetch_add(1, Ordering::Relaxed) + 1;
        let [stdout, stderr] =
            ["stdout", "stderr"].map(|stream| self.folder.path().join(format!("{stream}-{run}.log")));
        let [out, err] =
            [&stdout, &stderr].map(|path| File::create(path).expect("a temporary file can be written"));
        // The benchmarks share this file, and are built without the binary.
        let Some(binary) = option_env!("CARGO_BIN_EXE_tidemill") else { panic!("the binary was not built") };
        let mut command = Command::new(if self.on_terminal { "script" } else { binary });
        if self.on_terminal {
            let words = std::iter::once(binary).chain(self.arguments.iter().map(String::as_str));
            let words: Vec<_> = words.map(|word| format!("'{word}'")).collect();
            command.args([
                "-qefc",
                &format!("stty cols 120 rows 40 && exec {}", words.join(" ")),
                "/dev/null",
            ]);
        } else {
            command.args(&self.arguments);
        }
        command
            .current_dir(self.dir())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TERM", "xterm")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        let process = Process::spawn(command);
        Run { process, stdout, stderr, _folder: Arc::clone(&self.folder) }
    }
}

/// A started command; killed when dropped.
pub struct Run {
    process: Process,
    stdout: PathBuf,
    stderr: PathBuf,
    _folder: Arc<TempDir>,
}

impl Run {
    #[track_caller]
    pub fn sigterm(&mut self) {
        self.process.signal(libc::SIGTERM);
    }

    /// Asks it to stop, and waits until it has ended well.
    #[track_caller]
    pub fn stop(&mut self, limit: Duration) {
        self.sigterm();
        assert_eq!(self.wait_exit(limit).code(), Some(0), "{}", self.stderr());
    }

    #[track_caller]
    pub fn sigint(&mut self) {
        self.process.signal(libc::SIGINT);
    }

    pub fn sigkill(&mut self) {
        self.process.signal(libc::SIGKILL);
    }

    /// The most bytes of memory that it has had so far.
    pub fn peak_memory(&self) -> u64 {
        self.process.peak_memory()
    }

    /// How the run ended, if it did.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let stderr = &self.stderr;
        self.process.wait_exit(limit, || tail(stderr))
    }

    /// Waits for a line of standard output that contains `text`, and returns it.
    #[track_caller]
    pub fn wait_for_stdout(&mut self, text: &str, limit: Duration) -> String {
        self.wait_for_line(&self.stdout.clone(), text, limit)
    }

    /// Waits for a line of standard error that contains `text`, and returns it.
    #[track_caller]
    pub fn wait_for_stderr(&mut self, text: &str, limit: Duration) -> String {
        self.wait_for_line(&self.stderr.clone(), text, limit)
    }

    /// What was printed to standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What was printed to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    #[track_caller]
    fn wait_for_line(&mut self, path: &Path, text: &str, limit: Duration) -> String {
        let found = eventually(limit, &format!("a line with {text:?}"), || {
            // Asked first: what an ended process wrote is there in full.
            let ended = self.process.exit_status();
            let line = read(path).lines().find(|line| line.contains(text)).map(str::to_owned);
            match (line, ended) {
                (Some(line), _) => Ok(Ok(line)),
                (None, Some(status)) => Ok(Err(status)),
                (None, None) => Err(tail(path)),
            }
        });
        match found {
            Ok(line) => line,
            Err(status) => panic!("no line with {text:?} before {status}; {}", tail(&self.stderr)),
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).expect("the file was made before the start")).into_owned()
}
