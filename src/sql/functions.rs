//! Functions beside DataFusion's own: JSON access (`->`, `->>`, `json_get_int` …), `first`, `last` and `top_n`, and the time
//! of the batch.

use std::cell::Cell;

use datafusion::arrow::datatypes::TimeUnit;
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::functions_aggregate::approx_percentile_cont::approx_percentile_cont_udaf;
use datafusion::functions_aggregate::first_last::{first_value_udaf, last_value_udaf};

use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::contains::Contains;
use super::string_to_array::StringToArray;
use super::top_n::TopN;
use crate::sql::DataType;
use crate::time::Time;

/// The name of the function that gives the batch's time: the one volatile function that a replay can repeat.
pub(super) const BATCH_TIME: &str = "batch_time";

/// Makes the functions known.
///
/// # Errors
/// None, as long as no two functions have one name.
pub(super) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    datafusion_functions_json::register_all(registry)?;
    for (function, alias) in [
        (first_value_udaf(), "first"),
        (last_value_udaf(), "last"),
        (approx_percentile_cont_udaf(), "approx_percentile"),
    ] {
        registry.register_udaf(function.as_ref().clone().with_aliases([alias]).into())?;
    }
    registry.register_udaf(AggregateUDF::from(TopN::new()).into())?;
    registry.register_udf(ScalarUDF::from(BatchTime::new()).into())?;
    registry.register_udf(ScalarUDF::from(StringToArray::new()).into())?;
    registry.register_udf(ScalarUDF::from(Contains::new()).into())?;
    Ok(())
}

thread_local! {
    /// The time of the batch whose query runs on this thread.
    static RUNNING: Cell<Option<Time>> = const { Cell::new(None) };
}

/// Has `batch_time()` give `time` while `run` runs on this thread.
pub(super) fn at<R>(time: Option<Time>, run: impl FnOnce() -> R) -> R {
    /// Also when `run` panics, which ends one task and not the thread.
    struct Restore(Option<Time>);
    impl Drop for Restore {
        fn drop(&mut self) {
            RUNNING.set(self.0);
        }
    }
    let _restore = Restore(RUNNING.replace(time));
    run()
}

/// `batch_time()`: the end of the interval that the batch stands for.
#[derive(Debug, PartialEq, Eq, Hash)]
struct BatchTime {
    signature: Signature,
}

impl BatchTime {
    fn new() -> Self {
        // Volatile, so that no optimizer rule works it out when the query is planned.
        Self { signature: Signature::nullary(Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for BatchTime {
    fn name(&self) -> &str {
        BATCH_TIME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, None))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let micros = RUNNING.get().map(|time| time.as_millis() * 1_000);
        Ok(ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(micros, None)))
    }
}
