// A WebSocket that stays open until somebody closes it, and how it was closed.
import http from 'node:http';

const CLOSE = 0x8;

// `target`: { port, host }. Resolves when it is open, to { closed, closedAt, end }: `closed` resolves to the code of the
// close frame, or to 'cut' if the connection ended without one.
export function openSocket(target, cookie, path = '/ws') {
  return new Promise((resolve, reject) => {
    const request = http.get({
      host: '127.0.0.1',
      port: target.port,
      path,
      agent: false,
      headers: {
        host: target.host,
        origin: `http://${target.host}`,
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
        cookie,
      },
    });
    request.on('response', ({ statusCode }) => reject(new Error(`the handshake was answered with ${statusCode}`)));
    request.on('error', reject);
    request.on('upgrade', (_response, socket, head) => {
      const opened = { end: () => socket.destroy() };
      opened.closed = new Promise((closed) => {
        let bytes = head;
        const ended = (how) => {
          opened.closedAt ??= Date.now();
          closed(how);
          socket.destroy();
        };
        const read = (chunk) => {
          bytes = Buffer.concat([bytes, chunk]);
          const code = closeCode(bytes);
          if (code !== undefined) ended(code);
        };
        socket.on('data', read).on('error', () => ended('cut')).on('close', () => ended('cut'));
        read(Buffer.alloc(0));
      });
      resolve(opened);
    });
  });
}

// The code of the first close frame in whole frames from a server (never masked), if there is one.
function closeCode(bytes) {
  let at = 0;
  while (bytes.length >= at + 2) {
    let [length, start] = [bytes[at + 1] & 0x7f, at + 2];
    if (length === 126) [length, start] = [bytes.readUInt16BE(start), start + 2];
    if (length === 127) [length, start] = [Number(bytes.readBigUInt64BE(start)), start + 8];
    if (bytes.length < start + length) return undefined;
    if ((bytes[at] & 0xf) === CLOSE) return length >= 2 ? bytes.readUInt16BE(start) : 1005;
    at = start + length;
  }
  return undefined;
}
