//! Good records come through in order, bad ones are told apart exactly.

use super::*;
use crate::sql::{Row, Value, data_type, rows_of_batch, schema};

fn text() -> Decoder {
    Decoder::new(Format::Text { column: "value".to_owned() }).unwrap()
}

fn json() -> Decoder {
    let columns =
        [("id", "bigint"), ("text", "text"), ("tags", "text[]"), ("at", "timestamp"), ("x", "double")];
    let schema = schema(columns.map(|(name, of)| (name, data_type(of).unwrap())));
    Decoder::new(Format::Json { schema }).unwrap()
}

fn decode(decoder: &Decoder, values: &[&str]) -> (Vec<Row>, Vec<(usize, String)>) {
    let values: Vec<_> = values.iter().map(|value| Some(value.as_bytes())).collect();
    let decoded = decoder.decode_values(&values);
    (rows_of_batch(&decoded.batch).unwrap(), decoded.bad)
}

/// The ids of the good rows, and the indices of the bad records.
fn ids(values: &[&str]) -> (Vec<Value>, Vec<usize>) {
    let (rows, bad) = decode(&json(), values);
    (
        rows.into_iter().map(|row| row.0[0].clone()).collect(),
        bad.into_iter().map(|(index, _)| index).collect(),
    )
}

#[test]
fn text_is_taken_as_it_is() {
    let decoded = text().decode_values(&[
        Some(b"a\nb"),
        None,
        Some(b""),
        Some(b"ab\xff"),
        Some("größer als zwölf".as_bytes()),
    ]);
    let rows = rows_of_batch(&decoded.batch).unwrap();
    let expected: [Value; 4] = ["a\nb".into(), Value::Null, "".into(), "größer als zwölf".into()];
    assert_eq!(rows, expected.map(|value| Row::from(vec![value])));
    assert_eq!(decoded.bad, [(3, "expected UTF-8 text, found another byte at position 2".to_owned())]);
}

#[test]
fn no_records_are_no_rows() {
    for decoder in [text(), json()] {
        let decoded = decoder.decode_values(&[]);
        assert_eq!((decoded.batch.num_rows(), decoded.bad.len()), (0, 0));
        assert_eq!(decoded.batch.schema_ref(), decoder.schema());
    }
}

#[test]
fn members_of_the_schema_are_kept() {
    let (rows, bad) = decode(
        &json(),
        &[
            r#"{"id": 1, "text": "a \u00e9", "tags": ["x", null], "at": "2023-11-14T23:13:20.5+01:00", "x": 1}"#,
            r#" {"other": {"id": [9, {"id": 8}]}, "id": "123", "at": 1700000000500000} "#,
            "{}",
            "{\n\"id\": null}",
        ],
    );
    assert_eq!(bad, []);
    let at = Value::Int(1_700_000_000_500_000);
    let tags = Value::List(["x".into(), Value::Null].into());
    let nulls = || Row::from(vec![Value::Null; 5]);
    assert_eq!(
        rows,
        [
            Row::from(vec![1.into(), "a é".into(), tags, at.clone(), Value::float(1.0)]),
            Row::from(vec![123.into(), Value::Null, Value::Null, at, Value::Null]),
            nulls(),
            nulls(),
        ]
    );
}

