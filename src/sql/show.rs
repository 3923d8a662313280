//! Rows as the table that Spark's `show` prints.

use std::fmt::Write as _;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::sql::{RecordBatch, SchemaRef};

/// How wide a value may be before it is cut.
const WIDEST: usize = 20;
/// No column is narrower.
const NARROWEST: usize = 3;

/// The first `limit` rows as a table, each value cut to 20 characters and to the right, and a line that says if there are
/// more. Only the head if there are no rows.
pub(super) fn table(schema: &SchemaRef, batches: &[RecordBatch], limit: usize) -> Result<String, ArrowError> {
    let names: Vec<_> = schema.fields().iter().map(|field| cut(field.name())).collect();
    let mut columns: Vec<Vec<String>> = names.into_iter().map(|name| vec![name]).collect();
    let (mut rows, total) = (0, batches.iter().map(RecordBatch::num_rows).sum::<usize>());
    for batch in batches {
        let taken = batch.num_rows().min(limit - rows);
        rows += taken;
        for (column, array) in columns.iter_mut().zip(batch.columns()) {
            texts(array, taken, column)?;
        }
    }
    let width =
        |column: &Vec<String>| column.iter().map(|text| width(text)).max().unwrap_or(0).max(NARROWEST);
    let widths: Vec<_> = columns.iter().map(width).collect();
    let line: String =
        widths.iter().map(|width| format!("+{}", "-".repeat(*width))).collect::<String>() + "+\n";
    let mut out = line.clone();
    for row in 0..=rows {
        for (column, width) in columns.iter().zip(&widths) {
            let blanks = width - self::width(&column[row]);
            out.push_str(&format!("|{}{}", " ".repeat(blanks), column[row]));
        }
        out.push_str("|\n");
        if row == 0 {
            out.push_str(&line);
        }
    }
    out.push_str(&line);
    if total > rows {
        let _ = writeln!(out, "only showing top {rows} row{}", if rows == 1 { "" } else { "s" });
    }
    out.push('\n');
    Ok(out)
}

/// Adds the first `taken` values of `array`, as they are shown.
fn texts(array: &ArrayRef, taken: usize, to: &mut Vec<String>) -> Result<(), ArrowError> {
    let options = FormatOptions::new().with_null("NULL").with_display_error(true);
    let values = ArrayFormatter::try_new(array, &options)?;
    to.extend((0..taken).map(|row| cut(&values.value(row).to_string())));
    Ok(())
}

/// One line of at most 20 characters; dots stand for what was cut off.
fn cut(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    if shown.chars().count() > WIDEST {
        shown = shown.chars().take(WIDEST - 3).chain("...".chars()).collect();
    }
    shown
}

/// How many columns of a terminal `text` takes: Chinese, Japanese and Korean letters take two.
fn width(text: &str) -> usize {
    let is_wide = |c: &char| {
        matches!(*c,
            '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}'
            | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}')
    };
    text.chars().count() + text.chars().filter(is_wide).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{DataType, Row, Value, batch_of_rows, data_type, schema};

    fn shown(rows: &[(&str, Value)], limit: usize) -> String {
        let schema = schema([("word", data_type("text").unwrap()), ("n", DataType::Int64)]);
        let rows: Vec<_> = rows.iter().map(|(word, n)| Row::from(vec![(*word).into(), n.clone()])).collect();
        // Two batches, so that a limit may end within either.
        let (first, second) = rows.split_at(rows.len() / 2);
        let batches = [first, second].map(|rows| batch_of_rows(&schema, rows).unwrap());
        table(&schema, &batches, limit).unwrap()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_value_and_stand_to_the_right() {
        let rows = [("hello", Value::Int(2)), ("to", Value::Int(1_000)), ("be", Value::Null)];
        let expected = "\
+-----+----+
| word|   n|
+-----+----+
|hello|   2|
|   to|1000|
|   be|NULL|
+-----+----+

";
        assert_eq!(shown(&rows, 20), expected);
        assert_eq!(shown(&rows, 3), expected);
        let expected = "\
+-----+----+
| word|   n|
+-----+----+
|hello|   2|
|   to|1000|
+-----+----+
only showing top 2 rows

";
        assert_eq!(shown(&rows, 2), expected);
        assert!(shown(&rows, 1).ends_with("+\nonly showing top 1 row\n\n"), "{}", shown(&rows, 1));
    }

    #[test]
    fn without_rows_there_is_the_head() {
        let expected = "\
+----+---+
|word|  n|
+----+---+
+----+---+

";
        assert_eq!(shown(&[], 20), expected);
    }

    #[test]
    fn long_values_are_cut_and_lines_not_broken() {
        let rows =
            [("abcdefghijklmnopqrst", 1.into()), ("abcdefghijklmnopqrstu", 2.into()), ("a\nb", 3.into())];
        let text = shown(&rows, 20);
        for line in
            ["|abcdefghijklmnopqrst|  1|", "|abcdefghijklmnopq...|  2|", r"|                a\nb|  3|"]
        {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }

    #[test]
    fn wide_letters_count_twice() {
        let text = shown(&[("世界", 1.into()), ("world", 2.into())], 20);
        assert!(text.contains("\n| 世界|  1|\n|world|  2|\n"), "{text}");
    }
}
