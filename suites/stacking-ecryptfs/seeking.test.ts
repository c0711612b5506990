import { bytes, pattern, text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Positions in a file on ecryptfs: its end is that of the contents, not that of the lower file. */

const SIZE = 5000;
/** More pages than before. */
const LONGER = 20_000;

guestTest(
  'seeking on ecryptfs counts from the end of the contents, and a file is data up to it',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await client.writeFile({ path: ecryptfs.file('f'), data: pattern(SIZE) });
    const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
    const seek = (whence: 'SEEK_END' | 'SEEK_CUR' | 'SEEK_DATA' | 'SEEK_HOLE', offset: number) =>
      client.lseek({ fd, offset, whence });
    t.is(await seek('SEEK_END', 0), SIZE, 'the end');
    t.is(await seek('SEEK_HOLE', 0), SIZE, 'the first hole');
    t.is(await seek('SEEK_DATA', SIZE - 1), SIZE - 1, 'the last byte');
    for (const whence of ['SEEK_DATA', 'SEEK_HOLE'] as const) {
      t.is(await client.errno.lseek({ fd, offset: SIZE, whence }), 'ENXIO', `${whence} at the end`);
    }
    t.is(await client.errno.lseek({ fd, offset: -SIZE - 1, whence: 'SEEK_END' }), 'EINVAL', 'too far back');
    t.is(await seek('SEEK_END', -10), SIZE - 10);
    t.deepEqual(await client.read({ fd, count: 100 }), pattern(SIZE).subarray(-10), 'read from there');
    t.is(await seek('SEEK_CUR', 0), SIZE, 'where the read ended');

    await client.ftruncate({ fd, length: LONGER });
    t.is(await seek('SEEK_END', 0), LONGER, 'the end of a file made longer');
    await client.write({ fd, data: 'more' });
    t.is(await seek('SEEK_CUR', 0), LONGER + 4, 'where a write ended');
    t.is(text(await client.pread({ fd, count: 100, offset: LONGER })), 'more');
    t.is(await seek('SEEK_END', 0), LONGER + 4);
    await client.close({ fd });
  },
);

/** More than a file on ext4 has blocks for. */
const TOO_FAR = 2 ** 45;

guestTest('a file on ecryptfs has no positions that one below cannot have', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
  for (const path of [`${lower}/f`, ecryptfs.file('f')]) {
    const fd = await client.open({ path, flags: 'O_RDWR' });
    const far = { fd, offset: TOO_FAR, whence: 'SEEK_SET' } as const;
    t.is(await client.errno.lseek(far), 'EINVAL', `${path}: a position`);
    const data = bytes('x');
    t.is(await client.errno.pwrite({ fd, data, offset: TOO_FAR }), 'EFBIG', `${path}: a write`);
    await client.close({ fd });
  }
});
