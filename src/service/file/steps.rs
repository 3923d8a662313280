//! Streams as they are written: an operator over other streams, named as the library names it.

use super::operators::*;
use super::origin::Text;
use super::read::{At, Read, comment, expected};
use super::schema::{self, Definitions, Property};
use super::yaml::{Node, Value};
use crate::service::report::{Report, list};

/// One step: an operator over other streams.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) operator: Option<At<Operator>>,
}

macro_rules! operators {
    ($($(#[$($doc:tt)*])* $name:ident => $Variant:ident($Type:ty),)*) => {
        /// What a stream is made by.
        #[derive(Debug)]
        pub(crate) enum Operator {
            $($(#[$($doc)*])* $Variant($Type),)*
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

        impl Stream {
            fn properties(definitions: &mut Definitions) -> Vec<Property<'static>> {
                vec![$(Property {
                    name: stringify!($name),
                    comment: &[$(comment!($($doc)*)),*],
                    required: false,
                    schema: <$Type as Read>::schema(definitions),
                },)*]
            }
        }
    };
}

operators! {
    /// A query over streams, windows, states and tables.
    sql => Sql(Text),
    /// Each row made into another one.
    map => Map(Map),
    /// Each row made into one row for each element of an array.
    flat_map => FlatMap(FlatMap),
    /// The rows for which something holds.
    filter => Filter(Filter),
    /// Each row made into another one with the same key.
    map_values => MapValues(MapValues),
    /// Each row made into one row with the same key for each element of an array.
    flat_map_values => FlatMapValues(FlatMapValues),
    /// The rows of several streams.
    union => Union(Union),
    /// The same rows in another number of partitions, and so, of tasks.
    repartition => Repartition(Repartition),
    /// How many rows a batch has; 0 for an empty one.
    count => Count(Count),
    /// How often each value came out in a batch.
    count_by_value => CountByValue(CountByValue),
    /// All rows of a batch put together; nothing for an empty one.
    reduce => Reduce(Reduce),
    /// One value per key and batch.
    reduce_by_key => ReduceByKey(ReduceByKey),
    /// The values of each key in a batch, as arrays.
    group_by_key => GroupByKey(GroupByKey),
    /// The pairs of rows of two streams that have the same key.
    join => Join(Join),
    /// The same, with the rows on the left that have no partner.
    left_outer_join => LeftOuterJoin(Join),
    /// The same, with the rows on the right that have no partner.
    right_outer_join => RightOuterJoin(Join),
    /// The same, with the rows on both sides that have no partner.
    full_outer_join => FullOuterJoin(Join),
    /// The values of each key in two streams, as arrays.
    cogroup => Cogroup(Join),
    /// The rows of the last batches.
    window => Window(Window),
    /// How many rows the last batches have; 0 once they are empty.
    count_by_window => CountByWindow(Window),
    /// How often each value came out in the last batches.
    count_by_value_and_window => CountByValueAndWindow(CountByValueAndWindow),
    /// All rows of the last batches put together; nothing if there are none.
    reduce_by_window => ReduceByWindow(ReduceByWindow),
    /// One value per key over the last batches.
    reduce_by_key_and_window => ReduceByKeyAndWindow(ReduceByKeyAndWindow),
    /// The values of each key in the last batches, as arrays.
    group_by_key_and_window => GroupByKeyAndWindow(GroupByKeyAndWindow),
    /// A state per key, of which each batch visits the keys that it has.
    map_with_state => MapWithState(MapWithState),
    /// A state per key, of which each batch visits every key.
    update_state_by_key => UpdateStateByKey(UpdateStateByKey),
}

/// A name that may be given.
type Name = Option<At<String>>;

impl Operator {
    /// The name that is given to the operator's state, and the one that it had before; nothing if it keeps none.
    pub(crate) fn state_names(&self) -> Option<(&Name, &Name)> {
        match self {
            Self::Window(step) | Self::CountByWindow(step) => Some((&step.uid, &step.was)),
            Self::CountByValueAndWindow(step) => Some((&step.uid, &step.was)),
            Self::ReduceByWindow(step) => Some((&step.uid, &step.was)),
            Self::ReduceByKeyAndWindow(step) => Some((&step.uid, &step.was)),
            Self::GroupByKeyAndWindow(step) => Some((&step.uid, &step.was)),
            Self::MapWithState(step) => Some((&step.uid, &step.was)),
            Self::UpdateStateByKey(step) => Some((&step.uid, &step.was)),
            _ => None,
        }
    }

    /// Whether it puts two streams together, of which one may be a table.
    pub(crate) fn joins(&self) -> bool {
        matches!(
            self,
            Self::Join(_)
                | Self::LeftOuterJoin(_)
                | Self::RightOuterJoin(_)
                | Self::FullOuterJoin(_)
                | Self::Cogroup(_)
        )
    }

    /// The streams that the operator names, as they are written: `None` for one that is missing. What a query reads only its
    /// plan says.
    pub(crate) fn inputs(&self) -> Vec<Option<&At<String>>> {
        let from = match self {
            Self::Sql(_) => return Vec::new(),
            Self::Union(step) => {
                return step.of.as_ref().map_or(vec![None], |of| of.value.iter().map(Some).collect());
            }
            Self::Join(step)
            | Self::LeftOuterJoin(step)
            | Self::RightOuterJoin(step)
            | Self::FullOuterJoin(step)
            | Self::Cogroup(step) => return vec![step.left.as_ref(), step.right.as_ref()],
            Self::Map(step) => &step.from,
            Self::FlatMap(step) => &step.from,
            Self::Filter(step) => &step.from,
            Self::MapValues(step) => &step.from,
            Self::FlatMapValues(step) => &step.from,
            Self::Repartition(step) => &step.from,
            Self::Count(step) => &step.from,
            Self::CountByValue(step) => &step.from,
            Self::Reduce(step) => &step.from,
            Self::ReduceByKey(step) => &step.from,
            Self::GroupByKey(step) => &step.from,
            Self::Window(step) | Self::CountByWindow(step) => &step.from,
            Self::CountByValueAndWindow(step) => &step.from,
            Self::ReduceByWindow(step) => &step.from,
            Self::ReduceByKeyAndWindow(step) => &step.from,
            Self::GroupByKeyAndWindow(step) => &step.from,
            Self::MapWithState(step) => &step.from,
            Self::UpdateStateByKey(step) => &step.from,
        };
        vec![from.as_ref()]
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

    fn schema(definitions: &mut Definitions) -> serde_json::Value {
        let properties = Self::properties(definitions);
        schema::one_of("Stream", &["One step: an operator over other streams."], properties, definitions)
    }
}
