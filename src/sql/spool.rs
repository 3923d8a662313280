//! Rows that wait to be read: in memory as long as there is room, beyond it in a temporary file.

use std::io::BufReader;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::types::{BinaryViewType, ByteViewType, StringViewType};
use datafusion::arrow::array::{Array as _, ArrayData, ArrayRef, AsArray as _, ListArray, UInt64Array};
use datafusion::arrow::buffer::{Buffer, OffsetBuffer};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;

use super::memory::{Memory, Rows};
use crate::error::{Error, Result};
use crate::rdd::{CachedRdd, Data, Flow, Kept, Rdd, RddNode, Reservation, Runner, Runs, TaskContext};
use crate::sql::{DataType, RecordBatch, Schema};

/// The most partitions that a query's result is cut into. How many there are depends on the rows alone, so that a replay on
/// another machine gives the same.
const PARTITIONS: usize = 8;

/// Batches of fewer rows and bytes than these are put together.
const ROWS: usize = 16_384;
const BYTES: usize = 1 << 20;
/// Of bytes outside of views, fewer: to DataFusion a piece of a batch takes all of them.
const BLOCKS: usize = 64 << 10;
/// So many small batches become one before there are rows enough, so many blocks of texts one block. Each has memory of its own, which
/// stays where it is: one row that waits between what comes and goes keeps the allocator from using the place again.
const PIECES: usize = 64;

#[derive(Default)]
struct Few {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    blocks: usize,
}

/// Takes rows.
pub(crate) struct Spool {
    room: Arc<Memory>,
    /// Small batches that become one: what sorts and merges needs memory for each.
    few: Few,
    memory: Vec<RecordBatch>,
    reserved: Vec<Reservation>,
    file: Option<StreamWriter<Rows>>,
    rows: usize,
}

impl Spool {
    /// An empty one.
    pub(crate) fn new(room: &Arc<Memory>) -> Self {
        Self {
            room: room.clone(),
            few: Few::default(),
            memory: Vec::new(),
            reserved: Vec::new(),
            file: None,
            rows: 0,
        }
    }

    /// Takes the rows of `batch`. Once there was no room for some, all that follow go to the file, so that their order stays.
    ///
    /// # Errors
    /// `Unavailable` if the temporary file cannot be written: the disk is full.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.rows += batch.num_rows();
        let batch = compact(batch);
        let (rows, bytes) = (batch.num_rows(), size(&batch));
        let blocks: usize = batch.columns().iter().map(in_blocks).sum();
        let is_large = rows >= ROWS || bytes >= BYTES || blocks >= BLOCKS || batch.num_columns() == 0;
        if is_large || self.few.batches.first().is_some_and(|first| first.schema() != batch.schema()) {
            self.put_few()?;
        }
        if is_large {
            return self.put(batch);
        }
        self.few.batches.push(batch);
        self.few.rows += rows;
        self.few.bytes += bytes;
        self.few.blocks += blocks;
        let Few { rows, bytes, blocks, .. } = self.few;
        if rows >= ROWS || bytes >= BYTES || blocks >= BLOCKS {
            return self.put_few();
        }
        if self.few.batches.len() >= PIECES {
            self.few.batches = Vec::from_iter(together(&self.few.batches)?);
        }
        Ok(())
    }

    fn put_few(&mut self) -> Result<()> {
        let few = std::mem::take(&mut self.few).batches;
        together(&few)?.map_or(Ok(()), |batch| self.put(batch))
    }

    fn put(&mut self, batch: RecordBatch) -> Result<()> {
        if self.file.is_none() {
            if let Some(reservation) = self.room.reserve(size(&batch)) {
                self.reserved.push(reservation);
                self.memory.push(batch);
                return Ok(());
            }
            let writer = self.room.writer().map_err(|e| unwritten(&e))?;
            let writer = StreamWriter::try_new(writer, &nullable(&batch.schema()));
            self.file = Some(writer.map_err(|e| unwritten(&e))?);
        }
        match &mut self.file {
            Some(file) => file.write(&batch).map_err(|e| unwritten(&e)),
            None => Ok(()),
        }
    }

    /// The rows, to be read any number of times.
    ///
    /// # Errors
    /// As for [`push`](Self::push).
    pub(crate) fn finish(mut self) -> Result<Spooled> {
        self.put_few()?;
        let file = match self.file {
            None => None,
            Some(writer) => {
                let rows = writer.into_inner().map_err(|e| unwritten(&e))?;
                Some(rows.finish().map_err(|e| unwritten(&e))?)
            }
        };
        let part = 0..self.memory.len();
        Ok(Spooled {
            memory: self.memory.into(),
            part,
            file,
            rows: self.rows,
            _reserved: Arc::new(self.reserved),
        })
    }
}

/// The rows of `batches` as one batch; none of none.
fn together(batches: &[RecordBatch]) -> Result<Option<RecordBatch>> {
    match batches {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        [first, ..] => {
            let all = concat_batches(&first.schema(), batches);
            let all = all.map_err(|e| Error::internal(format!("rows cannot be put together: {e}")))?;
            Ok(Some(compact(&all)))
        }
    }
}

