//! Transactions: what each call's error means, and what is done about it.
//!
//! | error | while | then |
//! |---|---|---|
//! | retriable (coordinator moved or loading, no answer) | any | the same call again, until the patience ends |
//! | abortable | sending, committing | the transaction is aborted, the batch is run again |
//! | fatal: fenced | any | another instance has started, or the transaction outlived its timeout: this one ends |
//! | fatal: anything else | any | this instance ends, the next start settles it |
//! | a call does not return | putting the offsets | the producer is given up for a new one, whose start aborts the transaction; the batch is run again |
//! | patience ended | committing | the outcome is unknown: this instance ends, the next start reads it from the group |

use std::sync::mpsc::RecvTimeoutError;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::{Error, Result};
use crate::rdd::Runner;
use crate::sink::CommitTrouble;
use crate::source::kafka::error_text;
use crate::time::{Duration, Stopwatch};

/// How long one call may take before it is made again.
pub(super) const CALL: std::time::Duration = std::time::Duration::from_secs(5);

/// How long a call that librdkafka does not limit by itself may take.
const STUCK: std::time::Duration = std::time::Duration::from_secs(30);

/// What a call ended with, if not well.
pub(super) enum Failed {
    Told(KafkaError),
    /// It has not come back.
    Stuck,
}

impl From<KafkaError> for Failed {
    fn from(error: KafkaError) -> Self {
        Self::Told(error)
    }
}

/// Why a call was given up.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The transaction can only be aborted.
    Abortable(Error),
    /// The producer is of no more use.
    Fatal(Error),
    /// It kept failing in ways that pass.
    Patience(Error),
    /// It has not come back, and no other call may be made of this producer.
    Stuck(Error),
}

impl Trouble {
    pub fn into_error(self) -> Error {
        match self {
            Self::Abortable(error) | Self::Fatal(error) | Self::Patience(error) | Self::Stuck(error) => error,
        }
    }

    /// What it means for a commit.
    pub fn of_commit(self) -> CommitTrouble {
        match self {
            Self::Abortable(error) => CommitTrouble::NotCommitted(error),
            // Fenced or broken: the coordinator may have taken the commit before.
            Self::Fatal(error) | Self::Patience(error) | Self::Stuck(error) => {
                CommitTrouble::Unknown(Error::new(
                    error.kind(),
                    format!("{error}; whether the batch is committed is for Kafka to tell at the next start"),
                ))
            }
        }
    }
}

/// What a call that fails is judged by.
pub(super) struct Calls<'a> {
    pub runner: &'a Runner,
    pub app: &'a str,
    /// How long to keep trying.
    pub patience: Duration,
    /// The open transaction's age, and how old it may become.
    pub open: Option<(Stopwatch, Duration)>,
}

/// Makes `call` until it succeeds, fails for good, or `patience` ends; says now and then what it waits for.
pub(super) fn persist<E: Into<Failed>>(
    calls: &Calls<'_>,
    doing: &str,
    mut call: impl FnMut() -> Result<(), E>,
) -> Result<(), Trouble> {
    const SAY_EVERY: std::time::Duration = std::time::Duration::from_secs(10);
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
    let &Calls { runner, app, patience, open } = calls;
    let watch = Stopwatch::start();
    let mut said = std::time::Duration::ZERO;
    loop {
        let error = match call().map_err(Into::into) {
            Ok(()) => return Ok(()),
            Err(Failed::Told(error)) => error,
            Err(Failed::Stuck) => {
                let waited = watch.elapsed().as_secs();
                let text = format!("cannot {doing}: Kafka's client has not answered for {waited} s");
                return Err(Trouble::Stuck(Error::unavailable(text)));
            }
        };
        let told = |what: String| Error::output(what).with_source(error.clone());
        // librdkafka says there which partition or which step it was.
        let text = match &error {
            KafkaError::Transaction(e) => e.string(),
            other => error_text(other),
        };
        match &error {
            KafkaError::Transaction(e) if e.is_fatal() => {
                return Err(Trouble::Fatal(match e.code() {
                    // The coordinator ends a transaction that is too old in the same way as another instance does.
                    code if is_fencing(code)
                        && let Some((age, timeout)) = open
                        && age.elapsed() >= timeout.to_std() =>
                    {
                        told(format!(
                            "the transaction was open for longer than its timeout of {timeout}, and Kafka has aborted it \
                             (while `{app}` tried to {doing}): lower `max_records_per_batch`, or raise \
                             `transaction.timeout.ms`"
                        ))
                    }
                    code if is_fencing(code) => told(format!(
                        "another instance of `{app}` has started and taken over: this one ends (while it tried to {doing})"
                    )),
                    RDKafkaErrorCode::InvalidTransactionTimeout => Error::config(
                        "the transaction timeout is above what the broker allows (transaction.max.timeout.ms): lower it \
                         (`transaction.timeout.ms`), or raise the broker's cap",
                    ),
                    RDKafkaErrorCode::TransactionalIdAuthorizationFailed => told(format!(
                        "`{app}` is not allowed to write with a transactional id of its own (while it tried to {doing}): \
                         allow it to Write and Describe transactional ids that begin with `{app}-`: {text}"
                    )),
                    _ => told(format!("cannot {doing}: {text}; the producer is of no more use")),
                }));
            }
            KafkaError::Transaction(e) if e.txn_requires_abort() => {
                let hint = match e.code() {
                    RDKafkaErrorCode::UnknownTopicOrPartition => {
                        " (an output topic is gone; a start makes it anew)"
                    }
                    _ => "",
                };
                return Err(Trouble::Abortable(told(format!("cannot {doing}: {text}{hint}"))));
            }
            KafkaError::Transaction(e) if !e.is_retriable() => {
                return Err(Trouble::Fatal(told(format!("cannot {doing}: {text}"))));
            }
            _ => {}
        }
        if watch.elapsed() >= patience.to_std() || runner.gives_up(watch.elapsed()) {
            return Err(Trouble::Patience(
                Error::unavailable(format!("cannot {doing}: {text}, for {} s", watch.elapsed().as_secs()))
                    .with_source(error),
            ));
        }
        if watch.elapsed() - said >= SAY_EVERY {
            said = watch.elapsed();
            tracing::warn!("still trying to {doing}: {text}");
        }
        crate::time::pause(PAUSE);
    }
}

/// Makes `call` on a thread of its own, as librdkafka may miss that what it waits for is there, and never return.
pub(super) fn within(
    runner: &Runner,
    name: &str,
    call: impl FnOnce() -> Result<(), KafkaError> + Send + 'static,
) -> Result<(), Failed> {
    const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(200);
    let (sender, answer) = std::sync::mpsc::sync_channel(1);
    let waiting = Stopwatch::start();
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || sender.send(call()));
    if let Err(error) = spawned {
        tracing::warn!("cannot start a thread: {error}");
        return Err(Failed::Told(KafkaError::Canceled));
    }
    loop {
        match answer.recv_timeout(LOOK_EVERY) {
            Ok(result) => return result.map_err(Failed::Told),
            Err(RecvTimeoutError::Timeout)
                if waiting.elapsed() < STUCK && !runner.gives_up(waiting.elapsed()) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Err(Failed::Stuck),
        }
    }
}

fn is_fencing(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::Fenced | RDKafkaErrorCode::InvalidProducerEpoch
    )
}
