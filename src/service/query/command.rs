//! `tidemill query`: to a running instance over HTTP, or to a checkpoint.

use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::{Limits, MEMORY, Questions};
use crate::error::{Error, Result};
use crate::rdd::Disk;
use crate::service::args::QueryArgs;
use crate::service::state::post;
use crate::sql::Memory;
use crate::state::StateDb;
use crate::time::SystemClock;
use crate::ui::QUERY_PATH;

/// Asks, and prints the answer.
pub(crate) fn run(args: &QueryArgs) -> anyhow::Result<ExitCode> {
    let limits = Limits { rows: args.limit, time: args.timeout };
    let answer = match (&args.file, &args.checkpoint, &args.url) {
        (Some(file), None, None) => {
            let Some(config) = crate::service::load(file)? else {
                return Ok(ExitCode::from(crate::service::EXIT_CONFIG));
            };
            match config.http {
                Some(address) if StateDb::is_locked(&config.checkpoint) => over_http(address, args)?,
                _ => offline(Some(&config), &config.checkpoint, args, limits)?,
            }
        }
        (None, Some(checkpoint), None) => offline(None, checkpoint, args, limits)?,
        (None, None, url) => over_http(address(url.as_deref().unwrap_or("http://127.0.0.1:8080"))?, args)?,
        _ => return Err(Error::config("give one of --url, --file and --checkpoint").into()),
    };
    // A reader that has seen enough is no failure.
    let _ = std::io::stdout().write_all(answer.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn offline(
    config: Option<&crate::service::check::Config>,
    checkpoint: &Path,
    args: &QueryArgs,
    limits: Limits,
) -> Result<String> {
    let store = Arc::new(StateDb::open_read_only(checkpoint)?);
    // Whoever only looks writes nothing into a checkpoint.
    let memory = Memory::new(MEMORY, &Disk::new(&std::env::temp_dir()));
    let questions = Questions::new(config, None, Some(store), Arc::new(SystemClock::default()), memory);
    questions.ask(&args.sql, limits)?.shown(args.format)
}

fn address(url: &str) -> Result<SocketAddr> {
    let wrong = |why: &str| {
        Error::config(format!("`{url}` is no address of an instance: {why}; such as http://127.0.0.1:8080"))
    };
    let host =
        url.strip_prefix("http://").ok_or_else(|| wrong("it begins with http://"))?.trim_end_matches('/');
    let mut found = host.to_socket_addrs().map_err(|e| wrong(&e.to_string()))?;
    found.next().ok_or_else(|| wrong("the name has no address"))
}

fn over_http(address: SocketAddr, args: &QueryArgs) -> Result<String> {
    let body =
        serde_json::json!({ "sql": args.sql, "limit": args.limit, "format": args.format.name() }).to_string();
    let failed = |e: std::io::Error| {
        Error::unavailable(format!("cannot ask the instance at {address}: {e}")).with_source(e)
    };
    let token = crate::service::http::token()?;
    match post(address, QUERY_PATH, token.as_deref(), &body).map_err(failed)? {
        (200, answer) => Ok(answer),
        (400, why) => Err(Error::config(why.trim_end().to_owned())),
        (status, why) => Err(Error::unavailable(format!(
            "the instance at {address} answered {status}: {}",
            why.trim_end()
        ))),
    }
}
