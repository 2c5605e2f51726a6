/**
 * The rows of a message view: day lines, the line before what was unread, and messages grouped into runs of one sender.
 * Pure; the component only draws them.
 *
 * @import { Message, Unsent, User } from "#api"
 *
 * @typedef {object} MessageRow
 * @property {"message"} kind
 * @property {string} key stays the same when an unsent message becomes a committed one
 * @property {number | null} seq null while it is not committed
 * @property {"pending" | "sent" | "failed"} state
 * @property {boolean} mine
 * @property {number} senderId
 * @property {string} senderName
 * @property {string} body
 * @property {number} time ms
 * @property {boolean} first of its run
 * @property {boolean} last of its run
 * @property {Unsent | null} unsent
 *
 * @typedef {{ kind: "day", key: string, time: number } | { kind: "unread", key: string }} Divider
 * @typedef {MessageRow | Divider} Row
 */
import { sameDay } from "./format.js";

/** A pause longer than this starts a new run. */
const RUN_MS = 5 * 60_000;

/**
 * @param {object} source
 * @param {Message[]} source.messages ascending
 * @param {Unsent[]} source.unsent in the order of writing
 * @param {User} source.me
 * @param {(id: number) => string} source.nameOf
 * @param {number} source.unreadFrom seq of the first message that was unread on opening; 0 for none
 * @returns {Row[]}
 */
export function timeline({ messages, unsent, me, nameOf, unreadFrom }) {
  /** @type {MessageRow[]} */
  const all = [
    ...messages.map((message) => committed(message, me, nameOf)),
    ...unsent.map((item) => waiting(item, me)),
  ];
  /** @type {Row[]} */
  const rows = [];
  /** @type {MessageRow | null} */
  let before = null;
  for (const row of all) {
    const newDay = !before || !sameDay(before.time, row.time);
    const unread = unreadFrom > 0 && row.seq === unreadFrom;
    if (newDay) rows.push({ kind: "day", key: `day ${new Date(row.time).toDateString()}`, time: row.time });
    if (unread) rows.push({ kind: "unread", key: "unread" });
    const follows = before && !newDay && !unread && before.senderId === row.senderId && row.time - before.time < RUN_MS;
    if (before && follows) before.last = false;
    row.first = !follows;
    rows.push(row);
    before = row;
  }
  return rows;
}

/** @param {Message} message @param {User} me @param {(id: number) => string} nameOf @returns {MessageRow} */
function committed(message, me, nameOf) {
  return {
    kind: "message",
    key: `${message.sender_id} ${message.client_id}`,
    seq: message.seq,
    state: "sent",
    mine: message.sender_id === me.id,
    senderId: message.sender_id,
    senderName: nameOf(message.sender_id),
    body: message.body,
    time: Date.parse(message.created_at),
    first: true,
    last: true,
    unsent: null,
  };
}

/** @param {Unsent} item @param {User} me @returns {MessageRow} */
function waiting(item, me) {
  return {
    kind: "message",
    key: `${me.id} ${item.client_id}`,
    seq: null,
    state: item.state,
    mine: true,
    senderId: me.id,
    senderName: me.display_name,
    body: item.body,
    time: item.written_at,
    first: true,
    last: true,
    unsent: item,
  };
}
