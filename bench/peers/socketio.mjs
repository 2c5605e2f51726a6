// A chat like ours on Socket.IO 4, tuned as its documentation says: the WebSocket transport alone, no compression, ws as its engine.
// One room a socket, named in the address; nobody logs in. A message is one row, committed, then sent to the room and acknowledged.
//
// LISTEN: a port or the path of a unix socket. DATABASE_URL, REDIS_URL: where its table is, and the bus of its adapter.
import { createServer } from "node:http";

import { createAdapter } from "@socket.io/redis-adapter";
import pg from "pg";
import { createClient } from "redis";
import { Server } from "socket.io";

const { DATABASE_URL, LISTEN, REDIS_URL } = process.env;

const pool = new pg.Pool({ connectionString: DATABASE_URL, max: 10 });
const publisher = createClient({ url: REDIS_URL });
const subscriber = publisher.duplicate();
for (const client of [publisher, subscriber]) client.on("error", (error) => console.error(error));
await Promise.all([publisher.connect(), subscriber.connect()]);

const http = createServer((request, response) => response.end("socket.io\n"));
const io = new Server(http, {
  adapter: createAdapter(publisher, subscriber),
  httpCompression: false,
  perMessageDeflate: false,
  serveClient: false,
  transports: ["websocket"],
});

const INSERT =
  "INSERT INTO bench_messages (room, sender, client_id, body) VALUES ($1, $2, $3, $4) RETURNING id, created_at";

io.on("connection", (socket) => {
  const { room, user } = socket.handshake.query;
  const sender = Number(user);
  socket.join(room);
  socket.on("send", async (message, acknowledge) => {
    try {
      const values = [message.room, sender, message.client_id, message.body];
      const { rows } = await pool.query({ name: "send", text: INSERT, values });
      const { id, created_at } = rows[0];
      const { body, client_id } = message;
      io.to(String(message.room)).emit("message", { id, room: message.room, sender, client_id, body, created_at });
      acknowledge({ id });
    } catch (error) {
      acknowledge({ error: String(error) });
    }
  });
});

http.listen(/^\d+$/.test(LISTEN) ? { port: Number(LISTEN), host: "127.0.0.1", backlog: 4096 } : LISTEN, () =>
  console.log("ready"),
);
