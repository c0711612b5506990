import { concat } from '../lib/bytes.ts';
import { ATTR, ENTRY, entryAnswer, u32, u64 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Numbers of nodes and inodes that have more than 32 bits, as those of servers do which make them of two. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
/** Of different halves each, and exact as doubles. */
const NODE = 2 ** 33 + 5;
const INO = 2 ** 41 + 77;
const REGULAR = 0o100_644;
/** include/linux/exportfs.h: number of the node and generation. */
const INO64_GEN = 0x81;

guestTest('a node whose number has more than 32 bits is called by all of it (E17)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const entry = entryAnswer({ nodeid: BigInt(NODE), entryValidS: LONG });
  entry.set(u64(BigInt(LONG)), ENTRY.attrValid);
  entry.set(u64(BigInt(INO)), ENTRY.attr + ATTR.ino);
  entry.set(u32(REGULAR), ENTRY.attr + ATTR.mode);
  entry.set(u32(1), ENTRY.attr + ATTR.nlink);
  const attributes = concat(u64(BigInt(LONG)), u64(0n), entry.subarray(ENTRY.attr));
  const path = fuse.file('wide');
  await fuse.rule({ match: { opcode: 'LOOKUP', path: '/wide' }, action: { do: 'body', body: entry } });
  await fuse.rule({ match: { opcode: 'GETATTR' }, action: { do: 'body', body: attributes } });
  await fuse.fail({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'ENOENT');

  t.is((await client.stat({ path })).ino, INO, 'the number of its inode, as LOOKUP has told it');
  t.deepEqual(await fuse.opcodes('GETATTR'), [], 'which is believed');
  t.deepEqual(
    await client.nameToHandle({ path }),
    { type: INO64_GEN, handle: concat(u32(2), u32(5), u32(0)) },
    'a handle of it has the number of the node, the upper half first',
  );

  const asked = async (): Promise<unknown[]> => {
    const after = await fuse.position();
    t.is((await client.stat({ path })).ino, INO, 'the number of its inode');
    return (await fuse.requests({ after })).map(({ opcode, nodeid }) => [opcode, nodeid]);
  };
  const body = concat(u64(BigInt(NODE)), u64(0n), u64(0n));
  t.is(await fuse.notify({ code: 'INVAL_INODE', body }), 'ok', 'a notification finds it by its number');
  t.deepEqual(await asked(), [['GETATTR', NODE]], 'requests about it name the number of the node');
  t.deepEqual(await asked(), [], 'what they have told is believed');
  const other = concat(u64(BigInt(NODE % 2 ** 32)), u64(0n), u64(0n));
  t.is(await fuse.notify({ code: 'INVAL_INODE', body: other }), 'ENOENT', 'half of its number is not it');

  const after = await fuse.position();
  t.is(await fuse.notify({ parent: '/', name: 'wide' }), 'ok');
  const forget = await fuse.waitFor({ opcode: ['FORGET', 'BATCH_FORGET'], after }, 'arrived');
  t.is(forget.nodeid, NODE, 'it is forgotten by its number');
});
