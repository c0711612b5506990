import { pattern } from '../lib/bytes.ts';
import { u64 } from '../lib/entry-answer.ts';
import type { FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { WRITEBACK_CACHE } from '../lib/writeback-cache.ts';

/** How long a file is, as far as the kernel knows, after the server has made it longer. */

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;
const WAYS: Readonly<Record<string, FuseOptions>> = {
  'through the cache': {},
  'with the writeback cache': { init: WRITEBACK_CACHE },
};

for (const [how, options] of Object.entries(WAYS)) {
  guestTest(
    `${how}: a file is as long at once as fallocate and copy_file_range have made it, and not longer`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG, ...options });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: pattern(PAGE) });
      await client.writeFile({ path: fuse.backing('from'), data: pattern(3 * PAGE) });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      const fdIn = await client.open({ path: fuse.file('from'), flags: 'O_RDONLY' });
      const pages = async (): Promise<number> =>
        (await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).size / PAGE;
      await client.fallocate({ fd, offset: 0, length: 6 * PAGE });
      t.is(await pages(), 6, 'fallocate');
      await client.fallocate({ fd, mode: 'FALLOC_FL_KEEP_SIZE', offset: 0, length: 9 * PAGE });
      t.is(await pages(), 6, 'fallocate that keeps the size');
      await client.fallocate({ fd, offset: PAGE, length: PAGE });
      t.is(await pages(), 6, 'fallocate within the file');
      // The server says that it has copied one page of the three.
      await fuse.rule({
        match: { opcode: ['COPY_FILE_RANGE', 'COPY_FILE_RANGE_64'] },
        action: { do: 'body', body: u64(BigInt(PAGE)) },
      });
      const copy = { fdIn, offIn: 0, fdOut: fd, offOut: 6 * PAGE, length: 3 * PAGE };
      t.is(await client.copy_file_range(copy), PAGE, 'copy_file_range says what the server says');
      t.is(await pages(), 7, 'copy_file_range of which a part was copied');
      t.is(await client.copy_file_range({ ...copy, offOut: 0 }), PAGE);
      t.is(await pages(), 7, 'copy_file_range within the file');
      await client.fallocate({ fd, offset: 8 * PAGE, length: PAGE });
      t.is(await pages(), 9, 'fallocate behind the end');
      for (const each of [fd, fdIn]) await client.close({ fd: each });
    },
  );
}
