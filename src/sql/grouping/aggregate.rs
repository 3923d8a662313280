//! One aggregate's part of a state: how it starts, merges, is taken back and ends.

use super::Generic;
use crate::error::{Error, Result};
use crate::sql::{DataType, Value, Values};

/// What an aggregate needs of a group's rows.
#[derive(Debug, Clone)]
pub(super) enum Aggregate {
    /// `count(*)`, `count(x)`: the count.
    Count,
    /// `sum(x)` over integers: the sum and how many values are in it, as a sum of none is NULL.
    SumInt,
    /// `sum(x)` over floats, likewise.
    SumFloat,
    /// `avg(x)` over integers: the exact sum, and the count.
    AvgInt,
    /// `avg(x)` over floats.
    AvgFloat,
    /// `min(x)`: the least value, or NULL.
    Min,
    /// `max(x)`: the greatest value, or NULL; NaN is the greatest float.
    Max,
    /// Any other: the state that DataFusion itself keeps of it.
    Generic(Generic),
}

impl Aggregate {
    /// The columns of the partial query, over the argument `x` (`*` only for a count), each to be followed by `filter`.
    ///
    /// An integer's sum is taken in two halves, its upper 32 bits (with the sign) and its lower: neither can overflow over less
    /// than 2³¹ rows, where DataFusion's own sum would wrap around.
    pub(super) fn partial_columns(&self, x: &str, filter: &str) -> Vec<String> {
        let count = format!("count({x}){filter}");
        let int = |of: &str| format!("sum(cast(({x}) as bigint) {of}){filter}");
        match self {
            Aggregate::Count => vec![count],
            Aggregate::SumInt | Aggregate::AvgInt => vec![int(">> 32"), int("& 4294967295"), count],
            Aggregate::SumFloat | Aggregate::AvgFloat => {
                vec![format!("sum(cast(({x}) as double)){filter}"), count]
            }
            Aggregate::Min => vec![format!("min({x}){filter}")],
            Aggregate::Max => vec![format!("max({x}){filter}")],
            // The argument is the whole call.
            Aggregate::Generic(_) => vec![x.to_owned()],
        }
    }

    /// The columns of the state, named after the output column.
    pub(super) fn state_columns(&self, name: &str, argument: &DataType) -> Vec<(String, DataType)> {
        let count = || (format!("{name}_count"), DataType::Int64);
        let sum = |of| (format!("{name}_sum"), of);
        match self {
            Aggregate::Count => vec![(name.to_owned(), DataType::Int64)],
            Aggregate::SumInt | Aggregate::AvgInt => vec![sum(DataType::Int64), count()],
            Aggregate::SumFloat | Aggregate::AvgFloat => vec![sum(DataType::Float64), count()],
            Aggregate::Min | Aggregate::Max => vec![(name.to_owned(), argument.clone())],
            Aggregate::Generic(generic) => generic.state_columns(name),
        }
    }

    /// The type of the output column.
    pub(super) fn output_type(&self, argument: &DataType) -> DataType {
        match self {
            Aggregate::Count | Aggregate::SumInt => DataType::Int64,
            Aggregate::SumFloat | Aggregate::AvgInt | Aggregate::AvgFloat => DataType::Float64,
            Aggregate::Min | Aggregate::Max => argument.clone(),
            Aggregate::Generic(generic) => generic.output_type().clone(),
        }
    }

    /// How many columns of the state are this aggregate's.
    pub(super) fn width(&self) -> usize {
        match self {
            Aggregate::Count | Aggregate::Min | Aggregate::Max => 1,
            Aggregate::Generic(generic) => generic.width(),
            _ => 2,
        }
    }

    /// How many columns this aggregate has when the states of all chunks are merged.
    pub(super) fn merged_width(&self) -> usize {
        match self {
            Aggregate::Generic(_) => 1,
            other => other.partial_columns("", "").len(),
        }
    }

    /// Whether its output is worked out of several columns.
    pub(super) fn is_sum(&self) -> bool {
        matches!(self, Aggregate::SumInt | Aggregate::SumFloat | Aggregate::AvgInt | Aggregate::AvgFloat)
    }

    /// Whether rows can be taken out again.
    pub(super) fn invertible(&self) -> bool {
        !matches!(self, Aggregate::Min | Aggregate::Max | Aggregate::Generic(_))
    }

    /// Takes this aggregate's columns of the partial query and adds its columns of the state.
    pub(super) fn start(&self, columns: &mut impl Iterator<Item = Value>, state: &mut Values) {
        let mut next = || columns.next().unwrap_or(Value::Null);
        match self {
            Aggregate::Count | Aggregate::Min | Aggregate::Max => state.push(next()),
            Aggregate::SumInt | Aggregate::AvgInt => {
                let (upper, lower) = (wide(&next()), wide(&next()));
                state.push(of_wide((upper << 32) + lower));
                state.push(next());
            }
            Aggregate::SumFloat | Aggregate::AvgFloat => {
                state.push(Value::float(float(&next())));
                state.push(next());
            }
            Aggregate::Generic(generic) => (0..generic.width()).for_each(|_| state.push(next())),
        }
    }

