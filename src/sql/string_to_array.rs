//! `string_to_array(text, delimiter)` where texts are views: its parts are views into the same bytes, so that none is copied.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ByteView, ListArray, StringViewArray};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::common::{Result, exec_err};
use datafusion::functions_nested::string::StringToArray as Original;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use memchr::{memchr_iter, memmem::Finder};

use super::views::{INLINE, view};
use crate::codec::block::{BLOCK, block, equal};
use crate::sql::{DataType, Field};

/// DataFusion's function, whose results these are; only how they are come by is other where that pays.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct StringToArray {
    original: Original,
}

impl StringToArray {
    pub(super) fn new() -> Self {
        Self { original: Original::new() }
    }
}

impl ScalarUDFImpl for StringToArray {
    fn name(&self) -> &str {
        self.original.name()
    }

    fn aliases(&self) -> &[String] {
        self.original.aliases()
    }

    fn signature(&self) -> &Signature {
        self.original.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.original.return_type(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let parts = match args.args.as_slice() {
            [ColumnarValue::Array(texts), ColumnarValue::Scalar(delimiter)] => {
                match (texts.as_string_view_opt(), delimiter.try_as_str().flatten()) {
                    (Some(texts), Some(delimiter)) if !delimiter.is_empty() => Some(parts(texts, delimiter)?),
                    _ => None,
                }
            }
            _ => None,
        };
        parts.map_or_else(|| self.original.invoke_with_args(args), |parts| Ok(ColumnarValue::Array(parts)))
    }
}

/// The parts of each of `texts`, none of an empty one, NULL for NULL.
fn parts(texts: &StringViewArray, delimiter: &str) -> Result<ArrayRef> {
    let mut parts = Parts { views: Vec::with_capacity(room(texts, delimiter)), is_any_long: false };
    let mut ends = Vec::with_capacity(texts.len() + 1);
    ends.push(0);
    let finder = Finder::new(delimiter);
    for (row, view) in texts.views().iter().enumerate() {
        let length = *view as u32 as usize;
        if length > 0 && texts.is_valid(row) {
            let in_view = view.to_le_bytes();
            let (bytes, text) = if length <= INLINE {
                (&in_view[..], Text { block: 0, start: 4, end: 4 + length })
            } else {
                let view = ByteView::from(*view);
                let start = view.offset as usize;
                let text = Text { block: view.buffer_index, start, end: start + length };
                (texts.data_buffers()[view.buffer_index as usize].as_slice(), text)
            };
            match delimiter.as_bytes() {
                [byte] => parts.cut_at(bytes, text, *byte),
                longer => {
                    parts.cut(bytes, text, longer.len(), finder.find_iter(&bytes[text.start..text.end]))
                }
            }
        }
        ends.push(parts.views.len());
    }
    let Ok(ends) = ends.into_iter().map(i32::try_from).collect::<std::result::Result<Vec<_>, _>>() else {
        return exec_err!("the parts of these texts are more than an array can hold");
    };
    let blocks = if parts.is_any_long { texts.data_buffers().to_vec() } else { Vec::new() };
    // SAFETY: each view is of bytes of a text between two delimiters, or its ends, so it is valid UTF-8. Those that are not in the view
    // itself are in the blocks of `texts`, which are the array's own.
    let values = unsafe { StringViewArray::new_unchecked(ScalarBuffer::from(parts.views), blocks, None) };
    let element = Arc::new(Field::new_list_field(DataType::Utf8View, true));
    let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
    Ok(Arc::new(ListArray::try_new(element, ends, Arc::new(values), texts.nulls().cloned())?))
}

/// How many parts there will be: it takes less to count them than to make room for more and more.
fn room(texts: &StringViewArray, delimiter: &str) -> usize {
    const GUESSED: usize = 8;
    match delimiter.as_bytes() {
        [byte] => texts.iter().flatten().map(|text| 1 + memchr_iter(*byte, text.as_bytes()).count()).sum(),
        _ => GUESSED * texts.len(),
    }
}

/// Where a text stands.
#[derive(Clone, Copy)]
struct Text {
    block: u32,
    start: usize,
    end: usize,
}

struct Parts {
    views: Vec<u128>,
    /// Whether one of them does not stand in its view.
    is_any_long: bool,
}

impl Parts {
    /// Adds the parts of `text`, which is cut at each `byte`.
    #[inline(always)]
    fn cut_at(&mut self, bytes: &[u8], text: Text, byte: u8) {
        let mut start = text.start;
        for at in (text.start..text.end).step_by(BLOCK) {
            // Of the text alone: more of it may stand behind it in the same memory.
            let within = u64::MAX >> BLOCK.saturating_sub(text.end - at);
            let mut found = equal(&block(bytes, at), byte) & within;
            while found != 0 {
                let end = at + found.trailing_zeros() as usize;
                found &= found - 1;
                self.add(bytes, text.block, start, end);
                start = end + 1;
            }
        }
        self.add(bytes, text.block, start, text.end);
    }

