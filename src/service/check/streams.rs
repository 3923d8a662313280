//! Streams: in which order they can be resolved, what each gives, and how often.
//!
//! A stream is resolved as soon as all that it reads is. What is left over when nothing moves on any more reads
//! something wrong, which has been reported, or runs in a circle, which is reported here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::config::{Source, Stream, Table};
use super::operators::{self, Scope};
use super::{expression, names, tables};
use crate::service::file::{At, Entry, Operator};
use crate::service::report::Report;
use crate::sql::Planner;
use crate::time::Duration;

/// All names of a file: whether each is right or not, others may refer to it.
pub(super) struct Declared<'a> {
    names: BTreeSet<&'a str>,
    /// Those of the names that are tables in files.
    tables: BTreeSet<&'a str>,
}

impl<'a> Declared<'a> {
    pub(super) fn new(
        streams: impl IntoIterator<Item = &'a str>,
        tables: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let tables: BTreeSet<&str> = tables.into_iter().collect();
        Self { names: streams.into_iter().chain(tables.iter().copied()).collect(), tables }
    }

    /// As [`check`](Declared::check), for what a table has no place in.
    pub(super) fn check_stream(&self, name: &At<String>, report: &mut Report) -> bool {
        if self.tables.contains(name.value.as_str()) {
            report
                .error(name.at.clone(), format!("`{}` is a table, not a stream", name.value))
                .help("tables are read in `sql` and in joins, beside a stream");
            return false;
        }
        self.check(name, report)
    }

    /// Reports `name` if there is neither a source, a stream nor a table of that name.
    pub(super) fn check(&self, name: &At<String>, report: &mut Report) -> bool {
        let known = self.names.contains(name.value.as_str());
        if !known {
            report
                .error(name.at.clone(), format!("there is no source or stream `{}`", name.value))
                .nearest(&name.value, self.names.iter().copied())
                .help(format!("there are {}", crate::service::report::list(self.names.iter().copied())));
        }
        known
    }
}

/// A stream that is not resolved yet, and the names that it waits for.
struct Pending<'a> {
    entry: &'a Entry<crate::service::file::Stream>,
    operator: &'a At<Operator>,
    reads: Vec<(String, Range<usize>)>,
}

/// The streams that are right, each after those that it reads.
pub(super) fn check(
    sources: &[Source],
    tables: &[Table],
    streams: &[Entry<crate::service::file::Stream>],
    declared: &Declared<'_>,
    batch_interval: Option<Duration>,
    report: &mut Report,
) -> Vec<Stream> {
    let mut scope = Scope {
        planner: Planner::new(),
        known: BTreeMap::new(),
        tables: BTreeMap::new(),
        uids: BTreeMap::new(),
    };
    for source in sources {
        scope.add(&source.name, source.schema.clone(), batch_interval);
    }
    for table in tables {
        scope.add_table(table);
    }
    let mut pending: Vec<Pending<'_>> = Vec::new();
    for entry in streams {
        let named = names::sql_name("stream", &entry.name, &entry.at, report);
        let operator = entry.value.as_ref().and_then(|stream| stream.value.operator.as_ref());
        if let Some(operator) = operator
            && let Some(reads) = reads(operator, declared, report)
            && named
        {
            pending.push(Pending { entry, operator, reads });
        }
    }
    let mut resolved = Vec::new();
    let mut force = false;
    loop {
        let (before, mut waiting) = (resolved.len(), Vec::new());
        for stream in std::mem::take(&mut pending) {
            let ready = stream.reads.iter().all(|(name, _)| scope.known.contains_key(name.as_str()));
            // The names that a query reads are guessed from its text; its plan may need fewer.
            let guess = if force { planned(&stream, &scope) } else { false };
            if !ready && !guess {
                waiting.push(stream);
                continue;
            }
            if let Some(done) = operators::check(&stream.entry.name, stream.operator, &mut scope, report) {
                scope.add(&done.name, done.schema.clone(), Some(done.slide));
                resolved.push(done);
            }
        }
        let moved = resolved.len() > before || waiting.is_empty();
        pending = waiting;
        if pending.is_empty() || (!moved && force) {
            break;
        }
        force = !moved;
    }
    pending.retain_mut(|stream| confirm(stream, &scope, report));
    cycles(&pending, report);
    resolved
}

