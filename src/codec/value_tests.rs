use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;
use crate::codec::decode_key;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Unit,
    One(i64),
    Pair(u8, Option<bool>),
    Named { text: String },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Shape {
    text: String,
    number: f64,
    large: u64,
    by_number: BTreeMap<i32, Vec<Option<i64>>>,
    kinds: Vec<Kind>,
    nested: Option<Box<Shape>>,
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Unit),
        any::<i64>().prop_map(Kind::One),
        any::<(u8, Option<bool>)>().prop_map(|(a, b)| Kind::Pair(a, b)),
        ".{0,20}".prop_map(|text| Kind::Named { text }),
    ]
}

fn shapes() -> impl Strategy<Value = Shape> {
    let flat = (
        ".{0,40}",
        any::<f64>(),
        any::<u64>(),
        prop::collection::btree_map(any::<i32>(), prop::collection::vec(any::<Option<i64>>(), 0..4), 0..4),
        prop::collection::vec(kinds(), 0..4),
    );
    let flat = flat.prop_map(|(text, number, large, by_number, kinds)| Shape {
        text,
        number,
        large,
        by_number,
        kinds,
        nested: None,
    });
    let flat = flat.boxed();
    (flat.clone(), prop::option::of(flat))
        .prop_map(|(outer, inner)| Shape { nested: inner.map(Box::new), ..outer })
}

/// A value with a field that `Shape` has and one that it has not.
#[derive(Serialize, Deserialize)]
struct Grown {
    text: String,
    #[serde(default)]
    added: Option<u32>,
}

proptest! {
    #[test]
    fn values_come_back(shape in shapes()) {
        let back: Shape = decode_value(&encode_value(&shape).unwrap()).unwrap();
        prop_assert_eq!(back, shape);
    }

    #[test]
    fn two_values_are_written_as_a_pair(first in any::<i64>(), shape in shapes()) {
        let (bytes, place) = encode_values(&first, &shape).unwrap();
        prop_assert_eq!(&bytes, &encode_value(&(first, shape.clone())).unwrap());
        // From its place on it is the second value alone, without a version.
        prop_assert_eq!(&bytes[place..], &encode_value(&shape).unwrap()[1..]);
    }

    #[test]
    fn a_type_that_has_grown_reads_what_was_written_before(shape in shapes()) {
        let grown: Grown = decode_value(&encode_value(&shape).unwrap()).unwrap();
        prop_assert_eq!((grown.text, grown.added), (shape.text, None));
    }

    #[test]
    fn a_part_of_a_value_is_an_error(shape in shapes(), cut in any::<prop::sample::Index>()) {
        let bytes = encode_value(&shape).unwrap();
        let error = decode_value::<Shape>(&bytes[..cut.index(bytes.len())]).unwrap_err();
        prop_assert_eq!(error.kind(), crate::ErrorKind::Checkpoint);
    }

    #[test]
    fn another_version_is_told_with_both_numbers(shape in shapes(), version in 2u8..) {
        let mut bytes = encode_value(&shape).unwrap();
        bytes[0] = version;
        let told = decode_value::<Shape>(&bytes).unwrap_err().to_string();
        prop_assert!(told.contains(&format!("version {version}, this program reads version 1")), "{}", told);
    }

    #[test]
    fn any_bytes_are_a_value_or_a_key_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = decode_key::<(String, Option<i64>)>(&bytes);
        let _ = decode_key::<u32>(&bytes);
        if let Some(version) = bytes.first_mut() {
            *version = VERSION;
        }
        let _ = decode_value::<Shape>(&bytes);
        let _ = decode_value::<Vec<Kind>>(&bytes);
    }
}
