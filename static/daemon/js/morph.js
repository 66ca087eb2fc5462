// Works new HTML into the page without disturbing who uses it: focus, caret, selection, scroll
// position, open <details>, and fields in use stay. Nodes are told apart by their id, those without
// by their place. Attributes named in data-live-keep="class hidden" belong to the page's scripts.
// The children of a list marked data-live-steady keep their places while holds(list) says so.

// Make `from` look like `to` (two elements with the same tag); calls added(element) for what is new.
export function morph(from, to, added = () => {}, holds = () => false) {
  if (from.isEqualNode(to)) return;
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  if (from.hasAttribute('data-live-skip')) return;
  const kept = new Set(from.getAttribute('data-live-keep')?.split(' '));
  if (TOGGLED.has(from.localName)) kept.add('open');
  const field = FIELDS.has(from.localName);
  const theirs = field && inUse(from);
  if (theirs) kept.add('value').add('checked');
  morphAttributes(from, to, kept);
  if (from.localName !== 'textarea' && !theirs) morphChildren(from, to, added, holds);
  if (field && !theirs) take(from, to);
}

// ── Attributes and fields ───────────────────────────────────────────────────────────────────────
const FIELDS = new Set(['input', 'textarea', 'select']);
const TOGGLED = new Set(['details', 'dialog']); // `open` is the person's choice

function morphAttributes(from, to, kept) {
  for (const { name, value } of [...to.attributes]) {
    if (!kept.has(name) && from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) {
    if (!kept.has(name) && !to.hasAttribute(name)) from.removeAttribute(name);
  }
}

function inUse(field) {
  if (field === document.activeElement) return true;
  if (field.localName === 'select') return [...field.options].some((o) => o.selected !== o.defaultSelected);
  if (field.type === 'checkbox' || field.type === 'radio') return field.checked !== field.defaultChecked;
  return field.value !== field.defaultValue;
}

function take(field, wanted) {
  if (field.localName === 'select') {
    for (const option of field.options) option.selected = option.defaultSelected;
  } else if (field.type === 'checkbox' || field.type === 'radio') {
    field.checked = wanted.defaultChecked;
  } else if (field.type !== 'file' && field.value !== wanted.value) {
    field.value = field.defaultValue = wanted.value;
  }
}

// ── Children ────────────────────────────────────────────────────────────────────────────────────
const idOf = (node) => node.getAttribute?.('id'); // form.id may be a field called "id"

function morphChildren(from, to, added, holds) {
  const old = [...from.childNodes];
  const byId = new Map(old.filter(idOf).map((node) => [idOf(node), node]));
  const unnamed = old.filter((node) => !idOf(node));
  const wanted = [...to.childNodes].map((next) => {
    let hit = null;
    if (idOf(next)) {
      hit = byId.get(idOf(next));
      byId.delete(idOf(next));
    } else {
      // In their order; one that is left out is not looked at again, so that nothing changes places.
      const place = unnamed.findIndex((node) => node.nodeName === next.nodeName);
      if (place >= 0) hit = unnamed.splice(0, place + 1)[place];
    }
    return hit?.nodeName === next.nodeName ? [hit, next] : [null, next];
  });

  if (from.hasAttribute('data-live-steady') && moves(old, wanted) && holds(from)) {
    for (const [hit, next] of wanted) if (hit) morph(hit, next, added, holds);
    return;
  }

  const used = new Set(wanted.map(([hit]) => hit));
  for (const node of old) if (!used.has(node)) node.remove();

  const order = new Map(old.map((node, place) => [node, place]));
  const still = inOrder(wanted.map(([hit]) => (hit ? order.get(hit) : -1)));
  let after = null; // from the last to the first, so that each has its successor in place
  for (let i = wanted.length - 1; i >= 0; i -= 1) {
    const [hit, next] = wanted[i];
    const node = hit ?? document.importNode(next, true);
    if (!hit) from.insertBefore(node, after);
    else if (!still.has(i)) move(from, node, after);
    if (hit) morph(hit, next, added, holds);
    else if (node.nodeType === Node.ELEMENT_NODE) added(node);
    after = node;
  }
}

// Whether an element that is there would change its place: one before it goes, comes or is moved.
function moves(old, wanted) {
  const elements = (nodes) => nodes.filter((node) => node?.nodeType === Node.ELEMENT_NODE);
  const then = wanted.filter(([, next]) => next.nodeType === Node.ELEMENT_NODE).map(([hit]) => hit);
  return elements(old).some((node, place) => node !== then[place]);
}

// The places in `numbers` of a longest rising subsequence (-1 stands for none): these nodes stay
// where they are, and as few as possible are moved. A moved one may lose focus and scroll position.
function inOrder(numbers) {
  const ends = []; // for each length: the place of the smallest number that ends such a sequence
  const before = [];
  numbers.forEach((number, place) => {
    if (number < 0) return;
    let low = 0;
    let high = ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (numbers[ends[middle]] < number) low = middle + 1;
      else high = middle;
    }
    before[place] = ends[low - 1];
    ends[low] = place;
  });
  const places = new Set();
  for (let place = ends.at(-1); place !== undefined; place = before[place]) places.add(place);
  return places;
}

function move(parent, node, after) {
  if (parent.moveBefore) { // keeps focus and all else; browsers of 2025 and later
    parent.moveBefore(node, after);
    return;
  }
  const focused = node.contains(document.activeElement) ? document.activeElement : null;
  const caret = focused && 'selectionStart' in focused ? [focused.selectionStart, focused.selectionEnd] : null;
  parent.insertBefore(node, after);
  focused?.focus({ preventScroll: true });
  if (caret && caret[0] !== null) focused.setSelectionRange(...caret);
}
