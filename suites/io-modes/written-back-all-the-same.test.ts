import { firstDifference, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/** The writeback cache of a server that does not know FLUSH or FSYNC, or takes back what it has said. */

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;
/** `STATX_BLOCKS` (linux/stat.h) */
const BLOCKS = 0x400;
/** include/uapi/linux/fuse.h */
const WRITE_KILL_SUIDGID = 1 << 2;

async function open(client: Client, fuse: FuseMount, data: Uint8Array | string = ''): Promise<number> {
  await client.writeFile({ path: fuse.backing('f'), data });
  return client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
}

type Sync = (client: Client, fd: number) => Promise<string>;

/** Calls that bring to the server what waits, and the request that they send after it. */
const SYNCS: Partial<Readonly<Record<OpcodeName, Sync>>> = {
  FSYNC: (client, fd) => client.errno.fsync({ fd }),
  FLUSH: async (client, fd) => client.errno.close({ fd: await client.dup({ fd }) }),
};

for (const [unknown, sync] of Object.entries(SYNCS)) {
  guestTest(
    `what waits in the writeback cache of a server without ${unknown} is written, and what it refuses is told`,
    async (t, guest) => {
      await using fuse = await mountWritebackCache(guest);
      await using client = await guest.client();
      await fuse.fail(unknown as OpcodeName, 'ENOSYS');
      const fd = await open(client, fuse);
      for (const round of [1, 2, 3]) {
        const data = pattern(2 * PAGE, round);
        const after = await fuse.position();
        await client.pwrite({ fd, data, offset: 0 });
        t.is(await sync(client, fd), 'ok');
        t.true((await fuse.requests({ opcode: 'WRITE', after })).length > 0, `round ${round}: it is written`);
        const stored = await client.readFile({ path: fuse.backing('f') });
        t.is(firstDifference(stored, data), undefined, `round ${round}: what the server has`);
      }
      t.is((await fuse.requests(unknown as OpcodeName)).length, 1, `${unknown} is not asked again`);
      await fuse.fail('WRITE', 'ENOSPC', 1);
      await client.pwrite({ fd, data: 'lost', offset: 0 });
      t.is(await sync(client, fd), 'ENOSPC', 'what could not be written');
      t.is(await sync(client, fd), 'ok', 'the next time');
      await client.close({ fd });
    },
  );
}

guestTest(
  'after a close the server is asked for the number of blocks, with FLUSH and without',
  async (t, guest) => {
    await using client = await guest.client();
    for (const knows of [true, false]) {
      await using fuse = await mountWritebackCache(guest, { attrValidS: LONG, entryValidS: LONG });
      if (!knows) await fuse.fail('FLUSH', 'ENOSYS');
      const fd = await open(client, fuse);
      for (const time of ['first', 'second']) {
        await client.pwrite({ fd, data: pattern(PAGE), offset: 0 });
        // The close has nothing to write then.
        await client.fsync({ fd });
        await client.stat({ path: fuse.file('f'), flags: 'AT_STATX_FORCE_SYNC' });
        const asked = async (): Promise<string[]> => {
          const after = await fuse.position();
          await client.stat({ path: fuse.file('f'), mask: BLOCKS });
          return fuse.opcodes({ opcode: 'GETATTR', after });
        };
        t.deepEqual(await asked(), [], 'before');
        await client.close({ fd: await client.dup({ fd }) });
        const what = `the ${time} close, ${knows ? 'with' : 'without'} FLUSH`;
        t.deepEqual(await asked(), ['GETATTR'], what);
      }
      await client.close({ fd });
    }
  },
);

guestTest(
  'that data were lost a close tells once, and fsync of the same open file all the same',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    const fd = await open(client, fuse, 'contents');
    const again = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await fuse.fail('WRITE', 'ENOSPC', 1);
    await client.pwrite({ fd, data: 'lost', offset: 0 });
    const after = await fuse.position();
    t.is(await client.errno.close({ fd: await client.dup({ fd }) }), 'ENOSPC', 'the first close');
    t.deepEqual(await fuse.opcodes({ opcode: 'FLUSH', after }), [], 'which sends no FLUSH');
    t.is(await client.errno.close({ fd: await client.dup({ fd }) }), 'ok', 'the next close');
    const other = await client.dup({ fd: again });
    t.is(await client.errno.close({ fd: other }), 'ok', 'a close of another open file');
    t.is(await client.errno.fsync({ fd }), 'ENOSPC', 'fsync of the open file that was written to');
    t.is(await client.errno.fsync({ fd }), 'ok', 'once');
    t.is(await client.errno.fsync({ fd: again }), 'ENOSPC', 'fsync of the other open file');
    for (const each of [again, fd]) await client.close({ fd: each });
  },
);

guestTest(
  'a mode that the server takes back is asked for before a write waits, and a setuid bit that is set goes',
  async (t, guest) => {
    const init = { addFlags: ['WRITEBACK_CACHE', 'HANDLE_KILLPRIV_V2'] } as const;
    await using fuse = await mountWritebackCache(guest, { allowOther: true, init, attrValidS: LONG });
    await using client = await guest.client();
    const fd = await open(client, fuse, 'program');
    await client.setCredentials({ uid: 4000, gid: 4000 });
    await client.fstat({ fd });
    await using root = await guest.client();
    await root.chmod({ path: fuse.backing('f'), mode: 0o4755 });
    t.is(await fuse.notify({ inode: '/f', offset: -1, length: 0 }), 'ok');
    const after = await fuse.position();
    await client.pwrite({ fd, data: 'new', offset: 0 });
    t.deepEqual(await fuse.opcodes({ opcode: 'GETATTR', after }), ['GETATTR'], 'the mode is asked for');
    const sent = await fuse.requests({ opcode: 'WRITE', after });
    t.deepEqual(
      sent.map(({ args }) => Number(args['write_flags']) & WRITE_KILL_SUIDGID),
      [WRITE_KILL_SUIDGID],
      'and the write asks for the bit to be cleared',
    );
    await client.close({ fd });
    t.is(text(await root.readFile({ path: fuse.backing('f') })), 'newgram');
  },
);
