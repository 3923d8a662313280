//! Expressions of keys and aggregates in, a prepared [`Grouping`] out.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::DFParserBuilder;
use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Expr, ExprWithAlias, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
};

use super::generic::PARTIALS;
use super::{Aggregate, Generic, Grouping, generic};
use crate::sql::columns::check_type;
use crate::sql::error::nearest;
use crate::sql::functions::BATCH_TIME;
use crate::sql::planner::visit;
use crate::sql::{DataType, Planner, Schema, SchemaRef, SqlError, schema, type_name};

/// What may stand as an aggregate.
const KNOWN: &str =
    "an aggregate is one call, such as count(*), sum(price * n), approx_distinct(user) or top_n(price, 3)";

/// Prepares the grouping of stream `from`. See [`Planner::grouping`].
pub(in crate::sql) fn plan(
    planner: &Planner,
    from: &str,
    key: &[String],
    values: &[(String, String)],
) -> Result<Grouping, SqlError> {
    let names = planner.names();
    if !names.iter().any(|name| name == from) {
        let error = SqlError::new(from, format!("there is no stream `{from}`"));
        return Err(error.with_hint(nearest(from, &names, "streams")));
    }
    let expressions = Expressions { planner, from: quoted(from) };
    let keys = key.iter().map(|text| expressions.key(text)).collect::<Result<Vec<_>, _>>()?;
    let mut values =
        values.iter().map(|(name, text)| expressions.value(name, text)).collect::<Result<Vec<_>, _>>()?;
    check_names(&keys, &values)?;

    let mut columns: Vec<String> =
        keys.iter().map(|key| format!("{} as {}", key.sql, quoted(&key.name))).collect();
    // No output column's name can clash with these, as nothing reads them by name.
    columns.push("count(*) as \"#rows\"".to_owned());
    for (index, value) in values.iter().enumerate() {
        let partial = value.aggregate.partial_columns(&value.argument, &value.filter);
        columns.extend(partial.iter().enumerate().map(|(part, sql)| format!("{sql} as \"#{index}.{part}\"")));
    }
    let mut sql = format!("select {} from {}", columns.join(", "), expressions.from);
    if !keys.is_empty() {
        let ordinals: Vec<_> = (1..=keys.len()).map(|ordinal| ordinal.to_string()).collect();
        sql.push_str(&format!(" group by {}", ordinals.join(", ")));
    }
    // Each expression was planned by itself, so what fails now fails as a whole; it is told with what was written.
    let written: Vec<_> =
        key.iter().map(String::as_str).chain(values.iter().map(|value| value.text)).collect();
    let as_written = |error| SqlError { sql: written.join(", "), offset: None, ..error };
    let whole = planner.query(&sql).map_err(as_written)?;
    let parts = generic::in_parts(whole.plan(), keys.len())
        .map_err(|message| as_written(SqlError::new(sql.as_str(), message)))?;
    // What a state looks like depends on the calls beside it: it is told by the plan of all.
    let mut calls = parts.calls.iter().skip(1);
    for value in &mut values {
        let widths = value.aggregate.partial_columns("", "").len();
        if let (Aggregate::Generic(generic), Some(call)) = (&mut value.aggregate, calls.nth(widths - 1)) {
            *generic = Generic::new(call).map_err(|message| SqlError::new(value.text, message))?;
        }
    }
    let inputs = whole.inputs_with_schemas().map(|(name, schema)| (name.clone(), schema.clone()));
    let partial = whole.with_plan(parts.partial, inputs.collect());
    let merge = whole.with_plan(parts.merge, vec![(PARTIALS.to_owned(), partial.schema().clone())]);
    let mut state = vec![("rows".to_owned(), DataType::Int64)];
    for value in &values {
        state.extend(value.aggregate.state_columns(&value.name, &value.of));
    }

    let key_schema = schema(keys.iter().map(|key| (key.name.as_str(), key.of.clone())));
    let value_schema =
        schema(values.iter().map(|value| (value.name.as_str(), value.aggregate.output_type(&value.of))));
    Ok(Grouping {
        partial_sql: sql.into(),
        partial,
        partial_columns: parts.columns.into(),
        merge,
        aggregates: values.iter().map(|value| value.aggregate.clone()).collect(),
        output_schema: joined(&key_schema, &value_schema),
        key_schema,
        value_schema,
        state_schema: schema(state.iter().map(|(name, of)| (name.as_str(), of.clone()))),
    })
}

struct Key {
    name: String,
    sql: String,
    of: DataType,
}

struct ValueColumn<'a> {
    name: String,
    text: &'a str,
    aggregate: Aggregate,
    argument: String,
    filter: String,
    of: DataType,
}

struct Expressions<'a> {
    planner: &'a Planner,
    from: String,
}

