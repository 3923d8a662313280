//! The context's inputs besides Kafka: receivers, sockets, folders.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use super::{StreamingContext, StreamingContextBuilder};
use crate::codec::Stored;
use crate::dstream::DStream;
use crate::error::{Error, Result};
use crate::rdd::{Data, Flow, numbered};
use crate::source::{
    FileInput, FileOptions, Input, RddQueue, Receiver, ReceiverInput, ReceiverParts, SocketReceiver,
    read_lines, read_records, read_whole,
};
use crate::state::StateDb;
use crate::time::Duration;

/// # Errors
/// If two inputs have one name: their positions in the checkpoint would be one.
pub(super) fn check_uids(inputs: &[Arc<dyn Input>]) -> Result<()> {
    let mut known = BTreeSet::new();
    match inputs.iter().find(|input| !known.insert(input.uid())) {
        None => Ok(()),
        Some(input) => Err(Error::config(format!(
            "two inputs are called `{}`, which names their position in the checkpoint: give one another name (`uid`)",
            input.uid()
        ))),
    }
}

impl StreamingContextBuilder {
    /// How often a receiver's current block ends, by the context's clock; 200 ms unless set, at least a millisecond (Spark's
    /// `spark.streaming.blockInterval`). A block also ends when a batch is planned. Each is a partition of its batch.
    pub fn block_interval(mut self, interval: impl Into<Duration>) -> Self {
        self.receivers.block_interval = interval.into();
        self
    }

    /// At most so many elements per second for each receiver, by the context's clock; no limit unless set, at least 1
    /// (Spark's `spark.streaming.receiver.maxRate`). A receiver that is faster waits in
    /// [`store`](crate::ReceiverHandle::store).
    pub fn receiver_max_rate(mut self, elements_per_second: u64) -> Self {
        self.receivers.max_rate = Some(elements_per_second);
        self
    }

    /// How many bytes of received blocks each receiver holds in memory until their batch is committed; 64 MiB unless set.
    /// What goes beyond is read from the checkpoint. Without a checkpoint all are in memory, however many.
    pub fn receiver_memory(mut self, bytes: usize) -> Self {
        self.receivers.memory = bytes;
        self
    }
}

impl StreamingContext {
    /// A stream of what `receiver` stores (Spark's `receiverStream`): a batch has what came since the last one, in the order
    /// in which it was stored, each block a partition. An empty batch has no partitions. The receiver is started with the
    /// context, and stopped before it.
    ///
    /// With a checkpoint, blocks are on disk until their batch is committed: after a kill, those of an unfinished batch
    /// are in that batch again, and the others in the next. Without one they are lost with the process.
    ///
    /// A graceful stop stops the receivers first and processes all that they stored, if need be in a last batch that ends
    /// early: its batch time is the next one due. Otherwise what is in the checkpoint waits for the next start.
    ///
    /// ```
    /// use tidemill::{ReceiverHandle, testing::TestContext};
    /// # fn main() -> tidemill::Result<()> {
    /// let test = TestContext::new("one-word")?;
    /// let words = test.ssc.receiver_stream(|handle: ReceiverHandle<String>| handle.store("word".to_owned()));
    /// words.print();
    /// # test.run(1)
    /// # }
    /// ```
    pub fn receiver_stream<T: Stored>(&self, receiver: impl Receiver<T>) -> DStream<T> {
        self.receiver_input("receiver_stream", receiver)
    }

    /// A stream of the lines of text that the server at `host:port` sends (Spark's `socketTextStream`). A line ends with
    /// `\n` or `\r\n`; what is no UTF-8 becomes U+FFFD. An empty batch has no partitions.
    ///
    /// Connects when the context starts, on a thread of its own. That the server cannot be reached, or the connection ends,
    /// is told to listeners (`receiver_error`), and after two seconds tried again, for ever; it never fails the context.
    /// What was sent meanwhile, or was not read yet at a stop or kill, is lost: a socket cannot be asked again. Otherwise
    /// as [`receiver_stream`](StreamingContext::receiver_stream).
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// let ssc = tidemill::StreamingContext::builder("lines").build()?;
    /// let words = ssc.socket_text_stream("localhost", 9999).flat_map(|line| {
    ///     line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    /// });
    /// words.print();
    /// # Ok(())
    /// # }
    /// ```
    pub fn socket_text_stream(&self, host: &str, port: u16) -> DStream<String> {
        self.receiver_input("socket_text_stream", SocketReceiver::text(host, port))
    }

    /// A stream of what `converter` makes of the bytes that the server at `host:port` sends (Spark's `socketStream`): it is
    /// called for each connection, and each element that its iterator gives is stored. The end of the iterator is the end
    /// of the connection, whose cause is told to listeners. Otherwise as
    /// [`socket_text_stream`](StreamingContext::socket_text_stream).
    ///
    /// ```
    /// use std::io::BufRead;
    /// # fn main() -> tidemill::Result<()> {
    /// let ssc = tidemill::StreamingContext::builder("numbers").build()?;
    /// let numbers = ssc.socket_stream("localhost", 9999, |reader| {
    ///     reader.split(b' ').map_while(Result::ok).filter_map(|n| String::from_utf8(n).ok()?.parse::<i64>().ok())
    /// });
    /// numbers.print();
    /// # Ok(())
    /// # }
    /// ```
    pub fn socket_stream<T: Stored, I: IntoIterator<Item = T>>(
        &self,
        host: &str,
        port: u16,
        converter: impl Fn(Box<dyn BufRead>) -> I + Send + Sync + 'static,
    ) -> DStream<T> {
        self.receiver_input("socket_stream", SocketReceiver::converted(host, port, converter))
    }

