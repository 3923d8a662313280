//! Joins by key: SQL put together from the names of two streams.

use std::collections::BTreeSet;

use super::config::Step;
use super::expression::{Built, quoted};
use super::operators::{Resolved, Scope, column, one_slide};
use crate::service::file::{At, Join};
use crate::service::report::Report;
use crate::sql::SchemaRef;

/// Both sides, and the columns of the key.
struct Sides<'a> {
    left: &'a At<String>,
    right: &'a At<String>,
    on: Vec<&'a str>,
    schemas: [SchemaRef; 2],
}

impl<'a> Sides<'a> {
    /// What the step says, or nothing after it was reported.
    fn of(step: &'a Join, scope: &Scope, report: &mut Report) -> Option<Self> {
        let (left, right, on) = (step.left.as_ref()?, step.right.as_ref()?, step.on.as_ref()?);
        let schemas = [scope.schema(&left.value)?, scope.schema(&right.value)?];
        let mut fine = true;
        if on.value.is_empty() {
            report.error(on.at.clone(), "there must be at least one column to join on");
            fine = false;
        }
        if left.value == right.value {
            report
                .error(right.at.clone(), "a stream cannot be joined with itself by name")
                .help("write a `sql` that gives each side a name: `from a as x join a as y on …`");
            return None;
        }
        if scope.tables.contains_key(&left.value) && scope.tables.contains_key(&right.value) {
            report.error(left.at.clone(), "one side of a join must be a stream").label("this is a table");
            fine = false;
        }
        for key in &on.value {
            let name =
                At { value: key.value.value().to_owned(), at: key.at.clone(), key_at: key.key_at.clone() };
            for (side, schema) in [left, right].into_iter().zip(&schemas) {
                fine &= column(&name, &side.value, schema, report);
            }
        }
        let on = on.value.iter().map(|key| key.value.value()).collect();
        fine.then_some(Self { left, right, on, schemas })
    }

    /// The columns of one side that are no key.
    fn others(&self, side: usize) -> impl Iterator<Item = &str> {
        let names = self.schemas[side].fields().iter().map(|field| field.name().as_str());
        names.filter(|name| !self.on.contains(name))
    }

    /// Reports columns that both sides have, beside the key.
    fn distinct(&self, step: &Join, report: &mut Report) -> bool {
        let left: BTreeSet<&str> = self.others(0).collect();
        let Some(both) = self.others(1).find(|name| left.contains(name)) else { return true };
        let at = step.on.as_ref().map_or(self.left.at.clone(), |on| on.at.clone());
        report
            .error(
                at,
                format!("`{}` and `{}` both have a column `{both}`", self.left.value, self.right.value),
            )
            .help(format!(
                "name the columns with `select`, such as `select: {{ {both}: \"{}.{both}\" }}`",
                self.left.value
            ));
        false
    }

    /// `"left" join "right" on …`, each side under its name here.
    fn joined<'b>(&self, built: Built<'b>, how: &str, sides: [&str; 2]) -> Built<'b> {
        let equal = |key: &&str| format!("{0}.{2} = {1}.{2}", sides[0], sides[1], quoted(key));
        let on: Vec<String> = self.on.iter().map(equal).collect();
        built.words(&format!(" {how} ")).words(sides[1]).words(" on ").words(&on.join(" and "))
    }

    /// The resolved step of a finished query.
    fn planned(&self, built: &Built<'_>, scope: &Scope, report: &mut Report) -> Option<Resolved> {
        let names = [self.left, self.right];
        let slide = one_slide(names.map(|name| (name.value.as_str(), name.at.clone())), scope, report)?;
        match scope.planner.query(&built.sql) {
            Ok(query) => {
                let (inputs, schema) = (query.inputs().to_vec(), query.schema().clone());
                Some(Resolved { inputs, step: Step::Query(query), schema, slide })
            }
            Err(error) => {
                built.report_or(&error, self.left.at.clone(), report);
                None
            }
        }
    }
}

/// `how` is SQL's word for the join. The key once, then the other columns of both sides, unless `select` says otherwise.
pub(super) fn join(step: &Join, how: &str, scope: &Scope, report: &mut Report) -> Option<Resolved> {
    let sides = Sides::of(step, scope, report)?;
    let names = [quoted(&sides.left.value), quoted(&sides.right.value)];
    let mut built = Built::default().words("select ");
    match &step.select {
        Some(select) => {
            for (n, column) in select.value.0.iter().enumerate() {
                let text = &column.value.as_ref()?.value;
                built = built
                    .words(if n == 0 { "" } else { ", " })
                    .expression(text)
                    .words(" as ")
                    .name(&column.name);
            }
        }
        None => {
            if !sides.distinct(step, report) {
                return None;
            }
            let key = |key: &&str| {
                let key = quoted(key);
                match how {
                    "full join" => format!("coalesce({0}.{key}, {1}.{key}) as {key}", names[0], names[1]),
                    "right join" => format!("{}.{key}", names[1]),
                    _ => format!("{}.{key}", names[0]),
                }
            };
            let mut columns: Vec<String> = sides.on.iter().map(key).collect();
            for (side, name) in names.iter().enumerate() {
                columns.extend(sides.others(side).map(|column| format!("{name}.{}", quoted(column))));
            }
            built = built.words(&columns.join(", "));
        }
    }
    let built = sides.joined(built.words(" from ").words(&names[0]), how, [&names[0], &names[1]]);
    sides.planned(&built, scope, report)
}

/// One row per key, with an array for each other column of each side; NULL where a side does not have the key.
pub(super) fn cogroup(step: &Join, scope: &Scope, report: &mut Report) -> Option<Resolved> {
    let sides = Sides::of(step, scope, report)?;
    if let Some(select) = &step.select {
        report
            .error(select.key_at.clone(), "`cogroup` gives all columns, as arrays")
            .help("take `select` away");
        return None;
    }
    if !sides.distinct(step, report) {
        return None;
    }
    let names = ["\"#left\"", "\"#right\""];
    let keys: Vec<String> = sides.on.iter().map(|key| quoted(key)).collect();
    let mut columns: Vec<String> = keys
        .iter()
        .map(|key| format!("coalesce({0}.{key}, {1}.{key}) as {key}", names[0], names[1]))
        .collect();
    let mut grouped = Vec::new();
    for (side, stream) in [sides.left, sides.right].into_iter().enumerate() {
        let arrays: Vec<String> =
            sides.others(side).map(|c| format!(", array_agg({0}) as {0}", quoted(c))).collect();
        columns.extend(sides.others(side).map(|column| format!("{}.{}", names[side], quoted(column))));
        let keys = keys.join(", ");
        grouped.push(format!(
            "(select {keys}{} from {} group by {keys}) as {}",
            arrays.concat(),
            quoted(&stream.value),
            names[side]
        ));
    }
    let on: Vec<String> =
        keys.iter().map(|key| format!("{0}.{key} = {1}.{key}", names[0], names[1])).collect();
    let sql = format!(
        "select {} from {} full join {} on {}",
        columns.join(", "),
        grouped[0],
        grouped[1],
        on.join(" and ")
    );
    sides.planned(&Built::default().words(&sql), scope, report)
}
