// Elements without markup in strings: whatever an application says is shown as text.

/** An element with attributes, listeners (`onclick`) and children: elements, texts, lists of these, or nothing. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Puts `children` in the place of what is in `element`; a focused element keeps its focus by its `data-key`. */
export function replace(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  element.replaceChildren(...children.flat(3).filter(Boolean));
  if (focused) element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

/** Sets a text only if it changes. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A table that can be scrolled sideways, with its name for those who cannot see it. `columns` are `{ title, end }`. */
export function table(name, columns, rows, empty = 'Nothing here yet.') {
  if (rows.length === 0) return h('p', { class: 'empty' }, empty);
  const head = columns.map((column) => h('th', { scope: 'col', class: column.end && 'end' }, column.title));
  return h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': name },
    h('table', {}, h('caption', { class: 'hidden' }, name), h('thead', {}, h('tr', {}, head)), h('tbody', {}, rows)));
}
