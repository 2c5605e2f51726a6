/** The few icons, drawn as SVG so that no font and no picture has to be fetched. All are decoration: the text is beside them. */
import { html } from "./lib.js";

/** @param {unknown} content */
const icon = (content) =>
  html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">${content}</svg>`;

export const icons = {
  back: () => icon(html`<path d="M15 5l-7 7 7 7" />`),
  close: () => icon(html`<path d="M6 6l12 12M18 6L6 18" />`),
  down: () => icon(html`<path d="M12 5v13M6 13l6 6 6-6" />`),
  leave: () => icon(html`<path d="M14 4H6v16h8M10 12h10M16 8l4 4-4 4" />`),
  people: () =>
    icon(
      html`<circle cx="9" cy="8.5" r="3.5" /><path
          d="M2.5 19.5c.5-4 3-6 6.5-6s6 2 6.5 6M15 5.3a3.5 3.5 0 010 6.4M17.5 14c2.3.8 3.7 2.7 4 5.5"
        />`,
    ),
  plus: () => icon(html`<path d="M12 5v14M5 12h14" />`),
  send: () => icon(html`<path d="M4 12l16-8-6 16-3-6z M11 14l9-10" />`),
  search: () => icon(html`<circle cx="11" cy="11" r="6.5" /><path d="M16 16l4.5 4.5" />`),
  check: () => icon(html`<path d="M5 12.5l4.5 4.5L19 7.5" />`),
  pending: () => icon(html`<circle cx="12" cy="12" r="8" /><path d="M12 7.5V12l3 2" />`),
  failed: () => icon(html`<circle cx="12" cy="12" r="9" /><path d="M12 7v6M12 16.5v.5" />`),
  puck: () => icon(html`<ellipse cx="12" cy="9" rx="9" ry="4" /><path d="M3 9v6c0 2.2 4 4 9 4s9-1.8 9-4V9" />`),
};