/// The columns as a file has them: of a `union all`, some batches may have NULLs where others may not.
fn nullable(schema: &Schema) -> Schema {
    let columns = schema.fields().iter().map(|column| column.as_ref().clone().with_nullable(true));
    Schema::new(columns.collect::<Vec<_>>())
}

fn unwritten(error: &dyn std::fmt::Display) -> Error {
    Error::unavailable(error.to_string())
}

fn unread(error: &ArrowError) -> Error {
    Error::unavailable(format!("cannot read rows back from a temporary file: {error}"))
}

/// The batch without what its texts do not need: a view keeps the whole buffers that it looks into, and a list all of the
/// elements that its lists were cut from.
pub(crate) fn compact(batch: &RecordBatch) -> RecordBatch {
    // Without columns there is nothing to be compacted, and only the number of rows says what the batch is.
    RecordBatch::try_new(batch.schema(), batch.columns().iter().map(compacted).collect())
        .unwrap_or_else(|_| batch.clone())
}

fn compacted(column: &ArrayRef) -> ArrayRef {
    fn texts<T: ByteViewType>(column: &ArrayRef) -> ArrayRef {
        let views = column.as_byte_view::<T>();
        let held: usize = views.data_buffers().iter().map(|buffer| buffer.capacity()).sum();
        let is_loose = held > 2 * views.total_buffer_bytes_used() + 4096;
        match is_loose || views.data_buffers().len() >= PIECES {
            true => Arc::new(views.gc()),
            false => column.clone(),
        }
    }
    match column.data_type() {
        DataType::Utf8View => texts::<StringViewType>(column),
        DataType::BinaryView => texts::<BinaryViewType>(column),
        DataType::List(element) => {
            let lists = column.as_list::<i32>();
            let (offsets, values) = (lists.offsets(), lists.values());
            let (first, last) = (offsets[0] as usize, offsets[lists.len()] as usize);
            let elements = compacted(&values.slice(first, last - first));
            let offsets = OffsetBuffer::from_lengths(offsets.lengths());
            let lists = ListArray::try_new(element.clone(), offsets, elements, lists.nulls().cloned());
            lists.map_or_else(|_| column.clone(), |lists| Arc::new(lists))
        }
        _ => column.clone(),
    }
}

/// A copy of every `step`th row from the row `first` on, none if there are no so many; nothing of the other rows stays in memory
/// for it.
pub(crate) fn every(batch: &RecordBatch, first: usize, step: usize) -> Result<RecordBatch> {
    picked(batch, (first..batch.num_rows()).step_by(step))
}

/// A copy of these rows, for which nothing of the others stays in memory.
pub(crate) fn cut(batch: &RecordBatch, rows: Range<usize>) -> Result<RecordBatch> {
    picked(batch, rows)
}

fn picked(batch: &RecordBatch, rows: impl Iterator<Item = usize>) -> Result<RecordBatch> {
    let rows: Vec<u64> = rows.map(|row| row as u64).collect();
    if batch.num_columns() == 0 {
        return super::columns::batch(&batch.schema(), Vec::new(), rows.len());
    }
    let picked = take_record_batch(batch, &UInt64Array::from(rows));
    picked.map(|rows| compact(&rows)).map_err(|error| Error::data(format!("rows cannot be copied: {error}")))
}

/// The bytes outside of a column's views.
fn in_blocks(column: &ArrayRef) -> usize {
    let held = |blocks: &[Buffer]| blocks.iter().map(Buffer::capacity).sum();
    match column.data_type() {
        DataType::Utf8View => held(column.as_string_view().data_buffers()),
        DataType::BinaryView => held(column.as_binary_view().data_buffers()),
        DataType::List(_) => in_blocks(column.as_list::<i32>().values()),
        _ => 0,
    }
}

/// What the rows take; a slice of something larger counts by itself.
pub(crate) fn size(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| taken(&column.to_data())).sum()
}

fn taken(column: &ArrayData) -> usize {
    if column.is_empty() {
        return 0;
    }
    let nulls = column.nulls().map_or(0, |_| column.len().div_ceil(8));
    match column.data_type() {
        DataType::Utf8View | DataType::BinaryView => {
            let texts: usize = column.buffers()[1..].iter().map(|buffer| buffer.capacity()).sum();
            column.len() * size_of::<u128>() + texts + nulls
        }
        DataType::List(_) => {
            let offsets = &column.buffer::<i32>(0)[..=column.len()];
            let (first, last) = (offsets[0] as usize, offsets[column.len()] as usize);
            size_of_val(offsets) + taken(&column.child_data()[0].slice(first, last - first)) + nulls
        }
        // Its members are cut as it is.
        DataType::Struct(_) => column.child_data().iter().map(taken).sum::<usize>() + nulls,
        _ => column.get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()),
    }
}

/// Rows that were taken. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Spooled {
    memory: Arc<[RecordBatch]>,
    /// Which of the batches in memory are meant.
    part: Range<usize>,
    file: Option<Runs>,
    rows: usize,
    _reserved: Arc<Vec<Reservation>>,
}

