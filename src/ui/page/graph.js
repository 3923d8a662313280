// The graph of operators, with what each gave.

import { get } from './api.js';
import { h, replace, s, table } from './dom.js';
import { about, bytes, count, plural, took } from './format.js';
import { interval, store, watch } from './store.js';

const [WIDTH, HEIGHT, GAP_X, GAP_Y, EDGE] = [196, 62, 64, 22, 8];
const NARROW = 640;

/** The streams that are shown, with edges over those that are not. */
function visible(graph, inner) {
  const all = new Map(graph.streams.map((stream) => [stream.streamId, stream]));
  const named = graph.streams.some((stream) => stream.streamName);
  const shown = new Set(graph.streams.filter((stream) => stream.active && (inner || !named || stream.streamName)).map((it) => it.streamId));
  const nearest = (id) => (shown.has(id) ? [id] : all.get(id).parents.flatMap(nearest));
  const nodes = [];
  const edges = [];
  for (const stream of graph.streams.filter((it) => shown.has(it.streamId))) {
    const hidden = named && !inner ? hiddenState(stream, all, shown) : undefined;
    nodes.push({ key: `s${stream.streamId}`, title: stream.streamName ?? stream.operator, stream, uid: stream.uid ?? hidden?.uid, operator: hidden?.operator ?? stream.operator });
    for (const parent of new Set(stream.parents.flatMap(nearest))) edges.push([`s${parent}`, `s${stream.streamId}`]);
  }
  for (const output of graph.outputs) {
    nodes.push({ key: `o${output.outputOpId}`, title: output.name, output });
    for (const parent of new Set(nearest(output.streamId))) edges.push([`s${parent}`, `o${output.outputOpId}`]);
  }
  return { nodes, edges: edges.filter(([from, to]) => from !== to) };
}

/** The operator with state that a named stream is the last step of. */
function hiddenState(stream, all, shown) {
  for (let queue = [...stream.parents]; queue.length;) {
    const id = queue.shift();
    if (shown.has(id)) continue;
    const parent = all.get(id);
    if (parent.uid) return parent;
    queue.push(...parent.parents);
  }
  return undefined;
}

/** Puts each node behind all that it is made of, and near to them. */
function layout({ nodes, edges }, down) {
  const layer = new Map();
  const parents = new Map(nodes.map((node) => [node.key, edges.filter(([, to]) => to === node.key).map(([from]) => from)]));
  const depth = (key) => {
    if (!layer.has(key)) layer.set(key, Math.max(-1, ...parents.get(key).map(depth)) + 1);
    return layer.get(key);
  };
  nodes.forEach((node) => depth(node.key));
  const layers = [];
  for (const node of nodes) (layers[layer.get(node.key)] ??= []).push(node);
  const order = new Map();
  for (const row of layers) {
    const middle = (node) => {
      const own = parents.get(node.key);
      return own.length ? own.reduce((sum, key) => sum + order.get(key), 0) / own.length : 0;
    };
    row.sort((a, b) => middle(a) - middle(b)).forEach((node, at) => order.set(node.key, at - (row.length - 1) / 2));
  }
  const widest = Math.max(...layers.map((row) => row.length));
  const place = new Map();
  const [stepAcross, stepAlong] = down ? [WIDTH + GAP_Y, HEIGHT + 34] : [HEIGHT + GAP_Y, WIDTH + GAP_X];
  layers.forEach((row, at) => row.forEach((node, n) => {
    const across = (n + (widest - row.length) / 2) * stepAcross;
    place.set(node.key, down ? { x: across, y: at * stepAlong } : { x: at * stepAlong, y: across });
  }));
  const [long, wide] = [layers.length * stepAlong - (down ? 34 : GAP_X), widest * stepAcross - GAP_Y];
  return { place, width: down ? wide : long, height: down ? long : wide };
}

