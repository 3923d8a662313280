//! Shared variables: [`Broadcast`] values that tasks read, and [`Accumulator`]s that tasks add to.
//!
//! Both are made again when a program starts again, since its checkpoint holds state and offsets, never the program:
//! make them where the streams are made, and move clones of the handles into the functions that use them. Spark needs
//! lazily made singletons for this, because a recovered program skips its own set-up; Tidemill always runs it.
//!
//! ```
//! use std::collections::HashSet;
//! use tidemill::testing::TestContext;
//! use tidemill::{DStream, LongAccumulator, Result, StreamingContext};
//!
//! /// Run at the first start and at every start after it.
//! fn program(ssc: &StreamingContext, words: &DStream<String>) -> Result<(DStream<String>, LongAccumulator)> {
//!     let stop_words = ssc.broadcast(HashSet::from(["the", "a"]));
//!     let dropped = ssc.long_accumulator("dropped words")?;
//!     let counted = dropped.clone();
//!     let kept = words.filter(move |word| {
//!         let keep = !stop_words.value().contains(word.as_str());
//!         if !keep {
//!             counted.add(1);
//!         }
//!         keep
//!     });
//!     Ok((kept, dropped))
//! }
//!
//! # fn main() -> Result<()> {
//! let test = TestContext::new("words")?;
//! let words = test.input([vec!["the".to_owned(), "tide".to_owned()], vec!["a".to_owned(), "mill".to_owned()]]);
//! let (kept, dropped) = program(&test.ssc, &words)?;
//! let output = test.collect(&kept);
//! test.run(2)?;
//! output.assert_batches([vec!["tide"], vec!["mill"]]);
//! assert_eq!(dropped.value(), 2);
//! # Ok(()) }
//! ```

mod accumulator;
mod additions;
mod broadcast;
mod sums;

pub use accumulator::{Accumulator, AccumulatorInfo, SharedAccumulator};
pub(crate) use additions::{Accumulators, Additions, add_to_attempt, in_attempt};
pub use broadcast::Broadcast;
pub use sums::{Collection, CollectionAccumulator, DoubleAccumulator, DoubleSum, LongAccumulator, LongSum};
