// What the page knows: the figures of the last batches by column, and what was last heard of everything else.

import { follow, get } from './api.js';

/** Batches that are kept; the application keeps as many. */
export const LIMIT = 10_000;
const COLUMNS = ['batchId', 'inputSize', 'outputSize', 'badRecords', 'lostRecords', 'schedulingDelay', 'processingTime', 'totalDelay', 'failed'];
/** How often views are drawn at most, and the rest is asked for, in milliseconds. */
const DRAW_EVERY = 250;
const ASK_EVERY = 1_000;
const IDLE_EVERY = 5_000;

export const store = {
  /** `connecting`, `live` or `lost`. */
  connection: 'connecting',
  /** Held still by the reader. */
  paused: false,
  statistics: null,
  timeline: Object.fromEntries(COLUMNS.map((name) => [name, []])),
  /** Grows whenever the timeline does. */
  version: 0,
  /** Batches that wait or run. */
  active: [],
  lag: [],
  state: [],
  receivers: [],
  /** The last batch that failed. */
  failure: null,
};

const views = new Set();
let drawing = null;

/** Has `draw` called when something has changed, a few times a second at most. Gives what ends that. */
export function watch(draw) {
  views.add(draw);
  return () => views.delete(draw);
}

export function changed() {
  drawing ??= setTimeout(() => {
    drawing = null;
    if (!document.hidden && !store.paused) views.forEach((draw) => draw(store));
  }, DRAW_EVERY);
}

document.addEventListener('visibilitychange', changed);

export function hold(paused) {
  store.paused = paused;
  // That it is held still has to be seen.
  views.forEach((draw) => draw(store));
}

export const interval = () => store.statistics?.batchDuration ?? 1_000;

/** Where in the timeline the batch `id` is, or would be. */
export function position(id) {
  const ids = store.timeline.batchId;
  let [low, high] = [0, ids.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ids[middle] < id) low = middle + 1;
    else high = middle;
  }
  return low;
}

function add(batch) {
  const { timeline } = store;
  const at = position(batch.batchId);
  // A batch that is run again takes the place of the one that failed, and of what came after it.
  if (at < timeline.batchId.length) COLUMNS.forEach((name) => timeline[name].splice(at));
  for (const name of COLUMNS) timeline[name].push(name === 'failed' ? batch.status === 'FAILED' : batch[name]);
  // Cut in pieces: taking one off the front of each column for each batch would cost more than all the rest.
  if (timeline.batchId.length > LIMIT + 500) COLUMNS.forEach((name) => timeline[name].splice(0, timeline[name].length - LIMIT));
  store.version += 1;
}

async function catchUp() {
  const statistics = await get('statistics');
  const ids = store.timeline.batchId;
  const restarted = store.statistics && store.statistics.startTime !== statistics.startTime;
  const last = restarted ? undefined : ids.at(-1);
  const more = await get(last === undefined ? 'timeline' : `timeline?after=${last}`);
  if (more.batchId.length) {
    // What an application knew before it was started again is known here only; and so is what was heard while it was asked.
    const [from, to] = [position(more.batchId[0]), position(more.batchId.at(-1) + 1)];
    for (const name of COLUMNS) {
      const column = store.timeline[name];
      store.timeline[name] = [...column.slice(0, from), ...more[name], ...column.slice(to)].slice(-LIMIT);
    }
  }
  store.version += 1;
  store.statistics = statistics;
  if (statistics.numTotalFailedBatches) {
    const [failure] = await get('batches?status=failed&limit=1');
    store.failure = failure ?? store.failure;
  } else if (restarted) {
    store.failure = null;
  }
  await ask();
}

async function ask() {
  const [statistics, lag, state, running, queued, receivers] = await Promise.all([
    get('statistics'), get('lag'), get('state'), get('batches?status=processing'), get('batches?status=queued&limit=20'),
    get('receivers'),
  ]);
  Object.assign(store, { statistics, lag, state, receivers, active: [...queued, ...running] });
  changed();
}

let due = null;

/** Asks for what events do not carry: soon after something happened, and now and then anyway. */
function askSoon(after = ASK_EVERY) {
  if (due && after !== ASK_EVERY) return;
  if (due?.soon) return;
  clearTimeout(due?.timer);
  const timer = setTimeout(async () => {
    due = null;
    try {
      if (!document.hidden) await ask();
    } catch {
      // The events' connection tells what is wrong.
    }
    askSoon(IDLE_EVERY);
  }, after);
  due = { timer, soon: after === ASK_EVERY };
}

function heard(name, data) {
  switch (name) {
    case 'batchCompleted':
      add(data);
      if (data.status === 'FAILED') store.failure = data;
      break;
    case 'missed':
      catchUp().catch(() => {});
      break;
    default:
  }
  askSoon();
  changed();
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Keeps the store up to date for ever. */
export async function keep() {
  for (let wait = 500; ; wait = Math.min(wait * 2, 8_000)) {
    try {
      // What happens while the past is asked for is heard, too.
      await follow(() => {
        wait = 500;
        catchUp().then(() => {
          store.connection = 'live';
          askSoon(IDLE_EVERY);
          changed();
        }).catch(() => {});
      }, heard);
    } catch {
      // Tried again below.
    }
    store.connection = 'lost';
    changed();
    await pause(wait);
  }
}
