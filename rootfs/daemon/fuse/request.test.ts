import test from 'ava';
import { parseRequest, MalformedRequest, numberField } from './request.ts';

/** Requests as Linux 6.18 sent them on /dev/fuse, x86-64. */
const captured = {
  lookup: '2a00000001000000040000000000000001000000000000000000000000000000fb720000000000006600',
  open: '300000000e000000060000000000000002000000000000000000000000000000fb720000000000000280000000000000',
  init:
    '680000001a000000020000000000000000000000000000000000000000000000' +
    '0000000000000000070000002d00000000000200fbffff73fd050000' +
    '00'.repeat(44),
};

function bytesOf(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, 'hex'));
}

test('a LOOKUP has its directory and its name', (t) => {
  const request = parseRequest(bytesOf(captured.lookup));
  t.is(request.label, 'LOOKUP');
  t.is(request.nodeid, 1);
  t.is(request.unique, 4);
  t.is(request.pid, 0x72fb);
  t.is(request.name, 'f');
});

test('an OPEN has the flags of open(2)', (t) => {
  const request = parseRequest(bytesOf(captured.open));
  t.is(request.label, 'OPEN');
  t.is(numberField(request, 'flags'), 0o100002);
  t.is(request.nodeid, 2);
});

test('an INIT has its version and keeps what the fields leave out', (t) => {
  const request = parseRequest(bytesOf(captured.init));
  t.is(numberField(request, 'major'), 7);
  t.is(numberField(request, 'minor'), 45);
  t.is(numberField(request, 'flags'), 0x73fffffb);
  t.is(request.body.length, 64);
});

test('a request whose length does not agree is malformed', (t) => {
  const bytes = bytesOf(captured.open);
  t.throws(() => parseRequest(bytes.subarray(0, 47)), { instanceOf: MalformedRequest });
  t.throws(() => parseRequest(bytes.subarray(0, 20)), { instanceOf: MalformedRequest });
});

test('a request shorter than its struct is malformed', (t) => {
  const bytes = bytesOf(captured.open).slice(0, 44);
  new DataView(bytes.buffer).setUint32(0, 44, true);
  t.throws(() => parseRequest(bytes), { message: /OPEN has 4 bytes of 8/ });
});

test('an opcode that nobody knows is a request all the same', (t) => {
  const bytes = bytesOf(captured.open);
  new DataView(bytes.buffer).setUint32(4, 4000, true);
  const request = parseRequest(bytes);
  t.is(request.label, 'OPCODE_4000');
  t.is(request.operation, undefined);
});

test('extensions at the end are no part of the name', (t) => {
  const plain = bytesOf(captured.lookup);
  const bytes = new Uint8Array(plain.length + 8).fill(0xee);
  bytes.set(plain);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint16(36, 1, true);
  t.is(parseRequest(bytes).name, 'f');
});

test('supplementary groups are an extension', (t) => {
  const extension = new Uint8Array(24);
  // Size, type FUSE_EXT_GROUPS, two groups, padding.
  for (const [at, word] of [24, 32, 2, 1000, 1001].entries()) {
    new DataView(extension.buffer).setUint32(4 * at, word, true);
  }
  const bytes = frame(9, [new Uint8Array(8), Buffer.from('d\0'), extension]);
  new DataView(bytes.buffer).setUint16(36, 3, true);
  const request = parseRequest(bytes);
  t.is(request.name, 'd');
  t.deepEqual(request.groups, [1000, 1001]);
  new DataView(bytes.buffer).setUint32(bytes.length - 16, 4, true);
  const more = { instanceOf: MalformedRequest, message: 'a request says 4 groups and has 3' };
  t.throws(() => parseRequest(bytes), more);
  new DataView(bytes.buffer).setUint16(36, 24, true);
  t.throws(() => parseRequest(bytes), { instanceOf: MalformedRequest });
});

test('BATCH_FORGET lists its nodes', (t) => {
  const bytes = new Uint8Array(40 + 8 + 32);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint32(4, 42, true);
  view.setUint32(40, 2, true);
  view.setBigUint64(48, 5n, true);
  view.setBigUint64(56, 2n, true);
  view.setBigUint64(64, 9n, true);
  view.setBigUint64(72, 1n, true);
  t.deepEqual(parseRequest(bytes).forgets, [
    { nodeid: 5, nlookup: 2 },
    { nodeid: 9, nlookup: 1 },
  ]);
});

test('RENAME2 has both names, SETXATTR its value', (t) => {
  const rename = frame(45, [new Uint8Array(16), Buffer.from('old\0new\0')]);
  const renamed = parseRequest(rename);
  t.deepEqual([renamed.name, renamed.secondName], ['old', 'new']);
  const setxattr = parseRequest(frame(21, [new Uint8Array(8), Buffer.from('user.a\0value')]));
  t.is(setxattr.name, 'user.a');
  t.is(Buffer.from(setxattr.data).toString(), 'value');
  const long = parseRequest(frame(21, [new Uint8Array(16).fill(1), Buffer.from('user.a\0value')]), true);
  t.deepEqual([long.name, numberField(long, 'setxattr_flags')], ['user.a', 0x0101_0101]);
});

function frame(opcode: number, parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(Buffer.concat([new Uint8Array(40), ...parts]));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint32(4, opcode, true);
  return bytes;
}
