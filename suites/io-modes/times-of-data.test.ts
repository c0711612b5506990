import { pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/** The time of the last change of data: of which file it is changed, and whether it is asked for when the server has it. */

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;
/** 2001. Nanoseconds. */
const LONG_AGO_NS = 1e18;
/** linux/stat.h */
const STATX = { mtime: 0x40, size: 0x200, blocks: 0x400 } as const;

async function oldFile(client: Client, fuse: FuseMount, name: string, mode: number): Promise<void> {
  const path = fuse.backing(name);
  await client.writeFile({ path, data: pattern(2 * PAGE) });
  await client.chmod({ path, mode });
  await client.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
}

guestTest(
  'a write changes the time that the kernel keeps, whether it waits or a setuid bit has it sent at once (A42)',
  async (t, guest) => {
    const init = { addFlags: ['WRITEBACK_CACHE', 'HANDLE_KILLPRIV_V2'] } as const;
    await using fuse = await mountWritebackCache(guest, { allowOther: true, init });
    await using root = await guest.client();
    for (const [mode, sent] of [
      [0o666, []],
      [0o4666, ['WRITE']],
    ] as const) {
      const name = mode.toString(8);
      await oldFile(root, fuse, name, mode);
      await using client = await guest.client();
      const fd = await client.open({ path: fuse.file(name), flags: 'O_RDWR' });
      await client.setCredentials({ uid: 4000, gid: 4000 });
      const mtime = async (): Promise<number> =>
        (await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).mtimeNs;
      t.is(await mtime(), LONG_AGO_NS, `${name}: before`);
      const after = await fuse.position();
      await client.pwrite({ fd, data: 'new', offset: 0 });
      t.deepEqual(await fuse.opcodes({ opcode: 'WRITE', after }), [...sent], `${name}: what is sent at once`);
      t.true((await mtime()) > LONG_AGO_NS, `${name}: the write is the last change that the kernel knows of`);
      await client.close({ fd });
    }
  },
);

guestTest(
  'where the kernel keeps the times copy_file_range changes that of the target, and not that of the source (A24)',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    for (const name of ['from', 'to']) await oldFile(client, fuse, name, 0o644);
    const fdIn = await client.open({ path: fuse.file('from'), flags: 'O_RDWR' });
    const fdOut = await client.open({ path: fuse.file('to'), flags: 'O_RDWR' });
    const mtime = async (fd: number): Promise<number> =>
      (await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).mtimeNs;
    t.is(await client.copy_file_range({ fdIn, offIn: 0, fdOut, offOut: PAGE, length: PAGE }), PAGE);
    t.is(await mtime(fdIn), LONG_AGO_NS, 'the source is as it was');
    t.true((await mtime(fdOut)) > LONG_AGO_NS, 'the target has changed');
    await client.fsync({ fd: fdIn });
    const told = await fuse.opcodes({ opcode: 'SETATTR', path: '/from' });
    t.deepEqual(told, [], 'the server is told no new time of the source');
    for (const fd of [fdIn, fdOut]) await client.close({ fd });
  },
);

guestTest(
  'after stores were written back the server is asked for the times and the blocks of the file, not for its size (A40)',
  async (t, guest) => {
    const options = { passthrough: 'off', attrValidS: LONG, entryValidS: LONG } as const;
    await using fuse = await guest.mountFuse(options);
    await using client = await guest.client();
    const path = fuse.file('f');
    await client.writeFile({ path: fuse.backing('f'), data: pattern(PAGE) });
    const fd = await client.open({ path, flags: 'O_RDWR' });
    const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
    for (const [attribute, asked] of [
      ['size', []],
      ['mtime', ['GETATTR']],
      ['blocks', ['GETATTR']],
    ] as const) {
      await client.stat({ path, flags: 'AT_STATX_FORCE_SYNC' });
      const stat = async (): Promise<string[]> => {
        const after = await fuse.position();
        await client.stat({ path, mask: STATX[attribute] });
        return fuse.opcodes({ opcode: 'GETATTR', after });
      };
      t.deepEqual(await stat(), [], `${attribute} before`);
      await client.mwrite({ map, offset: 0, data: pattern(100, 5) });
      await client.msync({ map, flags: 'MS_SYNC' });
      t.deepEqual(await stat(), [...asked], `${attribute} after a store was written back`);
    }
    await client.munmap({ map });
    await client.close({ fd });
  },
);
