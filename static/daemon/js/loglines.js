// Lines of a log as rows of the page, in blocks of two hundred. A strip is written at its end; that
// two strips belong together is known to log.js. Everything is put in as text, never as markup.
import { Ansi, PLAIN } from './ansi.js';

const BLOCK_LINES = 200;
const BLOCK_SIZE = 1 << 18; // characters
const LONG = 1 << 15; // a row that is so long ends with the piece, so that its byte is known
const SPAN = 200; // characters cost a page no more than the element that a colour makes

export class Strip {
  blocks = []; // {node, lines, size, first, from, goesOn, ansi}; from: its first line or byte
  lines = 0; // rows
  size = 0; // characters, elements among them counted as so many
  number; // of the line that is being written
  row = null; // {node, text, length, size, look, block, over}; over: what it said first is gone
  first = null; // the first row
  ended = 0; // lines that were ended, ever
  #ansi;
  #stream = 1;
  #at = 0; // epoch seconds
  #returned = false; // after a carriage return the next text replaces the line
  #byte = null; // at which the next row begins, where that is known
  #goesOn = false; // the next row goes on with a long line
  #added = [];
  #words;
  #clock;

  // Line `number` is the first, `words` those of the log, `clock(seconds)` the time of day. It may
  // begin as a block did that was let go.
  constructor(number, words, clock, block) {
    this.number = number;
    this.#words = words;
    this.#clock = clock;
    this.#ansi = new Ansi(block?.ansi);
    this.#goesOn = block?.goesOn ?? false;
  }

  // Take in a piece; return what it has put at the end: blocks, and words about gaps.
  take(piece) {
    this.#added = [];
    if (piece.gap) this.#skip(piece);
    const long = this.row !== null && this.row.length >= LONG;
    this.#goesOn ||= long;
    if (long) this.row = null; // goes on in a row of its own
    this.#byte = this.row ? null : piece.offset;
    for (const [stream, text, at] of piece.text) {
      this.#stream = stream;
      this.#at = at ?? 0;
      this.#ansi.read(text, this);
    }
    return this.#added;
  }

  // Nothing more will come.
  finish() {
    this.#ansi.read('', this, true);
  }

  // Let go of the first block, or of the last; return it.
  drop(last) {
    const block = last ? this.blocks.pop() : this.blocks.shift();
    this.lines -= block.lines;
    this.size -= block.size;
    return block;
  }

  // Take the blocks of a strip that comes before this one and began at the byte `from`.
  prepend(other, from) {
    if (other.row && this.first?.over) other.#forget(other.row); // nothing of it is seen any more
    else if (other.row && this.first) {
      // What seemed to be the beginning of a line goes on with one.
      this.first.node.removeAttribute('id');
      this.first.node.firstElementChild.replaceChildren();
      this.first.node.firstElementChild.removeAttribute('href');
    }
    if (!other.blocks.length && this.blocks.length) this.blocks[0].from = { byte: from };
    this.blocks.unshift(...other.blocks);
    this.lines += other.lines;
    this.size += other.size;
    this.first = other.first ?? this.first;
  }

  #forget(row) {
    row.node.remove();
    this.lines -= 1;
    this.size -= row.size;
    row.block.lines -= 1;
    row.block.size -= row.size;
    if (this.first === row) this.first = null;
    if (row.block.node.hasChildNodes()) return;
    row.block.node.remove();
    this.blocks.splice(this.blocks.indexOf(row.block), 1);
  }

  #skip(piece) {
    if (this.row) this.end();
    const lost = piece.line - this.number;
    const words = lost > 0 ? this.#words.gapLines : this.#words.gap;
    const gap = element('span', 'log-gap', (words ?? this.#words.gap ?? '')
      .replace('{n}', this.count(piece.gap)).replace('{from}', this.count(this.number)).replace('{to}', this.count(piece.line - 1)));
    this.#into().append(gap);
    this.number = piece.line;
    this.#ansi = new Ansi();
  }

  count(number) {
    return number.toLocaleString(document.documentElement.lang);
  }

  // ── What Ansi calls for each part of the text, in order ───────────────────────────────────────
  text(text, look) {
    if (this.#returned && this.row) {
      this.size -= this.row.size;
      this.row.block.size -= this.row.size;
      this.row.size = this.row.length = 0;
      this.row.look = null;
      this.row.over = true;
      this.row.text.replaceChildren();
      this.row.node.dataset.time = this.#clock(this.#at);
    }
    const over = this.#returned;
    this.#returned = false;
    this.row ??= this.#line();
    this.row.over ||= over;
    this.#put(text, look);
  }

  back() {
    this.#returned = true;
  }

  end() {
    if (!this.#goesOn) this.row ??= this.#line();
    this.row = null;
    this.#returned = this.#goesOn = false;
    this.number += 1;
    this.ended += 1;
  }

  #put(text, look) {
    const row = this.row;
    const last = row.text.lastChild;
    let size = text.length;
    if (last && row.look === look) look === PLAIN ? last.appendData(text) : last.append(text);
    else if (look === PLAIN) row.text.append(text);
    else {
      const span = element('span', look.classes, text);
      if (look.fg) span.style.setProperty('--fg', look.fg);
      if (look.bg) span.style.setProperty('--bg', look.bg);
      row.text.append(span);
      size += SPAN;
    }
    row.look = look;
    row.length += text.length;
    row.size += size;
    row.block.size += size;
    this.size += size;
  }

  // A new row, with its number where a line begins, not where a very long one goes on.
  #line() {
    const numbered = !this.#goesOn;
    this.#goesOn = false;
    const row = element('div', this.#stream === 2 ? 'log-line is-stderr' : 'log-line');
    const link = element('a', '');
    if (numbered) {
      row.id = `L${this.number}`;
      link.href = `#L${this.number}`;
      link.tabIndex = -1; // thousands of stops would keep the keyboard from all below
      link.textContent = this.number;
      if (this.#stream === 2) link.append(element('span', 'sr-only', ` ${this.#words.stderr ?? ''}`));
    }
    if (this.#at) row.dataset.time = this.#clock(this.#at);
    const text = document.createElement('span');
    row.append(link, text);
    const into = this.#into(!numbered);
    into.append(row);
    this.lines += 1;
    const made = { node: row, text, length: 0, size: 0, look: null, block: this.blocks.at(-1), over: false };
    this.first ??= made;
    return made;
  }

  #into(anew = false) {
    let block = this.blocks.at(-1);
    if (!block || anew || block.lines >= BLOCK_LINES || block.size >= BLOCK_SIZE) {
      const from = this.#byte === null ? { line: this.number } : { byte: this.#byte };
      block = { node: element('div', 'log-block'), lines: 0, size: 0, first: this.number, from, goesOn: anew, ansi: new Ansi(this.#ansi) };
      this.blocks.push(block);
      this.#added.push(block.node);
    }
    this.#byte = null;
    block.lines += 1;
    return block.node;
  }
}

export function element(name, classes, text) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  if (text !== undefined) made.textContent = text;
  return made;
}