/// Leaves of the names that a query may read the one that the planner misses; reports the query if it misses none, so that
/// what was guessed wrong is never the reason for an error, nor for its absence.
fn confirm(stream: &mut Pending<'_>, scope: &Scope, report: &mut Report) -> bool {
    let Operator::Sql(text) = &stream.operator.value else { return true };
    let Err(error) = scope.planner.query(text.value()) else { return true };
    let missing = error.message.strip_prefix("there is no stream `").and_then(|rest| rest.strip_suffix('`'));
    stream.reads.retain(|(name, _)| Some(name.as_str()) == missing);
    if stream.reads.is_empty() {
        expression::report(&error, text, report);
    }
    !stream.reads.is_empty()
}

fn planned(stream: &Pending<'_>, scope: &Scope) -> bool {
    match &stream.operator.value {
        Operator::Sql(text) => scope.planner.query(text.value()).is_ok(),
        _ => false,
    }
}

/// The names that an operator reads, or nothing if one of them was reported.
fn reads(
    operator: &At<Operator>,
    declared: &Declared<'_>,
    report: &mut Report,
) -> Option<Vec<(String, Range<usize>)>> {
    if let Operator::Sql(text) = &operator.value {
        // A name that is not declared may be one that the query itself makes; the planner knows.
        let of_file = |name: &String| declared.names.contains(name.as_str());
        let place = |name: String| {
            let at = tables::place(text, &name);
            (name, at)
        };
        let names = tables::tables(text.value()).into_iter().map(|(name, _)| name);
        return Some(names.filter(of_file).map(place).collect());
    }
    let joins = operator.value.joins();
    let mut reads = Vec::new();
    let mut fine = true;
    for name in operator.value.inputs() {
        match name {
            Some(name) if joins && declared.check(name, report) => {
                reads.push((name.value.clone(), name.at.clone()));
            }
            Some(name) if !joins && declared.check_stream(name, report) => {
                reads.push((name.value.clone(), name.at.clone()))
            }
            _ => fine = false,
        }
    }
    fine.then_some(reads)
}

/// Reports each circle among streams once.
fn cycles(pending: &[Pending<'_>], report: &mut Report) {
    let index = |name: &str| pending.iter().position(|stream| stream.entry.name == name);
    let mut done: BTreeSet<usize> = BTreeSet::new();
    for start in 0..pending.len() {
        // Along the first name that is itself waiting: whoever walks on must come back or stop.
        let mut path: Vec<usize> = Vec::new();
        let mut next = Some(start);
        while let Some(at) = next {
            if done.contains(&at) {
                break;
            }
            if let Some(begin) = path.iter().position(|seen| *seen == at) {
                report_cycle(&path[begin..], pending, report);
                break;
            }
            path.push(at);
            next = pending[at].reads.iter().find_map(|(name, _)| index(name));
        }
        done.extend(path);
    }
}

fn report_cycle(circle: &[usize], pending: &[Pending<'_>], report: &mut Report) {
    // From the first in the file, whichever was found first.
    let first = (0..circle.len()).min_by_key(|at| circle[*at]).unwrap_or(0);
    let circle: Vec<&Pending<'_>> =
        circle[first..].iter().chain(&circle[..first]).map(|at| &pending[*at]).collect();
    let mut names: Vec<&str> = circle.iter().map(|stream| stream.entry.name.as_str()).collect();
    names.push(names[0]);
    let read_at = |stream: &Pending<'_>, name: &str| {
        let read = stream.reads.iter().find(|(read, _)| read == name);
        read.map_or(stream.entry.at.clone(), |(_, at)| at.clone())
    };
    let message = match names.len() {
        2 => format!("`{}` reads itself", names[0]),
        _ => format!("streams read each other in a circle: {}", names.join(" <- ")),
    };
    let finding = report.error(read_at(circle[0], names[1]), message);
    finding.label(format!("`{}` reads `{}`", names[0], names[1]));
    for (stream, pair) in circle.iter().zip(names.windows(2)).skip(1) {
        finding.also(read_at(stream, pair[1]), format!("`{}` reads `{}`", pair[0], pair[1]));
    }
    finding.help("what a stream was in earlier batches is kept by `map_with_state` or a window");
}
