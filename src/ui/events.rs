//! Server-sent events: what happens, for the page and for whoever else wants to follow.

use std::convert::Infallible;

use axum::extract::State;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::broadcast::error::RecvError;

use super::history::Event;
use super::model::BatchInfo;
use super::server::App;

/// Follow what happens (server-sent events)
///
/// `batchStarted` and `batchCompleted` carry a batch as in `/api/v1/batches`, `batchSubmitted` the number of batches that wait or
/// run; `receiver` says that `/api/v1/receivers` has changed, `missed` that the follower was too slow and has to ask for
/// everything again.
#[utoipa::path(get, path = "/api/v1/events", tag = "batches",
    responses((status = 200, description = "A stream of events", content_type = "text/event-stream", body = BatchInfo)))]
pub(super) async fn events(State(app): State<App>) -> Sse<impl Stream<Item = Result<Sent, Infallible>>> {
    let following = (app.history.follow(), app.stopped.clone(), app);
    let events = unfold(following, |(mut following, mut stopped, app)| async move {
        let event = tokio::select! {
            event = following.recv() => event,
            // A stop of the server does not wait for those who would listen for ever.
            _ = stopped.changed() => return None,
        };
        let sent = match event {
            Ok(event) => sent(&app, &event),
            Err(RecvError::Lagged(missed)) => Sent::default().event("missed").data(missed.to_string()),
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(sent), (following, stopped, app)))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

fn sent(app: &App, event: &Event) -> Sent {
    let (name, batch) = match event {
        Event::Started(batch) => ("batchStarted", batch),
        Event::Completed(batch) => ("batchCompleted", batch),
        Event::Receiver => return Sent::default().event("receiver").data("{}"),
        Event::Submitted => {
            let known = app.history.known.read();
            let active = known.waiting + known.running.len();
            return Sent::default()
                .event("batchSubmitted")
                .data(format!("{{\"numActiveBatches\":{active}}}"));
        }
    };
    let id = batch.info.batch_time.as_millis().to_string();
    match serde_json::to_string(&BatchInfo::of(batch, app.interval)) {
        Ok(text) => Sent::default().event(name).id(id).data(text),
        Err(error) => Sent::default().event("missed").data(error.to_string()),
    }
}
