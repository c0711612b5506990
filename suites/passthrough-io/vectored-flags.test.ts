import { bytes, firstDifference, pattern, text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Flags that change when a write is durable or whether it may wait, never what it does. */
const HARMLESS = ['', 'RWF_HIPRI', 'RWF_DSYNC', 'RWF_SYNC', 'RWF_DSYNC|RWF_APPEND'];

guestTest('preadv2 and pwritev2 take the flags that a native file takes (A6)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const data = pattern(8192);
  for (const [index, flags] of HARMLESS.entries()) {
    const name = `f${index}`;
    await client.writeFile({ path: fuse.backing(name), data });
    const fd = await client.open({ path: fuse.file(name), flags: 'O_RDWR' });
    const chunks = [bytes('one '), bytes('two')];
    const written = await client.pwritev2({ fd, chunks, offset: 8185, flags });
    t.is(written, 7, `pwritev2 with ${flags}`);
    const expected = new Uint8Array(8192 + (flags.includes('APPEND') ? 7 : 0));
    expected.set(data);
    expected.set(bytes('one two'), expected.length - 7);
    const back = await client.readFile({ path: fuse.backing(name) });
    t.is(firstDifference(back, expected), undefined, `contents after ${flags}`);
    await client.close({ fd });
  }
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a vector is filled over its parts and stops at the end of the file (A6)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });

  t.is(text(await client.preadv2({ fd, counts: [2, 0, 3, 100], offset: 1 })), '123456789');
  t.is((await client.preadv2({ fd, counts: [4, 4], offset: 10 })).length, 0);
  // -1: at the position, which moves.
  t.is(text(await client.preadv2({ fd, counts: [3, 1] })), '0123');
  t.is(text(await client.preadv2({ fd, counts: [2] })), '45');
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'RWF_NOWAIT is not promised by FUSE files, whatever the backing file promises (A6)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });

    t.is(await client.errno.preadv2({ fd, counts: [10], offset: 0, flags: 'RWF_NOWAIT' }), 'EOPNOTSUPP');
    const chunks = [bytes('x')];
    t.is(await client.errno.pwritev2({ fd, chunks, offset: 0, flags: 'RWF_NOWAIT' }), 'EOPNOTSUPP');
    t.is(text(await client.readFile({ path: fuse.backing('f') })), '0123456789');
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'RWF_APPEND and RWF_NOAPPEND together are refused before anything is written (A6)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });

    const native = await client.open({ path: fuse.backing('native'), flags: 'O_RDWR|O_CREAT' });
    const both = { chunks: [bytes('x')], offset: 0, flags: 'RWF_APPEND|RWF_NOAPPEND' };
    // EINVAL where both are known, EOPNOTSUPP where one is not.
    const refused = await client.errno.pwritev2({ fd: native, ...both });
    t.true(['EINVAL', 'EOPNOTSUPP'].includes(refused), refused);
    t.is(await client.errno.pwritev2({ fd, ...both }), refused);
    await client.close({ fd: native });
    t.is(text(await client.readFile({ path: fuse.backing('f') })), '0123456789');
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);
