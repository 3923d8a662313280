//! `Accumulator`: what tasks add to.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use parking_lot::Mutex;

use super::additions::{RunningBatch, Target, with_own};
use super::{Collection, DoubleSum, LongSum};
use super::{CollectionAccumulator, DoubleAccumulator, LongAccumulator};
use crate::context::StreamingContext;
use crate::error::{Error, Result};
use crate::rdd::Data;

/// Something that is added up over tasks (Spark's `AccumulatorV2`); made shared by
/// [`StreamingContext::register_accumulator`].
///
/// Adding must be associative and commutative, since tasks run in parallel and their sums are merged.
///
/// ```
/// use tidemill::testing::TestContext;
/// use tidemill::{Accumulator, Result};
///
/// /// The longest word.
/// #[derive(Clone, Default)]
/// struct Longest(String);
///
/// impl Accumulator for Longest {
///     type Input = String;
///     type Output = String;
///
///     fn zero(&self) -> Self {
///         Longest::default()
///     }
///
///     fn is_zero(&self) -> bool {
///         self.0.is_empty()
///     }
///
///     fn add(&mut self, word: String) {
///         if (word.len(), &self.0) > (self.0.len(), &word) {
///             self.0 = word;
///         }
///     }
///
///     fn merge(&mut self, other: Self) {
///         self.add(other.0);
///     }
///
///     fn value(&self) -> String {
///         self.0.clone()
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let test = TestContext::new("words")?;
/// let longest = test.ssc.register_accumulator("longest word", Longest::default())?;
/// let adding = longest.clone();
/// let words = test.input([vec!["tide", "mill"], vec![], vec!["batch"]]);
/// words.foreach_rdd(move |rdd| rdd.for_each(|word| adding.add(word.to_owned())));
/// test.run(3)?;
/// assert_eq!(longest.value(), "batch");
/// # Ok(()) }
/// ```
pub trait Accumulator: Clone + Send + Sync + 'static {
    /// What is added.
    type Input;
    /// What it comes to. It is shown in lists by its `Debug` form.
    type Output: Debug;

    /// Another one like this that nothing has been added to (Spark's `copyAndReset`).
    fn zero(&self) -> Self;

    /// Whether this is as if nothing had been added.
    fn is_zero(&self) -> bool;

    /// Adds one value.
    fn add(&mut self, input: Self::Input);

    /// Adds all that was added to `other`.
    fn merge(&mut self, other: Self);

    /// What all that was added comes to.
    fn value(&self) -> Self::Output;

    /// Makes it as if nothing had been added.
    fn reset(&mut self) {
        *self = self.zero();
    }
}

/// A registered [`Accumulator`]: tasks add to it, the driver reads it.
///
/// A handle: clones are the same accumulator. Move them into the functions of operators, RDDs and output operations.
///
/// It is exact: an attempt that fails adds nothing, and one that succeeds adds once. The tasks of a stage count when all of
/// them have succeeded; a stage that fails counts nothing. (A stage ends at a shuffle, whose output is kept, or at the action.)
/// A batch that is not committed takes back what it added.
///
/// As in Spark, an RDD that two actions compute is computed twice and adds twice, unless it is cached, as streams that several
/// operators read are: what computing a cached partition adds counts once, however often it is used, and even if the attempt
/// that computed it failed afterwards and another one used it.
///
/// Outside of tasks `add` counts at once. In the functions of output operations that is part of the batch; what other threads
/// of the program add, or have added by actions of their own, is part of none, and stays. An accumulator begins at zero when the program starts again.
pub struct SharedAccumulator<A> {
    name: Arc<str>,
    sums: Arc<Sums<A>>,
}

impl<A> Clone for SharedAccumulator<A> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), sums: self.sums.clone() }
    }
}

/// What came of all batches that were committed (and what was added outside of any), and of the batch that runs.
struct Sums<A> {
    /// As it was registered: what a task starts from.
    zero: A,
    sums: Mutex<(A, Running<A>)>,
    batch: Arc<RunningBatch>,
}

struct Running<A> {
    added: A,
    /// Whether the batch began by forgetting what was there.
    reset: bool,
}

impl<A: Accumulator> Sums<A> {
    /// Changes what belongs to whoever asks: the batch that runs, or what is counted for good.
    fn change(&self, f: impl FnOnce(&mut A)) {
        let here = self.batch.is_here();
        let (settled, running) = &mut *self.sums.lock();
        f(if here { &mut running.added } else { settled });
    }

    /// Everything so far.
    fn total(&self) -> A {
        let (settled, running) = &*self.sums.lock();
        let mut total = if running.reset { self.zero.zero() } else { settled.clone() };
        if !running.added.is_zero() {
            total.merge(running.added.clone());
        }
        total
    }
}

impl<A: Accumulator> Target for Sums<A> {
    fn count(&self, added: &(dyn Any + Send + Sync)) {
        if let Some(added) = added.downcast_ref::<A>() {
            let added = added.clone();
            self.change(|sum| sum.merge(added));
        }
    }

    fn settle(&self, commit: bool) {
        let (settled, running) = &mut *self.sums.lock();
        let added = std::mem::replace(&mut running.added, self.zero.zero());
        let reset = std::mem::take(&mut running.reset);
        if commit {
            if reset {
                settled.reset();
            }
            if !added.is_zero() {
                settled.merge(added);
            }
        }
    }

