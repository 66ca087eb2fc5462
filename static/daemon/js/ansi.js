// What a command wrote, as text and colours. Keeps its state from piece to piece; knows no page.
// Of all escapes only colours and styles (SGR) mean something. Links, titles, cursor moves and
// device strings are dropped, what else has no shape is shown as a sign: nothing acts, nothing hides.

const LONGEST_ESCAPE = 4096; // one that goes on for longer is shown instead
const BREAKS = /[\n\r\x1b\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\ufff9-\ufffb]/g;
// Each begins at the ESC. A string escape ends at BEL or ESC \; no line break can be inside.
const ESCAPES = [
  [/\x1b\[([0-?]*)[ -/]*([@-~])/y, /\x1b(?:\[[0-?]*[ -/]*)?$/y],
  [/\x1b[\]PX^_][^\x07\x1b\n\r]*(?:\x07|\x1b\\)/y, /\x1b[\]PX^_][^\x07\x1b\n\r]*\x1b?$/y],
  [/\x1b[ -/]*[0-OQ-WYZ\\`-~]/y, /\x1b[ -/]*$/y],
];

// How text looks: classes, and where those sixteen colours are not enough the colour itself as
// #rrggbb, of which log.css takes the hue and keeps the contrast. The same look is the same object.
export const PLAIN = { classes: '', fg: '', bg: '' };

export class Ansi {
  #rest = ''; // an escape that is not complete yet
  #style;
  #look;

  // `other`: go on in the colours in which that one has come to now.
  constructor(other) {
    this.#style = other ? { ...other.#style } : {};
    this.#look = other ? other.#look : PLAIN;
  }

  // Call line.text(string, look), line.end(), line.back() for what `text` says, in order. `last`:
  // nothing more will come, so that an escape without an end is shown.
  read(text, line, last = false) {
    text = this.#rest + text;
    this.#rest = '';
    let at = 0;
    BREAKS.lastIndex = 0;
    for (let found = BREAKS.exec(text); found; found = BREAKS.exec(text)) {
      if (found.index > at) line.text(text.slice(at, found.index), this.#look);
      at = found.index + 1;
      if (found[0] === '\n') line.end();
      else if (found[0] === '\r') line.back();
      else if (found[0] === '\x1b') {
        const end = this.#escape(text, found.index, last);
        if (end < 0) {
          this.#rest = text.slice(found.index);
          return;
        }
        if (end === found.index) line.text(sign('\x1b'), this.#look);
        else at = BREAKS.lastIndex = end;
      } else line.text(sign(found[0]), this.#look);
    }
    if (at < text.length) line.text(text.slice(at), this.#look);
  }

  // Return where the escape at `start` ends; `start` when it is none, -1 when more must come first.
  #escape(text, start, last) {
    for (const [whole, begun] of ESCAPES) {
      whole.lastIndex = start;
      const found = whole.exec(text);
      if (found) {
        if (found[2] === 'm' && !/[<-?]/.test(found[1])) this.#colour(found[1]);
        return whole.lastIndex;
      }
      begun.lastIndex = start;
      if (!last && text.length - start < LONGEST_ESCAPE && begun.test(text)) return -1;
    }
    return start;
  }

  #colour(parameters) {
    const codes = parameters.split(';');
    for (let i = 0; i < codes.length; i += 1) {
      const [code, ...rest] = codes[i].split(':').map((part) => (part === '' ? NaN : Number(part)));
      const style = this.#style;
      const colon = rest.length > 0;
      if (Number.isNaN(code) || code === 0) this.#style = {};
      else if (code === 1) style.bold = true;
      else if (code === 2) style.dim = true;
      else if (code === 3) style.italic = true;
      else if (code === 4) style.underline = rest[0] !== 0;
      else if (code === 7) style.inverse = true;
      else if (code === 9) style.strike = true;
      else if (code === 21) style.underline = true;
      else if (code === 22) style.bold = style.dim = false;
      else if (code === 23) style.italic = false;
      else if (code === 24) style.underline = false;
      else if (code === 27) style.inverse = false;
      else if (code === 29) style.strike = false;
      else if (code >= 30 && code <= 37) style.fg = code - 30;
      else if (code >= 40 && code <= 47) style.bg = code - 40;
      else if (code >= 90 && code <= 97) style.fg = code - 82;
      else if (code >= 100 && code <= 107) style.bg = code - 92;
      else if (code === 39) delete style.fg;
      else if (code === 49) delete style.bg;
      else if (code === 38 || code === 48) {
        // 38;5;n and 38;2;r;g;b, or the same with colons, then with a colour space before r.
        const given = colon ? rest : codes.slice(i + 1, i + 5).map(Number);
        const rgb = colon && given.length > 4 ? given.slice(2, 5) : given.slice(1, 4);
        if (!colon) i += given[0] === 5 ? 2 : given[0] === 2 ? 4 : 0;
        const colour = given[0] === 5 ? of256(given[1]) : given[0] === 2 ? given.length > 3 && exact(rgb) : null;
        if (colour || colour === 0) style[code === 38 ? 'fg' : 'bg'] = colour;
      }
      // 8 (hidden) means nothing here: a log hides nothing.
    }
    const { fg, bg, ...flags } = this.#style;
    const names = Object.keys(flags).filter((name) => flags[name]).map((name) => `ansi-${name}`);
    const look = { fg: '', bg: '' };
    for (const [name, colour] of [['fg', fg], ['bg', bg]]) {
      if (colour === undefined) continue;
      if (typeof colour === 'number') names.push(`ansi-${name}-${colour}`);
      else {
        names.push(`ansi-${name}-${nearest(colour)}`, `ansi-${name}-rgb`);
        look[name] = `#${colour.map((part) => part.toString(16).padStart(2, '0')).join('')}`;
      }
    }
    const classes = names.join(' ');
    const { classes: was, fg: wasFg, bg: wasBg } = this.#look;
    if (classes === was && look.fg === wasFg && look.bg === wasBg) return; // it is the same
    this.#look = names.length ? { classes, ...look } : PLAIN;
  }
}

