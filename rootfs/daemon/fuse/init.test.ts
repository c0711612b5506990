import test from 'ava';
import { negotiate } from './init.ts';
import { parseRequest } from './request.ts';

/** INIT of Linux 6.18 on x86-64. */
const init = parseRequest(
  new Uint8Array(
    Buffer.from(
      '680000001a000000020000000000000000000000000000000000000000000000' +
        '0000000000000000070000002d00000000000200fbffff73fd050000' +
        '00'.repeat(44),
      'hex',
    ),
  ),
);

function answered(body: Uint8Array): { flags: number; flags2: number; depth: number; minor: number } {
  const view = new DataView(body.buffer);
  return {
    minor: view.getUint32(4, true),
    flags: view.getUint32(12, true),
    flags2: view.getUint32(32, true),
    depth: view.getUint32(36, true),
  };
}

test('an ordinary server negotiates passthrough with depth 1', (t) => {
  const { body, record } = negotiate(init, {});
  const { flags, flags2, depth, minor } = answered(body);
  t.true(record.passthrough);
  t.is(flags2, 0x20);
  t.is((flags >>> 30) & 1, 1);
  t.is(depth, 1);
  t.is(minor, 45);
  t.true(record.flagsOffered.includes('PASSTHROUGH'));
});

test('a flag that is dropped is not answered', (t) => {
  const { body, record } = negotiate(init, { dropFlags: ['PASSTHROUGH'] });
  t.false(record.passthrough);
  t.is(answered(body).flags2, 0);
});

test('the 2021 interface uses bit 63, and this kernel does not offer it', (t) => {
  const { body, record } = negotiate(init, {}, 'fd');
  t.is(answered(body).flags2, 0x8000_0000);
  t.false(record.passthrough);
});

test('what a test sets is answered as it is', (t) => {
  const { body } = negotiate(init, { flags: ['PASSTHROUGH'], maxStackDepth: 7, minor: 5 });
  t.deepEqual(answered(body), { minor: 5, flags: 0, flags2: 0x20, depth: 7 });
});
