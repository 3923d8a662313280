// The page: which part of it is shown, what is told above all parts, and keys.

import { batch, batches } from './batches.js';
import { h, replace, say } from './dom.js';
import { moment, took } from './format.js';
import { operators } from './graph.js';
import { overview } from './overview.js';
import { hold, interval, keep, store, watch } from './store.js';
import { tables } from './tables.js';

const element = (id) => document.getElementById(id);
const main = element('main');
const PAGES = ['overview', 'batches', 'operators', 'tables'];
const THEMES = ['auto', 'light', 'dark'];
const SIGNS = { auto: '◐', light: '☀', dark: '☾' };

let view = null;

function route() {
  const [page, id] = location.hash.replace(/^#\/?/, '').split('/');
  view?.end();
  const known = PAGES.includes(page) ? page : 'overview';
  document.querySelectorAll('.tabs a').forEach((link) => {
    if (link.dataset.page === known) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  });
  const parts = { overview, batches, operators, tables };
  view = known === 'batches' && /^\d+$/.test(id ?? '') ? batch(main, Number(id)) : parts[known](main);
  window.scrollTo(0, 0);
}

function theme(next) {
  localStorage.setItem('tidemill-theme', next);
  if (next === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  const button = element('theme');
  say(button, SIGNS[next]);
  button.setAttribute('aria-label', `Theme: ${next === 'auto' ? 'as the system has it' : next}`);
  button.title = button.getAttribute('aria-label');
  view?.themed?.();
}

const currentTheme = () => (THEMES.includes(localStorage.getItem('tidemill-theme')) ? localStorage.getItem('tidemill-theme') : 'auto');
const turnTheme = () => theme(THEMES[(THEMES.indexOf(currentTheme()) + 1) % THEMES.length]);

function connection() {
  if (store.paused) return ['held still', 'warn'];
  if (store.connection === 'live') return store.statistics?.state === 'STOPPED' ? ['stopped', 'bad'] : ['live', 'good'];
  return store.connection === 'lost' ? ['no connection', 'bad'] : ['connecting', 'busy'];
}

function banner() {
  const { failure, statistics } = store;
  if (failure) {
    const [reason] = (failure.firstFailureReason ?? '').split('\n');
    return [h('strong', {}, `Batch ${moment(failure.batchId, interval())} failed. `), h('span', {}, reason), ' ',
      store.connection === 'lost' ? 'The application has ended; the next start runs this batch again.'
        : h('a', { href: `#/batches/${failure.batchId}` }, 'See the batch')];
  }
  if (store.connection === 'lost') return [h('strong', {}, 'The application does not answer. '), 'What is shown is the last that was heard; this page goes on asking.'];
  if (statistics?.state === 'INITIALIZED') return [h('strong', {}, 'Starting. '), 'The application waits for its inputs: brokers, topics, or a checkpoint that is being read.'];
  return null;
}

let told = '';

function frame() {
  const { statistics } = store;
  const [text, tone] = connection();
  const pill = element('connection');
  say(pill, text);
  pill.className = `pill ${tone}`;
  if (statistics) {
    say(element('app'), statistics.appName);
    document.title = `${store.failure ? '✕ ' : ''}${statistics.appName} – Tidemill`;
    const up = statistics.startTime ? `, up ${took(Date.parse(statistics.now) - Date.parse(statistics.startTime))}` : '';
    say(element('facts'), `batches of ${took(statistics.batchDuration)}${up}`);
    say(element('version'), `Tidemill ${statistics.version}`);
  }
  const parts = banner();
  const box = element('banner');
  const next = parts ? parts.map((part) => part.textContent ?? part).join('') : '';
  if (next !== told) {
    told = next;
    box.hidden = !parts;
    box.className = store.failure || store.connection === 'lost' ? 'bad' : 'busy';
    replace(box, parts ?? []);
  }
}

function pickRow(by) {
  const links = [...main.querySelectorAll('tbody a[href^="#/batches/"]')];
  const at = links.indexOf(document.activeElement);
  const next = links[at < 0 ? 0 : Math.min(links.length - 1, Math.max(0, at + by))];
  if (next) next.focus();
  else main.querySelector(by > 0 ? 'a[rel=prev]' : 'a[rel=next]')?.click();
}

document.addEventListener('keydown', (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && event.target.type !== 'checkbox';
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  const onControl = /^(BUTTON|A|INPUT)$/.test(event.target.tagName);
  if (/^[1-4]$/.test(event.key)) location.hash = `#/${PAGES[event.key - 1]}`;
  else if (event.key === 'j') pickRow(1);
  else if (event.key === 'k') pickRow(-1);
  else if (event.key === 'u') location.hash = '#/batches';
  else if (event.key === 't') turnTheme();
  else if (event.key === '?') element('shortcuts').showModal();
  else if (event.key === ' ' && !onControl) { event.preventDefault(); hold(!store.paused); }
});

element('theme').addEventListener('click', turnTheme);
element('help').addEventListener('click', () => element('shortcuts').showModal());
document.querySelector('.skip').addEventListener('click', (event) => { event.preventDefault(); main.focus(); });
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => view?.themed?.());
window.addEventListener('hashchange', route);

theme(currentTheme());
route();
watch(frame);
frame();
keep();
