// All batches, and the page of one.

import { get } from './api.js';
import { h, replace, say, table } from './dom.js';
import { bytes, count, iso, moment, plural, time, took } from './format.js';
import { interval, position, store, watch } from './store.js';

const ROWS = 50;

export const COLUMNS = [
  { title: 'Batch time' }, { title: 'Status' }, { title: 'Records', end: true }, { title: 'Output', end: true },
  { title: 'Scheduling delay', end: true }, { title: 'Processing time', end: true }, { title: 'Total delay', end: true },
];

const pill = (status) => h('span', { class: `pill ${{ COMPLETED: 'good', FAILED: 'bad', PROCESSING: 'busy' }[status] ?? ''}` }, status.toLowerCase());

/** A row for the batch at `at` of the timeline. */
export function batchRow(at) {
  const { timeline } = store;
  const id = timeline.batchId[at];
  const slow = timeline.totalDelay[at] > interval();
  return h('tr', { class: timeline.failed[at] ? 'failed' : undefined },
    h('th', { scope: 'row' }, h('a', { href: `#/batches/${id}`, 'data-key': `batch-${id}`, title: iso(id) }, moment(id, interval()))),
    h('td', {}, pill(timeline.failed[at] ? 'FAILED' : 'COMPLETED')),
    h('td', { class: 'end' }, count(timeline.inputSize[at]),
      timeline.badRecords[at] > 0 && h('span', { class: 'bad', title: 'could not be used' }, ` (${count(timeline.badRecords[at])} bad)`),
      timeline.lostRecords[at] > 0 && h('span', { class: 'bad', title: 'gone before they were read' }, ` (${count(timeline.lostRecords[at])} lost)`)),
    h('td', { class: 'end' }, count(timeline.outputSize[at])),
    h('td', { class: 'end' }, took(timeline.schedulingDelay[at])),
    h('td', { class: 'end' }, took(timeline.processingTime[at])),
    h('td', { class: `end ${slow ? 'warn' : ''}`, title: slow ? 'longer than the interval' : undefined }, took(timeline.totalDelay[at])));
}

const FILTERS = [
  ['All', () => true],
  ['Failed', (timeline, at) => timeline.failed[at]],
  ['Late', (timeline, at) => timeline.totalDelay[at] > interval()],
  ['Bad or lost', (timeline, at) => timeline.badRecords[at] + timeline.lostRecords[at] > 0],
  ['With records', (timeline, at) => timeline.inputSize[at] > 0],
];

/** Shows all batches in `main`, the latest first; gives what ends it. */
export function batches(main) {
  let [page, filter, seen] = [0, 0, -1];
  const list = h('div', { class: 'card' });
  const where = h('p', { class: 'muted', role: 'status' });
  const turn = (by) => () => { page += by; seen = -1; draw(); };
  const newer = h('button', { type: 'button', onclick: turn(-1) }, 'Newer');
  const older = h('button', { type: 'button', onclick: turn(1) }, 'Older');
  const filters = FILTERS.map(([name], at) => h('button', {
    type: 'button', 'aria-pressed': String(at === filter),
    onclick: () => {
      [filter, page, seen] = [at, 0, -1];
      filters.forEach((button, n) => button.setAttribute('aria-pressed', String(n === filter)));
      draw();
    },
  }, name));
  replace(main, h('h2', {}, 'Batches'),
    h('div', { class: 'bar' }, h('div', { class: 'segments', role: 'group', 'aria-label': 'Which batches' }, filters), where,
      h('div', { class: 'turn' }, newer, older)), list);

  function draw() {
    // Further pages stand still while the reader is there.
    if (seen === store.version || (page > 0 && seen !== -1)) return;
    seen = store.version;
    const { timeline } = store;
    const found = [];
    for (let at = timeline.batchId.length - 1; at >= 0; at -= 1) if (FILTERS[filter][1](timeline, at)) found.push(at);
    const pages = Math.max(1, Math.ceil(found.length / ROWS));
    page = Math.min(Math.max(0, page), pages - 1);
    say(where, `${plural(found.length, 'batch', 'batches')}, page ${page + 1} of ${pages}`);
    newer.disabled = page === 0;
    older.disabled = page === pages - 1;
    replace(list, table('Batches', COLUMNS, found.slice(page * ROWS, (page + 1) * ROWS).map(batchRow),
      timeline.batchId.length ? 'No batch is like that.' : 'No batch has completed yet.'));
  }
  draw();
  return { end: watch(draw) };
}

