import { text } from '../lib/bytes.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What FUSE_NOTIFY_INVAL_INODE takes out of the cache: where its range ends, and of what is no file. */

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
