// The output of one run: a window of it, of any size, that is written at its end, grows at both ends
// as somebody reads on, and lets go of what is far away. Bytes come by offset, from live.js or by
// request, so that nothing is missing or double after a break.
// Words come from data attributes of #log (templates/daemon/log_words.html).
import { watchLog } from './live.js';
import { Finder } from './logfind.js';
import { element, Strip } from './loglines.js';
import { show as toast } from './ui.js';

const MAX_LINES = 10_000; // in the page; what is furthest away goes first
const MAX_SIZE = 8 << 20; // characters in the page, elements counted as in loglines.js
const ENOUGH = 1 << 20; // … that few lines may have before more are read to fill the window
const NEAR = 1500; // pixels from an end of the window at which more is read
const STIR = 16; // pixels by which rows may shift when they are laid out; more is somebody's doing
const SUMMARY = 10_000;
const WRAP = 'daemon.log.wrap';
const TIMES = 'daemon.log.times';

class Log {
  #section;
  #box;
  #words;
  #strip = null; // the rows in the page; null before the first
  #next = null; // the byte after them, where that is known
  #heard = null; // the byte up to which we were told what is written
  #atStart = false; // nothing is before them
  #attached = true; // they reach to the end, where more is written
  #written = 0; // lines there are, as far as we were told
  #complete = false; // all there will ever be has been written
  #following = true; // from the end of what there is, until somebody scrolls up or it ends
  #fresh = 0; // lines since somebody stopped following
  #unsaid = 0;
  #lastTop = 0;
  #frame = 0;
  #turn = 1; // of the window: what was asked for another one is not for this
  #busy = 0; // the turn for which a request is under way
  #wanted; // the lines the address names, until they were shown
  #digits = 0; // of the longest number shown
  #chip;
  #said;
  #head = element('div', 'log-head');
  #note = element('p', 'log-note');
  #find;

