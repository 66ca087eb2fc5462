// The output of one run, line by line as it is written. Bytes come by offset over live.js, so that
// nothing is missing or double after a break; everything is put in as text, never as markup.
// Words come from data attributes of #log (templates/daemon/log_words.html).
import { Ansi } from './ansi.js';
import { watchLog } from './live.js';

const MAX_LINES = 10_000; // in the page; the oldest block goes first
const MAX_SIZE = 8 << 20; // characters in the page
const BLOCK_LINES = 200;
const BLOCK_SIZE = 1 << 18;
const LONGEST = 1 << 16; // characters in one row; the rest of the line goes on in the next
const SUMMARY = 10_000;
const WRAP = 'daemon.log.wrap';

class Log {
  #section;
  #box;
  #words;
  #ansi = new Ansi();
  #next = null; // the byte to go on from; null before the first
  #number = 1; // of the line that is being written
  #digits = 0; // of the longest number shown
  #stream = 1;
  #row = null; // {text, size, classes}
  #returned = false; // after a carriage return the next text replaces the line
  #blocks = [];
  #lines = 0;
  #size = 0;
  #following = true; // from the end of what there is, until somebody scrolls up or it ends
  #fresh = 0; // lines since somebody stopped following
  #unsaid = 0;
  #complete = false; // all there will ever be has come in
  #lastTop = 0;
  #frame = 0;
  #wanted; // the lines the address names, until they were shown
  #chip;
  #said;
  #older;

