import { bytes, text } from '../lib/bytes.ts';
import { ATTR, ATTR_OUT, u32, u64 } from '../lib/entry-answer.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/** What the size and the times that a server tells do to what the kernel keeps. */

const PAGE = 4096;
const LONG = 100_000;

guestTest(
  'with AUTO_INVAL_DATA pages go when the time of the last change is another by a nanosecond, and not by the same time',
  async (t, guest) => {
    const init = { addFlags: ['AUTO_INVAL_DATA'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: 0, init });
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
    await using client = await guest.client();
    const path = fuse.backing('f');
    const changed = async (data: string, mtimeNs: number): Promise<void> => {
      await client.writeFile({ path, data, flags: 'O_RDWR|O_CREAT' });
      await client.utimens({ path, atimeNs: null, mtimeNs });
    };
    await changed('first', 1_000_000_001);
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    // Not at the end, where a read asks for more.
    const read = async (): Promise<string> => text(await client.pread({ fd, count: 3, offset: 0 }));
    t.is(await read(), 'fir');
    await changed('other', 1_000_000_001);
    t.is(await read(), 'fir', 'the same time: what is in the cache counts');
    await changed('third', 1_000_000_002);
    t.is(await read(), 'thi', 'a nanosecond later: the pages are read anew');
    await changed('early', 1_000_000_000);
    t.is(await read(), 'ear', 'two nanoseconds before: the pages are read anew');
    await client.close({ fd });
  },
);