impl<B: Into<Arc<[RecordBatch]>>> From<B> for Spooled {
    fn from(batches: B) -> Self {
        let memory = batches.into();
        let rows = memory.iter().map(RecordBatch::num_rows).sum();
        Self { part: 0..memory.len(), memory, file: None, rows, _reserved: Arc::default() }
    }
}

impl std::fmt::Debug for Spooled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let on_disk = self.file.is_some();
        f.debug_struct("Spooled").field("rows", &self.rows).field("on_disk", &on_disk).finish()
    }
}

impl Spooled {
    /// How many rows there are.
    pub(crate) fn num_rows(&self) -> usize {
        self.rows
    }

    /// Those that are in memory.
    pub(crate) fn in_memory(&self) -> &[RecordBatch] {
        &self.memory[self.part.clone()]
    }

    /// All batches, in order, those of the file as they are read.
    pub(crate) fn batches(&self) -> impl Iterator<Item = Result<RecordBatch>> + Send + use<> {
        let (memory, part) = (Arc::clone(&self.memory), self.part.clone());
        let file = self.file.as_ref().map(|file| {
            match StreamReader::try_new(BufReader::with_capacity(128 << 10, file.reader()), None) {
                Ok(batches) => (Some(batches), None),
                Err(error) => (None, Some(Err(error))),
            }
        });
        let of_file = file
            .into_iter()
            .flat_map(|(batches, error)| error.into_iter().chain(batches.into_iter().flatten()));
        part.map(move |index| Ok(memory[index].clone()))
            .chain(of_file.map(|batch| batch.map_err(|error| unread(&error))))
    }

    /// These rows as an RDD of a few partitions.
    pub(crate) fn rdd(&self, runner: &Arc<Runner>) -> Rdd<RecordBatch> {
        let length = self.part.len();
        let parts = (length + usize::from(self.file.is_some())).clamp(1, PARTITIONS);
        let cut = |i: usize| self.part.start + i * length / parts;
        let part = |i: usize| Self {
            part: cut(i)..cut(i + 1),
            file: self.file.clone().filter(|_| i + 1 == parts),
            ..self.clone()
        };
        Self::rdd_of((0..parts).map(|i| vec![part(i)]).collect(), runner)
    }

    /// An RDD that has each of `parts` as a partition, one after the other what it consists of.
    pub(crate) fn rdd_of(parts: Vec<Vec<Self>>, runner: &Arc<Runner>) -> Rdd<RecordBatch> {
        Rdd::new(runner, SpooledRdd(parts))
    }
}

struct SpooledRdd(Vec<Vec<Spooled>>);

impl RddNode<RecordBatch> for SpooledRdd {
    fn num_partitions(&self) -> usize {
        self.0.len()
    }

    fn prepare(&self, _: &Runner) -> Result<()> {
        Ok(())
    }

    fn is_in_memory(&self) -> bool {
        true
    }

    fn compute(&self, partition: usize, _: &TaskContext, emit: &mut dyn FnMut(RecordBatch) -> Flow) -> Flow {
        self.0[partition].iter().flat_map(Spooled::batches).try_for_each(|batch| emit(batch?))
    }
}

impl Kept<RecordBatch> for Spooled {
    fn read(&self, _: &dyn Fn() -> String, emit: &mut dyn FnMut(RecordBatch) -> Flow) -> Flow {
        self.batches().try_for_each(|batch| emit(batch?))
    }
}

/// `rdd` with each partition computed once and spooled, unless it is in memory by itself.
pub(crate) fn shared(rdd: &Rdd<RecordBatch>, memory: &Arc<Memory>) -> Option<CachedRdd<RecordBatch>> {
    let memory = memory.clone();
    CachedRdd::keeping_once(
        rdd,
        Box::new(move |read| {
            let mut spool = Spool::new(&memory);
            read(&mut |batch| Ok(spool.push(&batch)?))?;
            Ok(Arc::new(spool.finish()?))
        }),
    )
}

/// What `each` makes of the elements of `rows`, into as many results as it has spools: per task, in the order of the
/// partitions. The tasks run side by side, and share the memory for rows that wait.
///
/// # Errors
/// If a task fails, or a temporary file cannot be written.
pub(crate) fn spooled<T: Data>(
    rows: &Rdd<T>,
    memory: &Arc<Memory>,
    results: usize,
    each: impl Fn(T, &mut [Spool]) -> Result<()> + Sync,
) -> Result<Vec<Vec<Spooled>>> {
    let tasks = rows.fold_partitions_into(
        || (0..results).map(|_| Spool::new(memory)).collect::<Vec<_>>(),
        |spools, batch| each(batch, spools),
        |spools| spools.into_iter().map(Spool::finish).collect::<Result<Vec<_>>>(),
    )?;
    let mut all: Vec<Vec<Spooled>> = (0..results).map(|_| Vec::with_capacity(tasks.len())).collect();
    for of_task in tasks {
        for (result, rows) in all.iter_mut().zip(of_task) {
            result.push(rows);
        }
    }
    Ok(all)
}