// What has no shape of its own: ␛ for control characters, ‹U+202E› for the rest.
function sign(character) {
  const code = character.codePointAt(0);
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return '\u2421';
  return `‹U+${code.toString(16).toUpperCase().padStart(4, '0')}›`;
}

// The sixteen colours as xterm has them; the nearest is for browsers that can't mix a colour.
const PALETTE = [
  [0, 0, 0], [205, 0, 0], [0, 205, 0], [205, 205, 0], [0, 0, 238], [205, 0, 205], [0, 205, 205], [229, 229, 229],
  [127, 127, 127], [255, 0, 0], [0, 255, 0], [255, 255, 0], [92, 92, 255], [255, 0, 255], [0, 255, 255], [255, 255, 255],
];

// One of the sixteen as its number, the others as [red, green, blue]; null for none.
function of256(number) {
  if (!(Number.isInteger(number) && number >= 0 && number <= 255)) return null;
  if (number < 16) return number;
  if (number >= 232) return Array(3).fill(8 + (number - 232) * 10);
  const step = (value) => (value ? 55 + value * 40 : 0);
  return [step(Math.floor((number - 16) / 36)), step(Math.floor((number - 16) / 6) % 6), step((number - 16) % 6)];
}

const exact = (rgb) => (rgb.length === 3 && rgb.every((part) => Number.isInteger(part) && part >= 0 && part <= 255) ? rgb : null);

function nearest(rgb) {
  let best = 0;
  let distance = Infinity;
  PALETTE.forEach((colour, index) => {
    const away = colour.reduce((sum, part, i) => sum + (part - rgb[i]) ** 2, 0);
    if (away < distance) [best, distance] = [index, away];
  });
  return best;
}