  constructor(section) {
    this.#section = section;
    this.#box = section.querySelector('[data-log-lines]');
    this.#words = section.dataset;
    this.#chip = element('button', 'button log-new');
    this.#chip.type = 'button';
    this.#chip.hidden = true;
    this.#said = element('p', 'sr-only');
    this.#said.setAttribute('role', 'status');
    section.append(this.#chip, this.#said);
    this.#wanted = address();
    this.#controls();
    this.#find = new Finder(section, this);
    this.#read();
    setInterval(() => this.#summarise(), SUMMARY);
  }

  get #running() {
    return this.#section.dataset.running === 'true';
  }

  // ── Where it comes from ───────────────────────────────────────────────────────────────────────
  // From #next on (null: the newest lines) to the end, and what will be written there.
  #read() {
    const turn = this.#turn;
    this.#attached = true;
    if (this.#words.logEnded === undefined) {
      watchLog(Number(this.#words.logRun), {
        from: () => (this.#attached ? this.#next : this.#heard),
        take: (piece) => this.#take(piece),
      });
      return;
    }
    // An earlier attempt writes no more: its log is read piece by piece.
    const on = async () => {
      while (turn === this.#turn && this.#attached) {
        const piece = await this.#ask(this.#next === null ? {} : { from: this.#next });
        if (!piece) return; // nobody answered: the plain tail, or what came so far, stays
        if (turn !== this.#turn || !this.#attached) return;
        this.#take(piece);
        if (piece.end) return;
      }
    };
    on();
  }

  async #ask(place) {
    try {
      const url = new URL(this.#words.piecesUrl, location.href);
      for (const [name, value] of Object.entries(place)) url.searchParams.set(name, value);
      const answer = await fetch(url);
      return answer.ok ? (await answer.json()).log : null;
    } catch {
      return null;
    }
  }

  #take(piece) {
    if (piece.anew) { // tried again: what the next attempt writes begins here
      this.#anew(1);
      this.#next = this.#fresh = this.#unsaid = this.#written = 0;
      this.#atStart = this.#attached = true;
      this.#section.dataset.running = 'true';
    }
    this.#heard = piece.next ?? this.#heard;
    if (piece.text) {
      if (!this.#strip && this.#attached) this.#anew(piece.line, piece.offset === 0);
      const full = this.#strip.lines >= MAX_LINES || this.#strip.size >= MAX_SIZE;
      if (this.#attached && full && !this.#following && this.#running) this.#attached = false; // somebody reads
      if (this.#attached) {
        const before = this.#strip.ended;
        this.#append(piece);
        this.#count(this.#strip.ended - before, this.#strip.number - (this.#strip.row ? 0 : 1));
        this.#prune(false);
      } else {
        const ends = piece.text.reduce((sum, part) => sum + part[1].split('\n').length - 1, 0);
        this.#count(ends, piece.line + ends - (piece.text.at(-1)[1].endsWith('\n') ? 1 : 0));
      }
    }
    if (piece.end) this.#finish();
    this.#changed();
  }

  #count(ended, written) {
    this.#unsaid += ended;
    if (!this.#following) this.#fresh += ended;
    this.#written = Math.max(this.#written, written);
  }

  #anew(line, atStart = true) {
    this.#strip = new Strip(line, this.#words, clock);
    this.#atStart = atStart;
    this.#box.style.minHeight = `${this.#box.offsetHeight}px`; // or the page would move
    this.#box.replaceChildren(this.#head);
    this.#box.scrollTop = this.#lastTop = 0; // nobody has scrolled up
    this.#showHead();
  }

  #append(piece) {
    const added = this.#strip.take(piece);
    this.#box.append(...added);
    this.#next = piece.next;
    this.#widen();
    this.#find?.changed();
  }

  #finish() {
    this.#complete = true;
    this.#section.dataset.running = 'false';
    this.#section.querySelector('[data-log-follow]')?.setAttribute('hidden', '');
    if (!this.#attached) return;
    this.#strip?.finish();
    this.#next ??= 0;
    if (!this.#strip || (!this.#strip.blocks.length && this.#atStart)) this.#box.replaceChildren(element('p', 'log-empty', this.#words.empty));
    this.#showEnd();
  }

  // What is far from where somebody reads goes: the first block, or the last.
  #prune(last) {
    const strip = this.#strip;
    let pruned = false;
    const drop = () => {
      while (strip.blocks.length > 1 && (strip.lines > MAX_LINES || strip.size > MAX_SIZE)) {
        const block = strip.drop(last);
        block.node.remove();
        pruned = true;
        if (!last) continue;
        this.#attached = false;
        this.#next = null;
        this.#resume = block;
      }
    };
    if (last || this.#following) drop();
    else this.#keepPlace(drop);
    if (!pruned) return;
    if (this.#following) this.#lastTop = 0; // what goes above moves it up, and that is nobody's doing
    if (last) this.#box.querySelectorAll('.log-end').forEach((end) => end.remove());
    else this.#atStart = false;
    this.#showHead();
  }

  #resume = null; // the block that follows, when it was let go

  // What is seen stays where it is, whatever comes or goes above it.
  #keepPlace(work) {
    const top = this.#box.getBoundingClientRect().top;
    const seen = [...this.#box.querySelectorAll('.log-block')].find((each) => each.getBoundingClientRect().bottom > top);
    const row = seen && ([...seen.children].find((each) => each.getBoundingClientRect().bottom > top) ?? seen);
    const was = row?.getBoundingClientRect().top;
    work();
    if (row?.isConnected) this.#box.scrollTop += row.getBoundingClientRect().top - was;
    this.#lastTop = this.#box.scrollTop;
  }

  // ── Reading on ────────────────────────────────────────────────────────────────────────────────
  // Return a piece for this window; null while another one is on its way, or the window is gone.
  async #askAlone(place) {
    const turn = this.#turn;
    if (this.#busy === turn || !this.#words.piecesUrl) return null;
    this.#busy = turn;
    const piece = await this.#ask(place);
    if (this.#busy === turn) this.#busy = 0;
    return turn === this.#turn ? piece : null;
  }

  async #older() {
    const from = this.#strip?.blocks[0]?.from;
    if (!from || this.#atStart) return;
    const piece = await this.#askAlone(from.byte === undefined ? { before_line: from.line } : { before: from.byte });
    if (!piece) return;
    if (!piece.text) {
      this.#atStart = true;
      this.#keepPlace(() => this.#showHead());
      return;
    }
    const strip = new Strip(piece.line, this.#words, clock);
    const added = strip.take(piece);
    strip.finish();
    if (piece.gap_after) {
      if (strip.row) strip.end();
      const lost = this.#strip.blocks[0].first - strip.number;
      const words = lost > 0 ? this.#words.gapLines : this.#words.gap;
      // In a block, so that it goes with what it follows.
      strip.blocks.at(-1).node.append(element('span', 'log-gap', words.replace('{n}', written(piece.gap_after)).replace('{from}', written(strip.number)).replace('{to}', written(this.#strip.blocks[0].first - 1))));
    }
    this.#keepPlace(() => {
      this.#head.after(...added);
      this.#strip.prepend(strip, piece.offset);
      this.#atStart = piece.offset === 0;
      this.#showHead();
    });
    this.#prune(true);
    this.#find.changed();
    this.#changed();
    this.#readOn();
  }

  async #newer() {
    if (this.#attached || !this.#strip) return;
    const from = this.#next !== null ? { byte: this.#next } : this.#resume?.from;
    if (!from) return;
    const piece = await this.#askAlone(from.byte === undefined ? { line: from.line } : { from: from.byte });
    if (!piece || this.#attached) return;
    if (piece.text) {
      if (this.#next === null) {
        this.#goOn(this.#resume);
        this.#strip.number = piece.line;
      }
      this.#append(piece);
      this.#prune(false);
    } else {
      this.#next ??= piece.offset;
      if (piece.end || this.#complete) {
        this.#attached = true;
        this.#finish();
      } else this.#read(); // the rest is what will be written
    }
    this.#changed();
    this.#readOn();
  }

  // Write behind what was let go of before: rows, number and colours as they were there.
  #goOn(block) {
    const strip = new Strip(block.first, this.#words, clock, block);
    strip.prepend(this.#strip);
    this.#strip = strip;
    this.#resume = null;
  }

  #readOn() {
    const isShort = this.#box.scrollHeight <= this.#box.clientHeight && this.#strip.size < ENOUGH;
    if (isShort || (this.#box.scrollTop < NEAR && !this.#following)) this.#older();
    if (!this.#attached && this.#box.scrollHeight - this.#box.scrollTop - this.#box.clientHeight < NEAR) this.#newer();
  }

  // Show line `number`, wherever it is; return whether it can be shown.
  async jump(number) {
    this.#follow(false);
    if (!this.row(number)) {
      if (!this.#words.piecesUrl) return false;
      this.#turn += 1;
      const turn = this.#turn;
      this.#busy = turn;
      let piece = await this.#ask({ around: number });
      if (turn !== this.#turn) return false;
      if (!piece?.text) {
        this.#busy = 0;
        return false;
      }
      this.#attached = false;
      this.#anew(piece.line, piece.offset === 0);
      this.#append(piece);
      for (let tries = 0; this.#strip.number <= number && tries < 20; tries += 1) {
        piece = await this.#ask({ from: this.#next });
        if (turn !== this.#turn) return false;
        if (!piece?.text) break;
        this.#append(piece);
      }
      this.#busy = 0;
    }
    const row = this.row(number) ?? this.#box.querySelector('.log-gap');
    row?.scrollIntoView({ block: 'center' });
    this.#lastTop = this.#box.scrollTop;
    this.#changed();
    this.#readOn();
    return this.row(number) !== null;
  }

  row(number) {
    return document.getElementById(`L${number}`);
  }

  // The first line in the page, the last, and the first that is seen.
  get first() {
    return this.#strip?.blocks[0]?.first ?? this.#strip?.number ?? 1;
  }

  get last() {
    return this.#strip ? this.#strip.number - (this.#strip.row ? 0 : 1) : 0;
  }

  get seen() {
    const top = this.#box.getBoundingClientRect().top + 4;
    for (const block of this.#strip?.blocks ?? []) {
      if (block.node.getBoundingClientRect().bottom <= top) continue;
      for (const row of block.node.querySelectorAll('.log-line[id]')) {
        if (row.getBoundingClientRect().bottom > top) return Number(row.id.slice(1));
      }
    }
    return this.last;
  }

  get running() {
    return this.#running;
  }

  async #toStart() {
    if (await this.jump(1) || this.#strip) {
      this.#box.scrollTop = 0;
      this.#lastTop = 0;
    }
  }

  // ── What is said about it ─────────────────────────────────────────────────────────────────────
  // At the top: which lines are not in the page, or what was before the first of them.
  #showHead() {
    const place = this.#words.logEnded === undefined ? document : this.#section;
    const before = this.#atStart ? place.querySelector('[data-log-before]') : null;
    this.#head.classList.toggle('is-held', before !== null);
    if (this.#atStart) {
      if (this.#head.textContent !== (before?.textContent ?? '')) this.#head.replaceChildren(...(before?.cloneNode(true).childNodes ?? []));
      return;
    }
    const link = element('a', 'link', this.#words.raw);
    link.href = this.#words.textUrl;
    this.#note.replaceChildren(this.first > 1 ? (this.#words.older ?? '').replace('{n}', written(this.first - 1)) : '', ' ');
    if (this.#words.piecesUrl) {
      const start = element('button', 'button plain small', this.#words.toStart);
      start.type = 'button';
      start.addEventListener('click', () => this.#toStart());
      this.#note.append(start);
    }
    this.#note.append(link);
    this.#head.append(this.#note);
  }

  // At the end: how the run ended, or was paused.
  #showEnd() {
    const place = this.#words.logEnded === undefined ? document : this.#section;
    const outcome = place.querySelector('[data-log-outcome]');
    const end = this.#box.querySelector('.log-end') ?? element('span', 'log-end');
    const isPaused = outcome?.classList.contains('is-held');
    if (!this.#attached || (!this.#complete && !isPaused)) {
      end.remove();
      return;
    }
    end.className = `log-end ${outcome?.className ?? ''}`;
    const words = outcome?.textContent.trim() || this.#words.end;
    if (end.textContent !== words) end.textContent = words;
    if (end !== this.#box.lastChild) this.#box.append(end);
  }

  #changed() {
    const wanted = this.#wanted;
    if (wanted && this.#strip) {
      const known = this.#attached && (wanted[0] <= this.last || this.#complete);
      if (this.#pick(wanted, true)) {
        this.#follow(false);
        this.#wanted = null;
      } else if (known && this.#words.piecesUrl) {
        this.#wanted = null;
        this.#show(wanted);
      }
    }
    if (!this.#complete && this.#strip) this.#showEnd();
    this.#tellFresh();
    const info = this.#section.querySelector('[data-log-info]');
    if (info && this.#strip) {
      const said = (this.#written === 1 ? this.#words.line : this.#words.lines)?.replace('{n}', written(this.#written));
      if (info.textContent !== said) info.textContent = said;
    }
    // Once for all that came in this frame of the screen; an unseen page scrolls when it is seen.
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#box.style.minHeight = '';
      if (this.#following && this.#attached) this.#settle();
      if (this.#strip && !document.hidden) this.#readOn();
      if (this.#complete && this.#attached) this.#follow(false);
    });
  }

  async #show(range) {
    await this.jump(range[0]);
    this.#pick(range);
  }

  #tellFresh() {
    const news = this.#running && this.#fresh > 0;
    const show = !this.#following && (news || !this.#attached);
    if (show) {
      this.#chip.textContent = !news ? this.#words.toEnd
        : (this.#fresh === 1 ? this.#words.newOne : this.#words.newMany).replace('{n}', written(this.#fresh));
    }
    if (this.#chip.hidden === show) this.#chip.hidden = !show;
  }

  #follow(yes) {
    this.#following = yes;
    if (yes) {
      this.#fresh = 0;
      if (this.#attached) this.#toEnd();
      else { // far from the end: begin there
        this.#strip = this.#next = null;
        this.#lastTop = 0;
        this.#complete = false;
        this.#turn += 1;
        this.#read();
      }
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

  // Rows that come into view may be higher than was guessed: then the end is further down.
  #settle(tries = 12) {
    this.#toEnd();
    const top = this.#lastTop;
    requestAnimationFrame(() => {
      const below = this.#box.scrollHeight - this.#box.scrollTop - this.#box.clientHeight;
      if (tries && below > 1 && this.#box.scrollTop >= top - STIR) this.#settle(tries - 1);
    });
  }

  #scrolled() {
    const top = this.#box.scrollTop;
    const below = this.#box.scrollHeight - top - this.#box.clientHeight;
    if (below < 24 && this.#attached) {
      if (!this.#following && this.#running) this.#follow(true);
      this.#fresh = 0;
      this.#tellFresh();
      this.#lastTop = top;
    } else if (top < this.#lastTop - STIR) {
      this.#follow(false);
      this.#lastTop = top;
    } else this.#lastTop = Math.max(top, this.#lastTop);
    if (this.#strip) this.#readOn();
  }

  // Mark the lines [from, to]; false when none of them is in the page (yet).
  #pick([from, to], scroll = false) {
    this.#box.querySelectorAll('.is-picked').forEach((row) => row.classList.remove('is-picked'));
    let shown = null;
    for (let number = Math.max(from, this.first); number <= Math.min(to, this.last); number += 1) {
      const row = this.row(number);
      row?.classList.add('is-picked');
      shown ??= row;
    }
    if (shown && scroll) shown.scrollIntoView({ block: 'center' });
    this.#offerCopy();
    return shown !== null;
  }

  #offerCopy() {
    const copy = this.#section.querySelector('[data-log-copy]');
    if (copy) copy.hidden = !address();
  }

  #summarise() {
    if (!this.#following || !this.#unsaid || document.hidden) return;
    const rows = this.#strip?.blocks.at(-1)?.node.querySelectorAll('.log-line > span');
    const last = rows ? [...rows].reverse().find((row) => row.textContent.trim()) : null;
    this.#said.textContent = (this.#unsaid === 1 ? this.#words.saidOne : this.#words.saidMany).replace('{n}', written(this.#unsaid))
      .replace('{line}', () => last?.textContent.trim().slice(0, 120) ?? '');
    this.#unsaid = 0;
  }

  // The column of numbers is as wide as the longest of them.
  #widen() {
    const digits = String(this.#strip.number).length;
    if (digits <= this.#digits) return;
    this.#digits = digits;
    this.#section.style.setProperty('--digits', digits);
  }

  // ── What can be done with it ──────────────────────────────────────────────────────────────────
  #controls() {
    const control = (name) => this.#section.querySelector(`[data-log-${name}]`);
    const follow = control('follow');
    if (follow && this.#running) {
      follow.hidden = false;
      follow.setAttribute('aria-pressed', 'true');
      follow.addEventListener('click', () => this.#follow(!this.#following));
    }
    // A telephone shows a third of a line that is not wrapped.
    this.#switch(control('wrap'), 'wraps', WRAP, matchMedia('(width < 47.5em)').matches);
    this.#switch(control('times'), 'shows-times', TIMES, false);
    this.#fullScreen(control('full'));
    control('copy')?.addEventListener('click', () => this.#copy());
    this.#offerCopy();
    this.#chip.addEventListener('click', () => { this.#follow(true); this.#box.focus({ preventScroll: true }); });
    this.#box.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#box.addEventListener('click', (event) => {
      const link = event.target.closest('a[href^="#L"]');
      if (!link) return;
      event.preventDefault();
      const number = Number(link.hash.slice(2));
      const now = address();
      const range = event.shiftKey && now ? [Math.min(now[0], number), Math.max(now[0], number)] : [number, number];
      history.replaceState(history.state, '', `#L${range[0]}${range[1] > range[0] ? `-L${range[1]}` : ''}`);
      this.#follow(false);
      this.#pick(range);
    });
    this.#box.addEventListener('mouseover', (event) => {
      const row = event.target.closest('.log-line');
      const link = row?.firstElementChild;
      if (link && row.dataset.time && !link.title) link.title = row.dataset.time;
    });
    this.#section.addEventListener('keydown', (event) => this.#key(event));
    addEventListener('hashchange', () => {
      const range = address();
      if (range && this.#pick(range, true)) this.#follow(false);
      else if (range && this.#strip) this.#show(range);
    });
    // How the run ended is told by the head of the page, sooner or later than its last line.
    const head = document.querySelector('[data-region^="run-head"]');
    if (head) {
      new MutationObserver(() => {
        if (this.#strip) this.#showEnd();
        if (this.#strip && this.#atStart) this.#showHead();
      }).observe(head, { childList: true, subtree: true, characterData: true });
    }
    // Without a socket live.js fetches the page: what it lacks is then fetched as well.
    document.addEventListener('daemon:page', (event) => this.#fetched(event.detail));
  }

  async #fetched(page) {
    if (this.#complete || !this.#attached) return;
    if (this.#words.piecesUrl && this.#strip && this.#next !== null) {
      for (let piece = await this.#ask({ from: this.#next }); piece; piece = piece.text && await this.#ask({ from: this.#next })) {
        if (!this.#attached || document.documentElement.dataset.live === 'on') return;
        this.#take(piece);
      }
      return;
    }
    const lines = page.querySelector('#log [data-log-lines]');
    if (!lines) return;
    this.#strip = this.#next = null;
    this.#box.replaceChildren(...lines.childNodes);
    if (this.#following) this.#toEnd();
  }

  #switch(button, name, key, otherwise) {
    if (!button) return;
    const set = (yes) => {
      this.#keepPlace(() => this.#section.classList.toggle(name, yes));
      button.setAttribute('aria-pressed', String(yes));
      if (this.#following) this.#toEnd();
    };
    button.hidden = false;
    set((kept(key) ?? (otherwise ? 'yes' : 'no')) === 'yes');
    button.addEventListener('click', () => {
      const yes = button.getAttribute('aria-pressed') !== 'true';
      set(yes);
      keep(key, yes ? 'yes' : 'no');
    });
  }

  #fullScreen(button) {
    if (!button) return;
    button.hidden = false;
    button.addEventListener('click', () => {
      const yes = this.#section.classList.toggle('is-full');
      button.setAttribute('aria-pressed', String(yes));
      if (this.#following) this.#toEnd();
      if (yes) this.#box.focus({ preventScroll: true });
      else this.#section.scrollIntoView({ block: 'nearest' });
    });
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(location.href);
    } catch { // only pages of this machine or with TLS may write there
      const field = element('textarea', 'sr-only');
      field.value = location.href;
      this.#section.append(field);
      field.select();
      document.execCommand('copy');
      field.remove();
    }
    toast(this.#section.querySelector('template[data-log-copied]')?.innerHTML ?? '');
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input')) return;
    if (event.key === 'Escape' && this.#section.classList.contains('is-full')) this.#section.querySelector('[data-log-full]').click();
    else if (event.key === 'Home' && !event.shiftKey) this.#toStart();
    else if (event.key === 'End' && !event.shiftKey) this.#end();
    else return;
    event.preventDefault();
  }

  #end() {
    if (this.#running || !this.#attached) this.#follow(true);
    else this.#settle();
    this.#box.scrollIntoView({ block: 'nearest' });
  }
}

// The lines that #L12 or #L120-L134 name, as [first, last]; null for anything else.
function address() {
  const found = /^#L(\d{1,12})(?:-L?(\d{1,12}))?$/.exec(location.hash);
  if (!found) return null;
  const lines = [Number(found[1]), Number(found[2] ?? found[1])];
  return [Math.min(...lines), Math.max(...lines)];
}

const written = (number) => number.toLocaleString(document.documentElement.lang);

// The time of day in the zone of the page, with the day where that is not today.
const html = document.documentElement;
let times = null;
let last = [0, ''];
function clock(at) {
  if (!at) return '';
  if (last[0] === at) return last[1];
  times ??= new Intl.DateTimeFormat('de', { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23', timeZone: html.dataset.zone });
  last = [at, times.format(at * 1000)];
  return last[1];
}

function kept(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

function keep(key, value) {
  try { localStorage.setItem(key, value); } catch { /* the choice then lasts as long as the page */ }
}

const section = document.querySelector('[data-log-run]');
if (section) new Log(section);
