import { pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWritebackCache, pageOf } from '../lib/writeback-cache.ts';

/** Calls that have the server change or copy a part of a file of which pages wait in the writeback cache. */

const PAGE = 4096;
const COPY = ['COPY_FILE_RANGE', 'COPY_FILE_RANGE_64'] as const;
const DONE = { do: 'body', body: new Uint8Array() } as const;

async function open(client: Client, fuse: FuseMount, name: string): Promise<number> {
  await client.writeFile({ path: fuse.backing(name), data: pattern(8 * PAGE) });
  return client.open({ path: fuse.file(name), flags: 'O_RDWR' });
}

/** Requests of these kinds, with the page where each WRITE begins. */
async function asked(fuse: FuseMount, after: number, opcode: readonly OpcodeName[]): Promise<string[]> {
  const requests = await fuse.requests({ opcode: ['WRITE', ...opcode], after });
  return requests.map(({ opcode: kind, args }) =>
    kind === 'WRITE' ? `page ${Number(args['offset']) / PAGE}` : kind.replace('_64', ''),
  );
}

guestTest(
  'a range of zeros or a hole is made after what waits in it is written, and is read from the server then',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    await fuse.rule({ match: { opcode: 'FALLOCATE' }, action: DONE });
    for (const mode of [
      'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE',
      'FALLOC_FL_ZERO_RANGE|FALLOC_FL_KEEP_SIZE',
      'FALLOC_FL_ZERO_RANGE',
    ]) {
      const fd = await open(client, fuse, mode);
      const after = await fuse.position();
      await client.pwrite({ fd, data: pageOf(7), offset: PAGE });
      await client.fallocate({ fd, mode, offset: PAGE, length: PAGE });
      t.deepEqual(await asked(fuse, after, ['FALLOCATE']), ['page 1', 'FALLOCATE'], `${mode}: in this order`);
      const before = await fuse.position();
      await client.pread({ fd, count: PAGE, offset: PAGE });
      const reads = await fuse.opcodes({ opcode: 'READ', after: before });
      t.true(reads.length > 0, `${mode}: the page left the cache`);
      await client.close({ fd });
    }
  },
);

guestTest(
  'what waits behind the range of a hole or a copy is written before it as well',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    const fd = await open(client, fuse, 'f');
    const other = await open(client, fuse, 'other');
    const copy = { offIn: 0, offOut: 0, length: PAGE };
    const mode = 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE';
    const calls: Readonly<Record<string, readonly [readonly OpcodeName[], () => Promise<unknown>]>> = {
      'a hole': [['FALLOCATE'], () => client.fallocate({ fd, mode, offset: 0, length: PAGE })],
      'a copy from it': [COPY, () => client.copy_file_range({ fdIn: fd, fdOut: other, ...copy })],
      'a copy to it': [COPY, () => client.copy_file_range({ fdIn: other, fdOut: fd, ...copy })],
    };
    for (const [what, [opcode, call]] of Object.entries(calls)) {
      const after = await fuse.position();
      await client.pwrite({ fd, data: pageOf(7), offset: 6 * PAGE });
      await call();
      const wanted = ['page 6', opcode[0] ?? ''];
      t.deepEqual(await asked(fuse, after, opcode), wanted, `${what}: in this order`);
    }
    for (const each of [fd, other]) await client.close({ fd: each });
  },
);
