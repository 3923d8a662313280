//! Partial states, merged, taken out and finished, against what one `group by` over all rows gives.

use super::*;
use crate::sql::{DataType, Planner, SqlError, batch_of_rows, encode, schema};

fn planner() -> Planner {
    let mut planner = Planner::new();
    planner.register("sales", sales_schema());
    planner
}

fn sales_schema() -> SchemaRef {
    schema([
        ("tag", DataType::Utf8View),
        ("shop", DataType::Int32),
        ("n", DataType::Int64),
        ("price", DataType::Float64),
        ("Day", DataType::Date32),
    ])
}

/// Rows of tag, n and price.
fn sales(rows: &[(Option<&str>, Option<i64>, Option<f64>)]) -> RecordBatch {
    let rows: Vec<_> = rows
        .iter()
        .map(|(tag, n, price)| {
            Row::from(vec![
                tag.map_or(Value::Null, Value::from),
                Value::Int(1),
                n.map_or(Value::Null, Value::from),
                price.map_or(Value::Null, Value::float),
                n.filter(|n| (-1000..1000).contains(n)).map_or(Value::Null, Value::from),
            ])
        })
        .collect();
    batch_of_rows(&sales_schema(), &rows).unwrap()
}

fn grouping(key: &[&str], values: &[(&str, &str)]) -> Result<Grouping, SqlError> {
    let key: Vec<_> = key.iter().map(|key| (*key).to_owned()).collect();
    let values: Vec<_> = values.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned())).collect();
    planner().grouping("sales", &key, &values)
}

fn json(batch: &RecordBatch) -> Vec<String> {
    encode::rows_as_json(batch).unwrap().into_iter().map(|row| String::from_utf8(row).unwrap()).collect()
}

fn finish(grouping: &Grouping, groups: &[(Row, Row)]) -> Vec<String> {
    json(&grouping.finish(groups.iter().map(|(key, state)| (key, state))).unwrap())
}

const ALL: &[(&str, &str)] = &[
    ("c", "count(*)"),
    ("cn", "COUNT(n)"),
    ("s", "sum(n)"),
    ("sp", "sum(price * n)"),
    ("lo", "min(n)"),
    ("hi", "max(price)"),
    ("a", "avg(n)"),
    ("ap", "avg(price)"),
];

#[test]
fn each_aggregate_over_one_chunk() {
    let grouping = grouping(&["tag"], ALL).unwrap();
    let rows = sales(&[
        (Some("b"), Some(2), Some(0.5)),
        (Some("a"), None, Some(1.0)),
        (None, Some(7), None),
        (Some("b"), Some(3), None),
        (None, Some(8), None),
    ]);
    let groups = grouping.partial(&[rows]).unwrap();
    assert_eq!(
        finish(&grouping, &groups),
        [
            r#"{"tag":"b","c":2,"cn":2,"s":5,"sp":1.0,"lo":2,"hi":0.5,"a":2.5,"ap":0.5}"#,
            r#"{"tag":"a","c":1,"cn":0,"s":null,"sp":null,"lo":null,"hi":1.0,"a":null,"ap":1.0}"#,
            r#"{"tag":null,"c":2,"cn":2,"s":15,"sp":null,"lo":7,"hi":null,"a":7.5,"ap":null}"#,
        ]
    );
    assert_eq!(groups[0].0, Row::from(vec!["b".into()]));
    assert_eq!(groups[0].1.0.len(), grouping.state_schema().fields().len());
    assert_eq!(grouping.state_schema().field(0).name(), "rows");
}

#[test]
fn nothing_in_nothing_out() {
    for key in [&["tag"][..], &[]] {
        let grouping = grouping(key, ALL).unwrap();
        assert_eq!(grouping.partial(&[]).unwrap(), vec![]);
        assert_eq!(grouping.partial(&[sales(&[])]).unwrap(), vec![]);
        let empty = grouping.finish([]).unwrap();
        assert_eq!((empty.num_rows(), empty.schema_ref()), (0, grouping.output_schema()));
    }
}

#[test]
fn merged_chunks_are_the_whole() {
    let grouping = grouping(&["tag"], ALL).unwrap();
    let tags = [Some("x"), None, Some("y")];
    let rows: Vec<_> = (0..30_i64)
        .map(|i| {
            (tags[i as usize % 3], (i % 4 != 0).then_some(i * 3 - 40), (i % 5 != 0).then_some(i as f64 / 4.0))
        })
        .collect();
    let whole = grouping.partial(&[sales(&rows)]).unwrap();
    let mut merged = grouping.partial(&[sales(&rows[..9]), sales(&rows[9..12])]).unwrap();
    for (key, state) in grouping.partial(&[sales(&rows[12..])]).unwrap() {
        let (_, mine) = merged.iter_mut().find(|(mine, _)| *mine == key).unwrap();
        grouping.merge(mine, &state);
    }
    assert_eq!(merged, whole);
}