    fn shown(&self) -> String {
        format!("{:?}", self.total().value())
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl<A: Accumulator> SharedAccumulator<A> {
    /// The name under which it was registered.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds `input`: in a task, to what its attempt will have added if it succeeds; elsewhere at once.
    pub fn add(&self, input: A::Input) {
        if let Err(add) = with_own(&self.sums, || self.sums.zero.zero(), |own: &mut A| own.add(input)) {
            self.sums.change(add);
        }
    }

    /// What all tasks have added so far, those of the running batch's finished actions included. In a task, as in Spark,
    /// what its own attempt has added.
    pub fn value(&self) -> A::Output {
        self.read(A::value)
    }

    /// Whether nothing has been added; in a task, by its own attempt.
    pub fn is_zero(&self) -> bool {
        self.read(A::is_zero)
    }

    /// Makes it as if nothing had been added; in a task, by its own attempt. If the running batch does so and is not
    /// committed, what was there before it comes back.
    pub fn reset(&self) {
        let Err(_) = with_own(&self.sums, || self.sums.zero.zero(), A::reset) else { return };
        let here = self.sums.batch.is_here();
        let (settled, running) = &mut *self.sums.sums.lock();
        running.added.reset();
        if here {
            running.reset = true;
        } else {
            settled.reset();
        }
    }

    pub(super) fn read<R>(&self, f: impl FnOnce(&A) -> R) -> R {
        match with_own(&self.sums, || self.sums.zero.zero(), |own: &mut A| f(own)) {
            Ok(read) => read,
            Err(read) => read(&mut self.sums.total()),
        }
    }
}

/// An accumulator's name and value, for whoever shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccumulatorInfo {
    /// The name under which it was registered.
    pub name: String,
    /// Its value's `Debug` form.
    pub value: String,
}

impl StreamingContext {
    /// The accumulator called `name` that sums up whole numbers; made at the first call, the same one at every other.
    ///
    /// ```
    /// use tidemill::testing::TestContext;
    ///
    /// # fn main() -> tidemill::Result<()> {
    /// let test = TestContext::new("negatives")?;
    /// let negatives = test.ssc.long_accumulator("negative numbers")?;
    /// let seen = negatives.clone();
    /// let positive = test.input([vec![3, -1], vec![], vec![-5]]).filter(move |n| {
    ///     if *n < 0 {
    ///         seen.add(1);
    ///     }
    ///     *n >= 0
    /// });
    /// positive.print();
    /// test.run(3)?;
    /// assert_eq!(negatives.value(), 2);
    /// assert_eq!(test.ssc.long_accumulator("negative numbers")?.value(), 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If an accumulator of another type has the name.
    pub fn long_accumulator(&self, name: &str) -> Result<LongAccumulator> {
        self.register_accumulator(name, LongSum::default())
    }

    /// The accumulator called `name` that sums up numbers; made at the first call, the same one at every other. It is 0 as
    /// long as nothing is added.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let litres = ssc.double_accumulator("litres")?;
    /// let adding = litres.clone();
    /// ssc.parallelize([0.5, 1.0], 2).for_each(move |n| adding.add(n))?;
    /// assert_eq!((litres.sum(), litres.count(), litres.avg()), (1.5, 2, 0.75));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If an accumulator of another type has the name.
    pub fn double_accumulator(&self, name: &str) -> Result<DoubleAccumulator> {
        self.register_accumulator(name, DoubleSum::default())
    }

    /// The accumulator called `name` that keeps all elements that are added; made at the first call, the same one at every
    /// other. Elements of one action stand in the order of its tasks. It is empty as long as nothing is added.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let odd = ssc.collection_accumulator("odd")?;
    /// let adding = odd.clone();
    /// ssc.parallelize([1, 2, 3], 2).filter(|n| n % 2 == 1).for_each(move |n| adding.add(n))?;
    /// assert_eq!(odd.value(), [1, 3]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If an accumulator of another type has the name.
    pub fn collection_accumulator<T: Data + Debug>(&self, name: &str) -> Result<CollectionAccumulator<T>> {
        self.register_accumulator(name, Collection::default())
    }

    /// The accumulator called `name`; made of `accumulator` at the first call, the same one at every other.
    ///
    /// May be called at any time, also in [`foreach_rdd`](crate::DStream::foreach_rdd).
    ///
    /// # Errors
    /// If an accumulator of another type has the name.
    pub fn register_accumulator<A: Accumulator>(
        &self,
        name: &str,
        accumulator: A,
    ) -> Result<SharedAccumulator<A>> {
        let all = self.inner.runner.accumulators();
        let target = all.get_or_insert(name, || {
            let running = Running { added: accumulator.zero(), reset: false };
            let zero = accumulator.zero();
            Arc::new(Sums { zero, sums: Mutex::new((accumulator, running)), batch: all.batch.clone() })
        });
        let sums = target.as_any().downcast::<Sums<A>>().map_err(|_| {
            Error::usage(format!(
                "accumulator `{name}` was registered as another type than {}: give one of them another name",
                std::any::type_name::<A>()
            ))
        })?;
        Ok(SharedAccumulator { name: name.into(), sums })
    }

    /// All accumulators with their values, in the order in which they were registered.
    pub fn accumulators(&self) -> Vec<AccumulatorInfo> {
        self.inner.runner.accumulators().infos()
    }
}
