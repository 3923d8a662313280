//! Operators by key: their groupings, windows and states.

use std::ops::Range;

use super::config::{KeyedState, Step, Table};
use super::expression::{self, Made, quoted};
use super::names;
use super::operators::{Resolved, Scope, counted, partitions, same_rows, window};
use crate::service::file::{At, Emit, Named, Operator, Text};
use crate::service::report::Report;
use crate::sql::{Condition, Grouping, Keeping, SchemaRef};
use crate::time::Duration;

type From = Option<At<String>>;
type Keys = Option<At<Vec<At<Text>>>>;
type Values = Option<At<Named<Text>>>;

/// The resolved step of an operator that groups, looks back or keeps a state.
pub(super) fn check(
    name: &str,
    operator: &At<Operator>,
    scope: &mut Scope,
    report: &mut Report,
) -> Option<Resolved> {
    let at = &operator.key_at;
    match &operator.value {
        Operator::CountByValue(step) => {
            by_batch(&step.from, Grouped::values(&step.from, &step.value, scope, at, report), scope)
        }
        Operator::Reduce(step) => by_batch(
            &step.from,
            Grouped::reduced(&step.from, None, &step.values, "values", scope, at, report),
            scope,
        ),
        Operator::ReduceByKey(step) => {
            let key = Some(&step.key);
            by_batch(
                &step.from,
                Grouped::reduced(&step.from, key, &step.values, "values", scope, at, report),
                scope,
            )
        }
        Operator::GroupByKey(step) => by_batch(
            &step.from,
            Grouped::arrays(&step.from, &step.key, &step.values, scope, at, report),
            scope,
        ),
        Operator::Window(step) => {
            let from = step.from.as_ref()?;
            let window = window(from, &step.window, &step.slide, scope, report);
            let uid = scope.uid((&step.uid, &step.was), name, at, report);
            let ((window, slide), uid) = (window?, uid?);
            Some(Resolved { slide, ..same_rows(from, Step::Window { uid, window }, scope)? })
        }
        Operator::CountByWindow(step) => {
            let from = step.from.as_ref()?;
            let window = window(from, &step.window, &step.slide, scope, report);
            let uid = scope.uid((&step.uid, &step.was), name, at, report);
            let ((window, slide), uid) = (window?, uid?);
            let step = Step::CountByWindow { uid, window };
            Some(Resolved { schema: counted(), slide, ..same_rows(from, step, scope)? })
        }
        Operator::CountByValueAndWindow(step) => {
            let grouping = Grouped::values(&step.from, &step.value, scope, at, report);
            let looked_back = (&step.window, &step.slide);
            let uid = scope.uid((&step.uid, &step.was), name, at, report);
            let windowed = windowed(&step.from, looked_back, scope, report);
            let ((window, slide), uid, grouping) = (windowed?, uid?, grouping?);
            let step = Windowed { inverse: true, filter: None, partitions: None };
            step.resolved(uid, grouping, window, slide, at, report)
        }
        Operator::ReduceByWindow(step) => {
            let grouping = Grouped::reduced(&step.from, None, &step.values, "values", scope, at, report);
            let uid = scope.uid((&step.uid, &step.was), name, at, report);
            let windowed = windowed(&step.from, (&step.window, &step.slide), scope, report);
            let ((window, slide), uid, grouping) = (windowed?, uid?, grouping?);
            let at = step.inverse.as_ref().map_or(at, |inverse| &inverse.key_at);
            let step =
                Windowed { inverse: At::get(&step.inverse).unwrap_or(false), filter: None, partitions: None };
            step.resolved(uid, grouping, window, slide, at, report)
        }
        Operator::ReduceByKeyAndWindow(step) => {
            let key = Some(&step.key);
            let grouping = Grouped::reduced(&step.from, key, &step.values, "values", scope, at, report);
            let uid = scope.uid((&step.uid, &step.was), name, at, report);
            let windowed = windowed(&step.from, (&step.window, &step.slide), scope, report);
            let partitions = partitions(&step.partitions, report);
            let ((window, slide), uid, grouping) = (windowed?, uid?, grouping?);
            let filter = condition(&step.filter, grouping.output_schema(), scope, report)?;
            let at = step.inverse.as_ref().map_or(at, |inverse| &inverse.key_at);
            let inverse = At::get(&step.inverse).unwrap_or(false);
            Windowed { inverse, filter, partitions: partitions? }
                .resolved(uid, grouping, window, slide, at, report)
        }
        Operator::GroupByKeyAndWindow(step) => {
            let grouping = Grouped::arrays(&step.from, &step.key, &step.values, scope, at, report);
            let uid = scope.uid((&step.uid, &step.was), name, at, report);
            let windowed = windowed(&step.from, (&step.window, &step.slide), scope, report);
            let ((window, slide), uid, grouping) = (windowed?, uid?, grouping?);
            Windowed { inverse: false, filter: None, partitions: None }
                .resolved(uid, grouping, window, slide, at, report)
        }
        Operator::MapWithState(step) => {
            let key = Some(&step.key);
            let written = Kept { state: &step.state, values: &step.values, update: &step.update };
            let keeping = written.check(operator.value.name(), &step.from, key, scope, at, report);
            let uid = scope.uid((&step.uid, &step.was), name, at, report);
            let partitions = partitions(&step.partitions, report);
            let initial = initial(&step.initial, &step.from, scope, report);
            let emit = At::get(&step.emit).unwrap_or(Emit::Updated);
            let timeout = At::get(&step.timeout);
            if let (Some(given), Emit::TimedOut | Emit::Both, None) = (&step.emit, emit, timeout) {
                report
                    .error(given.at.clone(), "no key of this state ever times out")
                    .help("give it a `timeout`, such as `timeout: 30m`");
                return None;
            }
            let (keeping, uid, partitions, initial) = (keeping?, uid?, partitions?, initial?);
            let schema = keeping.output_schema().clone();
            let state = KeyedState { uid, keeping, initial, partitions };
            with_state(&step.from, Step::MapWithState { state, timeout, emit }, schema, scope)
        }
        Operator::UpdateStateByKey(step) => {
            let key = Some(&step.key);
            let written = Kept { state: &step.state, values: &step.values, update: &step.update };
            let keeping = written.check(operator.value.name(), &step.from, key, scope, at, report);
            let uid = scope.uid((&step.uid, &step.was), name, at, report);
            let partitions = partitions(&step.partitions, report);
            let initial = initial(&step.initial, &step.from, scope, report);
            let (keeping, uid, partitions, initial) = (keeping?, uid?, partitions?, initial?);
            let remove = condition(&step.remove, keeping.value_schema(), scope, report)?;
            let schema = keeping.output_schema().clone();
            let state = KeyedState { uid, keeping, initial, partitions };
            with_state(&step.from, Step::UpdateStateByKey { state, remove }, schema, scope)
        }
        _ => None,
    }
}

