// The overview: whether the application keeps up, and since when.

import { panel } from './charts.js';
import { h, replace, say, table } from './dom.js';
import { about, bytes, count, moment, plural, took } from './format.js';
import { interval, position, store, watch } from './store.js';
import { batchRow, COLUMNS } from './batches.js';

const RANGES = [['5 min', 5 * 60_000], ['30 min', 30 * 60_000], ['All', Infinity]];
const PARTITIONS = 64;

const FIGURES = [
  {
    name: 'Input rate', explained: 'Records of each batch, per second of its interval', least: 1,
    column: (timeline) => timeline.inputSize.map((n) => (n * 1_000) / interval()), format: (n) => `${about(n)}/s`,
  },
  { name: 'Processing time', explained: 'From the start of a batch to its commit', column: 'processingTime', format: took, line: true },
  { name: 'Scheduling delay', explained: 'How long a batch waited for its turn', column: 'schedulingDelay', format: took, least: 10 },
  { name: 'Total delay', explained: 'From the moment a batch was due to its commit', column: 'totalDelay', format: took, line: true },
];

const tile = (name, value, note, tone) => h('div', { class: `tile ${tone ?? ''}` },
  h('dt', {}, name), h('dd', {}, value, note && h('small', { class: 'muted' }, note)));

function tiles({ statistics, timeline }) {
  if (!statistics) return [];
  const batch = statistics.batchDuration;
  const last = timeline.batchId.length - 1;
  const processing = statistics.avgProcessingTime;
  const load = processing === null ? null : processing / batch;
  const waiting = statistics.numActiveBatches;
  const behind = statistics.lagSeconds;
  return [
    tile('Input', last < 0 ? '–' : `${about((timeline.inputSize[last] * 1_000) / batch)}/s`, `${about(statistics.avgInputRate)}/s on average`),
    tile('Processing', took(processing), load === null ? '' : `${Math.round(load * 100)} % of the interval`, load > 1 ? 'bad' : load > 0.8 ? 'warn' : ''),
    tile('Total delay', took(statistics.avgTotalDelay), `${took(statistics.avgSchedulingDelay)} waiting`, statistics.avgTotalDelay > batch ? 'warn' : ''),
    tile('Lag', statistics.lagRecords === null ? '–' : about(statistics.lagRecords), behind ? `records, ${took(behind * 1_000)} old` : 'records', behind > 60 ? 'warn' : ''),
    tile('Waiting or running', count(waiting), plural(waiting, 'batch', 'batches').replace(/^[\d,]+ /, ''), waiting > 3 ? 'warn' : ''),
    tile('Done', about(statistics.numTotalCompletedBatches), statistics.numTotalFailedBatches
      ? plural(statistics.numTotalFailedBatches, 'failure') : `${about(statistics.numProcessedRecords)} records`, statistics.numTotalFailedBatches ? 'bad' : ''),
  ];
}

function lagTable(lag) {
  const worst = Math.max(1, ...lag.map((row) => row.lagRecords));
  const rows = [...lag].sort((a, b) => b.lagRecords - a.lagRecords || a.topic.localeCompare(b.topic) || a.partition - b.partition)
    .slice(0, PARTITIONS)
    .map((row) => h('tr', {},
      h('th', { scope: 'row' }, row.topic), h('td', { class: 'end' }, row.partition),
      h('td', { class: 'end' }, count(row.committedOffset)), h('td', { class: 'end' }, count(row.latestOffset)),
      h('td', { class: 'end' }, h('meter', { min: 0, max: worst, value: row.lagRecords, 'aria-label': 'lag' }), ' ', count(row.lagRecords)),
      h('td', { class: 'end' }, row.lagRecords ? took(row.lagSeconds * 1_000) : '–')));
  const columns = ['Topic', 'Partition', 'Committed', 'Latest', 'Lag', 'Age'].map((title, at) => ({ title, end: at > 0 }));
  return [
    table('Lag by partition', columns, rows, 'No Kafka partition is read, or no batch has completed yet.'),
    lag.length > PARTITIONS && h('p', { class: 'muted' }, `The ${PARTITIONS} with the most lag of ${lag.length}.`),
  ];
}

function stateTable(state) {
  const rows = state.map((row) => h('tr', {},
    h('th', { scope: 'row' }, row.operator), h('td', { class: 'end' }, count(row.numKeys)), h('td', { class: 'end' }, bytes(row.sizeBytes))));
  return table('State', [{ title: 'Operator' }, { title: 'Keys', end: true }, { title: 'Size', end: true }], rows, 'No operator keeps state, or no batch has completed yet.');
}

