//! The operators' own keys, each operator with those that it has.

use std::num::NonZeroU64;

use super::origin::Text;
use super::read::{At, Named, choice, mapping};
use crate::time::Duration;

mapping! {
    /// Each row made into another one.
    Map {
        /// The stream.
        required from: String,
        /// Expressions, by the column that each gives.
        required select: Named<Text>,
    }
}

mapping! {
    /// Each row made into one row for each element of an array.
    FlatMap {
        /// The stream.
        required from: String,
        /// Expressions, by the column that each gives, beside the elements.
        optional select: Named<Text>,
        /// One expression that gives an array, by the column that its elements become.
        required each: Named<Text>,
    }
}

mapping! {
    /// The rows for which something holds.
    Filter {
        /// The stream.
        required from: String,
        /// What must hold.
        required r#where: Text,
    }
}

mapping! {
    /// Each row made into another one with the same key.
    MapValues {
        /// The stream.
        required from: String,
        /// Columns or expressions.
        required key: Vec<At<Text>>,
        /// Expressions, by the column that each gives.
        required select: Named<Text>,
    }
}

mapping! {
    /// Each row made into one row with the same key for each element of an array.
    FlatMapValues {
        /// The stream.
        required from: String,
        /// Columns or expressions.
        required key: Vec<At<Text>>,
        /// One expression that gives an array, by the column that its elements become.
        required each: Named<Text>,
    }
}

mapping! {
    /// The rows of several streams.
    Union {
        /// The streams, all of the same columns.
        required of: Vec<At<String>>,
    }
}

mapping! {
    /// The same rows in another number of partitions.
    Repartition {
        /// The stream.
        required from: String,
        /// How many.
        required partitions: NonZeroU64,
    }
}

mapping! {
    /// How many rows a batch has.
    Count {
        /// The stream.
        required from: String,
    }
}

mapping! {
    /// How often each value came out in a batch, as the column `count`.
    CountByValue {
        /// The stream.
        required from: String,
        /// Columns or expressions that make the value; all columns unless set.
        optional value: Vec<At<Text>>,
    }
}

mapping! {
    /// All rows of a batch put together.
    Reduce {
        /// The stream.
        required from: String,
        /// Aggregates, by the column that each gives.
        required values: Named<Text>,
    }
}

mapping! {
    /// One value per key and batch.
    ReduceByKey {
        /// The stream.
        required from: String,
        /// Columns or expressions.
        required key: Vec<At<Text>>,
        /// Aggregates, by the column that each gives.
        required values: Named<Text>,
    }
}

mapping! {
    /// The values of each key in a batch, as arrays.
    GroupByKey {
        /// The stream.
        required from: String,
        /// Columns or expressions.
        required key: Vec<At<Text>>,
        /// Expressions, by the column that has their values; all columns beside the key unless set.
        optional values: Named<Text>,
    }
}

mapping! {
    /// Two streams put together by key.
    Join {
        /// A stream.
        required left: String,
        /// Another stream, or a table.
        required right: String,
        /// The columns of the key, which both have.
        required on: Vec<At<Text>>,
        /// Expressions over `STREAM.column`, by the column that each gives; the key and all other columns unless set.
        optional select: Named<Text>,
    }
}

mapping! {
    /// The last batches.
    Window {
        /// The stream.
        required from: String,
        /// How much time is looked back on.
        required window: Duration,
        /// How often; as often as the stream before it.
        optional slide: Duration,
        /// The state's name in the checkpoint; the stream's.
        optional uid: String,
        /// The name that the state had in an earlier version of the file.
        optional was: String,
    }
}

mapping! {
    /// How often each value came out in the last batches, as the column `count`.
    CountByValueAndWindow {
        /// The stream.
        required from: String,
        /// Columns or expressions that make the value; all columns unless set.
        optional value: Vec<At<Text>>,
        /// How much time is looked back on.
        required window: Duration,
        /// How often; as often as the stream before it.
        optional slide: Duration,
        /// The state's name in the checkpoint; the stream's.
        optional uid: String,
        /// The name that the state had in an earlier version of the file.
        optional was: String,
    }
}

