//! What each operator makes of what it reads: its columns, its slide, and the prepared query or grouping.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::ops::Range;

use super::config::{Step, Stream, Table, Uid};
use super::expression::{self, Built};
use super::{joins, keyed, names, tables};
use crate::service::file::{At, Named, Operator, Text};
use crate::service::report::{Report, nearest};
use crate::sql::{self, Planner, SchemaRef, type_name, union_schema};
use crate::time::Duration;

/// The sources and streams that are resolved.
pub(super) struct Scope {
    pub(super) planner: Planner,
    /// Columns and slide by name; no slide if the batch interval is wrong.
    pub(super) known: BTreeMap<String, (SchemaRef, Option<Duration>)>,
    /// Those of the known that are tables in files.
    pub(super) tables: BTreeMap<String, Table>,
    /// Where each name of a state was given.
    pub(super) uids: BTreeMap<String, Range<usize>>,
}

impl Scope {
    pub(super) fn add(&mut self, name: &str, schema: SchemaRef, slide: Option<Duration>) {
        self.planner.register(name, schema.clone());
        self.known.insert(name.to_owned(), (schema, slide));
    }

    /// Makes a table known.
    pub(super) fn add_table(&mut self, table: &Table) {
        self.add(&table.name, table.schema.clone(), None);
        self.tables.insert(table.name.clone(), table.clone());
    }

    pub(super) fn schema(&self, name: &str) -> Option<SchemaRef> {
        self.known.get(name).map(|(schema, _)| schema.clone())
    }

    pub(super) fn slide(&self, name: &str) -> Option<Duration> {
        self.known.get(name).and_then(|(_, slide)| *slide)
    }

    /// The name of a step's state; reports it if it has been given to another.
    pub(super) fn uid(
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

/// What an operator comes to: the streams and tables that it reads, its step, its columns and its slide.
pub(super) struct Resolved {
    pub(super) inputs: Vec<String>,
    pub(super) step: Step,
    pub(super) schema: SchemaRef,
    pub(super) slide: Duration,
}

/// The resolved stream, or nothing if something about it was reported. All that it reads is in `scope`.
pub(super) fn check(
    name: &str,
    operator: &At<Operator>,
    scope: &mut Scope,
    report: &mut Report,
) -> Option<Stream> {
    let resolved = match &operator.value {
        Operator::Sql(text) => sql(name, text, scope, report),
        Operator::Union(step) => union(step.of.as_ref()?, scope, report),
        Operator::Map(step) => {
            let columns = columns(Built::default().words("select "), &step.select, true, report)?;
            query(columns, step.from.as_ref()?, scope, report)
        }
        Operator::MapValues(step) => {
            let keys = keys(&step.key, report)?;
            query(columns(keys, &step.select, false, report)?, step.from.as_ref()?, scope, report)
        }
        Operator::FlatMap(step) => {
            let built = Built::default().words("select ");
            let (built, first) = match &step.select {
                Some(_) => (columns(built, &step.select, true, report)?, false),
                None => (built, true),
            };
            query(elements(built, &step.each, first, report)?, step.from.as_ref()?, scope, report)
        }
        Operator::FlatMapValues(step) => {
            let keys = keys(&step.key, report)?;
            query(elements(keys, &step.each, false, report)?, step.from.as_ref()?, scope, report)
        }
        Operator::Filter(step) => {
            let from = step.from.as_ref()?;
            let built = Built::default().words("select * from ").name(&from.value).words(" where ");
            query_of(built.expression(&step.r#where.as_ref()?.value), from, scope, report)
        }
        Operator::Repartition(step) => {
            let from = step.from.as_ref()?;
            let partitions = partitions(&step.partitions, report)??;
            same_rows(from, Step::Repartition(partitions), scope)
        }
        Operator::Count(step) => {
            let (from, schema) = (step.from.as_ref()?, counted());
            let slide = scope.slide(&from.value)?;
            Some(Resolved { inputs: vec![from.value.clone()], step: Step::Count, schema, slide })
        }
        Operator::Join(step) => joins::join(step, "inner join", scope, report),
        Operator::LeftOuterJoin(step) => joins::join(step, "left join", scope, report),
        Operator::RightOuterJoin(step) => joins::join(step, "right join", scope, report),
        Operator::FullOuterJoin(step) => joins::join(step, "full join", scope, report),
        Operator::Cogroup(step) => joins::cogroup(step, scope, report),
        _ => keyed::check(name, operator, scope, report),
    };
    let Resolved { inputs, step, schema, slide } = resolved?;
    Some(Stream { name: name.to_owned(), operator: operator.value.name(), inputs, step, schema, slide })
}

/// The one column of a count.
pub(crate) fn counted() -> SchemaRef {
    sql::schema([("count", sql::DataType::Int64)])
}

/// A step that gives the columns of what it reads.
pub(super) fn same_rows(from: &At<String>, step: Step, scope: &Scope) -> Option<Resolved> {
    let (schema, slide) = (scope.schema(&from.value)?, scope.slide(&from.value)?);
    Some(Resolved { inputs: vec![from.value.clone()], step, schema, slide })
}

/// How many partitions are asked for, if any; nothing if it was reported.
pub(super) fn partitions(given: &Option<At<NonZeroU64>>, report: &mut Report) -> Option<Option<usize>> {
    const MOST: u64 = 1 << 16;
    let Some(given) = given else { return Some(None) };
    if given.value.get() > MOST {
        report
            .error(given.at.clone(), format!("{} partitions are too many", given.value))
            .label(format!("expected 1 to {MOST}"));
        return None;
    }
    Some(usize::try_from(given.value.get()).ok())
}

/// `select` and the key.
fn keys<'a>(key: &'a Option<At<Vec<At<Text>>>>, report: &mut Report) -> Option<Built<'a>> {
    let key = key.as_ref()?;
    if key.value.is_empty() {
        report.error(key.at.clone(), "there must be at least one key");
        return None;
    }
    let mut built = Built::default().words("select ");
    for (n, text) in key.value.iter().enumerate() {
        // Its own `as` stands behind the expression, so there are no brackets.
        built = built.words(if n == 0 { "" } else { ", " }).written(&text.value);
    }
    Some(built)
}

/// Named expressions, after what was built; the first ones of a `select` if `first`.
fn columns<'a>(
    mut built: Built<'a>,
    select: &'a Option<At<Named<Text>>>,
    first: bool,
    report: &mut Report,
) -> Option<Built<'a>> {
    names::not_empty("column", select, report);
    let select = select.as_ref().filter(|select| !select.value.0.is_empty())?;
    for (n, column) in select.value.0.iter().enumerate() {
        let comma = if n == 0 && first { "" } else { ", " };
        let text = &column.value.as_ref()?.value;
        built = built.words(comma).expression(text).words(" as ").name(&column.name);
    }
    Some(built)
}

