/**
 * The scrolling list of messages. It keeps the place while older ones are put before, stays at the end while new ones come,
 * and moves the read marker over what has really been on the screen.
 *
 * @import { Conversation } from "./conversation.js"
 * @import { MessageRow } from "./timeline.js"
 * @import { Store } from "./store.js"
 */
import { html, useCallback, useEffect, useLayoutEffect, useRef, useState } from "./lib.js";
import { ApiError } from "./api.js";
import { Avatar } from "./avatar.js";
import { clockTime, dayLabel, hue, linkParts } from "./format.js";
import { icons } from "./icons.js";
import { errorText, strings } from "./strings.js";
import { timeline } from "./timeline.js";

/** This close to the end counts as at the end. */
const END_PX = 48;
/** This close to the beginning, older messages are fetched. */
const OLDER_PX = 400;

/** @param {Conversation} conversation @param {Store} store */
function unreadFrom(conversation, store) {
  const unread = conversation.unread(store.me.id) > 0;
  return unread ? conversation.readSeq + 1 : 0;
}

/** @param {{ conversation: Conversation, store: Store }} props */
export function MessageList({ conversation, store }) {
  void conversation.revision.value;
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  const [firstUnread] = useState(() => unreadFrom(conversation, store));
  const [atEnd, setAtEnd] = useState(true);
  const [problem, setProblem] = useState("");
  const place = useRef({ settled: false, atEnd: true, from: 0, lastUnsent: "" });

  const rows = timeline({
    messages: conversation.messages,
    unsent: store.outbox.of(conversation.id),
    me: store.me,
    nameOf: (id) => store.nameOf(id),
    unreadFrom: firstUnread,
  });
  const lastUnsent = store.outbox.of(conversation.id).at(-1)?.client_id ?? "";
  // measured before the new rows are in the document: what is put before moves everything by the difference
  const heightBefore = list.current?.scrollHeight ?? 0;

  const look = useCallback(() => {
    const element = list.current;
    if (!element) return;
    const left = element.scrollHeight - element.scrollTop - element.clientHeight;
    place.current.atEnd = left <= END_PX;
    setAtEnd(place.current.atEnd);
    if (place.current.settled) store.markRead(conversation, newestSeen(element));
  }, [conversation, store]);

  const loadOlder = useCallback(async () => {
    setProblem("");
    try {
      await store.loadOlder(conversation);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setProblem(errorText(error.code));
    }
  }, [conversation, store]);

  useLayoutEffect(() => {
    const element = list.current;
    if (!element) return;
    const { current } = place;
    const wrote = lastUnsent !== "" && lastUnsent !== current.lastUnsent && current.settled;
    if (!current.settled) {
      const divider = element.querySelector(".unread-line");
      if (divider instanceof HTMLElement) element.scrollTop = divider.offsetTop - element.clientHeight / 3;
      else element.scrollTop = element.scrollHeight;
      current.settled = conversation.messages.length > 0 || conversation.from <= 1;
    } else if (conversation.from < current.from) {
      element.scrollTop += element.scrollHeight - heightBefore;
    } else if (current.atEnd || wrote) {
      element.scrollTop = element.scrollHeight;
    }
    current.from = conversation.from;
    current.lastUnsent = lastUnsent;
    look();
    const near = element.scrollTop < OLDER_PX;
    if (near && conversation.from > 1 && !conversation.loadingOlder && !problem) void loadOlder();
  });

  useEffect(() => {
    const element = list.current;
    if (!element) return undefined;
    const resized = new ResizeObserver(() => {
      if (place.current.atEnd) element.scrollTop = element.scrollHeight; // the keyboard came up, or the composer grew
      look();
    });
    resized.observe(element);
    document.addEventListener("visibilitychange", look);
    return () => {
      resized.disconnect();
      document.removeEventListener("visibilitychange", look);
    };
  }, [look]);

  function scrolled() {
    look();
    const near = (list.current?.scrollTop ?? OLDER_PX) < OLDER_PX;
    if (near && conversation.from > 1 && !conversation.loadingOlder && !problem) void loadOlder();
  }

  function jump() {
    list.current?.scrollTo({ top: list.current.scrollHeight, behavior: calm() ? "auto" : "smooth" });
  }

  const { room } = strings;
  const unread = conversation.unread(store.me.id);
  return html`
    <div class="messages-frame">
      <div
        class=${`messages ${conversation.kind === "group" ? "in-group" : ""}`}
        role="log"
        aria-live="off"
        aria-label=${room.messages}
        tabindex="0"
        ref=${list}
        onScroll=${scrolled}
        data-testid="message-list"
      >
        <div class="edge">
          ${
            problem
              ? html`<p role="alert">${room.olderFailed} ${problem}</p>
                  <button class="button" onClick=${loadOlder}>${room.retry}</button>`
              : conversation.from > 1
                ? html`<p>${room.loadingOlder}</p>`
                : html`<p>${room.start}</p>`
          }
        </div>
        ${rows.map((row) => {
          if (row.kind === "day") {
            return html`<div class="day-line" key=${row.key}><span>${dayLabel(row.time, Date.now())}</span></div>`;
          }
          if (row.kind === "unread") {
            return html`<div class="unread-line" key=${row.key}><span>${room.unreadFrom}</span></div>`;
          }
          return html`<${Bubble} key=${row.key} row=${row} group=${conversation.kind === "group"} store=${store} />`;
        })}
      </div>
      ${
        !atEnd &&
        html`<button class="jump" onClick=${jump} data-testid="jump-newest">
          ${icons.down()}
          <span class=${unread ? "" : "visually-hidden"}>${unread ? room.jumpNew(unread) : room.jump}</span>
        </button>`
      }
    </div>
  `;
}

