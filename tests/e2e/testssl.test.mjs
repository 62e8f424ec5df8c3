// The TLS of the default configuration, as testssl.sh judges it.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { world } from './lib/world.mjs';

const run = promisify(execFile);

let w, dir;
before(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'doorward-testssl-'));
  await authority();
  const more = `[[server.tls.sni]]\ncert = "${file('rsa.crt')}"\nkey = "${file('rsa.key')}"\n`;
  const [ecdsa] = [await certificate('ecdsa', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256']), await certificate('rsa', ['rsa:2048'])];
  w = await world({ provider: false, upstream: 'http://127.0.0.1:9', tls: { ...ecdsa, more } });
});
after(async () => {
  await w?.stop();
  await rm(dir, { recursive: true, force: true });
});

const file = (name) => path.join(dir, name);

async function authority() {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', file('ca.key')];
  await run('openssl', ['req', '-x509', ...key, '-out', file('ca.crt'), '-days', '300', '-subj', '/CN=Doorward tests']);
}

// As public authorities make them: an address of OCSP in it, valid for some months.
async function certificate(name, kind) {
  const [cert, key] = [file(`${name}.crt`), file(`${name}.key`)];
  await run('openssl', ['req', '-newkey', ...kind, '-nodes', '-keyout', key, '-out', file(`${name}.csr`), '-subj', '/CN=localhost']);
  const lines = ['subjectAltName=DNS:localhost', 'extendedKeyUsage=serverAuth', 'keyUsage=digitalSignature', 'authorityInfoAccess=OCSP;URI:http://ocsp.invalid/'];
  await writeFile(file(`${name}.ext`), `${lines.join('\n')}\n`);
  const signed = ['-CA', file('ca.crt'), '-CAkey', file('ca.key'), '-CAcreateserial', '-days', '200', '-extfile', file(`${name}.ext`)];
  await run('openssl', ['x509', '-req', '-in', file(`${name}.csr`), '-out', cert, ...signed]);
  return { cert, key };
}

// Protocols, ciphers, forward secrecy, the server's choices and certificates, known weaknesses: all but the http part,
// which belongs to the application, and simulated browsers.
const SECTIONS = ['-p', '-s', '-f', '-P', '-S', '-U'];

test('f_11 testssl.sh finds nothing of medium severity or worse, with an ECDSA and an RSA certificate', async () => {
  const report = file('report.json');
  const options = ['--quiet', '--color', '0', '--warnings', 'off', '--ip', 'one', '--add-ca', file('ca.crt'), '--jsonfile', report];
  // Its exit status counts findings of any kind.
  const { stdout } = await run('testssl', [...SECTIONS, ...options, `https://localhost:${w.port}/`], { timeout: 170_000 }).catch((error) => error);
  const findings = JSON.parse(await readFile(report, 'utf8'));
  const found = (id) => findings.filter((finding) => finding.id === id).map(({ finding, severity }) => `${severity}: ${finding}`).join();
  // It looked at all of it, and saw both certificates.
  assert.match(found('TLS1_3'), /: offered/, stdout);
  assert.match(found('TLS1_2'), /: offered/);
  assert.match(found('TLS1_1'), /^(OK|INFO): not offered/);
  assert.match(found('cert_numbers'), /: 2$/);
  for (const id of ['PFS', 'cipher_order', 'cert_trust <cert#1>', 'cert_trust <cert#2>', 'heartbleed', 'ROBOT', 'LUCKY13', 'RC4']) {
    assert.match(found(id), /^OK: /, id);
  }
  const bad = findings.filter(({ severity }) => ['MEDIUM', 'HIGH', 'CRITICAL', 'FATAL'].includes(severity));
  assert.deepEqual(bad, []);
});
