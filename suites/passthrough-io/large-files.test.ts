import { open32, needs32Bit } from '../lib/calls-32.ts';
import { guestTest } from '../lib/guest-test.ts';

/** A file that is larger than a 32-bit program's offsets, which has to say that it can do with it. */

const LARGE = 3 * 2 ** 30;
/** asm-generic/fcntl.h */
const [O_RDONLY, O_LARGEFILE] = [0, 0o100_000];
const EOVERFLOW = 75;

for (const passthrough of ['off', 'auto'] as const) {
  guestTest(
    `a 32-bit program opens a file of 3 GiB only with O_LARGEFILE, with passthrough ${passthrough}`,
    async (t, guest) => {
      await needs32Bit(guest);
      await using fuse = await guest.mountFuse({ passthrough });
      await using client = await guest.client();
      for (const name of ['small', 'large']) await client.writeFile({ path: fuse.backing(name), data: 'x' });
      await client.truncate({ path: fuse.backing('large'), length: LARGE });
      const opened = async (name: string, flags: number): Promise<number> =>
        open32(guest, client, fuse.file(name), flags);
      t.is(await opened('large', O_RDONLY), -EOVERFLOW, 'a large file without it');
      t.deepEqual(await fuse.requests('OPEN'), [], 'the server is not asked');
      t.true((await opened('large', O_LARGEFILE)) >= 0, 'a large file with it');
      t.true((await opened('small', O_RDONLY)) >= 0, 'a small file without it');
    },
  );
}
