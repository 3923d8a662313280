//! Which checkpoint a command is about, and where its results go.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets::NOTHING};

use super::check::Config;
use crate::error::{Error, Result};
use crate::state::StateDb;

/// A checkpoint, given as a folder or by the pipeline file that it belongs to, and what else the command takes.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The checkpoint's folder, in place of a pipeline FILE.
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// FILE, unless `--checkpoint` is given, and the command's own arguments.
    #[arg(value_name = "ARGUMENT", hide = true, allow_negative_numbers = true)]
    words: Vec<String>,
}

/// A checkpoint's folder, and the pipeline whose it is, if that was given.
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) config: Option<Config>,
}

impl Target {
    /// The checkpoint, and the values of the arguments `names`; nothing if the pipeline file is wrong, which was shown.
    pub(super) fn resolve(&self, names: &[&str]) -> anyhow::Result<Option<(Place, Vec<&str>)>> {
        let own = names.len();
        let (file, words) = match (&self.checkpoint, &self.words[..]) {
            (Some(_), words) if words.len() == own => (None, words),
            (None, [file, words @ ..]) if words.len() == own => (Some(file), words),
            _ => {
                let names: String = names.iter().map(|name| format!(" {name}")).collect();
                return Err(Error::config(format!(
                    "expected the pipeline's FILE or `--checkpoint DIR`, and then{}",
                    if own == 0 { " nothing".to_owned() } else { names }
                ))
                .into());
            }
        };
        let place = match (&self.checkpoint, file) {
            (Some(folder), _) => Place { folder: folder.clone(), config: None },
            (None, Some(file)) => match super::load(Path::new(file))? {
                Some(config) => Place { folder: config.checkpoint.clone(), config: Some(config) },
                None => return Ok(None),
            },
            (None, None) => return Ok(None),
        };
        Ok(Some((place, words.iter().map(String::as_str).collect())))
    }
}

impl Place {
    /// To look at; an instance may be running.
    pub(super) fn read(&self) -> Result<StateDb> {
        StateDb::open_read_only(&self.folder)
    }

    /// To change; no instance may be running.
    pub(super) fn write(&self) -> Result<StateDb> {
        StateDb::open_existing(&self.folder)
    }
}

/// How results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// Columns, for people
    Text,
    /// For programs
    Json,
}

/// Standard output. A reader that has seen enough (`| head`) is no failure.
pub(super) struct Out {
    out: BufWriter<StdoutLock<'static>>,
    closed: bool,
}

impl Out {
    pub(super) fn new() -> Self {
        Self { out: BufWriter::new(io::stdout().lock()), closed: false }
    }

    /// Whether nobody reads any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn line(&mut self, line: impl std::fmt::Display) -> Result<()> {
        let written = if self.closed { Ok(()) } else { writeln!(self.out, "{line}") };
        self.told(written)
    }

    pub(super) fn finish(mut self) -> Result<()> {
        let flushed = if self.closed { Ok(()) } else { self.out.flush() };
        self.told(flushed)
    }

    fn told(&mut self, outcome: io::Result<()>) -> Result<()> {
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            other => other.map_err(|e| Error::output("cannot write to standard output").with_source(e)),
        }
    }
}

/// Rows in aligned columns, under a heading.
pub(super) fn columns(heading: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading.to_vec());
    for row in rows {
        table.add_row(row);
    }
    let lines = table.to_string();
    lines.lines().map(|line| line.trim_end().strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}