mapping! {
    /// All rows of the last batches put together.
    ReduceByWindow {
        /// The stream.
        required from: String,
        /// Aggregates, by the column that each gives.
        required values: Named<Text>,
        /// How much time is looked back on.
        required window: Duration,
        /// How often; as often as the stream before it.
        optional slide: Duration,
        /// Whether values are taken out again as they leave the window: worth it for long windows with short slides.
        optional inverse: bool,
        /// The state's name in the checkpoint; the stream's.
        optional uid: String,
        /// The name that the state had in an earlier version of the file.
        optional was: String,
    }
}

mapping! {
    /// One value per key over the last batches.
    ReduceByKeyAndWindow {
        /// The stream.
        required from: String,
        /// Columns or expressions.
        required key: Vec<At<Text>>,
        /// Aggregates, by the column that each gives.
        required values: Named<Text>,
        /// How much time is looked back on.
        required window: Duration,
        /// How often; as often as the stream before it.
        optional slide: Duration,
        /// Whether values are taken out again as they leave the window: worth it for long windows with short slides.
        optional inverse: bool,
        /// What must hold for a row to be given, in terms of the columns that come out.
        optional filter: Text,
        /// Over how many partitions keys are spread; the checkpoint keeps its number.
        optional partitions: NonZeroU64,
        /// The state's name in the checkpoint; the stream's.
        optional uid: String,
        /// The name that the state had in an earlier version of the file.
        optional was: String,
    }
}

mapping! {
    /// The values of each key in the last batches, as arrays.
    GroupByKeyAndWindow {
        /// The stream.
        required from: String,
        /// Columns or expressions.
        required key: Vec<At<Text>>,
        /// Expressions, by the column that has their values; all columns beside the key unless set.
        optional values: Named<Text>,
        /// How much time is looked back on.
        required window: Duration,
        /// How often; as often as the stream before it.
        optional slide: Duration,
        /// The state's name in the checkpoint; the stream's.
        optional uid: String,
        /// The name that the state had in an earlier version of the file.
        optional was: String,
    }
}

mapping! {
    /// A state per key, of which each batch visits the keys that it has.
    MapWithState {
        /// The stream.
        required from: String,
        /// Columns or expressions.
        required key: Vec<At<Text>>,
        /// Aggregates over all that came, by the column that each gives. Or else `values` and `update`.
        optional state: Named<Text>,
        /// Aggregates over what the batch has for a key, by the name that `update` knows each by.
        optional values: Named<Text>,
        /// The new state's columns: expressions over the key, `values`, and the state as it was (`state.total`; `state` is NULL
        /// for a key that had none).
        optional update: Named<Text>,
        /// How long a key is kept of which nothing comes.
        optional timeout: Duration,
        /// Which keys a batch gives; `updated` unless set.
        optional emit: Emit,
        /// A table of the same columns, whose rows count as if they had come before all others.
        optional initial: String,
        /// Over how many partitions keys are spread; the checkpoint keeps its number.
        optional partitions: NonZeroU64,
        /// The state's name in the checkpoint; the stream's.
        optional uid: String,
        /// The name that the state had in an earlier version of the file.
        optional was: String,
    }
}

mapping! {
    /// A state per key, of which each batch visits every key.
    UpdateStateByKey {
        /// The stream.
        required from: String,
        /// Columns or expressions.
        required key: Vec<At<Text>>,
        /// Aggregates over all that came, by the column that each gives. Or else `values` and `update`.
        optional state: Named<Text>,
        /// Aggregates over what the batch has for a key, by the name that `update` knows each by.
        optional values: Named<Text>,
        /// The new state's columns: expressions over the key, `values`, and the state as it was (`state.total`; `state` is NULL
        /// for a key that had none).
        optional update: Named<Text>,
        /// What must hold for a key to be forgotten, in terms of the state's columns.
        optional remove: Text,
        /// A table of the same columns, whose rows count as if they had come before all others.
        optional initial: String,
        /// Over how many partitions keys are spread; the checkpoint keeps its number.
        optional partitions: NonZeroU64,
        /// The state's name in the checkpoint; the stream's.
        optional uid: String,
        /// The name that the state had in an earlier version of the file.
        optional was: String,
    }
}

choice! {
    /// Which keys of a state a batch gives.
    Emit {
        /// Those that the batch has changed.
        "updated" => Updated,
        /// Those whose timeout has passed, as they were last.
        "timed_out" => TimedOut,
        /// Those that the batch has changed, and those whose timeout has passed.
        "updated_and_timed_out" => Both,
        /// All that there are.
        "all" => All,
    }
}
