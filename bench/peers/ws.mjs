// A broadcast on ws, the WebSocket library of Node alone: each message goes to everybody in its room. It stores nothing.
import { WebSocketServer } from "ws";

const rooms = new Map();
const server = new WebSocketServer({
  port: Number(process.env.LISTEN),
  host: "127.0.0.1",
  backlog: 4096,
  perMessageDeflate: false,
});

server.on("connection", (socket, request) => {
  const room = new URL(request.url, "http://localhost").searchParams.get("room");
  const members = rooms.get(room) ?? rooms.set(room, new Set()).get(room);
  members.add(socket);
  socket.send("joined");
  socket.on("message", (data) => {
    for (const member of members) member.send(data, { binary: false });
  });
  socket.on("close", () => members.delete(socket));
  socket.on("error", () => members.delete(socket));
});
server.on("listening", () => console.log("ready"));