#[test]
fn what_was_merged_can_be_taken_out() {
    let grouping = grouping(&["tag"], &ALL[..4]).unwrap();
    assert!(grouping.invertible());
    let one = |rows: &[_]| grouping.partial(&[sales(rows)]).unwrap().remove(0).1;
    let (a, b) =
        (one(&[(None, Some(5), Some(0.1))]), one(&[(None, Some(-9), Some(0.2)), (None, None, None)]));
    let mut state = a.clone();
    grouping.merge(&mut state, &b);
    assert!(!grouping.is_zero(&state));
    grouping.invert(&mut state, &a);
    assert_eq!(
        finish(&grouping, &[(Row::from(vec![Value::Null]), state.clone())]),
        [r#"{"tag":null,"c":2,"cn":1,"s":-9,"sp":-1.8}"#]
    );
    grouping.invert(&mut state, &b);
    assert!(grouping.is_zero(&state));
    // Not even a rounding error is left.
    assert_eq!(
        state,
        Row::from(vec![0.into(), 0.into(), 0.into(), 0.into(), 0.into(), Value::float(0.0), 0.into()])
    );
}

#[test]
fn a_group_whose_values_are_all_null_is_not_zero() {
    let grouping = grouping(&["tag"], &[("s", "sum(n)")]).unwrap();
    let groups = grouping.partial(&[sales(&[(Some("a"), None, None)])]).unwrap();
    assert!(!grouping.is_zero(&groups[0].1));
    assert_eq!(finish(&grouping, &groups), [r#"{"tag":"a","s":null}"#]);
}

#[test]
fn a_sum_beyond_a_bigint_is_an_error_only_at_the_end() {
    let grouping = grouping(&["tag"], &[("s", "sum(n)"), ("a", "avg(n)")]).unwrap();
    for edge in [i64::MAX, i64::MIN] {
        let one = grouping.partial(&[sales(&[(None, Some(edge), None)])]).unwrap().remove(0).1;
        let mut sum = grouping.partial(&[sales(&[(None, Some(edge), None); 3])]).unwrap().remove(0).1;
        let key = Row::from(vec![Value::Null]);
        let error = grouping.finish([(&key, &sum)]).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Data);
        assert_eq!(
            error.to_string(),
            format!("column `s`: the sum {} does not fit a bigint", i128::from(edge) * 3)
        );
        // A stored state comes back as it was, and can be taken apart again.
        let stored: Row = rmp_serde::from_slice(&rmp_serde::to_vec(&sum).unwrap()).unwrap();
        assert_eq!(stored, sum);
        grouping.merge(&mut sum, &one);
        for _ in 0..3 {
            grouping.invert(&mut sum, &one);
        }
        assert_eq!(sum, one);
        assert!(finish(&grouping, &[(key, sum)])[0].contains(&format!(r#""s":{edge}"#)));
    }
}

#[test]
fn min_and_max_cannot_be_taken_out() {
    assert!(!grouping(&["tag"], &[("m", "max(n)")]).unwrap().invertible());
    let grouping = grouping(&["tag"], &[("lo", "min(tag)"), ("hi", "max(\"Day\")")]).unwrap();
    let mut groups = grouping.partial(&[sales(&[(Some("b"), Some(1), None)])]).unwrap();
    let other = grouping.partial(&[sales(&[(Some("a"), Some(0), None)])]).unwrap();
    let none = grouping.partial(&[sales(&[(None, None, None)])]).unwrap();
    grouping.merge(&mut groups[0].1, &none[0].1);
    grouping.merge(&mut groups[0].1, &other[0].1);
    assert_eq!(finish(&grouping, &groups), [r#"{"tag":"b","lo":"a","hi":"1970-01-02"}"#]);
    let mut none = none;
    grouping.merge(&mut none[0].1, &other[0].1);
    assert_eq!(finish(&grouping, &none), [r#"{"tag":null,"lo":"a","hi":"1970-01-01"}"#]);
}

#[test]
fn keys_are_expressions_with_names() {
    let rows = sales(&[(Some("A"), Some(1), None), (Some("a"), Some(2), None), (Some("b"), Some(3), None)]);
    let grouping = grouping(&["lower(tag) as t", "n % 2 = 1 as odd", "shop"], &[("n", "count(*)")]).unwrap();
    let groups = grouping.partial(&[rows]).unwrap();
    assert_eq!(
        finish(&grouping, &groups),
        [
            r#"{"t":"a","odd":true,"shop":1,"n":1}"#,
            r#"{"t":"a","odd":false,"shop":1,"n":1}"#,
            r#"{"t":"b","odd":true,"shop":1,"n":1}"#,
        ]
    );
    assert_eq!(grouping.input(), "sales");
    assert_eq!(grouping.key_schema().fields().len() + grouping.value_schema().fields().len(), 4);
}

#[test]
fn without_keys_all_rows_are_one_group() {
    let grouping = grouping(&[], &[("n", "count(*)"), ("big", "count(*) filter (where n > 1)")]).unwrap();
    let groups = grouping.partial(&[sales(&[(None, Some(1), None), (None, Some(2), None)])]).unwrap();
    assert_eq!(groups[0].0, Row::from(vec![]));
    assert_eq!(finish(&grouping, &groups), [r#"{"n":2,"big":1}"#]);
}

#[test]
fn groups_come_in_the_order_of_first_occurrence() {
    let grouping = grouping(&["tag", "n"], &[("c", "count(*)")]).unwrap();
    let tags: Vec<String> = (0..20_000).map(|i| format!("tag number {}", (i * 7919) % 6007)).collect();
    let rows: Vec<_> = tags.iter().map(|tag| (Some(tag.as_str()), Some(1), None)).collect();
    let groups = grouping.partial(&[sales(&rows[..5000]), sales(&rows[5000..])]).unwrap();
    let keys: Vec<_> = groups.into_iter().map(|(key, _)| key.0[0].clone()).collect();
    let mut seen = std::collections::HashSet::new();
    let expected: Vec<_> =
        tags.iter().filter(|tag| seen.insert(*tag)).map(|tag| Value::from(tag.as_str())).collect();
    assert_eq!(keys, expected);
}

#[test]
fn a_state_of_another_shape_is_told_at_the_end() {
    let grouping = grouping(&["tag"], &[("n", "count(*)")]).unwrap();
    let (key, good, bad) =
        (Row::from(vec!["a".into()]), Row::from(vec![1.into(), 1.into()]), Row::from(vec![1.into()]));
    for (mut state, other) in [(good.clone(), &bad), (bad.clone(), &good)] {
        grouping.merge(&mut state, other);
        assert_eq!(grouping.finish([(&key, &state)]).unwrap_err().kind(), crate::ErrorKind::Checkpoint);
    }
}

#[test]
fn a_wrong_expression_is_told_by_itself() {
    let error = |key: &[&str], values: &[(&str, &str)]| grouping(key, values).unwrap_err();
    let e = error(&["tag", "tga"], &[]);
    assert_eq!(
        (e.message.as_str(), e.sql.as_str(), e.offset),
        ("there is no column `tga`", "tga", Some((1, 1)))
    );
    assert_eq!(e.hint.unwrap(), "did you mean `tag`? the columns are tag, shop, n, price, Day");
    let e = error(&["tag"], &[("s", "sum(n *\n prise)")]);
    assert_eq!(
        (e.message.as_str(), e.sql.as_str(), e.offset),
        ("there is no column `prise`", "sum(n *\n prise)", Some((2, 2)))
    );
    assert_eq!(error(&["lower(tag)"], &[]).message, "this key needs a name");
    assert_eq!(error(&["tag"], &[("tag", "count(*)")]).message, "two columns are called `tag`");
    for (sql, message) in [
        ("sum(n) + 1", "this is not one call of an aggregate"),
        ("n", "this is not one call of an aggregate"),
        ("lower(tag)", "`lower` is no aggregate"),
        ("count(distinct n) + 1", "this is not one call of an aggregate"),
        ("first_value((select max(n) from sales))", "this looks at more than one row for each value"),
        ("sum(n) over ()", "an aggregate over a window of rows cannot be kept by key"),
        ("sum(n) as x", "an aggregate is named by its output column, not by `as`"),
        ("sum(*)", "only count takes `*`"),
        ("sum((select max(n) from sales))", "this looks at more than one row"),
        ("count(*) filter (where n = (select max(n) from sales))", "this looks at more than one row"),
    ] {
        assert_eq!(error(&["tag"], &[("v", sql)]).message, message, "{sql}");
    }
    for sql in ["sum(tag)", "sum(random())", "count(*", "count(*), 1", "", "max(now())", "sum(sum(n))"] {
        assert!(grouping(&["tag"], &[("v", sql)]).is_err(), "{sql}");
    }
    for key in ["tag, n", "now() as t", "tag from users --", "*", ""] {
        assert!(grouping(&[key], &[("v", "count(*)")]).is_err(), "{key}");
    }
    for key in ["count(*) as c", "row_number() over () as r", "(select max(n) from sales) as m"] {
        assert_eq!(error(&[key], &[]).message, "this looks at more than one row", "{key}");
    }
    let e = planner().grouping("sale", &[], &[]).unwrap_err();
    assert_eq!(e.hint.unwrap(), "did you mean `sales`? the streams are sales");
}