guestTest(
  'with EXPLICIT_INVAL_DATA what the server has cut off is cut off in the cache, and the rest of it stays',
  async (t, guest) => {
    const init = { addFlags: ['EXPLICIT_INVAL_DATA'], dropFlags: ['AUTO_INVAL_DATA'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG, init });
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
    await using client = await guest.client();
    const path = fuse.backing('f');
    await client.writeFile({ path, data: 'o'.repeat(3 * PAGE) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await client.pread({ fd, count: 3 * PAGE, offset: 0 });
    const size = async (): Promise<number> => (await client.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' })).size;
    await client.truncate({ path, length: PAGE + 4 });
    t.is(await size(), PAGE + 4, 'shorter');
    await client.writeFile({ path, data: 'n'.repeat(3 * PAGE), flags: 'O_WRONLY' });
    t.is(await size(), 3 * PAGE, 'and longer again');
    const at = async (offset: number, count: number): Promise<string> =>
      text(await client.pread({ fd, count, offset }));
    t.is(await at(0, 2), 'oo', 'a page that stayed all the time is in the cache');
    t.is(await at(PAGE, 6), 'oooo\0\0', 'what was cut off of a page is gone');
    t.is(await at(2 * PAGE, 2), 'nn', 'a page that was cut off is read anew');
    // All else that makes a file longer looks at the cache itself.
    await client.truncate({ path, length: 4 });
    t.is(await size(), 4, 'shorter once more');
    t.is(
      await fuse.notify({ store: '/f', offset: 2 * PAGE, data: bytes('n') }),
      'ok',
      'the server stores a byte',
    );
    t.is(await at(2, 4), 'oo\0\0', 'what was cut off is not there when data are stored behind it');
    await client.close({ fd });
  },
);

/** Offset of mtime in `fuse_attr`, and of its nanoseconds (include/uapi/linux/fuse.h). */
const [MTIME, MTIME_NS] = [32, 52];

guestTest(
  'where a symbolic link leads is kept though its server tells another size or time of it (CACHE_SYMLINKS)',
  async (t, guest) => {
    const init = { addFlags: ['CACHE_SYMLINKS', 'AUTO_INVAL_DATA'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', entryValidS: LONG, init });
    await using client = await guest.client();
    await client.symlink({ target: 'over/there', path: fuse.backing('s') });
    const path = fuse.file('s');
    t.is(await client.readlink({ path }), 'over/there');
    const [first] = await fuse.requests('READLINK');
    for (const [what, at, bytes] of [
      ['mtime', MTIME, u64(7n)],
      ['nanoseconds of it', MTIME_NS, u32(8)],
      ['size, smaller', ATTR.size, u64(4n)],
      ['size, larger', ATTR.size, u64(100n)],
    ] as const) {
      const action = { do: 'patch', at: ATTR_OUT.attr + at, bytes } as const;
      const takeBack = await fuse.rule({ match: { opcode: 'GETATTR' }, action });
      const { size, mtimeNs } = await client.stat({ path, flags: 'AT_SYMLINK_NOFOLLOW|AT_STATX_FORCE_SYNC' });
      if (at === ATTR.size) t.is(size, new DataView(bytes.buffer).getUint32(0, true), `another ${what}`);
      if (at === MTIME) t.is(Math.floor(mtimeNs / 1e9), 7, `another ${what}`);
      t.is(await client.readlink({ path }), 'over/there', `another ${what}: where it leads`);
      const asked = await fuse.opcodes({ opcode: 'READLINK', after: first?.seq ?? 0 });
      t.deepEqual(asked, [], `another ${what}: the server is not asked again where it leads`);
      await takeBack();
    }
  },
);

/** mknod(2) */
const FIFO = 0o010_644;

guestTest(
  'with the writeback cache the size and the times of what is no regular file are the server’s',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    await client.mkdir({ path: fuse.backing('directory') });
    await client.mknod({ path: fuse.backing('fifo'), mode: FIFO });
    const told = async (path: string, flags = ''): Promise<number[]> => {
      const { size, mtimeNs, ctimeNs } = await client.stat({ path, flags });
      return [size, mtimeNs, ctimeNs];
    };
    for (const name of ['directory', 'fifo']) {
      await told(fuse.file(name));
      // Behind FUSE.
      await client.utimens({ path: fuse.backing(name), atimeNs: 1e9, mtimeNs: 2_000_000_003 });
      const now = await told(fuse.backing(name));
      t.deepEqual(await told(fuse.file(name)), now, `${name}: size, mtime and ctime, asked of the server`);
      t.deepEqual(await told(fuse.file(name), 'AT_STATX_DONT_SYNC'), now, `${name}: as they are kept`);
    }
  },
);

/** Longer, shorter and as long as before, each written over the one before behind FUSE. */
const GENERATIONS = ['NEW contents, and more of them', 'short', 'equal'];

guestTest(
  'the size that the answer to a chmod tells is that of the file, and pages of a file of another size are read anew',
  async (t, guest) => {
    const init = { dropFlags: ['AUTO_INVAL_DATA'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG, init });
    await using client = await guest.client();
    let before = 'old contents';
    await client.writeFile({ path: fuse.backing('f'), data: before });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    // Not at the end, where a read asks for more.
    const read = async (): Promise<string> => text(await client.pread({ fd, count: 3, offset: 0 }));
    for (const [nth, data] of GENERATIONS.entries()) {
      const what = `from ${before.length} to ${data.length} bytes`;
      t.is(await read(), before.slice(0, 3), `${what}: before`);
      await client.writeFile({ path: fuse.backing('f'), data });
      t.is(await read(), before.slice(0, 3), `${what}: of the cache`);
      await client.fchmod({ fd, mode: 0o600 + nth });
      t.is((await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).size, data.length, `${what}: the size`);
      // What is as long as before may be the same.
      const now = data.length === before.length ? before : data;
      t.is(await read(), now.slice(0, 3), `${what}: after the chmod`);
      before = now;
    }
    await client.close({ fd });
  },
);

guestTest(
  'with the writeback cache the size that the answer to a chmod tells is not that of the file, which the kernel keeps',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest, { attrValidS: LONG });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await client.fstat({ fd });
    for (const data of ['contents, and more', 'con']) {
      await client.writeFile({ path: fuse.backing('f'), data });
      const after = await fuse.position();
      await client.fchmod({ fd, mode: 0o600 + data.length });
      t.deepEqual(await fuse.opcodes({ opcode: 'SETATTR', after }), ['SETATTR']);
      const { size, mode } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
      t.is(size, 8, `the server has ${data.length} bytes`);
      t.is(mode & 0o7777, 0o600 + data.length, 'the mode is the one that was set');
    }
    await client.close({ fd });
  },
);

/** When the file was modified, as `utimens` sets it; its ctime is that of now then. */
const LONG_AGO_NS = 1_000_000_001_000_000_256;

guestTest(
  'with the writeback cache a file has the ctime that the server told first, which is not its mtime',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await client.utimens({ path: fuse.backing('f'), atimeNs: null, mtimeNs: LONG_AGO_NS });
    const told = async (path: string, flags = ''): Promise<Record<'mtimeNs' | 'ctimeNs', number>> => {
      const { mtimeNs, ctimeNs } = await client.stat({ path, flags });
      return { mtimeNs, ctimeNs };
    };
    const first = await told(fuse.backing('f'));
    t.is(first.mtimeNs, LONG_AGO_NS);
    t.true(first.ctimeNs > LONG_AGO_NS + 1e9, 'they are far apart');
    const path = fuse.file('f');
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    t.deepEqual(await told(path, 'AT_STATX_DONT_SYNC'), first, 'when it has been looked up');
    t.deepEqual(await told(path, 'AT_STATX_FORCE_SYNC'), first, 'when the server is asked once more');
    // Behind FUSE.
    await client.chmod({ path: fuse.backing('f'), mode: 0o640 });
    await client.utimens({ path: fuse.backing('f'), atimeNs: null, mtimeNs: LONG_AGO_NS + 5e9 });
    for (const flags of ['AT_STATX_FORCE_SYNC', 'AT_STATX_DONT_SYNC']) {
      t.deepEqual(await told(path, flags), first, `when the server has other times, ${flags}`);
    }
    await client.close({ fd });
  },
);
