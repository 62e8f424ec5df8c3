// An upstream that keeps what it received, byte for byte, and answers whatever it is told to.
import { once } from 'node:events';
import net from 'node:net';

export const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

export async function startRecorder() {
  const requests = [];
  const sockets = new Set();
  const recorder = {
    // What came in, oldest first: { head, lines, target, body }.
    requests,
    // The bytes that answer the next requests, or a function of the request; `null` closes the connection.
    answer: OK,
    async stop() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };

  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    let bytes = '';
    socket.setEncoding('latin1').on('data', (text) => {
      bytes += text;
      for (let request = parse(bytes); request; request = parse(bytes)) {
        bytes = bytes.slice(request.length);
        requests.push(request);
        const answer = typeof recorder.answer === 'function' ? recorder.answer(request) : recorder.answer;
        if (answer === null) return socket.destroy();
        socket.write(answer, 'latin1');
        if (/^connection: close$/im.test(answer)) socket.end();
      }
      return undefined;
    });
  }).listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
  await once(server, 'listening');
  recorder.url = `http://127.0.0.1:${server.address().port}`;
  return recorder;
}

// The value of a request's header, '' if it has none.
export function field(request, name) {
  const prefix = `${name.toLowerCase()}: `;
  return request.lines.find((line) => line.toLowerCase().startsWith(prefix))?.slice(prefix.length) ?? '';
}

// The first whole request in `bytes`: its head, then as much body as its own framing says.
function parse(bytes) {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const head = bytes.slice(0, end);
  const lines = head.split('\r\n').slice(1);
  const start = end + 4;
  let length = start;
  if (/^transfer-encoding: *chunked$/im.test(head)) {
    const last = /(?:^|\r\n)0\r\n(?:[^\r\n]+\r\n)*\r\n/.exec(bytes.slice(start));
    if (!last) return undefined;
    length = start + last.index + last[0].length;
  } else {
    length = start + Number(/^content-length: *(\d+)$/im.exec(head)?.[1] ?? 0);
    if (bytes.length < length) return undefined;
  }
  return { head, lines, target: head.split(' ')[1], body: bytes.slice(start, length), length };
}
