/** What the page uses from others, and nothing more. `npm run vendor` bundles this into static/vendor/. */
import { h } from "preact";
import htm from "htm";

export { h, render, Fragment, createRef } from "preact";
export { useCallback, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
export {
  batch,
  computed,
  effect,
  signal,
  Signal,
  untracked,
  useComputed,
  useSignal,
  useSignalEffect,
} from "@preact/signals";

/** Write markup as a tagged template: html`<p>…</p>`. */
export const html = htm.bind(h);
