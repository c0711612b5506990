import { concat, firstDifference, pattern } from '../lib/bytes.ts';
import { u32, u64 } from '../lib/entry-answer.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openFlagNames } from '../lib/open-flag-names.ts';

/** Data for servers of old versions, by requests that say less of them. */

guestTest('to a server of version 7.8 a WRITE is shorter by what came later', async (t, guest) => {
  const entry = concat(u64(2n), u64(0n), u64(1000n), u64(1000n), new Uint8Array(8));
  /** `fuse_attr` up to 7.8: a regular file of four bytes. */
  const attr = concat(u64(2n), u64(4n), new Uint8Array(44), u32(0o100_644), u32(1), new Uint8Array(12));
  await using fuse = await guest.mountFuse({ passthrough: 'off', init: { minor: 8, flags: ['BIG_WRITES'] } });
  await using client = await guest.client();
  const answers = {
    LOOKUP: concat(entry, attr),
    GETATTR: concat(u64(1000n), new Uint8Array(8), attr),
    OPEN: concat(u64(77n), u32(OpenFlag.DIRECT_IO), u32(0)),
    WRITE: concat(u32(64), u32(0)),
  } as const;
  for (const [opcode, body] of Object.entries(answers)) {
    await fuse.rule({
      match: { opcode: opcode as keyof typeof answers, ...(opcode === 'GETATTR' ? { nodeid: 2 } : {}) },
      action: { do: 'body', body },
    });
  }
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_WRONLY' });
  const data = pattern(64, 5);
  t.is(await client.pwrite({ fd, data, offset: 3 }), 64);
  const [write] = await fuse.requests('WRITE');
  // Where later versions have the owner of locks, the data begin.
  const first = new DataView(data.buffer, data.byteOffset).getBigUint64(0, true);
  t.like(write?.args, { fh: 77, offset: 3, size: 64 });
  t.is(Number(write?.args['lock_owner']), Number(first));
  await client.errno.close({ fd });
});

guestTest('to a server of version 7.9 a WRITE is as long as it is to newer ones', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off', init: { minor: 9 } });
  await using client = await guest.client();
  const data = pattern(64, 5);
  await client.writeFile({ path: fuse.backing('f'), data: new Uint8Array(100) });
  for (const [how, openFlags] of [
    ['through the cache', 0],
    ['directly', OpenFlag.DIRECT_IO],
  ] as const) {
    await fuse.answerOpen('OPEN', { openFlags }, 1);
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_WRONLY|O_APPEND' });
    const after = await fuse.position();
    t.is(await client.errno.write({ fd, data }), 'ok', how);
    const [write] = await fuse.requests({ opcode: 'WRITE', after });
    t.is(openFlagNames(write?.args['flags']), 'O_WRONLY|O_APPEND', `${how}: what version 7.9 added`);
    await client.close({ fd });
  }
  const stored = await client.readFile({ path: fuse.backing('f') });
  const wanted = concat(new Uint8Array(100), data, data);
  t.is(firstDifference(stored, wanted), undefined, 'the data begin behind it');
});