fn by_batch(from: &From, grouping: Option<Grouping>, scope: &Scope) -> Option<Resolved> {
    let (from, grouping) = (from.as_ref()?, grouping?);
    let (schema, slide) = (grouping.output_schema().clone(), scope.slide(&from.value)?);
    Some(Resolved { inputs: vec![from.value.clone()], step: Step::ReduceByKey(grouping), schema, slide })
}

fn with_state(from: &From, step: Step, schema: SchemaRef, scope: &Scope) -> Option<Resolved> {
    let from = from.as_ref()?;
    Some(Resolved { inputs: vec![from.value.clone()], step, schema, slide: scope.slide(&from.value)? })
}

fn windowed(
    from: &From,
    (length, slide): (&Option<At<Duration>>, &Option<At<Duration>>),
    scope: &Scope,
    report: &mut Report,
) -> Option<(Duration, Duration)> {
    window(from.as_ref()?, length, slide, scope, report)
}

/// How a window's values are made.
struct Windowed {
    inverse: bool,
    filter: Option<Condition>,
    partitions: Option<usize>,
}

impl Windowed {
    fn resolved(
        self,
        uid: super::config::Uid,
        grouping: Grouping,
        window: Duration,
        slide: Duration,
        at: &Range<usize>,
        report: &mut Report,
    ) -> Option<Resolved> {
        if self.inverse && !grouping.invertible() {
            report
                .error(at.clone(), "not all of these values can be taken out of a window again")
                .help("`inverse` is for count, sum and avg; without it every aggregate works");
            return None;
        }
        let (inputs, schema) = (vec![grouping.input().to_owned()], grouping.output_schema().clone());
        let Self { inverse, filter, partitions } = self;
        let step = Step::ReduceByKeyAndWindow { uid, grouping, window, inverse, filter, partitions };
        Some(Resolved { inputs, step, schema, slide })
    }
}