impl Expressions<'_> {
    /// One expression, with or without `as`.
    fn parse(&self, text: &str) -> Result<ExprWithAlias, SqlError> {
        let parsed = DFParserBuilder::new(text).build().and_then(|mut parser| parser.parse_into_expr());
        parsed.map_err(|error| SqlError::from_datafusion(text, &error, &self.planner.readable()))
    }

    fn key(&self, text: &str) -> Result<Key, SqlError> {
        let ExprWithAlias { expr, alias } = self.parse(text)?;
        let name = match (alias, &expr) {
            (Some(alias), _) => name_of(&alias),
            (None, Expr::Identifier(column)) => name_of(column),
            (None, Expr::CompoundIdentifier(parts)) => parts.last().map(name_of).unwrap_or_default(),
            _ => {
                return Err(SqlError::new(text, "this key needs a name")
                    .with_hint(format!("write `{} as …`, with the name of the output column", text.trim())));
            }
        };
        let of = self.row_type(text)?;
        check_type(&of).map_err(|error| SqlError::new(text, error.to_string()))?;
        Ok(Key { name, sql: expr.to_string(), of })
    }

    fn value<'a>(&self, name: &str, text: &'a str) -> Result<ValueColumn<'a>, SqlError> {
        let ExprWithAlias { expr, alias } = self.parse(text)?;
        let wrong = |message: &str| SqlError::new(text, message).with_hint(KNOWN);
        if alias.is_some() {
            return Err(wrong("an aggregate is named by its output column, not by `as`"));
        }
        let Expr::Function(call) = &expr else { return Err(wrong("this is not one call of an aggregate")) };
        if call.over.is_some() {
            return Err(wrong("an aggregate over a window of rows cannot be kept by key"));
        }
        let function = call.name.to_string().to_ascii_lowercase();
        if function != "count" && parts_of(call).is_some_and(|(argument, _)| argument == "*") {
            return Err(wrong("only count takes `*`"));
        }
        // First as it was written, for the places of errors; then its parts, which may look at one row only.
        let logical = self.logical(text)?;
        type_of(text, &logical)?;
        let Some((argument, filter)) = parts_of(call).filter(|_| OWN.contains(&function.as_str())) else {
            return self.generic(name, text, &expr.to_string(), &logical);
        };
        let placed = |error: SqlError| SqlError { sql: text.to_owned(), offset: None, ..error };
        let of = if argument == "*" { DataType::Int64 } else { self.row_type(&argument).map_err(placed)? };
        if let Some(filter) = &filter {
            self.row_type(filter).map_err(placed)?;
        }
        let aggregate = aggregate_of(&function, &of).map_err(|message| SqlError::new(text, message))?;
        let filter = filter.map(|filter| format!(" filter (where {filter})")).unwrap_or_default();
        Ok(ValueColumn { name: name.to_owned(), text, aggregate, argument, filter, of })
    }

    /// An aggregate that is left to DataFusion, whose arguments look at one row at a time.
    fn generic<'a>(
        &self,
        name: &str,
        text: &'a str,
        call: &str,
        logical: &LogicalPlan,
    ) -> Result<ValueColumn<'a>, SqlError> {
        let wrong = |message: &str| SqlError::new(text, message).with_hint(KNOWN);
        let (mut scans, mut aggregates, mut other) = (0, 0, false);
        visit(logical, &mut |node| match node {
            LogicalPlan::TableScan(_) => scans += 1,
            LogicalPlan::Aggregate(_) => aggregates += 1,
            node => other |= !matches!(node, LogicalPlan::Projection(_)),
        });
        if aggregates == 0 && !other {
            let function = call.split('(').next().unwrap_or_default().to_lowercase();
            return Err(wrong(&format!("`{function}` is no aggregate")));
        }
        if other || scans != 1 || aggregates != 1 {
            return Err(SqlError::new(text, "this looks at more than one row for each value").with_hint(
                "no other aggregate, window, unnest or subquery can stand here: make it a stream of its own first",
            ));
        }
        let plan = self
            .planner
            .physical(&format!("select {call} from {}", self.from))
            .map_err(|error| SqlError { sql: text.to_owned(), offset: None, ..error })?;
        let generic = Generic::of(&plan).map_err(|message| wrong(&message))?;
        let of = generic.output_type();
        let (argument, filter) = (call.to_owned(), String::new());
        Ok(ValueColumn {
            name: name.to_owned(),
            text,
            aggregate: Aggregate::Generic(generic),
            argument,
            filter,
            of,
        })
    }

    /// The type of an expression that looks at one row of the stream at a time, so that chunks can be grouped by themselves.
    fn row_type(&self, text: &str) -> Result<DataType, SqlError> {
        let plan = self.logical(text)?;
        let mut other = false;
        visit(&plan, &mut |node| {
            other |= !matches!(node, LogicalPlan::Projection(_) | LogicalPlan::TableScan(_))
        });
        let mut scans = 0;
        visit(&plan, &mut |node| scans += usize::from(matches!(node, LogicalPlan::TableScan(_))));
        if other || scans != 1 {
            return Err(SqlError::new(text, "this looks at more than one row").with_hint(
                "no aggregate, window, unnest or subquery can stand here: make it a stream of its own first",
            ));
        }
        type_of(text, &plan)
    }

    /// The plan of one expression over the stream; errors are placed in `text` itself.
    fn logical(&self, text: &str) -> Result<LogicalPlan, SqlError> {
        // Chunks are grouped without knowing the batch.
        if text.to_ascii_lowercase().contains(BATCH_TIME) {
            return Err(SqlError::new(text, "`batch_time()` cannot stand in keys and aggregates")
                .with_hint("give it a column of its own in a `map` before, or in a `sql` after")
                .at_word(&[BATCH_TIME]));
        }
        const SELECT: &str = "select ";
        // The line break ends a comment in the text.
        self.planner.logical(&format!("{SELECT}{text}\nfrom {}", self.from)).map_err(|error| {
            let offset = error.offset.map(|(line, column)| match line {
                1 => (1, column.saturating_sub(SELECT.len() as u64).max(1)),
                _ => (line, column),
            });
            // What lies behind the text was not written by anyone.
            let lines = text.lines().count().max(1) as u64;
            SqlError { offset: offset.filter(|(line, _)| *line <= lines), sql: text.to_owned(), ..error }
        })
    }
}

