// A host that plays the frozen vectors over real sockets, truthfully or not. As much of WebSocket as that takes (RFC 6455): text frames
// below 64 KiB, one client at a time.
import { createHash } from "node:crypto";
import { createServer } from "node:http";

import { requestDigest } from "../milepost.mjs";
import { ids, receipt, seals } from "./stream.mjs";

/** Where the turn `request-2` of the vectors begins. */
export const START = 60;

function encode(text) {
  const payload = Buffer.from(text);
  const head = payload.length < 126 ? Buffer.from([0x81, payload.length]) : Buffer.from([0x81, 126, payload.length >> 8, payload.length & 255]);
  return Buffer.concat([head, payload]);
}

/** Whole frames of a buffer, and what is left of it. */
function decode(buffer) {
  const frames = [];
  for (;;) {
    if (buffer.length < 6) return [frames, buffer];
    let [length, at] = [buffer[1] & 127, 2];
    if (length === 126) [length, at] = [buffer.readUInt16BE(2), 4];
    if (buffer.length < at + 4 + length) return [frames, buffer];
    const mask = buffer.subarray(at, at + 4);
    const payload = buffer.subarray(at + 4, at + 4 + length).map((byte, i) => byte ^ mask[i % 4]);
    if ((buffer[0] & 15) === 1) frames.push(payload.toString());
    buffer = buffer.subarray(at + 4 + length);
  }
}

/** The frames of an honest answer to `request-2` from token `from` on, at most `size` tokens a chunk; no chunk goes beyond a seal. */
export async function honest(from = START, size = 10) {
  const frames = [];
  const edges = seals.map((seal) => seal.first_seq + seal.count);
  for (let at = from; ; ) {
    if (edges.includes(at)) frames.push({ type: "checkpoint_sealed", ...seals[edges.indexOf(at)] });
    if (at === ids.length) break;
    const part = ids.slice(at, Math.min(at + size, ...edges.filter((edge) => edge > at)));
    frames.push({ type: "stream_chunk", id: "request-2", content: `${at} `, tokens: part.length, token_ids: part, seq: at, total: at + part.length });
    at += part.length;
  }
  const signed = { ...receipt, request_digest: await requestDigest("request-2") };
  frames.push({ type: "stream_end", id: "request-2", reason: "complete", finish_reason: "length", tokens_used: ids.length - START, receipt: signed, checkpoints: [] });
  return frames;
}

/** Starts a host. `play(request, number)` answers the frames for an `inference`; a frame `"cut"` ends the connection. */
export async function host(play) {
  const heard = [];
  let [connections, metered] = [0, START];
  const sockets = new Set();
  const server = createServer((request, response) => {
    const answers = {
      "/v1/session/challenge": { challenge: `0x${"77".repeat(32)}`, expires_at: 1_800_000_000 },
      "/v1/session": { token: "token", model: "model", metered },
      "/v1/session/close": { phase: "ending" },
    };
    const answer = answers[request.url] ?? (request.url.includes("/checkpoints") ? { checkpoints: seals.slice(Number(new URL(request.url, "http://x").searchParams.get("from"))) } : undefined);
    request.resume();
    response.writeHead(answer ? 200 : 404, { "content-type": "application/json" }).end(JSON.stringify(answer ?? { error_type: "not_found", message: request.url }));
  });
  server.on("upgrade", (request, socket) => {
    const accept = createHash("sha1").update(`${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`);
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
    connections += 1;
    const number = connections;
    const send = (frame) => socket.write(encode(JSON.stringify(frame)));
    send({ type: "connected", protocol: 1, unacked_window: 64 });
    let buffer = Buffer.alloc(0);
    socket.on("data", async (bytes) => {
      const [frames, rest] = decode(Buffer.concat([buffer, bytes]));
      buffer = rest;
      for (const frame of frames.map((text) => JSON.parse(text))) {
        heard.push(frame);
        if (frame.type === "session_init") send({ type: "session_init_ack", id: frame.id, status: "success", metered });
        if (frame.type !== "inference") continue;
        for (const out of await play(frame.request, number)) {
          if (out === "cut") return socket.destroy();
          metered = Math.max(metered, out.total ?? 0);
          send(out);
        }
      }
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => {
    sockets.forEach((socket) => socket.destroy());
    server.close();
  };
  return { url: `http://127.0.0.1:${server.address().port}`, heard, close };
}