    /// A stream of blocks of bytes that the server at `host:port` sends (Spark's `rawSocketStream`): each is led by its
    /// length in four bytes, the highest first. A block is one element, as it came, and a block of the stream by itself:
    /// with a checkpoint it is on disk before the next is read. A negative length, or a connection that ends within a
    /// block, is told to listeners, and the connection made anew; the part of a block is dropped. Otherwise as
    /// [`socket_text_stream`](StreamingContext::socket_text_stream).
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// let ssc = tidemill::StreamingContext::builder("blocks").build()?;
    /// ssc.raw_socket_stream("localhost", 9999).map(|block| block.len()).print();
    /// # Ok(())
    /// # }
    /// ```
    pub fn raw_socket_stream(&self, host: &str, port: u16) -> DStream<Vec<u8>> {
        self.receiver_input("raw_socket_stream", SocketReceiver::raw(host, port))
    }

    fn receiver_input<T: Stored>(&self, operator: &str, receiver: impl Receiver<T>) -> DStream<T> {
        let inner = &self.inner;
        let parts = ReceiverParts {
            uid: inner.graph.unique_uid(&format!("receiver:{}", receiver.name())),
            stream_id: inner.graph.next_receiver(),
            settings: inner.settings.receivers,
            interval: self.batch_interval(),
            runner: inner.runner.clone(),
            clock: inner.clock.clone(),
            listeners: inner.listeners.clone(),
            db: inner.db.clone(),
        };
        let input = Arc::new(ReceiverInput::new(receiver, parts));
        inner.lifecycle.admit(operator, || inner.graph.add_input(input.clone()));
        DStream::from_input(self, operator, input)
    }

    /// A stream of the lines of new files in `folder` (Spark's `textFileStream`): as
    /// [`file_stream`](StreamingContext::file_stream) with the usual [options](FileOptions). A line ends with `\n` or
    /// `\r\n`; what is no UTF-8 becomes U+FFFD. An empty batch has no partitions.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// let ssc = tidemill::StreamingContext::builder("lines").build()?;
    /// ssc.text_file_stream("data/incoming").count().print();
    /// # Ok(())
    /// # }
    /// ```
    pub fn text_file_stream(&self, folder: impl Into<String>) -> DStream<String> {
        self.text_file_stream_with(folder, FileOptions::new())
    }

    /// As [`text_file_stream`](StreamingContext::text_file_stream), with options. An empty batch has no partitions.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// use tidemill::{FileOptions, testing::TestContext};
    /// let (test, folder) = (TestContext::new("lines")?, tempfile::tempdir().expect("there is room"));
    /// let path = folder.path().to_string_lossy().into_owned();
    /// let lines = test.ssc.text_file_stream_with(path, FileOptions::new().names("*.log"));
    /// let lines = test.collect(&lines);
    /// test.run(1)?;
    /// assert_eq!(lines.batches().into_vec(), [vec![String::new(); 0]]);
    /// # Ok(()) }
    /// ```
    pub fn text_file_stream_with(&self, folder: impl Into<String>, options: FileOptions) -> DStream<String> {
        self.file_input("text_file_stream", folder.into(), options, read_lines)
    }

    /// A stream of what `reader` gives for each new file in `folder` (Spark's `fileStream`): each file is a partition, the
    /// oldest first. An empty batch has no partitions.
    ///
    /// Files should appear complete, by being renamed into the folder (on one file system), and stay as they are. A batch
    /// takes the files whose modification time is not after its batch time, and which the [options](FileOptions) want;
    /// each is taken once, also across restarts, and one that comes again under its name within the window is not taken
    /// again, later it is a new one. Files that came while the program was down are taken by the first batch after it. An unfinished batch is run
    /// again with the same files, so these have to be left where they are until their batch is done.
    ///
    /// `folder` may be a glob pattern (`data/2026-*`): then the files in all folders that match are taken, also in those
    /// that come later. Folders within a folder are not looked into.
    ///
    /// # Errors
    /// The context does not start if the folder is not there or a pattern is none. A batch fails if the folder cannot be
    /// looked into, or a file of it cannot be read, which the error names; or with the error of `reader`.
    ///
    /// ```
    /// use std::fs;
    /// use tidemill::{Error, FileOptions};
    /// # fn main() -> tidemill::Result<()> {
    /// let ssc = tidemill::StreamingContext::builder("numbers").build()?;
    /// let numbers = ssc.file_stream("data/incoming", FileOptions::new().names("*.csv"), |path| {
    ///     let text = fs::read_to_string(path).map_err(|e| Error::unavailable(e.to_string()))?;
    ///     let numbers = text.split(',').map(|n| n.trim().parse::<i64>().map_err(|e| Error::data(e.to_string())));
    ///     numbers.collect::<tidemill::Result<Vec<_>>>()
    /// });
    /// numbers.print();
    /// # Ok(())
    /// # }
    /// ```
    pub fn file_stream<T: Data, I: IntoIterator<Item = T>>(
        &self,
        folder: impl Into<String>,
        options: FileOptions,
        reader: impl Fn(&Path) -> Result<I> + Send + Sync + 'static,
    ) -> DStream<T> {
        self.file_input("file_stream", folder.into(), options, move |path, emit| {
            numbered("element", path, emit, |emit| {
                let elements = reader(path).map_err(|e| e.within(format!("file {}", path.display())))?;
                elements.into_iter().try_for_each(emit)
            })
        })
    }

