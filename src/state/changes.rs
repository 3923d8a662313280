//! What becomes of stored state when a program that may have been changed starts: a comparison that changes nothing, and
//! what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{OperatorSchema, StateDb};
use crate::error::{Error, Result};

/// An operator of the program.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub uid: Arc<str>,
    /// The uid that its state may still have.
    pub was: Option<Arc<str>>,
    pub schema: OperatorSchema,
}

/// What a start finds for each operator of the program, and for each of the checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub kept: Vec<String>,
    pub new: Vec<String>,
    /// The old uid, and the one that the state gets.
    pub renamed: Vec<(String, String)>,
    /// Allowed to be dropped.
    pub removed: Vec<String>,
    pub orphaned: Vec<String>,
    /// Kept or renamed with values of another type: the uid, what was written, and what is wanted.
    pub retyped: Vec<(String, String, String)>,
    /// Whose state does not fit.
    pub refused: Vec<(String, Error)>,
}

/// Whether the names that a program gives to state contradict each other, whatever the checkpoint holds.
///
/// # Errors
/// If they do.
pub(crate) fn check_names(wanted: &[Wanted], removed: &BTreeSet<String>) -> Result<()> {
    let mut uids = BTreeSet::new();
    for operator in wanted {
        let uid = &*operator.uid;
        if !uids.insert(uid) {
            return Err(Error::config(format!(
                "two operators have the uid `{uid}`, which would mix up their state: name one otherwise"
            )));
        }
        if removed.contains(uid) {
            return Err(Error::config(format!(
                "`remove_state` names `{uid}`, which is an operator of the program: take it out of there, or give the \
                 operator another uid to begin without that state"
            )));
        }
    }
    let mut before = BTreeMap::new();
    for Wanted { uid, was, .. } in wanted {
        let Some(was) = was.as_deref().filter(|was| **was != **uid) else { continue };
        if uids.contains(was) {
            return Err(Error::config(format!(
                "operator `{uid}` was `{was}`, but the program has an operator `{was}` besides: one state cannot be both's"
            )));
        }
        if removed.contains(was) {
            return Err(Error::config(format!(
                "operator `{uid}` was `{was}`, but `remove_state` names `{was}` too: it is either renamed or removed"
            )));
        }
        if let Some(other) = before.insert(was, uid) {
            return Err(Error::config(format!(
                "operators `{other}` and `{uid}` both were `{was}`: one state cannot be both's"
            )));
        }
    }
    Ok(())
}

impl StateDb {
    /// Compares what is stored with what the program wants. Nothing is changed.
    pub fn compare(&self, wanted: &[Wanted], removed: &BTreeSet<String>) -> Comparison {
        let mut left: BTreeMap<_, _> = self.operators().into_iter().collect();
        let mut found = Comparison::default();
        // First those under their own uids, which nobody else may take.
        let own: Vec<_> = wanted.iter().map(|operator| left.remove(&*operator.uid)).collect();
        for (operator, own) in wanted.iter().zip(own) {
            let uid = operator.uid.to_string();
            let (mut stored, was) = match (own, &operator.was) {
                (Some(stored), _) => (stored, None),
                (None, Some(was)) => match left.remove(&**was) {
                    Some(stored) => (stored, Some(was.to_string())),
                    None => {
                        found.new.push(uid);
                        continue;
                    }
                },
                (None, None) => {
                    found.new.push(uid);
                    continue;
                }
            };
            let written = stored.written_as();
            match stored.admits(&uid, &operator.schema, self.path()) {
                Err(error) => found.refused.push((uid.clone(), error)),
                Ok(true) => {
                    found.retyped.push((uid.clone(), written, operator.schema.value_type.clone()));
                }
                Ok(false) => {}
            }
            match was {
                Some(was) => found.renamed.push((was, uid)),
                None => found.kept.push(uid),
            }
        }
        (found.removed, found.orphaned) = left.into_keys().partition(|uid| removed.contains(uid));
        found
    }

    /// Has the checkpoint be one of this program: gives operators their new uids, makes room for new ones, and drops the state that may be dropped. Whatever was
    /// prepared must have been settled: it may hold changes of an operator that goes.
    pub fn adopt(&self, comparison: &Comparison, wanted: Vec<Wanted>) -> Result<()> {
        self.raise_format()?;
        comparison.renamed.iter().try_for_each(|(from, to)| self.rename_operator(from, to))?;
        wanted.into_iter().try_for_each(|operator| self.register(&operator.uid, operator.schema))?;
        comparison.removed.iter().try_for_each(|uid| self.drop_operator(uid))
    }
}

impl Comparison {
    /// # Errors
    /// Why a program with this comparison cannot start on `store`.
    pub fn check(&self, store: &StateDb) -> Result<()> {
        if let Some((_, error)) = self.refused.first() {
            return Err(Error::new(error.kind(), error.to_string()));
        }
        let Some(first) = self.orphaned.first() else { return Ok(()) };
        let names = self.orphaned.iter().map(|uid| format!("`{uid}`")).collect::<Vec<_>>().join(", ");
        Err(Error::checkpoint(format!(
            "the checkpoint {} holds state of operators that the program does not have: {names}. Nothing was changed. An \
             operator that was renamed finds its state under its old uid (`.uid(\"{first}\")`), or gives it the new one with \
             `.was(\"{first}\")` after `uid`; state that is needed no more is dropped at the next start if the builder's \
             `remove_state(\"{first}\")` allows it. In a pipeline file these are `uid: {first}` and `was: {first}` of a stream, \
             and `remove_state: [{first}]`",
            store.path().display()
        )))
    }

    /// Says in the log which operators find their state again, and what becomes of the rest.
    pub fn tell(&self) {
        let arrows = |pairs: &[(String, String)]| {
            pairs.iter().map(|(from, to)| format!("{from} -> {to}")).collect::<Vec<_>>().join(", ")
        };
        tracing::info!(
            kept = self.kept.join(", "),
            new = self.new.join(", "),
            renamed = arrows(&self.renamed),
            removed = self.removed.join(", "),
            orphaned = self.orphaned.join(", "),
            "state"
        );
        for (uid, written, wanted) in &self.retyped {
            tracing::info!(uid, written, wanted, "the state's values have another type now");
        }
    }
}