function receiverTable(receivers) {
  const rows = receivers.map((row) => h('tr', {},
    h('th', { scope: 'row' }, row.streamName),
    h('td', {}, h('span', { class: `pill ${row.isActive ? 'good' : 'bad'}` }, row.isActive ? 'receiving' : 'stopped')),
    h('td', {}, row.lastErrorMessage ?? '–')));
  return table('Receivers', [{ title: 'Receiver' }, { title: 'State' }, { title: 'Last error' }], rows);
}

/** Shows the overview in `main`; gives what ends it. */
export function overview(main) {
  let range = RANGES[1][1];
  const panels = FIGURES.map(panel);
  const parts = { tiles: h('dl', { class: 'tiles' }), lag: h('div'), state: h('div'), active: h('div'), recent: h('div') };
  parts.receivers = h('section', { class: 'card', hidden: true });
  const charts = h('div', { class: 'charts' }, panels.map((it) => it.element));
  const hint = h('p', { class: 'empty card', hidden: true });
  const spans = RANGES.map(([name, span]) => h('button', {
    type: 'button', 'aria-pressed': String(span === range),
    onclick: () => {
      range = span;
      spans.forEach((button, at) => button.setAttribute('aria-pressed', String(RANGES[at][1] === range)));
      seen = -1;
      draw();
    },
  }, name));
  const covered = h('p', { class: 'muted' });
  replace(main,
    h('h2', { class: 'hidden' }, 'Overview'), parts.tiles,
    h('div', { class: 'bar' }, h('div', { class: 'segments', role: 'group', 'aria-label': 'How much is shown' }, spans), covered),
    hint, charts,
    h('section', { class: 'card' }, h('h3', {}, 'Waiting and running'), parts.active),
    h('section', { class: 'card' }, h('div', { class: 'panel-head' }, h('h3', {}, 'Last batches'), h('a', { href: '#/batches' }, 'All batches')), parts.recent),
    h('div', { class: 'columns' },
      h('section', { class: 'card' }, h('h3', {}, 'Lag by partition'), parts.lag),
      h('section', { class: 'card' }, h('h3', {}, 'State'), parts.state)),
    parts.receivers);

  let seen = -1;
  function draw() {
    const { timeline } = store;
    const [total, last] = [timeline.batchId.length, timeline.batchId.at(-1)];
    replace(parts.tiles, tiles(store));
    hint.hidden = total > 0;
    charts.hidden = total === 0;
    if (total === 0) {
      say(hint, store.connection === 'lost' ? 'No batch was seen before the connection was lost.'
        : store.connection === 'connecting' ? 'Asking the application …'
        : 'No batch has completed yet. The first one appears here as soon as its inputs are there.');
    } else if (seen !== store.version) {
      seen = store.version;
      const from = range === Infinity ? 0 : position(last - range);
      panels.forEach((it) => it.update(from));
      say(covered, `${plural(total - from, 'batch', 'batches')} since ${moment(timeline.batchId[from], interval())}`);
      const recent = [];
      for (let at = total - 1; at >= Math.max(0, total - 8); at -= 1) recent.push(batchRow(at));
      replace(parts.recent, table('Last batches', COLUMNS, recent));
    } else if (total > 0 && !parts.recent.firstChild) {
      seen = -1;
    }
    replace(parts.lag, lagTable(store.lag));
    replace(parts.state, stateTable(store.state));
    parts.receivers.hidden = store.receivers.length === 0;
    if (store.receivers.length) replace(parts.receivers, h('h3', {}, 'Receivers'), receiverTable(store.receivers));
    const rows = store.active.map((batch) => h('tr', {},
      h('th', { scope: 'row' }, h('a', { href: `#/batches/${batch.batchId}`, 'data-key': `active-${batch.batchId}` }, moment(batch.batchId, interval()))),
      h('td', {}, h('span', { class: `pill ${batch.status === 'PROCESSING' ? 'busy' : ''}` }, batch.status.toLowerCase())),
      h('td', { class: 'end' }, count(batch.inputSize)),
      h('td', { class: 'end' }, `${batch.numCompletedOutputOps} of ${batch.numTotalOutputOps} begun`)));
    replace(parts.active, table('Waiting and running',
      [{ title: 'Batch time' }, { title: 'Status' }, { title: 'Records', end: true }, { title: 'Outputs done', end: true }], rows,
      store.connection !== 'live' ? 'Nothing is known at this moment.'
        : store.statistics?.state === 'STOPPED' ? 'None: the application has stopped.' : 'None at this moment: the application keeps up.'));
  }

  draw();
  const end = watch(draw);
  return { end: () => { end(); panels.forEach((it) => it.destroy()); }, themed: () => panels.forEach((it) => it.redraw()) };
}
