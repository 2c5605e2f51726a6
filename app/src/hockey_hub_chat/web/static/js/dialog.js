/**
 * A modal dialog with a title and a way out; the browser's own element, so focus and Escape work as people expect.
 */
import { html, useEffect, useId, useRef } from "./lib.js";
import { icons } from "./icons.js";
import { strings } from "./strings.js";

/**
 * @param {object} props
 * @param {string} props.title
 * @param {() => void} props.onClose
 * @param {() => void} [props.onSubmit]
 * @param {string} props.testid
 * @param {unknown} props.children
 */
export function Dialog({ title, onClose, onSubmit, testid, children }) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const label = useId();
  useEffect(() => {
    element.current?.showModal();
    element.current?.querySelector("input")?.focus();
  }, []);
  return html`
    <dialog ref=${element} aria-labelledby=${label} onClose=${onClose} data-testid=${testid}>
      <form
        method="dialog"
        onSubmit=${(/** @type {SubmitEvent} */ event) => {
          event.preventDefault();
          onSubmit?.();
        }}
      >
        <header class="bar">
          <h2 class="grow" id=${label}>${title}</h2>
          <button
            type="button"
            class="icon-button"
            aria-label=${strings.create.cancel}
            onClick=${() => element.current?.close()}
            data-testid="dialog-close"
          >
            ${icons.close()}
          </button>
        </header>
        ${children}
      </form>
    </dialog>
  `;
}
