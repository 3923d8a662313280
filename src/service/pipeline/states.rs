//! States per key: what a batch's groups do to them.

use super::streams::{Rows, Streams, finish, named};
use crate::error::Result;
use crate::service::check::{Emit, KeyedState};
use crate::sql::{Condition, Keeping, Row};
use crate::time::Duration;
use crate::{StateSpec, UpdateStateSpec};

impl Streams<'_> {
    pub(super) fn map_with_state(
        &mut self,
        own: &str,
        KeyedState { uid, keeping, initial, partitions }: &KeyedState,
        timeout: Option<Duration>,
        emit: Emit,
    ) -> Result<Rows> {
        let update = keeping.clone();
        // With each state, whether it is the last of its key.
        let mut spec = StateSpec::function_with_time(
            move |time, key: &Row, new: Option<Row>, state: &mut crate::State<Row>| {
                if new.is_none() {
                    return Some((key.clone(), state.get_option()?.clone(), true));
                }
                let next = or_panic(update.next(time, key, new.as_ref(), state.get_option()));
                state.update(next.clone());
                Some((key.clone(), next, false))
            },
        );
        if let Some(timeout) = timeout {
            spec = spec.timeout(timeout);
        }
        if let Some(table) = initial {
            spec = spec.initial_state(keeping.initial(&table.rows)?);
        }
        if let Some(partitions) = partitions {
            spec = spec.num_partitions(*partitions);
        }
        let states = self.groups(keeping.grouping())?.map_with_state_and_snapshots(spec);
        let changes = named((*states).clone(), uid, keeping.key_schema(), keeping.state_schema())?;
        let removed = changes.filter(|(_, _, last)| *last).map(|(key, ..)| key);
        self.removed.insert(own.to_owned(), (removed, keeping.key_schema().clone()));
        let given = match emit {
            Emit::All => states.state_snapshots(),
            _ => changes.flat_map(move |(key, state, last)| {
                let given = match emit {
                    Emit::Updated => !last,
                    Emit::TimedOut => last,
                    _ => true,
                };
                given.then_some((key, state))
            }),
        };
        Ok(finish(&given, keeping))
    }

    pub(super) fn update_state_by_key(
        &mut self,
        KeyedState { uid, keeping, initial, partitions }: &KeyedState,
        remove: Option<&Condition>,
    ) -> Result<Rows> {
        let (update, remove) = (keeping.clone(), remove.cloned());
        let mut spec =
            UpdateStateSpec::function_with_time(move |time, key: &Row, new: Vec<Row>, state: Option<Row>| {
                let new = new.into_iter().reduce(|mut sum, more| {
                    update.grouping().merge(&mut sum, &more);
                    sum
                });
                let next = or_panic(update.next(time, key, new.as_ref(), state.as_ref()));
                match &remove {
                    Some(condition) if goes(condition, &update, &next) => None,
                    _ => Some(next),
                }
            });
        if let Some(table) = initial {
            spec = spec.initial_state(keeping.initial(&table.rows)?);
        }
        if let Some(partitions) = partitions {
            spec = spec.num_partitions(*partitions);
        }
        let states = self.groups(keeping.grouping())?.update_state_by_key_with(spec);
        Ok(finish(&named(states, uid, keeping.key_schema(), keeping.state_schema())?, keeping))
    }
}

/// Whether a state is to be forgotten.
fn goes(condition: &Condition, keeping: &Keeping, state: &Row) -> bool {
    or_panic(keeping.values(state).and_then(|values| condition.holds(&values)))
}

/// The functions of state operators have no errors; a panic is told with the operator and its key.
fn or_panic<T>(outcome: Result<T>) -> T {
    #[allow(clippy::panic, reason = "see above")]
    outcome.unwrap_or_else(|error| panic!("{error}"))
}
