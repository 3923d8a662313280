//! `contains(text, part)` and `text like '%part%'` where texts are views: those that stand one behind the other in memory are searched as
//! one, since to begin a search costs as much as a hundred bytes of it.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, AsArray, BooleanArray, BooleanBufferBuilder, ByteView, StringViewArray,
};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::functions::string::contains::ContainsFunc;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Filter, Like, LogicalPlan, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use memchr::memmem::Finder;

use super::views::INLINE;
use crate::sql::DataType;

/// Texts with more than this between them are not searched as one: in between may stand what was filtered out.
const GAP: usize = 64;

/// DataFusion's function, whose results these are; only how they are come by is other where that pays.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Contains {
    original: ContainsFunc,
}

impl Contains {
    pub(super) fn new() -> Self {
        Self { original: ContainsFunc::new() }
    }
}

impl ScalarUDFImpl for Contains {
    fn name(&self) -> &str {
        self.original.name()
    }

    fn signature(&self) -> &Signature {
        self.original.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.original.return_type(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let [ColumnarValue::Array(texts), ColumnarValue::Scalar(part)] = args.args.as_slice()
            && let Some(texts) = texts.as_string_view_opt().filter(|texts| texts.null_count() == 0)
            && let Some(part) = part.try_as_str().flatten().filter(|part| !part.is_empty())
        {
            return Ok(ColumnarValue::Array(Arc::new(found(texts, part.as_bytes()))));
        }
        self.original.invoke_with_args(args)
    }
}

/// Which of `texts`, all of which are there, `part` stands in.
fn found(texts: &StringViewArray, part: &[u8]) -> BooleanArray {
    let (views, finder) = (texts.views(), Finder::new(part));
    let mut found = BooleanBufferBuilder::new(views.len());
    found.append_n(views.len(), false);
    let mut row = 0;
    while row < views.len() {
        let Some((block, start, mut end)) = place(views[row]) else {
            if is_in(&finder, views[row]) {
                found.set_bit(row, true);
            }
            row += 1;
            continue;
        };
        let first = row;
        row += 1;
        while row < views.len() {
            match place(views[row]) {
                Some((of, from, until)) if of == block && (end..=end + GAP).contains(&from) => end = until,
                Some(_) => break,
                None if is_in(&finder, views[row]) => found.set_bit(row, true),
                None => {}
            }
            row += 1;
        }
        let bytes = &texts.data_buffers()[block as usize][..end];
        search(&finder, bytes, start, &views[first..row], |at| found.set_bit(first + at, true));
    }
    BooleanArray::new(found.finish(), None)
}

/// Tells which of the long ones of `texts` hold what `finder` finds. They stand one behind the other in `bytes`, from `at` on.
fn search(finder: &Finder<'_>, bytes: &[u8], mut at: usize, texts: &[u128], mut tell: impl FnMut(usize)) {
    let mut places = texts.iter().enumerate().filter_map(|(row, view)| Some((row, place(*view)?)));
    let mut current = places.next();
    while let Some(position) = finder.find(&bytes[at..]).map(|found| at + found) {
        while let Some((_, (_, _, end))) = current
            && end <= position
        {
            current = places.next();
        }
        let Some((row, (_, start, end))) = current else { return };
        if position < start {
            // Between two texts; the next one may begin within it.
            at = start;
            continue;
        }
        if position + finder.needle().len() <= end {
            tell(row);
        }
        // If it ends in another text, no later one ends in this one.
        at = end;
    }
}

/// The block, the beginning and the end of a text that does not stand in its view.
#[inline(always)]
fn place(view: u128) -> Option<(u32, usize, usize)> {
    let ByteView { length, buffer_index, offset, .. } = ByteView::from(view);
    (length as usize > INLINE).then(|| (buffer_index, offset as usize, offset as usize + length as usize))
}

/// Whether `finder` finds something in the text that stands in `view`.
fn is_in(finder: &Finder<'_>, view: u128) -> bool {
    let length = view as u32 as usize;
    finder.find(&view.to_le_bytes()[4..4 + length]).is_some()
}

/// Makes `text like '%part%'` to `contains(text, part)` where rows are filtered by it. Elsewhere the name of the expression may count.
#[derive(Debug)]
pub(super) struct LikeToContains {
    contains: Arc<ScalarUDF>,
}

impl LikeToContains {
    pub(super) fn new() -> Self {
        Self { contains: Arc::new(ScalarUDF::from(Contains::new())) }
    }

    fn rewritten(&self, expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
        let Expr::Like(like) = &expr else { return Transformed::no(expr) };
        let Some(part) = part_of(like) else { return Transformed::no(expr) };
        if !matches!(like.expr.get_type(schema), Ok(DataType::Utf8View)) {
            return Transformed::no(expr);
        }
        let part = Expr::Literal(ScalarValue::Utf8View(Some(part)), None);
        let call = self.contains.call(vec![(*like.expr).clone(), part]);
        Transformed::yes(if like.negated { Expr::Not(Box::new(call)) } else { call })
    }
}

impl OptimizerRule for LikeToContains {
    fn name(&self) -> &str {
        "like_to_contains"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = plan else { return Ok(Transformed::no(plan)) };
        let schema = filter.input.schema();
        let rewritten = filter.predicate.clone().transform_up(|expr| Ok(self.rewritten(expr, schema)))?;
        if !rewritten.transformed {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        }
        Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(rewritten.data, filter.input)?)))
    }
}