  constructor(section) {
    this.#section = section;
    this.#box = section.querySelector('[data-log-lines]');
    this.#words = section.dataset;
    this.#chip = element('button', 'button log-new');
    this.#chip.type = 'button';
    this.#chip.hidden = true;
    this.#said = element('p', 'sr-only');
    this.#said.setAttribute('role', 'status');
    this.#older = element('p', 'log-note');
    section.append(this.#chip, this.#said);
    this.#wanted = address();
    this.#controls();
    if (this.#words.logUrl) this.#fetch(this.#words.logUrl);
    else {
      watchLog(Number(section.dataset.logRun), {
        from: () => this.#next,
        take: (frame) => this.#take(frame),
      });
    }
    setInterval(() => this.#summarise(), SUMMARY);
  }

  get #running() {
    return this.#section.dataset.running === 'true';
  }

  // An earlier attempt writes no more: its log is read piece by piece.
  async #fetch(url) {
    try {
      while (!this.#complete) {
        const answer = await fetch(this.#next === null ? url : `${url}?from=${this.#next}`);
        if (!answer.ok) return; // the plain tail stays
        this.#take((await answer.json()).log);
      }
    } catch { /* nobody answered: what came so far, or the plain tail, stays */ }
  }

  // ── What comes in ─────────────────────────────────────────────────────────────────────────────
  #take(frame) {
    if (frame.anew) { // tried again: what the next attempt writes begins here
      this.#begin({ line: 1 });
      this.#next = 0;
      this.#fresh = this.#unsaid = 0;
      this.#older.remove();
    }
    if (frame.text) {
      if (this.#next === null) this.#begin(frame);
      if (frame.gap) this.#skip(frame);
      for (const [stream, text] of frame.text) {
        this.#stream = stream;
        this.#ansi.read(text, this);
      }
      this.#next = frame.next;
      this.#prune();
    }
    if (frame.end) this.#finish();
    this.#changed();
  }

  #begin(frame) {
    this.#box.replaceChildren();
    this.#ansi = new Ansi();
    this.#blocks = [];
    this.#row = null;
    this.#returned = false;
    this.#lines = this.#size = 0;
    this.#number = frame.line;
    this.#tellOlder(frame.line);
  }

  #skip(frame) {
    if (this.#row) this.end();
    const gap = element('span', 'log-gap', fill(this.#words.gap, this.#count(frame.gap)));
    this.#into().append(gap);
    this.#number = frame.line;
    this.#ansi = new Ansi();
  }

  #finish() {
    this.#ansi.read('', this, true);
    this.#complete = true;
    this.#section.dataset.running = 'false';
    this.#section.querySelector('[data-log-follow]')?.setAttribute('hidden', '');
    if (this.#next === null || !this.#blocks.length) {
      this.#box.replaceChildren(element('p', 'log-empty', this.#words.empty));
      return;
    }
    if (!this.#box.querySelector('.log-end')) this.#box.append(element('span', 'log-end', this.#words.end));
  }

  // What Ansi calls for each part of the text, in order.
  text(text, classes) {
    if (this.#returned && this.#row) {
      this.#size -= this.#row.size;
      this.#row.block.size -= this.#row.size;
      this.#row.size = 0;
      this.#row.classes = null;
      this.#row.text.replaceChildren();
    }
    this.#returned = false;
    for (let at = 0; at < text.length;) {
      if (this.#row && this.#row.size >= LONGEST) this.#row = this.#line(false);
      this.#row ??= this.#line(true);
      const part = text.slice(at, at + LONGEST - this.#row.size);
      at += part.length;
      this.#put(part, classes);
    }
  }

  back() {
    this.#returned = true;
  }

  end() {
    this.#row ??= this.#line(true);
    this.#row = null;
    this.#returned = false;
    this.#number += 1;
    this.#unsaid += 1;
    if (!this.#following) this.#fresh += 1;
  }

  #put(text, classes) {
    const row = this.#row;
    const last = row.text.lastChild;
    if (last && row.classes === classes) classes ? last.append(text) : last.appendData(text);
    else row.text.append(classes ? element('span', classes, text) : text);
    row.classes = classes;
    row.size += text.length;
    row.block.size += text.length;
    this.#size += text.length;
  }

  // A new row; `numbered` where a line begins, not where a very long one goes on.
  #line(numbered) {
    const row = element('div', this.#stream === 2 ? 'log-line is-stderr' : 'log-line');
    const link = element('a', '');
    if (numbered) {
      row.id = `L${this.#number}`;
      link.href = `#L${this.#number}`;
      link.tabIndex = -1; // thousands of stops would keep the keyboard from all below
      link.textContent = this.#number;
      this.#widen();
    }
    const text = document.createElement('span');
    row.append(link, text);
    const into = this.#into();
    into.append(row);
    this.#lines += 1;
    return { text, size: 0, classes: null, block: this.#blocks.at(-1) };
  }

  // The column of numbers is as wide as the longest of them.
  #widen() {
    const digits = String(this.#number).length;
    if (digits <= this.#digits) return;
    this.#digits = digits;
    this.#section.style.setProperty('--digits', digits);
  }

  #into() {
    let block = this.#blocks.at(-1);
    if (!block || block.lines >= BLOCK_LINES || block.size >= BLOCK_SIZE) {
      block = { node: element('div', 'log-block'), lines: 0, size: 0, first: this.#number };
      this.#blocks.push(block);
      this.#box.append(block.node);
    }
    block.lines += 1;
    return block.node;
  }

  #prune() {
    let pruned = false;
    while (this.#blocks.length > 1 && (this.#lines > MAX_LINES || this.#size > MAX_SIZE)) {
      const block = this.#blocks.shift();
      this.#lines -= block.lines;
      this.#size -= block.size;
      block.node.remove();
      pruned = true;
    }
    if (pruned) this.#tellOlder(this.#blocks[0].first);
  }

  // Say at the top which lines are not in the page, and where to read them.
  #tellOlder(first) {
    if (first <= 1) return;
    const link = element('a', '', this.#words.raw);
    link.href = this.#words.textUrl;
    this.#older.replaceChildren(fill(this.#words.older, this.#count(first - 1)), ' ', link);
    if (this.#older.parentNode !== this.#box) this.#box.prepend(this.#older);
  }

  // ── What is shown of it ───────────────────────────────────────────────────────────────────────
  #changed() {
    if (this.#wanted && this.#pick(this.#wanted, true)) {
      this.#follow(false);
      this.#wanted = null;
    }
    this.#tellFresh();
    const written = this.#number - (this.#row ? 0 : 1);
    const info = this.#section.querySelector('[data-log-info]');
    if (info && this.#next !== null) info.textContent = fill(written === 1 ? this.#words.line : this.#words.lines, this.#count(written));
    // Once for all that came in this frame of the screen; an unseen page scrolls when it is seen.
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      if (this.#following) this.#toEnd();
      if (this.#complete) this.#follow(false);
    });
  }

  #tellFresh() {
    const show = this.#running && !this.#following && this.#fresh > 0;
    if (show) this.#chip.textContent = fill(this.#fresh === 1 ? this.#words.newOne : this.#words.newMany, this.#count(this.#fresh));
    this.#chip.hidden = !show;
  }

  #follow(yes) {
    this.#following = yes;
    if (yes) {
      this.#fresh = 0;
      this.#toEnd();
    }
    this.#section.querySelector('[data-log-follow]')?.setAttribute('aria-pressed', String(yes));
    this.#tellFresh();
  }

  // Where we have scrolled to is remembered at once: should more come in before the browser tells,
  // it would look as if somebody had scrolled up.
  #toEnd() {
    this.#box.scrollTop = this.#box.scrollHeight;
    this.#lastTop = this.#box.scrollTop;
  }

  #scrolled() {
    const top = this.#box.scrollTop;
    const below = this.#box.scrollHeight - top - this.#box.clientHeight;
    if (below < 24) {
      if (!this.#following && this.#running) this.#follow(true);
      this.#fresh = 0;
      this.#tellFresh();
    } else if (top < this.#lastTop - 1) this.#follow(false);
    this.#lastTop = top;
  }

  // Mark the lines [from, to]; false when none of them is in the page (yet).
  #pick([from, to], scroll = false) {
    this.#box.querySelectorAll('.is-picked').forEach((row) => row.classList.remove('is-picked'));
    const first = this.#blocks[0]?.first ?? 1;
    let shown = null;
    for (let number = Math.max(from, first); number <= Math.min(to, this.#number); number += 1) {
      const row = document.getElementById(`L${number}`);
      row?.classList.add('is-picked');
      shown ??= row;
    }
    if (shown && scroll) shown.scrollIntoView({ block: 'center' });
    return shown !== null;
  }

  #summarise() {
    if (!this.#following || !this.#unsaid || document.hidden) return;
    const rows = this.#blocks.at(-1)?.node.querySelectorAll('.log-line > span');
    const last = rows ? [...rows].reverse().find((row) => row.textContent.trim()) : null;
    this.#said.textContent = fill(this.#unsaid === 1 ? this.#words.saidOne : this.#words.saidMany, this.#count(this.#unsaid))
      .replace('{line}', last?.textContent.trim().slice(0, 120) ?? '');
    this.#unsaid = 0;
  }

  #count(number) {
    return number.toLocaleString(document.documentElement.lang);
  }

  #controls() {
    const follow = this.#section.querySelector('[data-log-follow]');
    const wrap = this.#section.querySelector('[data-log-wrap]');
    if (follow && this.#running) {
      follow.hidden = false;
      follow.setAttribute('aria-pressed', 'true');
      follow.addEventListener('click', () => this.#follow(!this.#following));
    }
    if (wrap) {
      const set = (yes) => {
        this.#section.classList.toggle('wraps', yes);
        wrap.setAttribute('aria-pressed', String(yes));
        if (this.#following) this.#toEnd();
      };
      wrap.hidden = false;
      // A telephone shows a third of a line that is not wrapped.
      set((kept() ?? (matchMedia('(width < 47.5em)').matches ? 'yes' : 'no')) === 'yes');
      wrap.addEventListener('click', () => {
        const yes = wrap.getAttribute('aria-pressed') !== 'true';
        set(yes);
        keep(yes ? 'yes' : 'no');
      });
    }
    this.#chip.addEventListener('click', () => this.#follow(true));
    this.#box.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#box.addEventListener('click', (event) => {
      const link = event.target.closest('a[href^="#L"]');
      if (!link) return;
      event.preventDefault();
      const number = Number(link.hash.slice(2));
      const now = address();
      const range = event.shiftKey && now ? [Math.min(now[0], number), Math.max(now[0], number)] : [number, number];
      history.replaceState(null, '', `#L${range[0]}${range[1] > range[0] ? `-L${range[1]}` : ''}`);
      this.#follow(false);
      this.#pick(range);
    });
    addEventListener('hashchange', () => {
      const range = address();
      if (range && this.#pick(range, true)) this.#follow(false);
    });
    // Without a socket live.js fetches the page; its plain tail is then better than nothing new.
    document.addEventListener('daemon:page', (event) => {
      const lines = event.detail.querySelector('#log [data-log-lines]');
      if (!lines || this.#box.querySelector('.log-end')) return;
      this.#next = null;
      this.#blocks = [];
      this.#box.replaceChildren(...lines.childNodes);
      if (this.#following) this.#toEnd();
    });
  }
}

// The lines that #L12 or #L120-L134 name, as [first, last]; null for anything else.
function address() {
  const found = /^#L(\d{1,12})(?:-L?(\d{1,12}))?$/.exec(location.hash);
  if (!found) return null;
  const lines = [Number(found[1]), Number(found[2] ?? found[1])];
  return [Math.min(...lines), Math.max(...lines)];
}

function element(name, classes, text) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  if (text !== undefined) made.textContent = text;
  return made;
}

const fill = (words, number) => (words ?? '').replace('{n}', number);

function kept() {
  try { return localStorage.getItem(WRAP); } catch { return null; }
}

function keep(value) {
  try { localStorage.setItem(WRAP, value); } catch { /* the choice then lasts as long as the page */ }
}

const section = document.querySelector('[data-log-run]');
if (section) new Log(section);
