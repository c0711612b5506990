import { concat, text } from '../lib/bytes.ts';
import { u64 } from '../lib/entry-answer.ts';
import { NotifyCode, OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { answerRequest } from '../lib/raw-server.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/** What FUSE_NOTIFY_INVAL_INODE takes out of the cache: where its range ends, of what is no file, and what is in use. */

const PAGE = 4096;
const LONG = 100_000;

/** Ranges, and which of five pages are old (o) or new (n) after a notification about them. */
const RANGES: readonly (readonly [what: string, offset: number, length: number, seen: string])[] = [
  ['one page', PAGE, PAGE, 'onooo'],
  ['two pages', 2 * PAGE, 2 * PAGE, 'oonno'],
  ['one byte, the last of a page', 2 * PAGE - 1, 1, 'onooo'],
  ['one byte, the first of a page', 2 * PAGE, 1, 'oonoo'],
  ['two bytes of two pages', 2 * PAGE - 1, 2, 'onnoo'],
  ['no more than the beginning', 0, PAGE, 'noooo'],
  ['a range behind the end of the file', 5 * PAGE, PAGE, 'ooooo'],
  ['a negative length, which is up to the end of the file', 2 * PAGE, -1, 'oonnn'],
];

guestTest('INVAL_INODE of a range leaves the page before it and the page behind it', async (t, guest) => {
  const init = { dropFlags: ['AUTO_INVAL_DATA'] } as const;
  await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG, entryValidS: LONG, init });
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
  await using client = await guest.client();
  const path = fuse.backing('f');
  await client.writeFile({ path, data: new Uint8Array(5 * PAGE) });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  const contents = (letter: string) =>
    client.writeFile({ path, data: letter.repeat(5 * PAGE), flags: 'O_WRONLY' });
  for (const [what, offset, length, seen] of RANGES) {
    await contents('o');
    t.is(await fuse.notify({ inode: '/f', offset: 0, length: 0 }), 'ok');
    await client.pread({ fd, count: 5 * PAGE, offset: 0 });
    await contents('n');
    t.is(await fuse.notify({ inode: '/f', offset, length }), 'ok');
    let first = '';
    for (let page = 0; page < 5; page += 1)
      first += text(await client.pread({ fd, count: 1, offset: page * PAGE }));
    t.is(first, seen, `${what}: the pages that are read anew`);
  }
  await client.close({ fd });
});

guestTest(
  'INVAL_INODE takes away what is kept of a symbolic link and of the names of a directory',
  async (t, guest) => {
    const init = { addFlags: ['CACHE_SYMLINKS'], dropFlags: ['READDIRPLUS_AUTO'] } as const;
    await using fuse = await guest.mountFuse({
      passthrough: 'off',
      attrValidS: LONG,
      entryValidS: LONG,
      init,
    });
    await fuse.answerOpen('OPENDIR', { openFlags: OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE });
    await using client = await guest.client();
    await client.mkdir({ path: fuse.backing('d') });
    await client.writeFile({ path: fuse.backing('d/a'), data: '' });
    await client.symlink({ target: 'here', path: fuse.backing('s') });
    const link = () => client.readlink({ path: fuse.file('s') });
    const names = () => client.readdir({ path: fuse.file('d') });
    t.is(await link(), 'here');
    t.deepEqual(await names(), ['a']);

    // Behind FUSE: the link leads elsewhere, of the same length, and the directory has another name.
    await client.unlink({ path: fuse.backing('s') });
    await client.symlink({ target: 'away', path: fuse.backing('s') });
    await client.rename({ from: fuse.backing('d/a'), to: fuse.backing('d/b') });
    t.is(await link(), 'here', 'the link is kept');
    t.deepEqual(await names(), ['a'], 'the names are kept');

    for (const inode of ['/s', '/d']) t.is(await fuse.notify({ inode, offset: -1, length: 0 }), 'ok');
    t.is(await link(), 'here', 'attributes alone: the link is kept');
    for (const inode of ['/s', '/d']) t.is(await fuse.notify({ inode, offset: 0, length: 0 }), 'ok');
    t.is(await link(), 'away', 'the link is asked for again');
    t.deepEqual(await names(), ['b'], 'the names are asked for again');
  },
);

guestTest(
  'pages that are mapped are read anew after INVAL_INODE, and after attributes that say that they are old',
  async (t, guest) => {
    const init = { addFlags: ['AUTO_INVAL_DATA'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG, init });
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
    await using client = await guest.client();
    const path = fuse.backing('f');
    const changed = async (letter: string, mtimeNs: number): Promise<void> => {
      await client.writeFile({ path, data: letter.repeat(2 * PAGE), flags: 'O_WRONLY|O_CREAT' });
      await client.utimens({ path, atimeNs: null, mtimeNs });
    };
    await changed('a', 1e9);
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    const map = await client.mmap({ fd, length: 2 * PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
    const seen = async (): Promise<string> => {
      const pages = [0, PAGE].map((offset) => client.mread({ map, offset, length: 1 }));
      return (await Promise.all(pages)).map((bytes) => text(bytes)).join('');
    };
    t.is(await seen(), 'aa');
    await changed('b', 2e9);
    t.is(await seen(), 'aa', 'nobody has said anything');
    t.is(await fuse.notify({ inode: '/f', offset: PAGE, length: PAGE }), 'ok');
    t.is(await seen(), 'ab', 'INVAL_INODE of the second page');
    await client.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' });
    t.is(await seen(), 'bb', 'attributes with another mtime');
    await client.munmap({ map });
    await client.close({ fd });
  },
);

guestTest(
  'what waits in the writeback cache is at the server before INVAL_INODE takes it away',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'o'.repeat(3 * PAGE) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const first = async (): Promise<string> => {
      const pages = [0, PAGE, 2 * PAGE].map((offset) => client.pread({ fd, count: 1, offset }));
      return (await Promise.all(pages)).map((bytes) => text(bytes)).join('');
    };
    await client.pwrite({ fd, data: 'w'.repeat(3 * PAGE), offset: 0 });
    // Whoever says it waits for the answer to a WRITE, which is the server's to give.
    await using speaker = await guest.client();
    const device = await fuse.server.lendDevice(speaker);
    const nodeid = u64(BigInt(await fuse.nodeid('/f')));
    const say = async (offset: number): Promise<string> => {
      const body = concat(nodeid, u64(BigInt(offset)), u64(BigInt(PAGE)));
      return answerRequest(speaker, device, { unique: 0n, error: NotifyCode.INVAL_INODE, body });
    };
    t.is(await say(PAGE), 'ok');
    const stored = text(await client.readFile({ path: fuse.backing('f') }));
    t.is(stored[PAGE], 'w', 'the page of the range is at the server');
    t.is(await first(), 'www', 'nothing is lost, in the range or beside it');
    await client.fsync({ fd });
    await client.writeFile({ path: fuse.backing('f'), data: 'n'.repeat(3 * PAGE), flags: 'O_WRONLY' });
    t.is(await first(), 'www', 'all of it is kept');
    t.is(await say(0), 'ok');
    t.is(await first(), 'nww', 'the page of the range is read anew');
    await client.close({ fd });
  },
);
