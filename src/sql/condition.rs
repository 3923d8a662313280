//! Conditions on single rows, for what decides key by key.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, Result};
use crate::sql::RecordBatch;

/// A prepared condition over the columns of one schema. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Condition {
    expression: Arc<dyn PhysicalExpr>,
    text: Arc<str>,
}

impl Condition {
    pub(super) fn new(expression: Arc<dyn PhysicalExpr>, text: &str) -> Self {
        Self { expression, text: text.into() }
    }

    /// Whether it holds for the one row of `row`; as in SQL, NULL is not true.
    ///
    /// # Errors
    /// `Data` when it cannot be worked out, such as a division by zero.
    pub(crate) fn holds(&self, row: &RecordBatch) -> Result<bool> {
        let failed = |error: datafusion::common::DataFusionError| {
            Error::data(error.strip_backtrace()).within(format_args!("condition `{}`", self.text))
        };
        let value = match self.expression.evaluate(row).map_err(failed)? {
            ColumnarValue::Scalar(value) => value,
            ColumnarValue::Array(values) => {
                datafusion::common::ScalarValue::try_from_array(&values, 0).map_err(failed)?
            }
        };
        Ok(value == datafusion::common::ScalarValue::Boolean(Some(true)))
    }

    /// The rows for which it holds, in order.
    ///
    /// # Errors
    /// As for [`holds`](Self::holds).
    pub(crate) fn filter(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let failed = |error: datafusion::common::DataFusionError| {
            Error::data(error.strip_backtrace()).within(format_args!("condition `{}`", self.text))
        };
        let mask = self
            .expression
            .evaluate(rows)
            .and_then(|value| value.into_array(rows.num_rows()))
            .map_err(failed)?;
        filter_record_batch(rows, mask.as_boolean()).map_err(|error| failed(error.into()))
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condition({})", self.text)
    }
}
