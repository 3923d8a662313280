//! What a checkpoint holds as tables: the states of keyed operators, the panes of windows, and the history of batches.

use std::collections::BTreeMap;

use crate::codec::{decode_key, decode_value};
use crate::commit::log::BatchLog;
use crate::error::{Error, Result};
use crate::rdd::finished;
use crate::service::check::{Config, Step};
use crate::sql::{
    DataType, Grouping, IsOver, Keeping, Row, SchemaRef, Spool, Value, batch_of_rows, batch_time_schema,
    data_type, schema, with_times,
};
use crate::state::{StateDb, StateEntry, has_panes, kind, split_key};
use crate::time::Time;

/// The table of batches that were committed, with their offset ranges.
pub(super) const BATCHES: &str = "batches";
/// The table of states.
pub(super) const STATES: &str = "states";
/// What a state's table is called: this, and the state's name.
const PREFIX: &str = "state_";

/// Rows that are gathered before they become columns. Few, since what sorts them has to have room for them twice.
const CHUNK: usize = 1_024;

/// An operator's state as a table.
pub(super) struct StateTable {
    pub(super) schema: SchemaRef,
    uid: String,
    shape: Shape,
}

/// How what is stored becomes a row.
enum Shape {
    /// A key and what its state comes to.
    State { keeping: Keeping, touched: bool },
    /// A pane, its key, and what its values come to.
    Panes(Grouping),
    /// Key and value as JSON, since nobody knows the columns.
    Unknown,
}

/// The tables of all states in `store`, by name; those that the pipeline knows have its columns.
pub(super) fn tables(config: Option<&Config>, store: &StateDb) -> BTreeMap<String, StateTable> {
    let mut tables = BTreeMap::new();
    for stream in config.into_iter().flat_map(|config| &config.streams) {
        let (uid, shape) = match &stream.step {
            Step::MapWithState { state, .. } => {
                (&state.uid.name, Shape::State { keeping: state.keeping.clone(), touched: true })
            }
            Step::UpdateStateByKey { state, .. } => {
                (&state.uid.name, Shape::State { keeping: state.keeping.clone(), touched: false })
            }
            Step::ReduceByKeyAndWindow { uid, grouping, .. } => (&uid.name, Shape::Panes(grouping.clone())),
            _ => continue,
        };
        let schema = match &shape {
            Shape::State { keeping, .. } => keeping.output_schema().clone(),
            Shape::Panes(grouping) => batch_time_schema(grouping.output_schema()),
            Shape::Unknown => continue,
        };
        tables.insert(name(uid), StateTable { schema, uid: uid.clone(), shape });
    }
    for (uid, _) in store.operators() {
        tables.entry(name(&uid)).or_insert_with(|| {
            let columns = [("time", timestamp()), ("key", DataType::Utf8View), ("value", DataType::Utf8View)];
            StateTable { schema: schema(columns), uid, shape: Shape::Unknown }
        });
    }
    tables
}

/// A name that SQL takes without quotes.
fn name(uid: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    format!("{PREFIX}{}", uid.chars().map(letter).collect::<String>())
}

fn timestamp() -> DataType {
    data_type("timestamp").unwrap_or(DataType::Int64)
}

impl StateTable {
    /// Puts the rows as the last batch left them into `rows`; none if the operator has kept nothing yet.
    ///
    /// # Errors
    /// If they cannot be read, or the time is over.
    pub(super) fn read(&self, store: &StateDb, is_over: &IsOver, rows: &mut Spool) -> Result<()> {
        if !store.operators().iter().any(|(uid, _)| *uid == self.uid) {
            return Ok(());
        }
        match &self.shape {
            Shape::State { keeping, touched } => self.states(store, keeping, *touched, is_over, rows),
            Shape::Panes(grouping) => self.panes(store, grouping, is_over, rows),
            Shape::Unknown => self.unknown(store, is_over, rows),
        }
    }

    /// Calls `each` with all entries.
    fn visit(
        &self,
        store: &StateDb,
        is_over: &IsOver,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut seen = 0_usize;
        finished(store.scan_until(&self.uid, &mut |stored, value| {
            seen += 1;
            if seen.is_multiple_of(CHUNK) && is_over() {
                return Err(took_too_long().into());
            }
            let (_, of, key) = split_key(stored)?;
            if of == kind::ENTRY {
                each(key, value).map_err(|e| e.within(format!("state `{}`", self.uid)))?;
            }
            Ok(())
        }))
    }

    fn states(
        &self,
        store: &StateDb,
        keeping: &Keeping,
        touched: bool,
        is_over: &IsOver,
        rows: &mut Spool,
    ) -> Result<()> {
        let mut groups: Vec<(Row, Row)> = Vec::new();
        let mut finish = |groups: &mut Vec<(Row, Row)>| {
            let batch = keeping.finish(groups.iter().map(|(key, state)| (key, state)))?;
            groups.clear();
            rows.push(&batch)
        };
        self.visit(store, is_over, |key, value| {
            let state = match touched {
                true => decode_value::<(Time, Row)>(value)?.1,
                false => decode_value(value)?,
            };
            groups.push((decode_key(key)?, state));
            if groups.len() == CHUNK { finish(&mut groups) } else { Ok(()) }
        })?;
        finish(&mut groups)
    }