/// A condition over columns that come out; nothing if it was reported, `None` in it if there is none.
fn condition(
    text: &Option<At<Text>>,
    schema: &SchemaRef,
    scope: &Scope,
    report: &mut Report,
) -> Option<Option<Condition>> {
    let Some(text) = text else { return Some(None) };
    match scope.planner.condition(schema, text.value.value()) {
        Ok(condition) => Some(Some(condition)),
        Err(error) => {
            expression::report(&error, &text.value, report);
            None
        }
    }
}

/// The table of an initial state, which has the columns of the stream.
fn initial(given: &From, from: &From, scope: &Scope, report: &mut Report) -> Option<Option<Table>> {
    let Some(given) = given else { return Some(None) };
    let from = from.as_ref()?;
    let Some(table) = scope.tables.get(&given.value) else {
        let names = || scope.tables.keys().map(String::as_str);
        report
            .error(given.at.clone(), format!("there is no table `{}`", given.value))
            .nearest(&given.value, names())
            .help("`initial` names one of the file's `tables`");
        return None;
    };
    let schema = scope.schema(&from.value)?;
    let types = |schema: &SchemaRef| -> Vec<_> {
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
    };
    if types(&table.schema) != types(&schema) {
        let columns = |schema: &SchemaRef| {
            let column = |(name, of)| format!("{name} {}", crate::sql::type_name(&of));
            types(schema).into_iter().map(column).collect::<Vec<_>>().join(", ")
        };
        report
            .error(given.at.clone(), format!("an initial state has the columns of `{}`", from.value))
            .label(format!("has {}", columns(&table.schema)))
            .help(format!("`{}` has {}", from.value, columns(&schema)));
        return None;
    }
    Some(Some(table.clone()))
}

/// How a state is kept, as it is written: by aggregates over all that came, or by an update of what there was.
struct Kept<'a> {
    state: &'a Values,
    values: &'a Values,
    update: &'a Values,
}

impl<'a> Kept<'a> {
    fn check(
        &self,
        name: &str,
        from: &From,
        key: Option<&'a Keys>,
        scope: &Scope,
        at: &Range<usize>,
        report: &mut Report,
    ) -> Option<Keeping> {
        const HOW: &str = "`state` has aggregates over all that came; `values` has aggregates over the batch, of which `update` \
                           makes the new state";
        let Self { state, values, update } = *self;
        match (state, values, update) {
            (Some(_), None, None) => {
                Some(Grouped::reduced(from, key, state, "state", scope, at, report)?.into())
            }
            (None, Some(_), Some(columns)) => {
                names::not_empty("column in `update`", update, report);
                let grouping = Grouped::reduced(from, key, values, "values", scope, at, report)?;
                let mut made = Vec::new();
                for column in columns.value.0.iter() {
                    made.push((column.name.clone(), column.value.as_ref()?));
                }
                if made.is_empty() {
                    return None;
                }
                let texts: Vec<_> =
                    made.iter().map(|(name, text)| (name.clone(), text.value.value().to_owned())).collect();
                match scope.planner.keeping(grouping, &texts) {
                    Ok(keeping) => Some(keeping),
                    Err(error) => {
                        let made = made.iter().map(|(_, text)| Made {
                            sql: text.value.value().to_owned(),
                            before: 0,
                            text,
                        });
                        expression::report_in(&error, &made.collect::<Vec<_>>(), at.clone(), report);
                        None
                    }
                }
            }
            (None, None, None) => {
                report
                    .error(at.clone(), format!("`{name}` needs `state`, or `values` with `update`"))
                    .help(HOW);
                None
            }
            (Some(_), Some(other), _) | (Some(_), None, Some(other)) => {
                let what = if values.is_some() { "values" } else { "update" };
                report.error(other.key_at.clone(), format!("`{what}` cannot stand beside `state`")).help(HOW);
                None
            }
            (None, Some(values), None) => {
                report.error(values.key_at.clone(), "`values` needs an `update`").help(HOW);
                None
            }
            (None, None, Some(update)) => {
                report.error(update.key_at.clone(), "`update` needs `values`").help(HOW);
                None
            }
        }
    }
}

/// What is grouped, as it was made of the file.
struct Grouped<'a> {
    keys: Vec<String>,
    values: Vec<(String, String)>,
    made: Vec<Made<'a>>,
}

