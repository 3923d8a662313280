//! The service over lines that a test sends through a socket: all of it but Kafka.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::running::Running;

/// A running pipeline and the connection that its source `lines` reads.
pub struct Lines {
    pub running: Running,
    connection: TcpStream,
    _folder: TempDir,
}

impl Lines {
    /// Runs the pipeline that `rest` of a file makes of the source `lines`; the batch interval, the format of the lines and what
    /// goes beside it are in `source`.
    #[track_caller]
    pub fn run(interval: &str, source: &str, rest: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pipeline.yaml");
        let text = format!(
            "app_id: lines\nbatch_interval: {interval}\ndelivery: at-least-once\ncheckpoint: {}\nhttp: 127.0.0.1:0\n\
             sources:\n  lines:\n    socket: {{ host: 127.0.0.1, port: {port} }}\n    {source}\n{rest}",
            folder.path().join("checkpoint").display()
        );
        std::fs::write(&file, text).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.arg("run").arg(&file).env("TIDEMILL_LOG_FORMAT", "json");
        command.env_remove("TIDEMILL_LOG").env_remove("RUST_LOG").env_remove("TIDEMILL_HTTP_TOKEN");
        let running = Running::start(command, folder.path().join("log"));
        let connection = super::ui::browser::eventually("the source's connection", || {
            listener.set_nonblocking(true).expect("a socket");
            listener.accept().map_err(|_| running.log())
        });
        connection.0.set_nonblocking(false).expect("a socket");
        Self { running, connection: connection.0, _folder: folder }
    }

    #[track_caller]
    pub fn send(&mut self, line: &str) {
        self.connection.write_all(format!("{line}\n").as_bytes()).expect("it reads");
    }

    /// Where its page is.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        let line = self.running.wait_for_log("listening for HTTP");
        let line: Value = serde_json::from_str(&line).expect("a line is JSON");
        line["address"].as_str().expect("text").parse().expect("an address")
    }
}
