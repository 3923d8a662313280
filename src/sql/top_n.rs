//! `top_n(value, n)` and `top_n(value, n, by)`: the values with the `n` greatest ones, in an array.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};
use datafusion::physical_expr::expressions::Literal;

use crate::sql::{DataType, Field};

/// The aggregate. NULLs are passed over, both as a value and as what decides.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TopN {
    signature: Signature,
}

impl TopN {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// Beyond it a group's state is no small thing any more.
const MOST: i64 = 10_000;

impl AggregateUDFImpl for TopN {
    fn name(&self) -> &str {
        "top_n"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [value, n] if n.is_integer() => Ok(vec![value.clone(), DataType::Int64]),
            [value, n, by] if n.is_integer() => Ok(vec![value.clone(), DataType::Int64, by.clone()]),
            _ => plan_err!("top_n takes a value, how many, and what decides: top_n(product, 3, price)"),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(list_of(&types[0]))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<Arc<Field>>> {
        let types: Vec<&DataType> = args.input_fields.iter().map(|field| field.data_type()).collect();
        let by = types.get(2).copied().unwrap_or(types[0]);
        let field = |name: &str, of: &DataType| {
            Arc::new(Field::new(format!("{}[{name}]", args.name), list_of(of), true))
        };
        Ok(vec![field("by", by), field("value", types[0])])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let n = match args.exprs.get(1).and_then(|n| n.downcast_ref::<Literal>()).map(Literal::value) {
            Some(ScalarValue::Int64(Some(n))) if (1..=MOST).contains(n) => usize::try_from(*n).unwrap_or(1),
            _ => return plan_err!("top_n takes as its second argument how many: a number from 1 to {MOST}"),
        };
        let of = args.expr_fields[0].data_type().clone();
        let by = args.expr_fields.get(2).map_or(of.clone(), |by| by.data_type().clone());
        Ok(Box::new(Greatest { n, of, by, kept: Vec::new() }))
    }
}

fn list_of(of: &DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(of.clone(), true)))
}

/// The greatest so far, the greatest first; of equals, the lesser value.
#[derive(Debug)]
struct Greatest {
    n: usize,
    of: DataType,
    by: DataType,
    /// What decides, with its value.
    kept: Vec<(ScalarValue, ScalarValue)>,
}

impl Greatest {
    fn take(&mut self, by: ScalarValue, value: ScalarValue) {
        if by.is_null() || value.is_null() {
            return;
        }
        let before = |(kept_by, kept): &(ScalarValue, ScalarValue)| {
            let order = by.partial_cmp(kept_by).unwrap_or(Ordering::Equal);
            order.reverse().then_with(|| value.partial_cmp(kept).unwrap_or(Ordering::Equal)) != Ordering::Less
        };
        let place = self.kept.partition_point(before);
        if place < self.n {
            self.kept.insert(place, (by, value));
            self.kept.truncate(self.n);
        }
    }

    fn take_all(&mut self, by: &ArrayRef, values: &ArrayRef) -> Result<()> {
        for index in 0..values.len() {
            self.take(ScalarValue::try_from_array(by, index)?, ScalarValue::try_from_array(values, index)?);
        }
        Ok(())
    }

    fn lists(&self) -> (ScalarValue, ScalarValue) {
        let (by, values): (Vec<_>, Vec<_>) = self.kept.iter().cloned().unzip();
        let list = |values: &[ScalarValue], of: &DataType| {
            ScalarValue::List(ScalarValue::new_list(values, of, true))
        };
        (list(&by, &self.by), list(&values, &self.of))
    }
}

impl Accumulator for Greatest {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        self.take_all(columns.get(2).unwrap_or(&columns[0]), &columns[0])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (by, values) = (states[0].as_list::<i32>(), states[1].as_list::<i32>());
        for index in 0..values.len() {
            if values.is_valid(index) && by.is_valid(index) {
                self.take_all(&by.value(index), &values.value(index))?;
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let (by, values) = self.lists();
        Ok(vec![by, values])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.lists().1)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.kept.iter().map(|(by, value)| by.size() + value.size()).sum::<usize>()
    }
}
