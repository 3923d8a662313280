//! What `reduce_by_key_and_window_with` is told: [`WindowSpec`].

use std::sync::Arc;

use crate::codec::{Key, Stored};
use crate::rdd::{AnyPartitioner, Partitioner, Rdd};

pub(super) type Reduce<V> = Arc<dyn Fn(V, V) -> V + Send + Sync>;
type Combine<K, V> = Arc<dyn Fn(&Rdd<(K, V)>, AnyPartitioner<K>) -> Rdd<(K, V)> + Send + Sync>;
type Keep<K, V> = Arc<dyn Fn(&K, &V) -> bool + Send + Sync>;

/// How [`reduce_by_key_and_window_with`](crate::DStream::reduce_by_key_and_window_with) makes a window's values: the
/// reduce function, and what else Spark's forms of `reduceByKeyAndWindow` take.
pub struct WindowSpec<K, V> {
    pub(super) reduce: Reduce<V>,
    /// Puts a batch's values together by the same function, which is no `dyn` there: it is called for each of them.
    pub(super) combine: Combine<K, V>,
    pub(super) inverse: Option<Reduce<V>>,
    pub(super) keep: Option<Keep<K, V>>,
    pub(super) partitioner: Option<AnyPartitioner<K>>,
}

impl<K: Key, V: Stored> WindowSpec<K, V> {
    /// Puts the values of a key together by `reduce`, which must be associative; older values come first.
    pub fn reduce(reduce: impl Fn(V, V) -> V + Send + Sync + 'static) -> Self {
        let reduce = Arc::new(reduce);
        let each = reduce.clone();
        let combine = move |input: &Rdd<(K, V)>, partitioner: AnyPartitioner<K>| {
            let each = each.clone();
            input.reduce_by_key_with(move |a, b| each(a, b), partitioner)
        };
        Self { reduce, combine: Arc::new(combine), inverse: None, keep: None, partitioner: None }
    }

    /// Makes each window's value of the last one's: `inverse` takes out of its first argument the second, which has left.
    /// `reduce` must be commutative then. A key stays for ever, its value gone back to zero, unless a
    /// [filter](WindowSpec::filter) drops it.
    pub fn inverse(mut self, inverse: impl Fn(V, V) -> V + Send + Sync + 'static) -> Self {
        self.inverse = Some(Arc::new(inverse));
        self
    }

    /// Leaves out the keys for which `keep` is false; with an [inverse](WindowSpec::inverse) they are forgotten, else they
    /// go when their values leave the window, as ever.
    pub fn filter(mut self, keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.keep = Some(Arc::new(keep));
        self
    }

    /// Over how many partitions the keys are spread; the context's
    /// [`state_partitions`](crate::StreamingContextBuilder::state_partitions) unless set. A checkpoint keeps its number:
    /// to start with another one is an error.
    pub fn num_partitions(self, partitions: usize) -> Self {
        self.partitioner(partitions)
    }

    /// Which partition each key belongs to, in the state and in the output. The checkpoint knows only how many there are:
    /// it must go on giving each key the same one.
    pub fn partitioner(mut self, partitioner: impl Partitioner<K>) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }
}
