//! What each operator makes of what it reads: its columns, its slide, and the prepared query or grouping.

use std::collections::BTreeMap;
use std::ops::Range;

use super::config::{Step, Stream, Uid};
use super::expression::{self, Built};
use super::{names, tables};
use crate::service::file::{At, Named, Operator, Text};
use crate::service::report::{Report, nearest};
use crate::sql::{Grouping, Planner, SchemaRef, type_name};
use crate::time::Duration;

/// The sources and streams that are resolved.
pub(super) struct Scope {
    pub(super) planner: Planner,
    /// Columns and slide by name; no slide if the batch interval is wrong.
    pub(super) known: BTreeMap<String, (SchemaRef, Option<Duration>)>,
    /// Where each name of a state was given.
    pub(super) uids: BTreeMap<String, Range<usize>>,
}

impl Scope {
    pub(super) fn add(&mut self, name: &str, schema: SchemaRef, slide: Option<Duration>) {
        self.planner.register(name, schema.clone());
        self.known.insert(name.to_owned(), (schema, slide));
    }

    fn schema(&self, name: &str) -> Option<SchemaRef> {
        self.known.get(name).map(|(schema, _)| schema.clone())
    }

    fn slide(&self, name: &str) -> Option<Duration> {
        self.known.get(name).and_then(|(_, slide)| *slide)
    }

    /// The name of a step's state; reports it if it has been given to another.
    fn uid(
        &mut self,
        (given, was): (&Option<At<String>>, &Option<At<String>>),
        name: &str,
        at: &Range<usize>,
        report: &mut Report,
    ) -> Option<Uid> {
        let (uid, at) = match given {
            Some(uid) => (uid.value.as_str(), uid.at.clone()),
            None => (name, at.clone()),
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if uid.is_empty() || !uid.chars().all(allowed) {
            report
                .error(at, format!("`{uid}` cannot be the name of a state"))
                .label("expected letters, digits, `_`, `-` and `.`");
            return None;
        }
        if let Some(first) = self.uids.get(uid) {
            report
                .error(at, format!("the uid `{uid}` is given to two states"))
                .also(first.clone(), "the other")
                .help("a uid names the state in the checkpoint; it is the stream's name unless given");
            return None;
        }
        self.uids.insert(uid.to_owned(), at);
        Some(Uid { name: uid.to_owned(), was: was.as_ref().map(|was| was.value.clone()) })
    }
}

/// The resolved stream, or nothing if something about it was reported. All that it reads is in `scope`.
pub(super) fn check(
    name: &str,
    operator: &At<Operator>,
    scope: &mut Scope,
    report: &mut Report,
) -> Option<Stream> {
    let at = &operator.key_at;
    let step = match &operator.value {
        Operator::Sql(text) => return sql(name, text, scope, report),
        Operator::Union(union) => return self::union(name, union.of.as_ref()?, scope, report),
        Operator::Map(map) => {
            names::not_empty("column", &map.select, report);
            let select = map.select.as_ref().filter(|select| !select.value.0.is_empty())?;
            let mut built = Built::default().words("select ");
            for (n, column) in select.value.0.iter().enumerate() {
                let comma = if n == 0 { "" } else { ", " };
                let text = &column.value.as_ref()?.value;
                built = built.words(comma).expression(text).words(" as ").name(&column.name);
            }
            query(built, map.from.as_ref()?, scope, report)
        }
        Operator::Filter(filter) => {
            let from = filter.from.as_ref()?;
            let built = Built::default().words("select * from ").name(&from.value).words(" where ");
            query_of(built.expression(&filter.condition.as_ref()?.value), from, scope, report)
        }
        Operator::Count(count) => {
            query(Built::default().words("select count(*) as count"), count.from.as_ref()?, scope, report)
        }
        Operator::ReduceByKey(step) => {
            let (grouping, slide) =
                grouped(&step.from, &step.key, &step.values, "values", at, scope, report)?;
            let (from, schema) = (step.from.as_ref()?, grouping.output_schema().clone());
            Some((from, Step::ReduceByKey(grouping), schema, slide?))
        }
        Operator::ReduceByKeyAndWindow(step) => {
            let grouping = grouped(&step.from, &step.key, &step.values, "values", at, scope, report);
            let from = step.from.as_ref()?;
            let window = window(from, &step.window, &step.slide, scope, report);
            let uid = scope.uid((&step.uid, &step.was), name, at, report);
            let ((grouping, _), (window, slide), uid) = (grouping?, window?, uid?);
            let schema = grouping.output_schema().clone();
            Some((from, Step::ReduceByKeyAndWindow { uid, grouping, window }, schema, slide))
        }
        Operator::MapWithState(step) => {
            let grouping = grouped(&step.from, &step.key, &step.state, "state", at, scope, report);
            let uid = scope.uid((&step.uid, &step.was), name, at, report);
            let ((grouping, slide), uid) = (grouping?, uid?);
            let schema = grouping.output_schema().clone();
            // `emit` has one value yet, and it is the default.
            let timeout = At::get(&step.timeout);
            Some((step.from.as_ref()?, Step::MapWithState { uid, grouping, timeout }, schema, slide?))
        }
        Operator::UpdateStateByKey(step) => {
            let grouping = grouped(&step.from, &step.key, &step.state, "state", at, scope, report);
            let uid = scope.uid((&step.uid, &step.was), name, at, report);
            let ((grouping, slide), uid) = (grouping?, uid?);
            let schema = grouping.output_schema().clone();
            Some((step.from.as_ref()?, Step::UpdateStateByKey { uid, grouping }, schema, slide?))
        }
        Operator::Window(step) => {
            let from = step.from.as_ref()?;
            let window = window(from, &step.window, &step.slide, scope, report);
            let uid = scope.uid((&step.uid, &step.was), name, at, report);
            let ((window, slide), uid) = (window?, uid?);
            Some((from, Step::Window { uid, window }, scope.schema(&from.value)?, slide))
        }
    };
    let (from, step, schema, slide) = step?;
    let (name, operator) = (name.to_owned(), operator.value.name());
    Some(Stream { name, operator, inputs: vec![from.value.clone()], step, schema, slide })
}

type Resolved<'a> = (&'a At<String>, Step, SchemaRef, Duration);

