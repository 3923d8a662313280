//! Questions to a pipeline: SQL over what it keeps, read-only, limited in time and rows.
//!
//! [`Questions`] knows the tables, of a running instance or of a checkpoint alone; [`Questions::ask`] takes a text and gives an
//! [`Answer`], which can be written as a table, as CSV and as JSON. Only the tables that a question names are read.

mod answer;
mod command;
mod live;
mod states;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

pub(crate) use answer::{Answer, Form};
pub(crate) use command::run;
pub(crate) use live::{LiveTables, Publish};

use self::states::{BATCHES, STATES, StateTable};
use super::check::{Config, Table};
use crate::error::{Error, Result};
use crate::sql::{Inputs, IsOver, Memory, Planner, SchemaRef, Spool, Spooled};
use crate::state::StateDb;
use crate::time::{Clock, Duration, Time};
use crate::ui;

/// The tables that every pipeline has, beside its own.
pub(crate) const BUILT_IN: [&str; 2] = [BATCHES, STATES];

/// What a question may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Rows of the answer.
    pub(crate) rows: usize,
    /// How long it may take.
    pub(crate) time: Duration,
}

impl Limits {
    /// The most that whoever asks may wish for.
    pub(crate) const MOST: Limits = Limits { rows: 100_000, time: Duration::minutes(1) };
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 1_000, time: Duration::seconds(10) }
    }
}

/// What a question may hold in memory; what is beyond goes to temporary files.
pub(crate) const MEMORY: usize = 64 << 20;

/// What can be asked of a pipeline.
pub(crate) struct Questions {
    live: Option<Arc<LiveTables>>,
    files: Vec<Table>,
    states: BTreeMap<String, StateTable>,
    store: Option<Arc<StateDb>>,
    clock: Arc<dyn Clock>,
    memory: Arc<Memory>,
    /// One at a time, so that questions never hold more memory than one may.
    asking: Mutex<()>,
}

impl Questions {
    /// To an instance that runs the pipeline `config`, or, without `live`, to its checkpoint; what does not fit in `memory`
    /// goes to its temporary files.
    pub(crate) fn new(
        config: Option<&Config>,
        live: Option<Arc<LiveTables>>,
        store: Option<Arc<StateDb>>,
        clock: Arc<dyn Clock>,
        memory: Memory,
    ) -> Self {
        let states = store.as_ref().map_or_else(BTreeMap::new, |store| states::tables(config, store));
        let files = config.map_or_else(Vec::new, |config| config.tables.clone());
        Self { live, files, states, store, clock, memory: Arc::new(memory), asking: Mutex::new(()) }
    }

    /// The tables' names and columns, by name.
    pub(crate) fn tables(&self) -> BTreeMap<String, SchemaRef> {
        let mut tables = BTreeMap::new();
        for table in &self.files {
            tables.insert(table.name.clone(), table.schema.clone());
        }
        if self.store.is_some() {
            tables.insert(BATCHES.to_owned(), states::batches_schema());
            tables.insert(STATES.to_owned(), states::states_schema());
        }
        tables.extend(self.states.iter().map(|(name, table)| (name.clone(), table.schema.clone())));
        tables.extend(self.live.iter().flat_map(|live| live.schemas()));
        tables
    }

    /// The answer to one `select`.
    ///
    /// # Errors
    /// `Config` for what is no right `select` over the [`tables`](Self::tables); `Usage` when it takes too long; `Data` when it
    /// fails on a value.
    pub(crate) fn ask(&self, sql: &str, limits: Limits) -> Result<Answer> {
        let limits = Limits {
            rows: limits.rows.min(Limits::MOST.rows),
            time: if limits.time > Limits::MOST.time { Limits::MOST.time } else { limits.time },
        };
        let Some(_asking) = self.asking.try_lock_for(limits.time.to_std()) else {
            return Err(Error::usage("another question is still being answered: ask again later"));
        };
        let (clock, until) = (self.clock.clone(), self.clock.now() + limits.time);
        let is_over: IsOver = Arc::new(move || clock.now() > until);
        let mut planner = Planner::of_tables();
        for (name, schema) in self.tables() {
            planner.register(&name, schema);
        }
        let query = planner.query(sql)?.within(&self.memory)?;
        let mut inputs = Inputs::new();
        let (mut live, batch) =
            self.live.as_ref().map_or_else(Default::default, |live| live.rows(query.inputs()));
        for name in query.inputs() {
            let rows = match live.remove(name.as_str()) {
                Some(rows) => rows.into(),
                None => self.rows(name, &is_over)?,
            };
            inputs = inputs.with(name, rows);
        }
        let (rows, truncated) = query.run_within(&inputs, limits.rows, &is_over)?;
        Ok(Answer { schema: query.schema().clone(), rows, truncated, batch })
    }

    /// The rows of a table that is not live.
    fn rows(&self, name: &str, is_over: &IsOver) -> Result<Spooled> {
        if let Some(table) = self.files.iter().find(|table| table.name == name) {
            return Ok(table.rows.clone().into());
        }
        let mut rows = Spool::new(&self.memory);
        if let Some(store) = &self.store {
            match name {
                BATCHES => states::batches(store, is_over, &mut rows)?,
                STATES => states::states(store, &mut rows)?,
                _ => match self.states.get(name) {
                    Some(table) => table.read(store, is_over, &mut rows)?,
                    None => return Err(Error::internal(format!("table `{name}` has no rows"))),
                },
            }
        }
        rows.finish()
    }
}

impl ui::Tables for Questions {
    fn tables(&self) -> Vec<ui::TableInfo> {
        let info = |(name, schema): (String, SchemaRef)| {
            let (num_rows, batch) = self.live.as_ref().and_then(|live| live.size(&name)).unzip();
            let batch_id = batch.flatten().map(Time::as_millis);
            ui::TableInfo { num_rows, batch_id, columns: answer::columns(&schema), name }
        };
        Questions::tables(self).into_iter().map(info).collect()
    }

    fn query(&self, sql: &str, limit: usize) -> Result<ui::Answer> {
        self.ask(sql, Limits { rows: limit, ..Limits::default() })?.to_ui()
    }

    fn text(&self, sql: &str, limit: usize, form: &str) -> Result<String> {
        let form = <Form as clap::ValueEnum>::from_str(form, true)
            .map_err(|_| Error::usage(format!("there is no form `{form}` of an answer: csv, table, json")))?;
        self.ask(sql, Limits { rows: limit, ..Limits::default() })?.shown(form)
    }
}

#[cfg(test)]
mod tests;