    /// Adds `theirs` to `mine`.
    pub(super) fn merge(&self, mine: &mut [Value], theirs: &[Value]) {
        match (self, mine, theirs) {
            (Aggregate::Count, [n], [m]) => add(n, m, 1),
            (Aggregate::SumInt | Aggregate::AvgInt, [sum, n], [other, m]) => {
                add(sum, other, 1);
                add(n, m, 1);
            }
            (Aggregate::SumFloat | Aggregate::AvgFloat, [sum, n], [other, m]) => {
                *sum = Value::float(float(sum) + float(other));
                add(n, m, 1);
            }
            (Aggregate::Min, [least], [other]) if other < least || *least == Value::Null => {
                keep(least, other)
            }
            (Aggregate::Max, [most], [other]) if other > most => keep(most, other),
            (Aggregate::Generic(generic), mine, theirs) => generic.merge(mine, theirs),
            _ => {}
        }
    }

    /// Takes `theirs` out of `mine`.
    pub(super) fn invert(&self, mine: &mut [Value], theirs: &[Value]) {
        match (self, mine, theirs) {
            (Aggregate::Count, [n], [m]) => add(n, m, -1),
            (Aggregate::SumInt | Aggregate::AvgInt, [sum, n], [other, m]) => {
                add(sum, other, -1);
                add(n, m, -1);
            }
            (Aggregate::SumFloat | Aggregate::AvgFloat, [sum, n], [other, m]) => {
                add(n, m, -1);
                let left = if *n == Value::Int(0) { 0.0 } else { float(sum) - float(other) };
                *sum = Value::float(left);
            }
            _ => {}
        }
    }

    /// The output value of this aggregate's columns of a state.
    pub(super) fn finish(&self, state: &[Value]) -> Result<Value> {
        if let Aggregate::Generic(generic) = self {
            return generic.finish(state);
        }
        let none = matches!(state.last(), Some(Value::Int(0)));
        Ok(match (self, state) {
            (Aggregate::Count | Aggregate::Min | Aggregate::Max, [value]) => value.clone(),
            (_, [_, _]) if none => Value::Null,
            (Aggregate::SumInt, [sum, _]) => match i64::try_from(wide(sum)) {
                Ok(sum) => Value::Int(sum),
                Err(_) => return Err(Error::data(format!("the sum {} does not fit a bigint", wide(sum)))),
            },
            (Aggregate::AvgInt, [sum, n]) => Value::float(wide(sum) as f64 / wide(n) as f64),
            (Aggregate::SumFloat, [sum, _]) => Value::float(float(sum)),
            (Aggregate::AvgFloat, [sum, n]) => Value::float(float(sum) / wide(n) as f64),
            _ => return Err(Error::internal(format!("{self:?} has no state {state:?}"))),
        })
    }
}

/// Replaces `mine` by `other`, unless there is none: NULL is no value.
fn keep(mine: &mut Value, other: &Value) {
    if *other != Value::Null {
        *mine = other.clone();
    }
}

/// Adds `sign * other` to an integer of any size.
fn add(mine: &mut Value, other: &Value, sign: i64) {
    if let (Value::Int(a), Value::Int(b)) = (&*mine, other)
        && let Some(sum) = b.checked_mul(sign).and_then(|b| a.checked_add(b))
    {
        *mine = Value::Int(sum);
        return;
    }
    *mine = of_wide(wide(mine) + i128::from(sign) * wide(other));
}

/// An integer of a state. One beyond a bigint is a list of its upper bits and its lower 32.
fn wide(value: &Value) -> i128 {
    match value {
        Value::Int(value) => i128::from(*value),
        Value::List(parts) => match &**parts {
            [Value::Int(upper), Value::Int(lower)] => (i128::from(*upper) << 32) + i128::from(*lower),
            _ => 0,
        },
        _ => 0,
    }
}

fn of_wide(value: i128) -> Value {
    match i64::try_from(value) {
        Ok(value) => Value::Int(value),
        // Sums of fewer than 2³¹ bigints have less than 96 bits.
        Err(_) => {
            Value::List([Value::Int((value >> 32) as i64), Value::Int((value & 0xffff_ffff) as i64)].into())
        }
    }
}

fn float(value: &Value) -> f64 {
    match value {
        Value::Float(value) => *value,
        Value::Int(value) => *value as f64,
        _ => 0.0,
    }
}