/// A query over one stream, whose name is put after what was built.
fn query<'a>(
    built: Built<'_>,
    from: &'a At<String>,
    scope: &Scope,
    report: &mut Report,
) -> Option<Resolved<'a>> {
    query_of(built.words(" from ").name(&from.value), from, scope, report)
}

fn query_of<'a>(
    built: Built<'_>,
    from: &'a At<String>,
    scope: &Scope,
    report: &mut Report,
) -> Option<Resolved<'a>> {
    match scope.planner.query(&built.sql) {
        Ok(query) => {
            let schema = query.schema().clone();
            Some((from, Step::Query(query), schema, scope.slide(&from.value)?))
        }
        Err(error) => {
            built.report(&error, report);
            None
        }
    }
}

/// A query as it is written, over one stream or several of one slide.
fn sql(name: &str, text: &Text, scope: &Scope, report: &mut Report) -> Option<Stream> {
    let query = match scope.planner.query(text.value()) {
        Ok(query) => query,
        Err(error) => {
            expression::report(&error, text, report);
            return None;
        }
    };
    let inputs = query.inputs().to_vec();
    if inputs.is_empty() {
        report.error(text.at(), format!("`{name}` reads no stream")).help(format!(
            "there are {}",
            crate::service::report::list(scope.known.keys().map(String::as_str))
        ));
        return None;
    }
    let places = inputs.iter().map(|input| (input.as_str(), tables::place(text, input)));
    let slide = one_slide(places, scope, report)?;
    let schema = query.schema().clone();
    Some(Stream { name: name.to_owned(), operator: "sql", inputs, step: Step::Query(query), schema, slide })
}

fn union(name: &str, of: &At<Vec<At<String>>>, scope: &Scope, report: &mut Report) -> Option<Stream> {
    let [first, others @ ..] = &of.value[..] else {
        report.error(of.at.clone(), "a union needs streams").help("such as `of: [a, b]`");
        return None;
    };
    let schema = scope.schema(&first.value)?;
    let columns = |schema: &SchemaRef| {
        let columns =
            schema.fields().iter().map(|field| format!("{} {}", field.name(), type_name(field.data_type())));
        columns.collect::<Vec<_>>().join(", ")
    };
    let mut fine = true;
    for other in others {
        let has = columns(&scope.schema(&other.value)?);
        if has != columns(&schema) {
            report
                .error(other.at.clone(), "the streams of a union have the same columns, in the same order")
                .label(format!("has {has}"))
                .also(first.at.clone(), format!("has {}", columns(&schema)));
            fine = false;
        }
    }
    let slide = one_slide(of.value.iter().map(|from| (from.value.as_str(), from.at.clone())), scope, report)?;
    let inputs = of.value.iter().map(|from| from.value.clone()).collect();
    fine.then(|| Stream {
        name: name.to_owned(),
        operator: "union",
        inputs,
        step: Step::Union,
        schema,
        slide,
    })
}

