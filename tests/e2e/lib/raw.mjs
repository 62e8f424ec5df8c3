// HTTP by hand, where a client library would be too polite.
import http from 'node:http';
import net from 'node:net';

// Sends `lines` as they are and resolves to everything that came back; the request must ask for `Connection: close`.
export function rawRequest(port, lines) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1', () => socket.write(`${lines.join('\r\n')}\r\n\r\n`));
    const chunks = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('error', reject);
    socket.on('close', () => resolve(Buffer.concat(chunks).toString('latin1')));
  });
}

// The answer to a WebSocket handshake: its status and JSON body if it was refused, 101 and no body otherwise.
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
      const body = [];
      for await (const chunk of response) body.push(chunk);
      resolve({ status: response.statusCode, body: Buffer.concat(body).toString() });
    });
    request.on('error', reject);
  });
}
