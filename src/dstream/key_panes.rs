//! The panes of one key, and how a batch changes them.
//!
//! The user's functions run while an [`Edit`] is made, from panes that stay as they are: a failed attempt changes
//! nothing. [`KeyPanes::apply`] calls nobody. Without an inverse function the panes are two stacks, so that a window's
//! value costs one call per new pane, however many panes it has.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::window_spec::Reduce;
use crate::time::Time;

/// Oldest first: `front` from its end, then `back`.
#[derive(Clone)]
pub(super) struct KeyPanes<V> {
    /// Panes with the combined value of themselves and all younger ones of this stack, youngest first.
    front: Vec<(Time, V)>,
    /// Younger panes, with their own values; with an inverse function, all of them.
    back: VecDeque<(Time, V)>,
    /// All of `back` combined, if that is known.
    back_total: Option<V>,
    /// With an inverse function: the last window's value.
    pub total: Option<V>,
    /// What the panes take in the store, oldest first.
    sizes: VecDeque<u32>,
    /// What the total takes there.
    total_size: u32,
    /// Whether the youngest pane's newest value in the store is a gathered one.
    pub is_gathered: bool,
}

impl<V> Default for KeyPanes<V> {
    fn default() -> Self {
        Self {
            front: Vec::new(),
            back: VecDeque::new(),
            back_total: None,
            total: None,
            sizes: VecDeque::new(),
            total_size: 0,
            is_gathered: false,
        }
    }
}

/// What a batch makes of the panes of a key.
#[derive(Clone)]
pub(super) struct Edit<V> {
    /// The youngest pane's new value.
    pub pane: Option<(Time, V)>,
    /// Whether that pane is there already.
    pub replaces: bool,
    pane_size: u32,
    is_gathered: bool,
    /// How many of the oldest panes go.
    drop: usize,
    /// `back`, turned into a new `front`.
    turned: Option<Vec<(Time, V)>>,
    back_total: Option<V>,
    /// The new total; `Some(None)` forgets the key.
    pub total: Option<Option<V>>,
    total_size: u32,
}

impl<V: Clone> Edit<V> {
    fn of(panes: &KeyPanes<V>) -> Self {
        Self {
            pane: None,
            replaces: false,
            pane_size: 0,
            is_gathered: false,
            drop: 0,
            turned: None,
            back_total: panes.back_total.clone(),
            total: None,
            total_size: 0,
        }
    }

    /// Whether it changes anything in `panes`.
    pub fn is_needed(&self, panes: &KeyPanes<V>) -> bool {
        let combined = panes.back_total.is_none() && self.back_total.is_some();
        self.pane.is_some() || self.drop > 0 || self.total.is_some() || combined
    }

    /// Notes what the youngest pane takes in the store, and whether it was gathered there.
    pub fn pane_takes(&mut self, bytes: usize, is_gathered: bool) {
        self.pane_size = bytes as u32;
        self.is_gathered = is_gathered;
    }

    /// Notes what the total takes in the store.
    pub fn total_takes(&mut self, bytes: usize) {
        self.total_size = bytes as u32;
    }
}

impl<V: Clone> KeyPanes<V> {
    /// Takes back in a pane that is in the store; the oldest come first.
    pub fn restore_pane(&mut self, pane: Time, value: V, size: usize) {
        self.back.push_back((pane, value));
        self.sizes.push_back(size as u32);
    }

    /// Takes back in a gathered value of the youngest pane, which takes the place of what is there: gives what that took.
    pub fn restore_gathered(&mut self, pane: Time, value: V, size: usize) -> usize {
        let known = self.back.pop_back_if(|(last, _)| *last == pane);
        let before = known.and_then(|_| self.sizes.pop_back()).unwrap_or_default();
        self.restore_pane(pane, value, size);
        before as usize
    }

    /// The youngest pane and its own value, unless a window has put it together with older ones.
    pub fn youngest(&self) -> Option<(Time, &V)> {
        self.back.back().map(|(pane, value)| (*pane, value))
    }

    /// Takes back in the total that is in the store.
    pub fn restore_total(&mut self, value: V, size: usize) {
        self.total = Some(value);
        self.total_size = size as u32;
    }

    /// Adds `value`, if there is one, to the pane that ends at `pane`, the youngest.
    pub fn absorb(&self, new: Option<(Time, V)>, reduce: &Reduce<V>, two_stacks: bool) -> Edit<V> {
        let mut edit = Edit::of(self);
        if two_stacks && edit.back_total.is_none() {
            // After a restart.
            edit.back_total = self.back.iter().map(|(_, value)| value.clone()).reduce(|a, b| reduce(a, b));
        }
        let Some((pane, value)) = new else { return edit };
        if two_stacks {
            edit.back_total = Some(match edit.back_total.take() {
                Some(total) => reduce(total, value.clone()),
                None => value.clone(),
            });
        }
        edit.pane = Some(match self.back.back() {
            Some((last, before)) if *last == pane => {
                edit.replaces = true;
                (pane, reduce(before.clone(), value))
            }
            _ => (pane, value),
        });
        edit
    }

