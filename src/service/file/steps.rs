//! Streams as they are written: an operator over other streams, named as the library names it.

use super::origin::Text;
use super::read::{At, Keys, Named, Read, choice, expected, mapping};
use super::yaml::{Node, Value};
use crate::service::report::{Report, list};
use crate::time::Duration;

/// One step: an operator over other streams.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) operator: Option<At<Operator>>,
}

macro_rules! operators {
    ($($(#[$doc:meta])* $name:ident => $Variant:ident($Type:ty),)*) => {
        /// What a stream is made by.
        #[derive(Debug)]
        pub(crate) enum Operator {
            $($(#[$doc])* $Variant($Type),)*
        }

        impl Operator {
            /// The operators' names.
            pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// The operator's name.
            pub(crate) fn name(&self) -> &'static str {
                match self {
                    $(Self::$Variant(_) => stringify!($name),)*
                }
            }

            fn read(name: &str, node: &Node, report: &mut Report) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self::$Variant(<$Type>::read(node, report)?)),)*
                    _ => None,
                }
            }
        }
    };
}

operators! {
    /// A query over streams.
    sql => Sql(Text),
    /// One value per key and batch.
    reduce_by_key => ReduceByKey(ReduceByKey),
    /// One value per key over the last batches.
    reduce_by_key_and_window => ReduceByKeyAndWindow(ReduceByKeyAndWindow),
    /// A state per key, of which each batch visits the keys that it has.
    map_with_state => MapWithState(MapWithState),
    /// A state per key, of which each batch visits every key.
    update_state_by_key => UpdateStateByKey(UpdateStateByKey),
    /// The rows of the last batches.
    window => Window(Window),
    /// The rows for which something holds.
    filter => Filter(Filter),
    /// Each row made into another one.
    map => Map(Map),
    /// The rows of several streams.
    union => Union(Union),
    /// How many rows a batch has.
    count => Count(Count),
}

/// A name that may be given.
type Name = Option<At<String>>;

impl Operator {
    /// The name that is given to the operator's state, and the one that it had before; nothing if it keeps none.
    pub(crate) fn state_names(&self) -> Option<(&Name, &Name)> {
        match self {
            Self::ReduceByKeyAndWindow(step) => Some((&step.uid, &step.was)),
            Self::MapWithState(step) => Some((&step.uid, &step.was)),
            Self::UpdateStateByKey(step) => Some((&step.uid, &step.was)),
            Self::Window(step) => Some((&step.uid, &step.was)),
            Self::Sql(_)
            | Self::ReduceByKey(_)
            | Self::Filter(_)
            | Self::Map(_)
            | Self::Union(_)
            | Self::Count(_) => None,
        }
    }
}

impl Read for Stream {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let Value::Mapping(entries) = &node.value else {
            return expected("a mapping with one operator", node, report);
        };
        let operators = || format!("operators: {}", list(Operator::NAMES.iter().copied()));
        let mut known = Vec::new();
        for (key, value) in entries {
            if Operator::NAMES.contains(&key.text.as_str()) {
                known.push((key, value));
            } else if !key.text.is_empty() {
                report
                    .error(key.at.clone(), format!("unknown operator `{}`", key.text))
                    .nearest(&key.text, Operator::NAMES.iter().copied())
                    .help(operators());
            }
        }
        if entries.is_empty() {
            report.error(node.at.clone(), format!("{} needs an operator", node.name)).help(operators());
        }
        if let [(first, _), (second, _), ..] = known[..] {
            report
                .error(second.at.clone(), format!("{} has two operators", node.name))
                .also(first.at.clone(), "the first")
                .help(
                    "a stream has one operator: give the second a stream of its own, with its `from` set to this one",
                );
        }
        let operator = known.first().and_then(|(key, value)| {
            let (at, key_at) = (value.at.clone(), key.at.clone());
            Operator::read(&key.text, value, report).map(|value| At { value, at, key_at })
        });
        Some(Self { operator })
    }
}

mapping! {
    /// See [`Operator::ReduceByKey`].
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
    /// See [`Operator::ReduceByKeyAndWindow`].
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
        /// The state's name in the checkpoint; the stream's.
        optional uid: String,
        /// The name that the state had in an earlier version of the file.
        optional was: String,
    }
}

mapping! {
    /// See [`Operator::MapWithState`].
    MapWithState {
        /// The stream.
        required from: String,
        /// Columns or expressions.
        required key: Vec<At<Text>>,
        /// Aggregates over all that came, by the column that each gives.
        required state: Named<Text>,
        /// How long a key is kept of which nothing comes.
        optional timeout: Duration,
        /// Which keys a batch gives.
        #[expect(dead_code, reason = "there is one value yet")]
        optional emit: Emit,
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
    }
}

mapping! {
    /// See [`Operator::UpdateStateByKey`].
    UpdateStateByKey {
        /// The stream.
        required from: String,
        /// Columns or expressions.
        required key: Vec<At<Text>>,
        /// Aggregates over all that came, by the column that each gives.
        required state: Named<Text>,
        /// The state's name in the checkpoint; the stream's.
        optional uid: String,
        /// The name that the state had in an earlier version of the file.
        optional was: String,
    }
}

mapping! {
    /// See [`Operator::Window`].
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
    /// See [`Operator::Map`].
    Map {
        /// The stream.
        required from: String,
        /// Expressions, by the column that each gives.
        required select: Named<Text>,
    }
}

mapping! {
    /// See [`Operator::Union`].
    Union {
        /// The streams, all of the same columns.
        required of: Vec<At<String>>,
    }
}

mapping! {
    /// See [`Operator::Count`].
    Count {
        /// The stream.
        required from: String,
    }
}

/// See [`Operator::Filter`].
#[derive(Debug)]
pub(crate) struct Filter {
    /// The stream.
    pub(crate) from: Option<At<String>>,
    /// What must hold; the key is `where`, which Rust keeps for itself.
    pub(crate) condition: Option<At<Text>>,
}

impl Read for Filter {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let mut keys = Keys::of(node, report)?;
        let read = Self { from: keys.required("from", report), condition: keys.required("where", report) };
        keys.finish(report);
        Some(read)
    }
}
