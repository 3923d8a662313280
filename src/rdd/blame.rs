//! Where a user's function panicked: which operator it belongs to, and at which record.
//!
//! Nothing of this costs anything while all goes well: guards are forgotten when the function returns, and only a panic that
//! unwinds through them makes them speak. The innermost guard is right, since that is whose function panicked.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use super::{Data, Flow};
use crate::error::{Error, Result};

/// The operator that an RDD belongs to, as errors call it; unknown for one that was made outside of any.
#[derive(Clone, Default)]
pub(crate) struct Operator(Option<Arc<str>>);

/// What the guards that a panic unwound through have said.
#[derive(Default)]
struct Blame {
    /// Once a guard has spoken; unknown if that was no operator's.
    operator: Option<Operator>,
    place: Option<String>,
}

thread_local! {
    /// Whose RDDs this thread is making.
    static CURRENT: RefCell<Operator> = const { RefCell::new(Operator(None)) };
    static BLAME: RefCell<Blame> = const { RefCell::new(Blame { operator: None, place: None }) };
}

/// Makes the operator before current again.
struct Restore(Operator);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(std::mem::take(&mut self.0));
    }
}

/// Blames an operator when a panic unwinds through it.
#[must_use]
pub(crate) struct Guard<'a>(Option<&'a Operator>);

impl Guard<'_> {
    /// All went well.
    #[inline(always)]
    pub fn done(self) {
        std::mem::forget(self);
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        BLAME.with_borrow_mut(|blame| {
            blame.operator.get_or_insert_with(|| self.0.cloned().unwrap_or_default());
        });
    }
}

impl Operator {
    pub fn named(name: impl std::fmt::Display) -> Self {
        Self::made_at(name, "")
    }

    /// The operator `name`, made by the program ` at` a place, if that is known.
    pub fn made_at(name: impl std::fmt::Display, at: &str) -> Self {
        Self(Some(format!("operator `{name}`{at}").into()))
    }

    /// The operator whose RDDs this thread is making.
    pub fn current() -> Self {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Runs `body`, which makes RDDs of this operator.
    pub fn make<R>(&self, body: impl FnOnce() -> R) -> R {
        let _restore = Restore(CURRENT.replace(self.clone()));
        body()
    }

    /// Runs `body`, which calls this operator's function.
    #[inline]
    pub fn run<R>(&self, body: impl FnOnce() -> R) -> R {
        let guard = self.guard();
        let result = body();
        guard.done();
        result
    }

    /// As [`run`](Operator::run), for what is done until the guard is told that it is. An element that was just made is not copied for it, as it
    /// is into a closure: a copy is read in other pieces than were written, and those have to be waited for.
    #[inline(always)]
    pub fn guard(&self) -> Guard<'_> {
        Guard(Some(self))
    }

    /// Runs `body`, which calls this operator's function outside of any task.
    pub fn caught<R>(&self, body: impl FnOnce() -> R) -> Result<R> {
        caught(|| Ok(self.run(body)))
    }
}

/// Hands `element` on to whatever comes next, inside of an operator's own [`run`](Operator::run).
#[inline(always)]
pub(crate) fn hand_on<T>(emit: &mut dyn FnMut(T) -> Flow, element: T) -> Flow {
    let guard = Guard(None);
    let flow = emit(element);
    guard.done();
    flow
}

/// Tells the place of the record at hand, as long as it lives.
pub(crate) struct AtRecord<F: Fn() -> String>(pub F);

impl<F: Fn() -> String> Drop for AtRecord<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            BLAME.with_borrow_mut(|blame| {
                blame.place.get_or_insert_with(&self.0);
            });
        }
    }
}

/// Hands on what `read` finds in the file at `path`; the place of each is its number, from 1, as a `unit` of the file.
pub(crate) fn numbered<T>(
    unit: &str,
    path: &Path,
    emit: &mut dyn FnMut(T) -> Flow,
    read: impl FnOnce(&mut dyn FnMut(T) -> Flow) -> Flow,
) -> Flow {
    // None between two of them.
    let at = std::cell::Cell::new(None);
    let _record = AtRecord(|| match at.get() {
        Some(number) => format!("{unit} {number} of `{}`", path.display()),
        None => format!("file `{}`", path.display()),
    });
    let mut number = 0u64;
    read(&mut |element| {
        number += 1;
        at.set(Some(number));
        emit(element)?;
        at.set(None);
        Ok(())
    })
}

/// Hands on copies of a partition's elements.
pub(crate) fn push_all<T: Data>(elements: &[T], partition: usize, emit: &mut dyn FnMut(T) -> Flow) -> Flow {
    push_all_of(elements, &|| format!("partition {partition}"), emit)
}

/// As [`push_all`], of a `partition` that is more than a number.
pub(crate) fn push_all_of<T: Data>(
    elements: &[T],
    partition: &dyn Fn() -> String,
    emit: &mut dyn FnMut(T) -> Flow,
) -> Flow {
    let at = std::cell::Cell::new(0);
    let _record = AtRecord(|| format!("element {} of {}", at.get(), partition()));
    elements.iter().enumerate().try_for_each(|(i, element)| {
        at.set(i);
        emit(element.clone())
    })
}

/// Runs `body`, which calls a user's functions; a panic in it becomes an error that says where it was.
pub(crate) fn caught<R>(body: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let mut error = Error::task(format!("panicked: {}", panic_message(&*panic)));
        let Blame { operator, place } = BLAME.take();
        let operator = operator.and_then(|operator| operator.0).map(|operator| operator.to_string());
        let whence: Vec<_> = operator.into_iter().chain(place).collect();
        if !whence.is_empty() {
            error = error.within(whence.join(", "));
        }
        Err(error)
    })
}

pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with no message")
}
