import { concat, firstDifference } from '../lib/bytes.ts';
import { u32, u64 } from '../lib/entry-answer.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Data that the server stores (FUSE_NOTIFY_STORE) in a part of what is cached, and in what is no file of data. */

const PAGE = 4096;
const LONG = 100_000;
const CACHED = {
  passthrough: 'off',
  attrValidS: LONG,
  entryValidS: LONG,
  init: { dropFlags: ['AUTO_INVAL_DATA'] },
} as const;

guestTest(
  'data stored in a part of cached pages leave the rest of them as it was, on either side',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(CACHED);
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
    await using client = await guest.client();
    const expected = new Uint8Array(3 * PAGE).fill(0x6f);
    await client.writeFile({ path: fuse.backing('f'), data: expected });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    await client.pread({ fd, count: expected.length, offset: 0 });
    await client.fstat({ fd });
    const after = await fuse.position();
    for (const [what, offset, length] of [
      ['a few bytes within a page', 100, 10],
      ['the beginning of a page', PAGE, 10],
      ['the end of a page', 3 * PAGE - 10, 10],
      ['from within a page into the next', 2 * PAGE - 20, 60],
    ] as const) {
      const data = new Uint8Array(length).fill(0x6e);
      t.is(await fuse.notify({ store: '/f', offset, data }), 'ok', what);
      expected.set(data, offset);
      const cached = await client.pread({ fd, count: expected.length, offset: 0 });
      t.is(firstDifference(cached, expected), undefined, what);
    }
    t.deepEqual(await fuse.opcodes({ opcode: 'READ', after }), [], 'all of it from the cache');
    await client.close({ fd });
  },
);

guestTest('nothing is stored in what is no regular file, and nothing retrieved from it', async (t, guest) => {
  await using fuse = await guest.mountFuse(CACHED);
  await using client = await guest.client();
  await client.symlink({ target: 'f', path: fuse.backing('a symbolic link') });
  await client.mknod({ path: fuse.backing('a FIFO'), mode: 0o010_644 });
  await client.mknod({ path: fuse.backing('a socket'), mode: 0o140_644 });
  await client.mkdir({ path: fuse.backing('a directory') });
  await client.writeFile({ path: fuse.backing('a file'), data: 'contents' });
  for (const [name, errno] of [
    ['a file', 'ok'],
    ['a symbolic link', 'EINVAL'],
    ['a FIFO', 'EINVAL'],
    ['a socket', 'EINVAL'],
    ['a directory', 'EINVAL'],
  ] as const) {
    await client.lstat({ path: fuse.file(name) });
    const node = u64(BigInt(await fuse.nodeid(`/${name}`)));
    const store = concat(node, u64(0n), u32(4), u32(0), new Uint8Array(4));
    t.is(await fuse.notify({ code: 'STORE', body: store }), errno, `STORE in ${name}`);
    const after = await fuse.position();
    const retrieve = concat(u64(7n), node, u64(0n), u32(4), u32(0));
    t.is(await fuse.notify({ code: 'RETRIEVE', body: retrieve }), errno, `RETRIEVE from ${name}`);
    if (errno === 'ok') await fuse.waitFor({ opcode: 'NOTIFY_REPLY', after }, 'arrived');
  }
  t.is((await fuse.requests('NOTIFY_REPLY')).length, 1, 'what was sent to the server');
});