    /// A stream of new files in `folder` as they are: each file's path and its bytes. Otherwise as
    /// [`file_stream`](StreamingContext::file_stream).
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// let ssc = tidemill::StreamingContext::builder("sizes").build()?;
    /// let files = ssc.binary_files_stream("data/incoming", tidemill::FileOptions::new());
    /// files.map(|(path, bytes)| format!("{path} has {} bytes", bytes.len())).print();
    /// # Ok(())
    /// # }
    /// ```
    pub fn binary_files_stream(
        &self,
        folder: impl Into<String>,
        options: FileOptions,
    ) -> DStream<(String, Vec<u8>)> {
        self.file_input("binary_files_stream", folder.into(), options, read_whole)
    }

    /// A stream of the records of `length` bytes that new files in `folder` consist of (Spark's `binaryRecordsStream`), with
    /// the usual [options](FileOptions). A file that ends within a record fails its batch. Otherwise as
    /// [`file_stream`](StreamingContext::file_stream).
    ///
    /// # Errors
    /// If the length is 0.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// let ssc = tidemill::StreamingContext::builder("records").build()?;
    /// ssc.binary_records_stream("data/incoming", 16)?.count().print();
    /// # Ok(())
    /// # }
    /// ```
    pub fn binary_records_stream(
        &self,
        folder: impl Into<String>,
        length: usize,
    ) -> Result<DStream<Vec<u8>>> {
        if length == 0 {
            return Err(Error::config("the records of `binary_records_stream` must have at least one byte"));
        }
        let read = move |path: &Path, emit: &mut dyn FnMut(_) -> Flow| read_records(length, path, emit);
        Ok(self.file_input("binary_records_stream", folder.into(), FileOptions::new(), read))
    }

    fn file_input<T: Data>(
        &self,
        operator: &str,
        folder: String,
        options: FileOptions,
        read: impl Fn(&Path, &mut dyn FnMut(T) -> Flow) -> Flow + Send + Sync + 'static,
    ) -> DStream<T> {
        let inner = &self.inner;
        let uid = inner.graph.unique_uid(&format!("files:{folder}"));
        let context = (self.batch_interval(), inner.clock.clone(), inner.runner.clone());
        let input = Arc::new(FileInput::new(uid, folder, options, context, Arc::new(read)));
        inner.lifecycle.admit(operator, || inner.graph.add_input(input.clone()));
        DStream::from_input(self, operator, input)
    }

    /// As [`queue_stream`](StreamingContext::queue_stream) (with `one_at_a_time`) or
    /// [`queue_stream_all`](StreamingContext::queue_stream_all), with an RDD for the batches for which the queue has nothing
    /// (the third argument of Spark's `queueStream`). An empty RDD in the queue is not nothing.
    ///
    /// ```
    /// use tidemill::{RddQueue, testing::TestContext};
    /// # fn main() -> tidemill::Result<()> {
    /// let test = TestContext::new("default")?;
    /// let queue = RddQueue::new();
    /// queue.push([1, 2]);
    /// let numbers = test.collect(&test.ssc.queue_stream_with_default(&queue, true, [0]));
    /// test.run(2)?;
    /// assert_eq!(numbers.take().into_iter().map(|(_, n)| n).collect::<Vec<_>>(), [vec![1, 2], vec![0]]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn queue_stream_with_default<T: Data>(
        &self,
        queue: &RddQueue<T>,
        one_at_a_time: bool,
        default_rdd: impl IntoIterator<Item = T>,
    ) -> DStream<T> {
        self.queue_input(queue, one_at_a_time, default_rdd.into_iter().collect())
    }
}

/// Says which received blocks have lost their receiver.
pub(super) fn tell_of_orphaned_blocks(db: &StateDb, inputs: &[Arc<dyn Input>]) -> Result<()> {
    let stored = db.block_uids()?;
    let orphaned: Vec<_> = stored.iter().filter(|uid| !inputs.iter().any(|i| i.uid() == *uid)).collect();
    if !orphaned.is_empty() {
        tracing::warn!(
            "the checkpoint holds blocks of receivers that the program does not have: {orphaned:?}; they stay as they \
             are. A receiver finds its blocks under its name"
        );
    }
    Ok(())
}
