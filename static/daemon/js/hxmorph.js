// htmx answers, worked into the tree that is there: hx-swap="morph" keeps focus, caret and values.
import { morph } from './morph.js';

window.htmx?.defineExtension('morph', {
  isInlineSwap: (style) => style === 'morph',
  handleSwap(style, target, fragment) {
    if (style !== 'morph') return false;
    const next = fragment.firstElementChild;
    if (next) morph(target, next);
    return [target];
  },
});