    fn panes(&self, store: &StateDb, grouping: &Grouping, is_over: &IsOver, rows: &mut Spool) -> Result<()> {
        let mut panes: Vec<(Time, Row, Row)> = Vec::new();
        let mut finish = |panes: &mut Vec<(Time, Row, Row)>| {
            let batch = grouping.finish(panes.iter().map(|(_, key, state)| (key, state)))?;
            let batch = with_times(&self.schema, &batch, panes.iter().map(|(time, ..)| *time))?;
            panes.clear();
            rows.push(&batch)
        };
        self.visit(store, is_over, |key, value| {
            let (time, key): (i64, Row) = decode_key(key)?;
            panes.push((Time::from_millis(time), key, decode_value(value)?));
            if panes.len() == CHUNK { finish(&mut panes) } else { Ok(()) }
        })?;
        finish(&mut panes)
    }

    fn unknown(&self, store: &StateDb, is_over: &IsOver, rows: &mut Spool) -> Result<()> {
        let mut gathered = Vec::new();
        let mut over = false;
        store.entries_until(&self.uid, |StateEntry { time, key, value, .. }| {
            let time = time.map_or(Value::Null, |time| Value::Int(time.as_millis() * 1_000));
            gathered.push(Row::from(vec![
                time,
                key.to_string().as_str().into(),
                value.to_string().as_str().into(),
            ]));
            if gathered.len() == CHUNK {
                rows.push(&batch_of_rows(&self.schema, &gathered)?)?;
                gathered.clear();
                over = is_over();
            }
            Ok(!over)
        })?;
        match over {
            true => Err(took_too_long()),
            false => rows.push(&batch_of_rows(&self.schema, &gathered)?),
        }
    }
}

fn took_too_long() -> Error {
    Error::usage("the question took longer than it may")
}

pub(super) fn states_schema() -> SchemaRef {
    let text = || DataType::Utf8View;
    schema([
        ("uid", text()),
        ("operator", text()),
        ("table_name", text()),
        ("keys", DataType::Int64),
        ("bytes", DataType::Int64),
    ])
}

/// One row per operator that keeps something.
pub(super) fn states(store: &StateDb, into: &mut Spool) -> Result<()> {
    let number = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
    let row = |(uid, registered): (String, crate::state::Registered)| {
        // What a window holds is counted by reading it all: that is for a question to its table.
        let size = match has_panes(&registered.operator) {
            true => [Value::Null, Value::Null],
            false => {
                let size = store.size_of(&uid)?;
                [number(size.keys), number(size.bytes)]
            }
        };
        let [keys, bytes] = size;
        Ok(Row::from(vec![
            uid.as_str().into(),
            registered.operator.as_str().into(),
            name(&uid).as_str().into(),
            keys,
            bytes,
        ]))
    };
    let rows = store.operators().into_iter().map(row).collect::<Result<Vec<_>>>()?;
    into.push(&batch_of_rows(&states_schema(), &rows)?)
}

pub(super) fn batches_schema() -> SchemaRef {
    let number = || DataType::Int64;
    schema([
        ("batch_time", timestamp()),
        ("source", DataType::Utf8View),
        ("topic", DataType::Utf8View),
        ("partition", DataType::Int32),
        ("from_offset", number()),
        ("until_offset", number()),
        ("late", number()),
        ("future", number()),
    ])
}

/// One row per offset range of each batch that was committed; one without a source for a batch that read nothing.
pub(super) fn batches(store: &StateDb, is_over: &IsOver, into: &mut Spool) -> Result<()> {
    let number = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
    let schema = batches_schema();
    let mut rows = Vec::new();
    BatchLog::of(store).visit(Time::ZERO, Time::from_millis(i64::MAX), |time, batch| {
        let time = Value::Int(time.as_millis() * 1_000);
        let mut read_any = false;
        for (source, ranges) in &batch.inputs {
            for logged in ranges {
                read_any = true;
                let range = &logged.range;
                rows.push(Row::from(vec![
                    time.clone(),
                    source.as_str().into(),
                    (&*range.topic).into(),
                    Value::Int(i64::from(range.partition)),
                    Value::Int(range.from),
                    Value::Int(range.until),
                    number(logged.late),
                    number(logged.future),
                ]));
            }
        }
        if !read_any {
            rows.push(Row(std::iter::once(time).chain(std::iter::repeat_n(Value::Null, 7)).collect()));
        }
        if rows.len() >= CHUNK {
            into.push(&batch_of_rows(&schema, &rows)?)?;
            rows.clear();
            if is_over() {
                return Err(took_too_long());
            }
        }
        Ok(())
    })?;
    into.push(&batch_of_rows(&schema, &rows)?)
}
