//! Logs go to standard error: text for people in a terminal, JSON for whatever collects them elsewhere. A kind of line that
//! floods them is cut short.

mod damped;
mod json;

use std::io::{IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, JsonFields};

use super::pipeline::beside_the_bar;
use damped::Damped;
use json::Json;

/// Sets up the process's logs by `TIDEMILL_LOG` (else `RUST_LOG`, else `default`) and `TIDEMILL_LOG_FORMAT`.
///
/// # Errors
/// `Config` when one of the variables cannot be understood.
pub(super) fn init(default: &str) -> crate::Result<()> {
    let filter = filter("TIDEMILL_LOG")?.or(filter("RUST_LOG")?).unwrap_or_else(|| EnvFilter::new(default));
    let stderr = std::io::stderr();
    let json = match std::env::var("TIDEMILL_LOG_FORMAT").as_deref() {
        Ok("json") => true,
        Ok("text") => false,
        Ok("") | Err(_) => !stderr.is_terminal(),
        Ok(other) => {
            return Err(crate::Error::config(format!(
                "TIDEMILL_LOG_FORMAT must be `text` or `json`, not `{other}`"
            )));
        }
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Stderr);
    // A second call in one process keeps the first's settings.
    let _ = if json {
        // The spans' fields are kept as JSON, for the lines to take them up.
        logs.fmt_fields(JsonFields::new()).event_format(Damped::new(Json, json::left_out)).try_init()
    } else {
        logs.with_ansi(stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .event_format(Damped::new(Format::default().with_target(false), damped::left_out))
            .try_init()
    };
    Ok(())
}

/// Standard error, on which a bar may be.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        beside_the_bar(|| std::io::stderr().write(line))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

fn filter(name: &str) -> crate::Result<Option<EnvFilter>> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).map(Some).map_err(|error| {
            crate::Error::config(format!("{name} must be a level or RUST_LOG's syntax, not `{text}`"))
                .with_source(error)
        }),
        _ => Ok(None),
    }
}