/// What stands between the two `%` of a pattern that is nothing else.
fn part_of(like: &Like) -> Option<String> {
    let Expr::Literal(pattern, _) = &*like.pattern else { return None };
    let part = pattern.try_as_str().flatten()?.strip_prefix('%')?.strip_suffix('%')?;
    let is_plain = !part.is_empty() && !part.contains(['%', '_', '\\']);
    (is_plain && !like.case_insensitive && like.escape_char.is_none()).then(|| part.to_owned())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, StringArray, StringViewBuilder};
    use datafusion::arrow::compute::contains;
    use datafusion::physical_plan::displayable;
    use proptest::prelude::*;

    use super::*;
    use crate::sql::{Inputs, Planner, RecordBatch, schema};

    /// Which of `texts` the query's condition holds of.
    fn rows_where(condition: &str, texts: StringViewArray) -> Vec<String> {
        let columns = schema([("value", DataType::Utf8View)]);
        let mut planner = Planner::new();
        planner.register("lines", columns.clone());
        let query = planner.query(&format!("select value from lines where {condition}")).unwrap();
        let rows = RecordBatch::try_new(columns, vec![Arc::new(texts)]).unwrap();
        let found = query.run(&Inputs::new().with("lines", Arc::from([rows]))).unwrap();
        let of = |batch: &RecordBatch| {
            let values = batch.column(0).as_string_view().clone();
            values.iter().flatten().map(str::to_owned).collect::<Vec<_>>()
        };
        found.iter().flat_map(of).collect()
    }

    #[test]
    fn like_finds_the_texts_that_a_part_stands_in() {
        let texts = [
            "short aa",
            "one that is too long for its view, with aa",
            "another such text, without: ba",
            "ab",
            "aa",
        ];
        let all = || StringViewArray::from_iter_values(texts);
        assert_eq!(rows_where("value like '%aa%'", all()), [texts[0], texts[1], texts[4]]);
        assert_eq!(rows_where("value not like '%aa%'", all()), [texts[2], texts[3]]);
        assert_eq!(rows_where("contains(value, 'aa')", all()), [texts[0], texts[1], texts[4]]);
        // Other patterns mean what they did.
        assert_eq!(rows_where("value like '%a_'", all()), [texts[0], texts[1], texts[3], texts[4]]);
        assert_eq!(rows_where("value like '%%'", all()).len(), 5);
        assert_eq!(rows_where("value ilike '%AA%'", all()), [texts[0], texts[1], texts[4]]);
        assert_eq!(rows_where("value like '%a%a'", all()), [texts[0], texts[1], texts[2], texts[4]]);
        let with_null = StringViewArray::from_iter([Some("aa"), None, Some("b")]);
        assert_eq!(rows_where("value not like '%aa%'", with_null), ["b"]);
    }

    #[test]
    fn like_is_planned_as_contains() {
        let mut planner = Planner::new();
        planner.register("lines", schema([("value", DataType::Utf8View)]));
        let plan = |condition: &str| {
            let plan = planner.physical(&format!("select value from lines where {condition}")).unwrap();
            displayable(&*plan).indent(false).to_string()
        };
        assert!(plan("value like '%part%'").contains("contains(value"), "{}", plan("value like '%part%'"));
        assert!(plan("value like '%par%t%'").contains("LIKE"));
        // Where it is no filter, what it is called stays what it was.
        let grouped =
            "select value like '%a%' as hit, count(*) from lines group by rollup (value like '%a%')";
        assert!(planner.query(grouped).is_ok());
    }

    #[test]
    fn what_is_no_text_is_refused_as_ever() {
        let mut planner = Planner::new();
        planner.register("t", schema([("n", DataType::Int64)]));
        assert!(planner.query("select n from t where n like '%1%'").is_err());
    }

    proptest! {
        /// Texts of one block, those between which others were taken out, and those of several.
        #[test]
        fn texts_are_found_as_arrow_finds_each(
            texts in prop::collection::vec(("[ab☃]{0,30}", any::<bool>()), 0..40),
            part in prop::sample::select(vec!["a", "aa", "aab", "☃", "abab", "aaaaaaaaaaaaaaaa"]),
            block in prop::sample::select(vec![40_u32, 1 << 16]),
        ) {
            let mut builder = StringViewBuilder::new().with_fixed_block_size(block);
            texts.iter().for_each(|(text, _)| builder.append_value(text));
            let kept: BooleanArray = texts.iter().map(|(_, kept)| Some(*kept)).collect();
            let all: ArrayRef = Arc::new(builder.finish());
            for texts in [all.clone(), datafusion::arrow::compute::filter(&all, &kept).unwrap(), all.slice(all.len() / 2, all.len() / 4)] {
                let texts = texts.as_string_view();
                let each: StringArray = texts.iter().collect();
                let expected = contains(&each, &StringArray::new_scalar(part)).unwrap();
                prop_assert_eq!(found(texts, part.as_bytes()), expected);
            }
        }
    }
}
