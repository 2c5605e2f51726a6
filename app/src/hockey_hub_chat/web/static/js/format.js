/** Turning times, names and texts into what is shown. Pure functions. */
import { strings } from "./strings.js";

const clockFormat = new Intl.DateTimeFormat(strings.locale, { hour: "2-digit", minute: "2-digit" });
const weekdayFormat = new Intl.DateTimeFormat(strings.locale, { weekday: "long" });
const dayFormat = new Intl.DateTimeFormat(strings.locale, { weekday: "long", day: "numeric", month: "long" });
const dayYearFormat = new Intl.DateTimeFormat(strings.locale, { day: "numeric", month: "long", year: "numeric" });
const dateFormat = new Intl.DateTimeFormat(strings.locale, { day: "2-digit", month: "2-digit", year: "2-digit" });
const DAY_MS = 86_400_000;
const HUES = 8;

/** @param {number} time ms @returns {number} ms of that local midnight */
const midnight = (time) => new Date(time).setHours(0, 0, 0, 0);

/** @param {number} a @param {number} b @returns {number} calendar days from a to b, through changes of the clock */
const daysBetween = (a, b) => Math.round((midnight(b) - midnight(a)) / DAY_MS);

/** @param {number} time ms @returns {string} such as 18:05 */
export const clockTime = (time) => clockFormat.format(time);

/** @param {number} time ms @param {number} now ms @returns {string} for the line between two days */
export function dayLabel(time, now) {
  const days = daysBetween(time, now);
  if (days === 0) return strings.day.today;
  if (days === 1) return strings.day.yesterday;
  const sameYear = new Date(time).getFullYear() === new Date(now).getFullYear();
  return (sameYear ? dayFormat : dayYearFormat).format(time);
}

/** @param {number} time ms @param {number} now ms @returns {string} short, for the list of conversations */
export function shortWhen(time, now) {
  const days = daysBetween(time, now);
  if (days <= 0) return clockTime(time);
  if (days === 1) return strings.day.yesterday;
  return days < 7 ? weekdayFormat.format(time) : dateFormat.format(time);
}

/** @param {number} a @param {number} b @returns {boolean} */
export const sameDay = (a, b) => midnight(a) === midnight(b);

/** @param {string} name @returns {string} one or two characters for a round picture */
export function initials(name) {
  const words = name.trim().split(/\s+/);
  const first = [...(words[0] ?? "")][0] ?? "?";
  const last = words.length > 1 ? (words.at(-1) ?? "") : "";
  // "Goalie 30" is better told apart by its number than by a letter
  return /^\d{1,2}$/.test(last) ? last : (first + ([...last][0] ?? "")).toLocaleUpperCase(strings.locale);
}

/** @param {number} id @returns {string} a colour class that stays the same for the same id */
export const hue = (id) => `hue-${id % HUES}`;

/**
 * Split a text at its web addresses.
 *
 * @param {string} text
 * @returns {Array<{ text: string, href?: string }>}
 */
export function linkParts(text) {
  /** @type {Array<{ text: string, href?: string }>} */
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(/https?:\/\/[^\s<>"]+/g)) {
    const found = match[0].replace(/[).,;:!?'"\]]+$/, ""); // a full stop ends the sentence, not the address
    if (!URL.canParse(found)) continue;
    if (match.index > at) parts.push({ text: text.slice(at, match.index) });
    parts.push({ text: found, href: found });
    at = match.index + found.length;
  }
  if (at < text.length) parts.push({ text: text.slice(at) });
  return parts;
}
