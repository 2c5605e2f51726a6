/** The JSON of the HTTP API that the page uses (docs/protocol.md, /api/openapi.json). */
import type { MessageSent } from "#frames";

export interface User {
  id: number;
  username: string;
  display_name: string;
}

/** A committed message; a live `message` frame is the same with a `type`. */
export type Message = Omit<MessageSent, "type">;

export interface ConversationJson {
  id: number;
  kind: "direct" | "group";
  name: string | null;
  members: User[];
  last_seq: number;
  read_seq: number;
  created_by?: number | null;
  last_message: Message | null;
  created_at: string;
}

/** A message written here and not yet known to be committed. */
export interface Unsent {
  client_id: string;
  conversation_id: number;
  body: string;
  /** When it was written, in ms; strictly increasing, so it is the order of sending too. */
  written_at: number;
  state: "pending" | "sent" | "failed";
  /** Why it failed: an error code. */
  code?: string;
}

export interface Page {
  after_seq?: number;
  before_seq?: number;
  limit: number;
}

/** What localStorage is used for; a map in tests. */
export interface Shelf {
  get(key: string): string | null;
  set(key: string, value: string): void;
  remove(key: string): void;
  keys(): string[];
}

export interface Clock {
  now(): number;
  /** Run `action` after `ms`; returns a function that takes it back. */
  later(ms: number, action: () => void): () => void;
}