impl<'a> Grouped<'a> {
    fn plan(self, from: &From, scope: &Scope, at: &Range<usize>, report: &mut Report) -> Option<Grouping> {
        match scope.planner.grouping(&from.as_ref()?.value, &self.keys, &self.values) {
            Ok(grouping) => Some(grouping),
            Err(error) => {
                // Each by itself, so that all that is wrong is told at once.
                let from = &from.as_ref()?.value;
                let count = [("#count".to_owned(), "count(*)".to_owned())];
                let keys = self
                    .keys
                    .iter()
                    .map(|key| scope.planner.grouping(from, std::slice::from_ref(key), &count));
                let values = self
                    .values
                    .iter()
                    .map(|value| scope.planner.grouping(from, &[], std::slice::from_ref(value)));
                let mut errors: Vec<_> = keys.chain(values).filter_map(Result::err).collect();
                if errors.is_empty() {
                    errors.push(error);
                }
                for error in errors {
                    expression::report_in(&error, &self.made, at.clone(), report);
                }
                None
            }
        }
    }

    /// Takes a key or value as it is written.
    fn written(&mut self, text: &'a At<Text>) -> String {
        self.made(text, "", "")
    }

    /// Takes one with something of ours around it.
    fn made(&mut self, text: &'a At<Text>, before: &str, after: &str) -> String {
        let sql = format!("{before}{}{after}", text.value.value());
        self.made.push(Made { sql: sql.clone(), before: before.len(), text });
        sql
    }

    fn new(key: Option<&'a Keys>, report: &mut Report) -> Option<Self> {
        let mut grouped = Self { keys: Vec::new(), values: Vec::new(), made: Vec::new() };
        if let Some(key) = key {
            let key = key.as_ref()?;
            if key.value.is_empty() {
                report
                    .error(key.at.clone(), "there must be at least one key")
                    .help("one value over all rows is a `reduce`, or a `sql` with an aggregate");
                return None;
            }
            grouped.keys = key.value.iter().map(|text| grouped.written(text)).collect();
        }
        Some(grouped)
    }

    /// Aggregates by key, or over all rows.
    fn reduced(
        from: &From,
        key: Option<&'a Keys>,
        values: &'a Values,
        values_are: &str,
        scope: &Scope,
        at: &Range<usize>,
        report: &mut Report,
    ) -> Option<Grouping> {
        names::not_empty(&format!("column in `{values_are}`"), values, report);
        let mut grouped = Self::new(key, report)?;
        for column in &values.as_ref().filter(|values| !values.value.0.is_empty())?.value.0 {
            let sql = grouped.written(column.value.as_ref()?);
            grouped.values.push((column.name.clone(), sql));
        }
        grouped.plan(from, scope, at, report)
    }

    /// The values of each key, as arrays: of expressions, or of all columns beside the key.
    fn arrays(
        from: &From,
        key: &'a Keys,
        values: &'a Values,
        scope: &Scope,
        at: &Range<usize>,
        report: &mut Report,
    ) -> Option<Grouping> {
        names::not_empty("column in `values`", values, report);
        let mut grouped = Self::new(Some(key), report)?;
        match values {
            Some(values) => {
                for column in &values.value.0 {
                    let sql = grouped.made(column.value.as_ref()?, "array_agg(", "\n)");
                    grouped.values.push((column.name.clone(), sql));
                }
            }
            None => {
                let schema = scope.schema(&from.as_ref()?.value)?;
                let names = schema.fields().iter().map(|field| field.name());
                let others = names
                    .filter(|name| !grouped.keys.contains(*name) && !grouped.keys.contains(&quoted(name)));
                grouped.values =
                    others.map(|name| (name.clone(), format!("array_agg({})", quoted(name)))).collect();
            }
        }
        if grouped.values.is_empty() {
            report
                .error(at.clone(), "there is no column beside the key whose values could be gathered")
                .help("name them with `values`, such as `values: { prices: price }`");
            return None;
        }
        grouped.plan(from, scope, at, report)
    }

    /// How often each value came out: the value is the key.
    fn values(
        from: &From,
        value: &'a Keys,
        scope: &Scope,
        at: &Range<usize>,
        report: &mut Report,
    ) -> Option<Grouping> {
        let mut grouped = match value {
            Some(_) => Self::new(Some(value), report)?,
            None => {
                let schema = scope.schema(&from.as_ref()?.value)?;
                let keys = schema.fields().iter().map(|field| quoted(field.name())).collect();
                Self { keys, values: Vec::new(), made: Vec::new() }
            }
        };
        grouped.values.push(("count".to_owned(), "count(*)".to_owned()));
        grouped.plan(from, scope, at, report)
    }
}