const PHASES = ['plan', 'process', 'output', 'commit'];

/** Where the time of a batch went, as a bar. */
function phases(batch) {
  const waited = { name: 'waiting', duration: batch.schedulingDelay ?? 0 };
  const parts = [waited, ...batch.phases].filter((part) => part.duration > 0);
  // The phase that failed did not end: it has what is left.
  const left = (batch.processingTime ?? 0) - batch.phases.reduce((total, part) => total + part.duration, 0);
  const failed = PHASES[batch.phases.length];
  if (batch.status === 'FAILED' && failed && left > 0) parts.push({ name: failed, duration: left, note: ', in which it failed' });
  const sum = Math.max(parts.reduce((total, part) => total + part.duration, 0), 0.001);
  const bar = parts.map((part) => {
    const piece = h('span', { class: `phase of-${part.name}`, title: `${part.name}: ${took(part.duration)}` });
    piece.style.flexGrow = String(part.duration / sum);
    return piece;
  });
  return h('div', {}, h('div', { class: 'phases', 'aria-hidden': 'true' }, bar),
    h('ul', { class: 'legend' }, parts.map((part) => h('li', {}, h('span', { class: `dot of-${part.name}` }), part.name, ' ', h('b', {}, took(part.duration)), part.note))));
}

function operations(batch) {
  const rows = batch.operations.map((operation) => h('tr', { class: operation.status === 'FAILED' ? 'failed' : undefined },
    h('td', { class: 'end' }, operation.outputOpId), h('th', { scope: 'row' }, operation.name, operation.description !== operation.name && h('small', { class: 'muted' }, operation.description)),
    h('td', {}, pill(operation.status)), h('td', { class: 'end' }, took(operation.duration)),
    h('td', { class: 'reason' }, operation.failureReason ?? '–')));
  return table('Output operations', [{ title: 'Id', end: true }, { title: 'Operation' }, { title: 'Status' }, { title: 'Duration', end: true }, { title: 'Error' }], rows,
    batch.detailed ? 'None was due in this batch.' : 'These are kept for later batches only.');
}

function ranges(batch) {
  const rows = batch.offsetRanges.map((range) => h('tr', {},
    h('th', { scope: 'row' }, range.topic), h('td', { class: 'end' }, range.partition),
    h('td', { class: 'end' }, count(range.fromOffset)), h('td', { class: 'end' }, count(range.untilOffset)),
    h('td', { class: 'end' }, count(range.records ?? 0)),
    h('td', { class: 'end' }, range.late || range.future ? `${count(range.late)} late, ${count(range.future)} future` : '–')));
  const columns = ['Topic', 'Partition', 'From', 'Until', 'Records', 'Out of time'].map((title, at) => ({ title, end: at > 0 }));
  return table('Offset ranges', columns, rows, batch.detailed ? 'It read nothing from Kafka.' : 'These are kept for later batches only.');
}

/** What on_data_loss let the application go on without. */
function losses(batch) {
  const rows = batch.lostRanges.map((range) => h('tr', { class: 'failed' },
    h('th', { scope: 'row' }, range.topic), h('td', { class: 'end' }, range.partition),
    h('td', { class: 'end' }, count(range.fromOffset)), h('td', { class: 'end' }, count(range.untilOffset))));
  return table('Lost', ['Topic', 'Partition', 'From', 'Until'].map((title, at) => ({ title, end: at > 0 })), rows);
}