    /// Adds the parts of `text`, which is cut at `places`, counted from its start.
    #[inline]
    fn cut(&mut self, bytes: &[u8], text: Text, delimiter: usize, places: impl Iterator<Item = usize>) {
        let mut start = text.start;
        for place in places {
            self.add(bytes, text.block, start, text.start + place);
            start = text.start + place + delimiter;
        }
        self.add(bytes, text.block, start, text.end);
    }

    #[inline]
    fn add(&mut self, bytes: &[u8], block: u32, start: usize, end: usize) {
        self.is_any_long |= end - start > INLINE;
        self.views.push(view(bytes, block, start, end));
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, AsArray, StringViewArray};
    use datafusion::common::ScalarValue;
    use datafusion::logical_expr::ColumnarValue;
    use proptest::prelude::*;

    use super::*;

    fn split(texts: &StringViewArray, delimiter: &str) -> Vec<Option<Vec<String>>> {
        let lists = parts(texts, delimiter).unwrap();
        lists.to_data().validate_full().unwrap();
        let list =
            |list: ArrayRef| list.as_string_view().iter().map(|part| part.unwrap().to_owned()).collect();
        lists.as_list::<i32>().iter().map(|parts| parts.map(list)).collect()
    }

    #[test]
    fn parts_are_short_or_long_inside_or_outside_of_views() {
        let long = "one that is too long for a view, and another such part, and short";
        let texts: StringViewArray =
            [Some("a b"), None, Some(""), Some(" x "), Some(long)].into_iter().collect();
        let words = |parts: &[&str]| Some(parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>());
        let expected = [
            words(&["a b"]),
            None,
            words(&[]),
            words(&[" x "]),
            words(&["one that is too long for a view", "and another such part", "and short"]),
        ];
        assert_eq!(split(&texts, ", "), expected);
        assert_eq!(split(&texts.slice(3, 1), " "), [words(&["", "x", ""])]);
        assert_eq!(split(&texts, " ")[0], words(&["a", "b"]));
    }

    #[test]
    fn parts_end_at_the_edges_of_blocks_too() {
        for length in 0..140 {
            let (before, behind) = ("x".repeat(length), "z".repeat(length));
            let text = format!("{before},yy,{behind}");
            // What stands behind a text, in the same memory, is none of its own.
            let texts: StringViewArray = [Some(&text), Some(&text)].into_iter().collect();
            let expected = Some(vec![before, "yy".to_owned(), behind]);
            assert_eq!(split(&texts, ","), [expected.clone(), expected]);
        }
    }

    #[test]
    fn what_is_no_view_or_has_another_delimiter_is_left_to_the_original() {
        let texts: ArrayRef = Arc::new(StringViewArray::from(vec!["abc", "d"]));
        let call = |delimiter: Option<&str>| {
            let delimiter = ColumnarValue::Scalar(ScalarValue::Utf8(delimiter.map(str::to_owned)));
            let args = vec![ColumnarValue::Array(texts.clone()), delimiter];
            let of = Field::new("parts", DataType::Null, true);
            let args = ScalarFunctionArgs {
                args,
                arg_fields: Vec::new(),
                number_rows: 2,
                return_field: Arc::new(of),
                config_options: Arc::default(),
            };
            let parts = StringToArray::new().invoke_with_args(args).unwrap().into_array(2).unwrap();
            parts.as_list::<i32>().value_length(0)
        };
        assert_eq!((call(Some("b")), call(Some("")), call(None)), (2, 1, 3));
    }

    proptest! {
        #[test]
        fn any_text_is_split_as_the_standard_library_does_it(
            texts in prop::collection::vec(prop::option::of("[ab☃, ]{0,40}"), 0..20),
            delimiter in prop::sample::select(vec![",", " ", "ab", "☃", ", "]),
        ) {
            let expected: Vec<_> = texts
                .iter()
                .map(|text| text.as_ref().map(|text| match text.as_str() {
                    "" => Vec::new(),
                    text => text.split(delimiter).map(str::to_owned).collect(),
                }))
                .collect();
            prop_assert_eq!(split(&texts.iter().map(|text| text.as_deref()).collect(), delimiter), expected);
        }
    }
}