#[test]
fn a_bad_record_takes_no_neighbour_with_it() {
    for bad in [
        "",
        "  ",
        "{",
        r#"{"id": 2"#,
        r#"{"id": "2"#,
        r#"{"id": 2}}"#,
        r#"{"id": 2} {"id": 3}"#,
        r#"{"id": 2} x"#,
        r#"{"id": 2}7"#,
        r#"[{"id": 2}]"#,
        "[]",
        "7",
        "tru",
        "true",
        "null",
        r#""text""#,
        r#"{"id": "x"}"#,
        r#"{"id": {}}"#,
        r#"{"id": 1e30}"#,
        r#"{"text": 5}"#,
        r#"{"tags": "x"}"#,
        r#"{"tags": [1]}"#,
        r#"{"at": "yesterday"}"#,
        r#"{"x": "\ud800"}"#,
        r#"{id: 2}"#,
        r#"{"id": 2, "other": [}"#,
        "\u{feff}{}",
    ] {
        assert_eq!(ids(&[r#"{"id":1}"#, bad, r#"{"id":4}"#]), (vec![1.into(), 4.into()], vec![1]), "{bad}");
        assert_eq!(ids(&[bad]), (vec![], vec![0]), "{bad}");
        assert_eq!(ids(&[bad, bad, r#"{"id":4}"#, bad]), (vec![4.into()], vec![0, 1, 3]), "{bad}");
    }
}

#[test]
fn bytes_that_are_no_text_and_missing_values_are_bad() {
    let decoded = json().decode_values(&[
        Some(b"{\"id\":1}"),
        None,
        Some(b"{\"text\":\"\xff\"}"),
        Some(b"{\"o\":\"\xc3\"}"),
    ]);
    assert_eq!(decoded.batch.num_rows(), 1);
    let bad: Vec<_> = decoded.bad.iter().map(|(index, why)| (*index, why.as_str())).collect();
    assert_eq!(bad[0], (1, "expected a JSON object, found no value"));
    assert_eq!((bad[1].0, bad[2].0, bad.len()), (2, 3, 3));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let (_, bad) =
        decode(&json(), &[r#"{"id": 1 "x"}"#, r#"{"id": "x"}"#, r#"{"tags": 1}"#, "{\n\"id\": 1", "[]"]);
    let bad: Vec<_> = bad.iter().map(|(index, why)| format!("{index} {why}")).collect();
    assert_eq!(
        bad,
        [
            "0 expected one JSON object: expected `,` or `}` at byte 10",
            "1 member 'id': failed to parse \"x\" as Int64",
            "2 member 'tags': expected [ got 1",
            "3 expected one JSON object: EOF while parsing an object at byte 9",
            "4 expected { got []",
        ]
    );
}

#[test]
fn many_chunks_with_bad_records_everywhere() {
    let values: Vec<String> = (0..10_000)
        .map(|n| match n % 97 {
            5 => "{\"id\": tru".to_owned(),
            6 => "{\"id\": \"x\"}".to_owned(),
            _ => format!("{{\"id\": {n}}}"),
        })
        .collect();
    let (good, bad) = ids(&values.iter().map(String::as_str).collect::<Vec<_>>());
    let is_bad = |n: &usize| matches!(n % 97, 5 | 6);
    assert_eq!(bad, (0..10_000).filter(is_bad).collect::<Vec<_>>());
    assert_eq!(good, (0..10_000).filter(|n| !is_bad(n)).map(|n| Value::Int(n as i64)).collect::<Vec<_>>());
}

#[test]
fn a_type_that_json_cannot_give_is_refused() {
    assert!(Decoder::new(Format::Json { schema: schema([]) }).is_err());
    let month = DataType::Interval(datafusion::arrow::datatypes::IntervalUnit::YearMonth);
    assert!(Decoder::new(Format::Json { schema: schema([("a", month)]) }).is_err());
}

mod proptests {
    use proptest::prelude::*;

    use super::*;

    /// A member's value, as plain or as rare as anything, and what is none.
    fn value() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "-?[0-9]{1,20}",
            r"-?[0-9]{1,3}\.[0-9]{0,3}([eE][+-]?[0-9])?",
            "\"[a-c☃ ]{0,20}\"",
            r#""([a-c]|\\[nrt"\\/bfu]|\\u00e9|\\ud83d\\ude00|\\ud800){0,4}""#,
            Just("true".to_owned()),
            Just("null".to_owned()),
            Just("nul".to_owned()),
        ];
        leaf.prop_recursive(2, 4, 3, |inner| {
            let list = prop::collection::vec(inner.clone(), 0..3);
            prop_oneof![
                list.prop_map(|items| format!("[{}]", items.join(", "))),
                prop::option::of(inner)
                    .prop_map(|item| item.map_or("{}".to_owned(), |item| format!("{{\"id\" : {item}}}"))),
            ]
        })
    }

    fn record() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["id", "text", "x", "on", "other", "te\\u0078t"]);
        let member = (name, value(), "[ \n]?")
            .prop_map(|(name, value, blank)| format!("\"{name}\"{blank}:{blank}{value}"));
        let end = prop::sample::select(vec!["}", "}", "}", "} ", "}}", "", ",}"]);
        (prop::collection::vec(member, 0..5), end)
            .prop_map(|(members, end)| format!("{{{}{end}", members.join(",")))
    }

    proptest! {
        #[test]
        fn members_where_they_stand_are_what_arrow_reads(records in prop::collection::vec(record(), 1..4)) {
            let columns = [("id", "bigint"), ("text", "text"), ("x", "double"), ("on", "boolean")];
            let schema = schema(columns.map(|(name, of)| (name, data_type(of).unwrap())));
            let decoder = Decoder::new(Format::Json { schema }).unwrap();
            let records: Vec<_> = records.iter().map(String::as_str).collect();
            let quick = decode(&decoder, &records);
            // A record that is surely bad has Arrow's reader look at all.
            let (rows, mut bad) = decode(&decoder, &[&records[..], &["{"]].concat());
            prop_assert_eq!(bad.pop().map(|(index, _)| index), Some(records.len()));
            prop_assert_eq!(quick, (rows, bad));
        }
    }
}

#[test]
fn texts_with_escapes_are_long_and_short() {
    let (rows, bad) = decode(
        &json(),
        &[
            r#"{"text": "tab\tand \"quotes\" and \u00e9 and \ud83d\ude00", "x": -0.25}"#,
            r#"{"text": "\\", "x": 12, "other": {"text": ["\n", {}, []]}}"#,
        ],
    );
    assert_eq!(bad, []);
    let expected: [Value; 2] = ["tab\tand \"quotes\" and é and 😀".into(), "\\".into()];
    assert_eq!([rows[0].0[1].clone(), rows[1].0[1].clone()], expected);
    assert_eq!([rows[0].0[4].clone(), rows[1].0[4].clone()], [-0.25, 12.0].map(Value::float));
}