/// The slide that all these streams have; reports it if they differ.
fn one_slide<'a>(
    streams: impl IntoIterator<Item = (&'a str, Range<usize>)>,
    scope: &Scope,
    report: &mut Report,
) -> Option<Duration> {
    let mut first: Option<(&str, Range<usize>, Duration)> = None;
    for (name, at) in streams {
        let slide = scope.slide(name)?;
        match &first {
            None => first = Some((name, at, slide)),
            Some((other, other_at, other_slide)) if *other_slide != slide => {
                report
                    .error(at, "streams of different slides cannot be read together")
                    .label(format!("`{name}` has a result every {slide}"))
                    .also(other_at.clone(), format!("`{other}` has one every {other_slide}"))
                    .help("give the faster one a `window` with the slower one's slide");
                return None;
            }
            Some(_) => {}
        }
    }
    first.map(|(_, _, slide)| slide)
}

/// Window and slide, both multiples of the slide of the stream that is looked back on.
fn window(
    from: &At<String>,
    window: &Option<At<Duration>>,
    slide: &Option<At<Duration>>,
    scope: &Scope,
    report: &mut Report,
) -> Option<(Duration, Duration)> {
    let parent = scope.slide(&from.value)?;
    let mut fine = true;
    for (what, given) in [("window", window), ("slide", slide)] {
        if let Some(given) = given
            && !given.value.is_multiple_of(parent)
        {
            let message = format!(
                "the {what} of {} is no multiple of {parent}, the slide of `{}`",
                given.value, from.value
            );
            let below = Duration::millis(given.value.as_millis() / parent.as_millis() * parent.as_millis());
            let above = below + parent;
            let near =
                if below == Duration::ZERO { format!("{above}") } else { format!("{below} or {above}") };
            report.error(given.at.clone(), message).label(format!("expected {near}"));
            fine = false;
        }
    }
    let window = At::get(window)?;
    fine.then(|| (window, At::get(slide).unwrap_or(parent)))
}

/// The prepared grouping of an operator by key, and the slide of what it reads.
fn grouped(
    from: &Option<At<String>>,
    key: &Option<At<Vec<At<Text>>>>,
    values: &Option<At<Named<Text>>>,
    values_are: &str,
    at: &Range<usize>,
    scope: &Scope,
    report: &mut Report,
) -> Option<(Grouping, Option<Duration>)> {
    if let Some(key) = key
        && key.value.is_empty()
    {
        let finding = report.error(key.at.clone(), "there must be at least one key");
        finding.help("one value over all rows is a `sql` with an aggregate");
    }
    names::not_empty(&format!("column in `{values_are}`"), values, report);
    let (from, key, values) =
        (from.as_ref()?, key.as_ref().filter(|key| !key.value.is_empty())?, values.as_ref()?);
    let texts = || key.value.iter().chain(values.value.0.iter().filter_map(|column| column.value.as_ref()));
    let keys: Vec<String> = key.value.iter().map(|key| key.value.value().to_owned()).collect();
    let columns: Option<Vec<(String, String)>> = (values.value.0.iter())
        .map(|column| Some((column.name.clone(), column.value.as_ref()?.value.value().to_owned())))
        .collect();
    let columns = columns.filter(|columns| !columns.is_empty())?;
    match scope.planner.grouping(&from.value, &keys, &columns) {
        Ok(grouping) => Some((grouping, scope.slide(&from.value))),
        Err(error) => {
            expression::report_in(&error, texts(), at.clone(), report);
            None
        }
    }
}

/// Reports a column that a stream does not have.
pub(super) fn column(name: &At<String>, of: &str, schema: &SchemaRef, report: &mut Report) -> bool {
    let names = || schema.fields().iter().map(|field| field.name().as_str());
    let found = names().any(|column| column == name.value);
    if !found {
        let finding = report.error(name.at.clone(), format!("`{of}` has no column `{}`", name.value));
        if let Some(near) = nearest(&name.value, names()) {
            finding.help(format!("did you mean `{near}`?"));
        }
        finding.help(format!("columns: {}", crate::service::report::list(names())));
    }
    found
}
