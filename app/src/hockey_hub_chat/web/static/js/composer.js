/**
 * Where one writes. What is typed is kept as a draft at every keystroke; sending never waits for the network.
 *
 * @import { Client } from "./client.js"
 * @import { Conversation } from "./conversation.js"
 * @import { Store } from "./store.js"
 */
import { html, useEffect, useLayoutEffect, useRef, useState } from "./lib.js";
import { icons } from "./icons.js";
import { strings } from "./strings.js";

/** At most one typing frame in this time; the others forget it after 5 s. */
const TYPING_EVERY_MS = 3_000;
/** The counter appears with this many characters left. */
const WARN_LEFT = 200;

/** On a touch keyboard Enter makes a new line, and nothing takes the focus unasked. */
const touch = () => window.matchMedia("(pointer: coarse)").matches;

/** @param {{ client: Client, conversation: Conversation, store: Store, title: string }} props */
export function Composer({ client, conversation, store, title }) {
  const [text, setText] = useState(() => client.draft(conversation.id));
  const field = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  const typedAt = useRef(0);
  const { composer } = strings;
  const left = client.maxBodyChars - [...text.trim()].length; // the server counts code points, as this does
  const sendable = text.trim() !== "" && left >= 0;

  useEffect(() => {
    if (!touch()) field.current?.focus();
  }, []);

  useLayoutEffect(() => {
    const element = field.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight + element.offsetHeight - element.clientHeight}px`;
  }, [text]);

  /** @param {string} value */
  function change(value) {
    setText(value);
    client.keepDraft(conversation.id, value);
    if (value && Date.now() - typedAt.current > TYPING_EVERY_MS) {
      typedAt.current = Date.now();
      store.typingIn(conversation.id);
    }
  }

  function send() {
    if (!sendable) return;
    store.send(conversation.id, text.trim());
    typedAt.current = 0;
    change("");
    field.current?.focus();
  }

  /** @param {KeyboardEvent} event */
  function key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || touch()) return;
    event.preventDefault();
    send();
  }

  return html`
    <form
      class="composer"
      onSubmit=${(/** @type {SubmitEvent} */ event) => {
        event.preventDefault();
        send();
      }}
    >
      <textarea
        ref=${field}
        rows="1"
        value=${text}
        aria-label=${composer.label}
        placeholder=${composer.placeholder(title)}
        enterkeyhint=${touch() ? "enter" : "send"}
        onInput=${(/** @type {{ currentTarget: HTMLTextAreaElement }} */ event) => change(event.currentTarget.value)}
        onKeyDown=${key}
        data-testid="composer-input"
      ></textarea>
      ${left < WARN_LEFT && html`<p class=${`left ${left < 0 ? "over" : ""}`} role="status">${composer.left(left)}</p>`}
      <button
        class="icon-button send"
        aria-label=${composer.send}
        disabled=${!sendable}
        onMouseDown=${(/** @type {MouseEvent} */ event) => event.preventDefault()}
        data-testid="composer-send"
      >
        ${icons.send()}
      </button>
    </form>
  `;
}
