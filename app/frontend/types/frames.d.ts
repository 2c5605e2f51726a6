// Made by `npm run frames` from hockey_hub_chat.events. Do not edit.

export type ProtocolVersion = 1;

// From the client.

/** Are you there? Answered by `pong` with the same `nonce` (for clients that cannot send WebSocket pings). */
export interface PingFrame {
  type: "ping";
  nonce?: string;
}

/** Everything up to `seq` has been read. Never moves backwards. Not answered; members receive `read_moved`. */
export interface ReadFrame {
  type: "read";
  conversation_id: number;
  seq: number;
}

/** First frame of a connection: the newest `seq` the client holds of each conversation (missing: only from now on). */
export interface ResumeFrame {
  type: "resume";
  cursors: Record<string, number>;
}

/** Post a message. Answered by `ack` or `error` with the same `client_id`; safe to repeat with the same one. */
export interface SendFrame {
  type: "send";
  client_id: string;
  conversation_id: number;
  body: string;
}

/** The person is typing. Lossy; not answered. */
export interface TypingFrame {
  type: "typing";
  conversation_id: number;
}

export type ClientFrame = SendFrame | ResumeFrame | ReadFrame | TypingFrame | PingFrame;

// To the client.

/** The send with this `client_id` is committed (in a cluster: on a synchronous standby too) as this `seq`. */
export interface Ack {
  type: "ack";
  client_id: string;
  conversation_id: number;
  seq: number;
  created_at: string;
}

/** The person is now a member (created, invited). Live messages follow from `last_seq + 1`. */
export interface ConversationAdded {
  type: "conversation_added";
  conversation_id: number;
  last_seq: number;
}

/** The person is no longer a member; nothing more will arrive from it. */
export interface ConversationRemoved {
  type: "conversation_removed";
  conversation_id: number;
}

/** This worker is leaving: the socket closes with 1012 shortly; reconnect after `reconnect_after_ms` and resume. */
export interface Drain {
  type: "drain";
  reconnect_after_ms: number;
}

/** A frame was refused. `client_id` is set when it answers a `send`; `retryable`: the same frame may succeed later. */
export interface ErrorFrame {
  type: "error";
  code: string;
  message: string;
  retryable: boolean;
  details: Record<string, unknown>;
  client_id: string | null;
}

/** Too much was missed to send it here: page `GET /api/conversations/{id}/messages?after_seq=` up to `last_seq`. Live messages go on from `last_seq + 1`. */
export interface Gap {
  type: "gap";
  conversation_id: number;
  after_seq: number;
  last_seq: number;
}

/** First frame of every connection. */
export interface Hello {
  type: "hello";
  protocol: number;
  user_id: number;
  server_time: string;
  heartbeat_seconds: number;
  max_frame_bytes: number;
  max_body_chars: number;
}

/** Someone joined or left; fetch the conversation again for the list. */
export interface MembersChanged {
  type: "members_changed";
  conversation_id: number;
}

/** A message is committed. In `seq` order per conversation, without gaps and without repeats on one connection. */
export interface MessageSent {
  type: "message";
  conversation_id: number;
  seq: number;
  sender_id: number;
  client_id: string;
  body: string;
  created_at: string;
}

/** Answer to `ping`. */
export interface Pong {
  type: "pong";
  nonce: string;
}

/** A member has read up to `seq`. */
export interface ReadMoved {
  type: "read_moved";
  conversation_id: number;
  user_id: number;
  seq: number;
}

/** Everything missed has been sent (or announced by `gap`); the newest `seq` of each conversation of the person. */
export interface Resumed {
  type: "resumed";
  last_seqs: Record<string, number>;
}

/** A member is typing. Lossy; forget it after 5 seconds. */
export interface Typing {
  type: "typing";
  conversation_id: number;
  user_id: number;
}

export type ServerFrame = Hello | MessageSent | Ack | Resumed | Gap | ReadMoved | Typing | ConversationAdded | ConversationRemoved | MembersChanged | Pong | Drain | ErrorFrame;
