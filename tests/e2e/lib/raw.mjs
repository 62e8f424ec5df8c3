// HTTP by hand, where a client library would be too polite.
import http from 'node:http';
import net from 'node:net';

// Sends `lines` as they are and resolves to everything that came back; the request must ask for `Connection: close`.
export function rawRequest(port, lines) {
  return rawBytes(port, `${lines.join('\r\n')}\r\n\r\n`);
}

// Sends `bytes` (latin1) and resolves to everything that came back. What is sent must end the connection: a client that
// closes its own side counts as gone, as it does for most proxies, and may get no answer.
export function rawBytes(port, bytes) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true }, () => socket.write(bytes, 'latin1'));
    const chunks = [];
    const done = () => {
      socket.destroy();
      resolve(Buffer.concat(chunks).toString('latin1'));
    };
    socket.setTimeout(30_000, () => {
      socket.destroy();
      reject(new Error(`no end to the answer of ${JSON.stringify(bytes.slice(0, 200))}`));
    });
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('end', done);
    // A refused request may be answered with a reset while it is still being sent.
    socket.on('error', (error) => (error.code === 'ECONNRESET' || error.code === 'EPIPE' ? done() : reject(error)));
  });
}

// The statuses in what came back, informational ones too.
export function statuses(answer) {
  return [...answer.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status));
}

// The answer to a WebSocket handshake: its status and body if it was refused, 101 and no body otherwise.
export function handshake(origin, path, headers) {
  return new Promise((resolve, reject) => {
    const request = http.get(`${origin}${path}`, {
      headers: {
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
        ...headers,
      },
      agent: false,
    });
    request.on('upgrade', (_response, socket) => {
      socket.destroy();
      resolve({ status: 101 });
    });
    request.on('response', async (response) => {
      resolve({ status: response.statusCode, body: (await response.toArray()).join('') });
    });
    request.on('error', reject);
  });
}