/** @returns {boolean} whether the person asked for less motion */
const calm = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

/**
 * The newest seq that is wholly on the screen, 0 when the page itself is not looked at.
 *
 * @param {HTMLElement} list
 * @returns {number}
 */
function newestSeen(list) {
  if (document.visibilityState !== "visible") return 0;
  const bottom = list.getBoundingClientRect().bottom + 1;
  const top = list.getBoundingClientRect().top;
  for (let node = list.lastElementChild; node; node = node.previousElementSibling) {
    if (!(node instanceof HTMLElement) || !node.dataset.seq) continue;
    const box = node.getBoundingClientRect();
    if (box.bottom <= bottom || box.top <= top) return Number(node.dataset.seq); // taller than the screen: its start was seen
  }
  return 0;
}

/** @param {{ row: MessageRow, group: boolean, store: Store }} props */
function Bubble({ row, group, store }) {
  const { message } = strings;
  const named = group && !row.mine;
  const classes = [
    "message",
    row.mine ? "mine" : "theirs",
    row.first ? "first" : "",
    row.last ? "last" : "",
    row.state,
  ];
  const unsent = row.unsent;
  return html`
    <article
      class=${classes.join(" ")}
      data-testid="message"
      data-seq=${row.seq ?? ""}
      data-state=${row.state}
      data-mine=${row.mine}
    >
      ${named && row.last && html`<${Avatar} id=${row.senderId} name=${row.senderName} small />`}
      <div class="bubble">
        ${
          row.first &&
          (named
            ? html`<p class=${`sender ${hue(row.senderId)}`}>${row.senderName}</p>`
            : html`<span class="visually-hidden">${row.senderName}: </span>`)
        }
        <p class="body" data-testid="message-body">${linkParts(row.body).map(Part)}</p>
        <span class="meta">
          <time datetime=${new Date(row.time).toISOString()}>${clockTime(row.time)}</time>
          ${
            row.mine &&
            html`<span class="state" title=${message[row.state]}>
              ${row.state === "pending" ? icons.pending() : row.state === "sent" ? icons.check() : icons.failed()}
              <span class="visually-hidden">${message[row.state]}</span>
            </span>`
          }
        </span>
      </div>
      ${
        unsent &&
        row.state === "failed" &&
        html`<div class="failed-row">
          <span>${message.failed} ${errorText(unsent.code)}</span>
          <button class="link" onClick=${() => store.retry(unsent)} data-testid="message-retry">
            ${message.retry}
          </button>
          <button class="link" onClick=${() => store.discard(unsent)} data-testid="message-discard">
            ${message.discard}
          </button>
        </div>`
      }
    </article>
  `;
}

/** @param {{ text: string, href?: string }} part */
function Part({ text, href }) {
  return href ? html`<a href=${href} target="_blank" rel="noopener noreferrer nofollow">${text}</a>` : text;
}
