/** A person's or a group's round picture: their initials on a colour of their own. Decoration; the name is beside it. */
import { html } from "./lib.js";
import { hue, initials } from "./format.js";

/** @param {{ id?: number, name: string, group?: boolean, small?: boolean }} props */
export function Avatar({ id = 0, name, group = false, small = false }) {
  return html`<span class=${`avatar ${hue(id)} ${group ? "group" : ""} ${small ? "small" : ""}`} aria-hidden="true">
    ${initials(name)}
  </span>`;
}