function draw(graph, inner, down) {
  const seen = visible(graph, inner);
  if (seen.nodes.length === 0) return h('p', { class: 'empty' }, 'The application has no output operation yet.');
  const { place, width, height } = layout(seen, down);
  const keys = new Map(store.state.map((row) => [row.operator, row]));
  const edges = seen.edges.map(([from, to]) => {
    const [a, b] = [place.get(from), place.get(to)];
    const [x1, y1, x2, y2] = down ? [a.x + WIDTH / 2, a.y + HEIGHT, b.x + WIDTH / 2, b.y] : [a.x + WIDTH, a.y + HEIGHT / 2, b.x, b.y + HEIGHT / 2];
    const bend = down ? `C${x1},${(y1 + y2) / 2} ${x2},${(y1 + y2) / 2}` : `C${(x1 + x2) / 2},${y1} ${(x1 + x2) / 2},${y2}`;
    return s('path', { d: `M${x1},${y1} ${bend} ${x2},${y2}`, class: 'edge' });
  });
  const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
  const boxes = seen.nodes.map((node) => {
    const { x, y } = place.get(node.key);
    const state = node.uid && keys.get(node.uid);
    const [, kind, target] = /^(\w+)\((.+)\)$/.exec(node.title) ?? [];
    const lines = node.output
      ? [target ?? node.title, kind ?? 'output operation', node.output.description.includes(' at ') ? node.output.description.replace(/^.* at (?:.*\/)?/, '') : '']
      : [node.title, node.title === node.operator ? `every ${took(node.stream.slideDuration)}` : node.operator,
        `${plural(node.stream.numRecords, 'record')}${state ? `, ${about(state.numKeys)} keys` : ' in the last batch'}`];
    return s('g', { class: `node ${node.output ? 'output' : node.uid ? 'stateful' : ''}`, transform: `translate(${x},${y})` },
      s('title', {}, node.output ? node.output.description : `${node.title}: ${node.operator}, ${count(node.stream.numTotalRecords)} records since the start`),
      s('rect', { width: WIDTH, height: HEIGHT, rx: node.output ? HEIGHT / 2 : EDGE }),
      s('text', { x: 14, y: lines[2] ? 21 : 28, class: 'name' }, short(lines[0], 22)),
      s('text', { x: 14, y: lines[2] ? 37 : 44 }, short(lines[1], 28)),
      s('text', { x: 14, y: 53, class: 'figure' }, short(lines[2], 29)));
  });
  const fits = down && width < 1.35 * window.innerWidth;
  return h('div', { class: `scroll graph ${fits ? 'fits' : ''}`, tabindex: 0, role: 'region', 'aria-label': 'Graph of operators' },
    s('svg', { viewBox: `-2 -2 ${width + 4} ${height + 4}`, width: width + 4, height: height + 4, role: 'img', 'aria-label': `${plural(seen.nodes.length, 'operator')} from inputs to outputs; the table below has the same` }, edges, boxes));
}

/** Whether streams have names, as they have in a pipeline file. */
const isNamed = (graph) => graph.streams.some((stream) => stream.streamName);

function rows(graph) {
  const keys = new Map(store.state.map((row) => [row.operator, row]));
  return graph.streams.filter((stream) => stream.active).map((stream) => {
    const state = stream.uid && keys.get(stream.uid);
    return h('tr', {},
      h('td', { class: 'end' }, stream.streamId),
      isNamed(graph) && h('th', { scope: 'row' }, stream.streamName ?? h('span', { class: 'muted' }, 'inner step')),
      h(isNamed(graph) ? 'td' : 'th', { scope: isNamed(graph) ? undefined : 'row' }, stream.operator), h('td', {}, stream.parents.join(', ') || 'input'), h('td', { class: 'end' }, took(stream.slideDuration)),
      h('td', { class: 'end' }, count(stream.numRecords)), h('td', { class: 'end' }, about(stream.numTotalRecords)),
      h('td', { class: 'end' }, state ? `${count(state.numKeys)} keys, ${bytes(state.sizeBytes)}` : '–'));
  });
}

/** Shows the operators in `main`; gives what ends it. */
export function operators(main) {
  let [graph, inner, seen, busy] = [null, false, -1, false];
  const picture = h('div', {}, h('p', { class: 'loading' }, 'Asking for the operators …'));
  const list = h('div');
  const box = h('input', { type: 'checkbox', id: 'inner', onchange: () => { inner = box.checked; show(); } });
  const choice = h('label', { class: 'check', for: 'inner', hidden: true }, box, 'Inner steps');
  replace(main, h('div', { class: 'panel-head' }, h('h2', {}, 'Operators'), choice), h('section', { class: 'card', 'aria-label': 'Graph' }, picture),
    h('section', { class: 'card' }, h('h3', {}, 'All of them'), list));

  function show() {
    if (!graph) return;
    choice.hidden = !isNamed(graph);
    const at = picture.querySelector('.scroll')?.scrollLeft;
    replace(picture, draw(graph, inner, window.innerWidth < NARROW));
    if (at) picture.querySelector('.scroll').scrollLeft = at;
    const columns = ['Id', isNamed(graph) && 'Stream', 'Operator', 'Of', 'Slide', 'Last batch', 'Since the start', 'State'].filter(Boolean);
    const texts = ['Stream', 'Operator', 'Of'];
    replace(list, table('Operators', columns.map((title) => ({ title, end: !texts.includes(title) })), rows(graph), 'None.'));
  }

  async function load() {
    if (busy || (graph && seen === store.version)) return;
    busy = true;
    seen = store.version;
    try {
      graph = await get('streams');
      if (picture.isConnected) show();
    } catch (error) {
      if (!graph) replace(picture, h('p', { class: 'empty' }, error.message));
    } finally {
      // A graph is read, not watched: once a second is often enough.
      setTimeout(() => { busy = false; }, Math.max(1_000, Math.min(interval(), 5_000)));
    }
  }
  load();
  const turned = () => show();
  window.addEventListener('resize', turned);
  const end = watch(load);
  return { end: () => { end(); window.removeEventListener('resize', turned); } };
}