function facts(batch) {
  const pairs = [
    ['Records', count(batch.inputSize)], ['Bytes', bytes(batch.inputBytes)], ['Written', count(batch.outputSize)],
    ['Not usable', count(batch.badRecords)], ['Scheduling delay', took(batch.schedulingDelay)],
    ['Processing time', took(batch.processingTime)], ['Total delay', took(batch.totalDelay)], ['Interval', took(batch.batchDuration)],
  ];
  return h('dl', { class: 'tiles small' }, pairs.map(([name, value]) => h('div', { class: 'tile' }, h('dt', {}, name), h('dd', {}, value))));
}

/** Shows the batch `id` in `main`; gives what ends it. */
export function batch(main, id) {
  let [open, busy] = [true, false];
  let shown = null;
  let neighbours = [];
  replace(main, h('p', { class: 'loading' }, 'Asking for the batch …'));

  /** The batches before and after this one. */
  function around() {
    const at = position(id);
    const ids = store.timeline.batchId;
    return [ids[at - 1], ids[at] === id ? ids[at + 1] : ids[at]];
  }

  function draw() {
    neighbours = around();
    const [before, after] = neighbours;
    const link = (name, target, rel) => (target === undefined ? h('span', { class: 'muted' }, name) : h('a', { href: `#/batches/${target}`, rel, 'data-key': rel }, name));
    const inputs = shown.inputs.filter((input) => !shown.offsetRanges.length || input.numRecords === null).map((input) => h('tr', {},
      h('th', { scope: 'row' }, input.name), h('td', { class: 'end' }, count(input.numRecords)), h('td', { class: 'reason' }, input.description || '–')));
    replace(main,
      h('nav', { class: 'bar', 'aria-label': 'Neighbours' }, link('Earlier', before, 'prev'), h('a', { href: '#/batches' }, 'All batches'), link('Later', after, 'next')),
      h('div', { class: 'panel-head' }, h('h2', {}, `Batch ${time(id, interval())}`), pill(shown.status), h('span', { class: 'muted' }, `${iso(id)}, ${id} ms`)),
      shown.firstFailureReason && h('section', { class: 'card failure', 'aria-label': 'Why it failed' }, h('h3', {}, 'Why it failed'), h('pre', { tabindex: 0 }, shown.firstFailureReason)),
      facts(shown),
      h('section', { class: 'card' }, h('h3', {}, 'Where the time went'), phases(shown)),
      h('section', { class: 'card' }, h('h3', {}, 'Output operations'), operations(shown)),
      h('section', { class: 'card' }, h('h3', {}, 'Offset ranges'), ranges(shown)),
      shown.lostRanges.length > 0 && h('section', { class: 'card', 'aria-label': 'Lost' },
        h('h3', {}, `Lost: ${plural(shown.lostRecords, 'offset')} gone before they were read`), losses(shown)),
      inputs.length > 0 && h('section', { class: 'card' }, h('h3', {}, 'Other inputs'),
        table('Other inputs', [{ title: 'Input' }, { title: 'Records', end: true }, { title: 'What was planned' }], inputs)),
      shown.outputs.length > 0 && h('section', { class: 'card' }, h('h3', {}, 'Written'),
        table('Written', [{ title: 'Output' }, { title: 'Records', end: true }], shown.outputs.map((output) => h('tr', {},
          h('th', { scope: 'row' }, output.name), h('td', { class: 'end' }, count(output.records)))))));
  }

  async function load() {
    // What is over does not change; only its neighbours may come.
    if (busy || !open) return;
    if (shown && (shown.status === 'COMPLETED' || shown.status === 'FAILED')) {
      if (around().some((other, at) => other !== neighbours[at])) draw();
      return;
    }
    busy = true;
    try {
      shown = await get(`batches/${id}`);
      if (open) draw();
    } catch (error) {
      if (open && !shown) {
        replace(main, h('h2', {}, `Batch ${time(id, interval())}`), h('p', { class: 'empty card' }, error.message), h('p', {}, h('a', { href: '#/batches' }, 'All batches')));
      }
    } finally {
      busy = false;
    }
  }
  load();
  const end = watch(load);
  return { end: () => { open = false; end(); } };
}