/// The elements of the one array of `each`.
fn elements<'a>(
    built: Built<'a>,
    each: &'a Option<At<Named<Text>>>,
    first: bool,
    report: &mut Report,
) -> Option<Built<'a>> {
    let each = each.as_ref()?;
    let [column] = &each.value.0[..] else {
        report
            .error(each.at.clone(), "`each` has one column, for the elements of one array")
            .help("such as `each: { word: \"string_to_array(value, ' ')\" }`");
        return None;
    };
    let text = &column.value.as_ref()?.value;
    let comma = if first { "" } else { ", " };
    Some(built.words(comma).words("unnest(").expression(text).words(") as ").name(&column.name))
}

/// A query over one stream, whose name is put after what was built.
fn query(built: Built<'_>, from: &At<String>, scope: &Scope, report: &mut Report) -> Option<Resolved> {
    query_of(built.words(" from ").name(&from.value), from, scope, report)
}

fn query_of(built: Built<'_>, from: &At<String>, scope: &Scope, report: &mut Report) -> Option<Resolved> {
    match scope.planner.query(&built.sql) {
        Ok(query) => {
            let (schema, slide) = (query.schema().clone(), scope.slide(&from.value)?);
            Some(Resolved { inputs: vec![from.value.clone()], step: Step::Query(query), schema, slide })
        }
        Err(error) => {
            built.report(&error, report);
            None
        }
    }
}

/// A query as it is written, over streams of one slide and tables.
fn sql(name: &str, text: &Text, scope: &Scope, report: &mut Report) -> Option<Resolved> {
    let query = match scope.planner.query(text.value()) {
        Ok(query) => query,
        Err(error) => {
            expression::report(&error, text, report);
            return None;
        }
    };
    let inputs = query.inputs().to_vec();
    if inputs.iter().all(|input| scope.tables.contains_key(input)) {
        let streams = scope.known.keys().map(String::as_str).filter(|name| !scope.tables.contains_key(*name));
        report
            .error(text.at(), format!("`{name}` reads no stream"))
            .help(format!("there are {}", crate::service::report::list(streams)));
        return None;
    }
    let places = inputs.iter().map(|input| (input.as_str(), tables::place(text, input)));
    let slide = one_slide(places, scope, report)?;
    let schema = query.schema().clone();
    Some(Resolved { inputs, step: Step::Query(query), schema, slide })
}

fn union(of: &At<Vec<At<String>>>, scope: &Scope, report: &mut Report) -> Option<Resolved> {
    let [first, others @ ..] = &of.value[..] else {
        report.error(of.at.clone(), "a union needs streams").help("such as `of: [a, b]`");
        return None;
    };
    let mut schema = scope.schema(&first.value)?;
    let columns = |schema: &SchemaRef| {
        let columns =
            schema.fields().iter().map(|field| format!("{} {}", field.name(), type_name(field.data_type())));
        columns.collect::<Vec<_>>().join(", ")
    };
    let mut fine = true;
    for other in others {
        let of_other = scope.schema(&other.value)?;
        match union_schema(&schema, &of_other) {
            Some(both) => schema = both,
            None => {
                report
                    .error(
                        other.at.clone(),
                        "the streams of a union have the same columns, in the same order",
                    )
                    .label(format!("has {}", columns(&of_other)))
                    .also(first.at.clone(), format!("has {}", columns(&schema)));
                fine = false;
            }
        }
    }
    let slide = one_slide(of.value.iter().map(|from| (from.value.as_str(), from.at.clone())), scope, report)?;
    let inputs = of.value.iter().map(|from| from.value.clone()).collect();
    fine.then_some(Resolved { inputs, step: Step::Union, schema, slide })
}

/// The slide that all these streams have; reports it if they differ. Tables have none.
pub(super) fn one_slide<'a>(
    streams: impl IntoIterator<Item = (&'a str, Range<usize>)>,
    scope: &Scope,
    report: &mut Report,
) -> Option<Duration> {
    let mut first: Option<(&str, Range<usize>, Duration)> = None;
    for (name, at) in streams.into_iter().filter(|(name, _)| !scope.tables.contains_key(*name)) {
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
pub(super) fn window(
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
