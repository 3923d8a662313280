// Charts of the batches' figures: a timeline and a histogram for each, drawn by uPlot.

import uPlot from './uPlot-1.6.32.js';
import { h, say } from './dom.js';
import { time } from './format.js';
import { interval, store } from './store.js';

const BINS = 24;
const HEIGHT = 148;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** What all charts look like, in the theme that is shown. */
function axes(format, bottom) {
  const font = '11px system-ui, sans-serif';
  const [stroke, line] = [colour('--muted'), colour('--line')];
  const common = { stroke, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
  return [
    { ...common, grid: { show: false }, size: 24, gap: 4, values: (_, ticks) => ticks.map(bottom), space: 70 },
    { ...common, size: 58, gap: 6, values: (_, ticks) => ticks.map(format), space: 34 },
  ];
}

/** Draws a dashed line at the batch interval, and a mark at each batch that failed. */
function marks(chart, options) {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.lineWidth = devicePixelRatio;
  if (options.failed) {
    ctx.strokeStyle = colour('--bad');
    ctx.fillStyle = colour('--bad');
    const [ids] = chart.data;
    options.failed().forEach((failed, at) => {
      if (!failed) return;
      const x = Math.round(chart.valToPos(ids[at], 'x', true));
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.beginPath();
      ctx.arc(x, bbox.top + 4 * devicePixelRatio, 4 * devicePixelRatio, 0, 7);
      ctx.fill();
    });
  }
  const limit = options.line?.();
  if (limit) {
    ctx.strokeStyle = colour('--warn');
    ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.beginPath();
    const along = Math.round(chart.valToPos(limit, options.across ? 'x' : 'y', true));
    if (options.across) {
      ctx.moveTo(along, bbox.top);
      ctx.lineTo(along, bbox.top + bbox.height);
    } else {
      ctx.moveTo(bbox.left, along);
      ctx.lineTo(bbox.left + bbox.width, along);
    }
    ctx.stroke();
  }
  ctx.restore();
}

const area = (name) => `color-mix(in srgb, ${colour(name)} 14%, transparent)`;

function build(host, options, series, scales, data) {
  const width = Math.max(host.clientWidth, 120);
  const chart = new uPlot({
    width, height: HEIGHT, series, scales, axes: axes(options.format, options.bottom), ms: 1,
    legend: { show: false }, padding: [8, 22, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 }, sync: options.sync && { key: options.sync } },
    hooks: { draw: [(chart) => marks(chart, options)], setCursor: [options.pointed ?? (() => {})] },
  }, data, host);
  const resize = new ResizeObserver(() => {
    const wide = Math.max(host.clientWidth, 120);
    if (wide !== chart.width) chart.setSize({ width: wide, height: HEIGHT });
  });
  resize.observe(host);
  return { chart, destroy: () => { resize.disconnect(); chart.destroy(); } };
}

/** How often values fall into equal steps up to (nearly) the greatest; the few beyond count in the last one. */
function histogram(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (known.length === 0) return [[], []];
  const sorted = Float64Array.from(known).sort();
  const top = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.995))] || sorted.at(-1) || 1;
  const counts = new Array(BINS).fill(0);
  for (const value of sorted) counts[Math.min(BINS - 1, Math.floor((value / top) * BINS))] += 1;
  return [counts.map((_, at) => ((at + 0.5) * top) / BINS), counts];
}

/**
 * A figure of the batches: its last value or the one pointed at, its timeline and its histogram.
 * `figure` has `name`, `explained`, `column` (what of the timeline, or a function of it), `format`, and `line` if the interval is drawn.
 */
export function panel(figure) {
  const value = h('span', { class: 'now' });
  const about = h('span', { class: figure.line ? 'muted limit' : 'muted' });
  const line = h('div', { class: 'chart', role: 'img', 'data-chart': figure.name });
  const bars = h('div', { class: 'chart', role: 'img', 'data-chart': `${figure.name}, histogram` });
  const element = h('section', { class: 'card panel', 'aria-label': figure.name },
    h('div', { class: 'panel-head' }, h('h3', { title: figure.explained }, figure.name), value, about),
    h('div', { class: 'pair' }, line, bars));

  let shown = { ids: [], values: [], failed: [] };
  let pointed = null;
  let drawn = null;
  const limit = () => (figure.line ? interval() : null);

  const tell = () => {
    const at = pointed ?? shown.ids.length - 1;
    const has = at >= 0 && at < shown.ids.length;
    say(value, has ? figure.format(shown.values[at]) : '–');
    say(about, pointed !== null && has ? `at ${time(shown.ids[at], interval())}` : figure.line ? `interval ${figure.format(interval())}` : '');
  };

  const draw = () => {
    const over = (_, min, max) => [0, Math.max(max ?? 0, figure.line ? interval() * 1.15 : 0, figure.least ?? 1) * 1.06];
    drawn = [
      build(line, {
        format: figure.format, bottom: (ms) => time(ms), line: limit, failed: () => shown.failed, sync: 'batches',
        pointed: (chart) => { pointed = chart.cursor.idx ?? null; tell(); },
      }, [{}, { stroke: colour('--accent'), fill: area('--accent'), width: 1.6, points: { show: false }, spanGaps: true }],
      { x: { time: true }, y: { range: over } }, [shown.ids, shown.values]),
      build(bars, {
        format: (n) => n.toLocaleString('en'), bottom: figure.format, line: limit, across: true,
      }, [{}, { fill: area('--accent'), stroke: colour('--accent'), width: 1, paths: uPlot.paths.bars({ size: [0.9, 60], align: 0 }), points: { show: false } }],
      { x: { time: false, range: (_, min, max) => [0, (max ?? 1) * 1.04 || 1] }, y: { range: (_, min, max) => [0, (max ?? 1) * 1.1] } }, histogram(shown.values)),
    ];
    drawn[0].chart.over.addEventListener('click', () => {
      const id = shown.ids[drawn[0].chart.cursor.idx];
      if (id !== undefined) location.hash = `#/batches/${id}`;
    });
  };

  return {
    element,
    /** Shows the batches from the position `from` on. */
    update(from) {
      const { timeline } = store;
      shown = {
        ids: timeline.batchId.slice(from),
        values: (typeof figure.column === 'function' ? figure.column(timeline) : timeline[figure.column]).slice(from),
        failed: timeline.failed.slice(from),
      };
      if (drawn) {
        drawn[0].chart.setData([shown.ids, shown.values]);
        drawn[1].chart.setData(histogram(shown.values));
      } else if (element.isConnected) {
        draw();
      }
      tell();
      const failures = shown.failed.filter(Boolean).length;
      line.setAttribute('aria-label', `${figure.name} over ${shown.ids.length} batches, last ${value.textContent}, ${failures} failed`);
      bars.setAttribute('aria-label', `${figure.name}: how often which value`);
    },
    /** Draws everything anew, in another theme. */
    redraw() {
      drawn?.forEach((it) => it.destroy());
      drawn = null;
      if (element.isConnected) draw();
    },
    destroy() {
      drawn?.forEach((it) => it.destroy());
      drawn = null;
    },
  };
}