/// The type of the one column of `plan`.
fn type_of(text: &str, plan: &LogicalPlan) -> Result<DataType, SqlError> {
    match plan.schema().fields().iter().collect::<Vec<_>>().as_slice() {
        [field] => Ok(field.data_type().clone()),
        _ => Err(SqlError::new(text, "this is more than one column").with_hint("write each by itself")),
    }
}

/// The aggregates whose state is kept in a form of Tidemill's own, which rows can be taken out of again and sums do not overflow in.
const OWN: [&str; 6] = ["count", "sum", "avg", "mean", "min", "max"];

/// The argument and the condition of the filter clause of a plain call; nothing for one with other clauses.
fn parts_of(call: &Function) -> Option<(String, Option<String>)> {
    let FunctionArguments::List(list) = &call.args else { return None };
    let plain = call.within_group.is_empty()
        && call.null_treatment.is_none()
        && list.clauses.is_empty()
        && list.duplicate_treatment != Some(DuplicateTreatment::Distinct);
    let argument = match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] => "*".to_owned(),
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] => argument.to_string(),
        [] => "*".to_owned(),
        _ => return None,
    };
    plain.then(|| (argument, call.filter.as_ref().map(ToString::to_string)))
}

/// The aggregate that `function`, one of [`OWN`], is over an argument of this type; else what is wrong with the type.
fn aggregate_of(function: &str, of: &DataType) -> Result<Aggregate, String> {
    let number = |int, float| match of {
        DataType::UInt64 => Ok(int),
        of if of.is_integer() || *of == DataType::Null => Ok(int),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Ok(float),
        other => Err(format!("{function} of {}: cast the argument to bigint or double", type_name(other))),
    };
    let kept = |aggregate| check_type(of).map(|()| aggregate).map_err(|error| error.to_string());
    match function {
        "sum" => number(Aggregate::SumInt, Aggregate::SumFloat),
        "avg" | "mean" => number(Aggregate::AvgInt, Aggregate::AvgFloat),
        "min" => kept(Aggregate::Min),
        "max" => kept(Aggregate::Max),
        _ => Ok(Aggregate::Count),
    }
}

fn check_names(keys: &[Key], values: &[ValueColumn<'_>]) -> Result<(), SqlError> {
    let mut seen = BTreeSet::new();
    let named = keys.iter().map(|key| (&key.name, key.sql.as_str()));
    for (name, text) in named.chain(values.iter().map(|value| (&value.name, value.text))) {
        if !seen.insert(name) {
            return Err(SqlError::new(text, format!("two columns are called `{name}`"))
                .with_hint("keys and values are the columns of one stream: give one of them another name"));
        }
    }
    Ok(())
}

/// A name as SQL reads it: in lower case unless it is quoted.
fn name_of(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// A name that SQL reads as it is.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn joined(left: &SchemaRef, right: &SchemaRef) -> SchemaRef {
    let fields: Vec<_> = left.fields().iter().chain(right.fields()).cloned().collect();
    Arc::new(Schema::new(fields))
}