    /// `back` as `edit` has it so far.
    fn back_after<'a>(&'a self, edit: &'a Edit<V>) -> impl DoubleEndedIterator<Item = (Time, &'a V)> {
        let stay = self.back.len() - usize::from(edit.replaces);
        self.back.range(..stay).chain(&edit.pane).map(|(pane, value)| (*pane, value))
    }

    /// Drops panes up to `expired`, and combines the rest.
    pub fn slide(&self, edit: &mut Edit<V>, expired: Time, reduce: &Reduce<V>) -> Option<V> {
        edit.drop = self.front.iter().rev().take_while(|(pane, _)| *pane <= expired).count();
        let mut oldest = self.front[..self.front.len() - edit.drop].last().map(|(_, value)| value.clone());
        if oldest.is_none() {
            let gone = self.back_after(edit).take_while(|(pane, _)| *pane <= expired).count();
            if gone > 0 {
                edit.drop += gone;
                // Turning the stacks costs each pane one call in its life.
                let mut turned: Vec<(Time, V)> = Vec::new();
                for (pane, value) in self.back_after(edit).rev().take_while(|(pane, _)| *pane > expired) {
                    let value = match turned.last() {
                        Some((_, younger)) => reduce(value.clone(), younger.clone()),
                        None => value.clone(),
                    };
                    turned.push((pane, value));
                }
                oldest = turned.last().map(|(_, value)| value.clone());
                edit.turned = Some(turned);
                edit.back_total = None;
            }
        }
        match (oldest, &edit.back_total) {
            (Some(older), Some(younger)) => Some(reduce(older, younger.clone())),
            (oldest, younger) => oldest.or_else(|| younger.clone()),
        }
    }

    /// Takes panes up to `expired` out of the last window's value, and puts the new ones in. The total has the panes
    /// up to `counted` in it.
    pub fn slide_inverse(
        &self,
        edit: &mut Edit<V>,
        expired: Time,
        counted: Option<Time>,
        reduce: &Reduce<V>,
        inverse: &Reduce<V>,
    ) -> Option<V> {
        let counted = counted.filter(|_| self.total.is_some());
        // Only the panes that come and go are looked at, however many stay.
        let gone = || self.back_after(edit).take_while(|(pane, _)| *pane <= expired);
        let combined = |values: &mut dyn Iterator<Item = &V>| values.cloned().reduce(|a, b| reduce(a, b));
        // A pane that no window has shown (time went on without batches) has nothing to be taken out of.
        let is_counted = |pane: Time| counted.is_some_and(|until| pane <= until);
        let old = combined(&mut gone().filter(|(pane, _)| is_counted(*pane)).map(|(_, value)| value));
        let from_youngest = self.back_after(edit).rev();
        let fresh = from_youngest.take_while(|(pane, _)| *pane > expired && !is_counted(*pane));
        let fresh: SmallVec<[&V; 4]> = fresh.map(|(_, value)| value).collect();
        let new = combined(&mut fresh.into_iter().rev());
        edit.drop = gone().count();
        let changed = old.is_some() || new.is_some();
        let rest = match (self.total.clone(), old) {
            (Some(total), Some(old)) => Some(inverse(total, old)),
            (total, _) => total,
        };
        let value = match (rest, new) {
            (Some(rest), Some(new)) => Some(reduce(rest, new)),
            (rest, new) => rest.or(new),
        };
        if changed {
            edit.total = Some(value.clone());
        }
        value
    }

    /// Has `edit` forget the key: panes, total and all.
    pub fn forget(&self, edit: &mut Edit<V>) {
        edit.drop += self.panes_after(edit);
        edit.total = Some(None);
    }

    /// The times of the panes that `edit` drops, oldest first.
    pub fn dropped<'a>(&'a self, edit: &'a Edit<V>) -> impl Iterator<Item = Time> {
        let front = self.front.iter().rev().map(|(pane, _)| *pane);
        front.chain(self.back_after(edit).map(|(pane, _)| pane)).take(edit.drop)
    }

    fn panes_after(&self, edit: &Edit<V>) -> usize {
        let added = usize::from(edit.pane.is_some() && !edit.replaces);
        self.sizes.len() + added - edit.drop
    }

    /// How many keys and bytes in the store there are more after `edit`.
    pub fn growth(&self, edit: &Edit<V>) -> (i64, i64) {
        let total = edit.total.as_ref().unwrap_or(&self.total);
        let stays = self.panes_after(edit) > 0 || total.is_some();
        let replaced = if edit.replaces { self.sizes.back() } else { None };
        let stay = self.sizes.len() - usize::from(edit.replaces);
        let sizes = self.sizes.range(..stay).chain(edit.pane.as_ref().map(|_| &edit.pane_size));
        let gone: i64 = sizes.take(edit.drop).chain(replaced).map(|size| i64::from(*size)).sum();
        let total =
            edit.total.as_ref().map_or(0, |_| i64::from(edit.total_size) - i64::from(self.total_size));
        let bytes = i64::from(edit.pane_size) - gone + total;
        (i64::from(stays) - i64::from(!self.is_empty()), bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty() && self.total.is_none()
    }

    pub fn apply(&mut self, edit: Edit<V>) {
        if let Some(pane) = edit.pane {
            if edit.replaces {
                self.back.pop_back();
                self.sizes.pop_back();
            }
            self.back.push_back(pane);
            self.sizes.push_back(edit.pane_size);
            self.is_gathered = edit.is_gathered;
        }
        let of_front = edit.drop.min(self.front.len());
        self.front.truncate(self.front.len() - of_front);
        self.back.drain(..edit.drop - of_front);
        self.sizes.drain(..edit.drop);
        if let Some(turned) = edit.turned {
            self.front = turned;
            self.back.clear();
        }
        self.back_total = edit.back_total;
        if let Some(total) = edit.total {
            self.total_size = if total.is_some() { edit.total_size } else { 0 };
            self.total = total;
        }
    }
}
