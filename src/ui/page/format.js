// Numbers and times for people.

const plain = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

/** Without zeros at the end. */
const trimmed = (n, digits) => String(Number(n.toFixed(digits)));

export const NONE = '–';

/** 1,234,567 */
export const count = (n) => (n === null || n === undefined ? NONE : plain.format(n));

/** 1.23M; small numbers in full. */
export const about = (n) => {
  if (n === null || n === undefined) return NONE;
  if (Math.abs(n) < 10 && n % 1 !== 0) return n.toFixed(1);
  return Math.abs(n) < 10_000 ? plain.format(n) : compact.format(n);
};

/** 850 µs, 12.3 ms, 1.25 s, 3 min 20 s, 2 h 5 min */
export function took(ms) {
  if (ms === null || ms === undefined) return NONE;
  if (ms === 0) return '0 ms';
  if (ms < 1) return `${Math.round(ms * 1_000)} µs`;
  if (ms < 10) return `${trimmed(ms, 1)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1_000;
  if (seconds < 10) return `${trimmed(seconds, 2)} s`;
  if (seconds < 60) return `${trimmed(seconds, 1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3_600) return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ''}`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 2_880) return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ''}`;
  return `${Math.floor(minutes / 1_440)} d ${Math.floor(minutes / 60) % 24} h`;
}

export function bytes(n) {
  if (n === null || n === undefined) return NONE;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  while (n >= 1_024 && at < units.length - 1) {
    n /= 1_024;
    at += 1;
  }
  return `${at === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[at]}`;
}

/** The time of the day; with milliseconds where batches are closer than a second. */
export function time(ms, interval = 1_000) {
  const text = clock.format(ms);
  return interval % 1_000 ? `${text}.${String(ms % 1_000).padStart(3, '0')}` : text;
}

/** The same, with the day if that is not today. */
export function moment(ms, interval) {
  const today = new Date().toDateString() === new Date(ms).toDateString();
  return today ? time(ms, interval) : `${day.format(ms)}, ${time(ms, interval)}`;
}

export const iso = (ms) => new Date(ms).toISOString();

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
