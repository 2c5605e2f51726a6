/** Every English text of the page, in one place for later translation. Functions where a text has holes. */

/** @param {number} n @param {string} one @param {string} many */
const count = (n, one, many) => `${n} ${n === 1 ? one : many}`;

export const strings = {
  /** For times and dates. */
  locale: "en-GB",
  appName: "Hockey Hub Chat",

  login: {
    title: "Log in",
    lead: "Team chat for players, parents and staff.",
    username: "User name",
    password: "Password",
    show: "Show",
    hide: "Hide",
    submit: "Log in",
    busy: "Logging in…",
    ended: "You have been logged out. Please log in again.",
  },

  logout: "Log out",
  /** @param {number} n */
  logoutUnsent: (n) =>
    `${count(n, "message has", "messages have")} not been sent yet. Log out and throw ${n === 1 ? "it" : "them"} away?`,

  sidebar: {
    label: "Conversations",
    new: "New conversation",
    empty: "No conversations yet.",
    emptyHint: "Find a team-mate and say hello.",
    loading: "Loading conversations…",
    retry: "Try again",
    you: "You",
    draft: "Draft:",
    noMessages: "No messages yet",
    /** @param {number} n */
    unread: (n) => count(n, "unread message", "unread messages"),
  },

  create: {
    title: "New conversation",
    search: "Find people by name",
    searching: "Searching…",
    hint: "Choose one person to write to, or several for a group.",
    nobody: "Nobody found by that name.",
    chosen: "Chosen",
    /** @param {string} name */
    remove: (name) => `Remove ${name}`,
    groupName: "Group name",
    groupNameHint: "For example: U16 away games",
    cancel: "Cancel",
    choose: "Choose someone",
    /** @param {string} name */
    direct: (name) => `Write to ${name}`,
    group: "Create group",
  },

  members: {
    title: "Members",
    invite: "Add someone",
    back: "Back to the list",
    leave: "Leave group",
    /** @param {string} name */
    leaveSure: (name) => `Leave “${name}”? You will receive nothing more from it.`,
  },

  room: {
    none: "Choose a conversation, or start a new one.",
    gone: "This conversation is not there, or you are no longer in it.",
    back: "Back to conversations",
    messages: "Messages",
    /** @param {number} n */
    members: (n) => count(n, "member", "members"),
    start: "This is the beginning of the conversation.",
    loadingOlder: "Loading older messages…",
    olderFailed: "Older messages could not be loaded.",
    retry: "Try again",
    unreadFrom: "New messages",
    jump: "Jump to newest",
    /** @param {number} n */
    jumpNew: (n) => count(n, "new message", "new messages"),
    /** @param {string} name */
    typingOne: (name) => `${name} is typing…`,
    /** @param {string} first @param {string} second */
    typingTwo: (first, second) => `${first} and ${second} are typing…`,
    typingMany: "Several people are typing…",
    formerMember: "Former member",
    /** @param {string} name @param {string} text */
    announce: (name, text) => `${name}: ${text}`,
  },

  message: {
    pending: "Sending…",
    sent: "Sent",
    failed: "Not sent.",
    retry: "Tap to retry",
    discard: "Delete",
  },

  composer: {
    label: "Message",
    /** @param {string} name */
    placeholder: (name) => `Message ${name}`,
    send: "Send",
    /** @param {number} left */
    left: (left) => (left >= 0 ? `${left} characters left` : `${-left} characters too many`),
  },

  banner: {
    connecting: "Connecting…",
    /** @param {number} seconds */
    waiting: (seconds) => `Connection lost. Reconnecting in ${seconds} s…`,
    reconnecting: "Connection lost. Reconnecting…",
    offline: "You are offline. What you write is kept and sent once you are back.",
    draining: "The server is restarting. You will be reconnected in a moment.",
    now: "Reconnect now",
  },

  day: { today: "Today", yesterday: "Yesterday" },

  /** By error code; `other` for everything else. @type {Record<string, string>} */
  errors: {
    invalid_credentials: "The user name or the password is wrong.",
    rate_limited: "Too many attempts. Please wait a moment and try again.",
    not_a_member: "You are not in this conversation any more.",
    too_large: "The message is too long.",
    validation_failed: "Something in it is not allowed.",
    conflict: "It clashes with another message.",
    forbidden: "You are not allowed to do this.",
    network: "The server cannot be reached. Please check the connection.",
    timeout: "The server takes too long to answer. Please try again.",
    unavailable: "The server is busy for the moment. Please try again.",
    other: "Something went wrong. Please try again.",
  },
};

/** @param {string | undefined} code */
export function errorText(code) {
  return strings.errors[code ?? "other"] ?? String(strings.errors.other);
}
