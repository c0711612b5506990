import { concat, firstDifference, pattern } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { ecryptfsOptions } from '../lib/stacked-mount.ts';

const PAGE = 4096;

const beginnings = {
  // The byte at the new end is a copy of the first one of its page: known failure 0035.
  'whatever it begins with': 0x69,
  'when it begins with a zero': 0,
};

for (const [when, first] of Object.entries(beginnings)) {
  guestTest(
    `a truncation to more of a file that ecryptfs shows as it is adds zeros to the lower one, ${when}`,
    async (t, guest) => {
      await using client = await guest.client();
      const lower = await guest.directory('ext4', 'plain');
      const data = concat(Uint8Array.of(first), pattern(100, 5));
      await client.writeFile({ path: `${lower}/f`, data });
      const options = ecryptfsOptions(await guest.ecryptfsKey(), { more: ['ecryptfs_passthrough'] });
      await using ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
      const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
      for (const length of [300, PAGE, 2 * PAGE + 10]) {
        await client.ftruncate({ fd, length });
        t.is((await client.fstat({ fd })).size, length, `${length} bytes: size`);
        const stored = await client.readFile({ path: `${lower}/f` });
        t.is(stored.length, length, `${length} bytes: size below`);
        const expected = concat(data, new Uint8Array(length - data.length));
        t.is(firstDifference(stored, expected), undefined, `${length} bytes: what is below`);
        const seen = await client.pread({ fd, count: 3 * PAGE, offset: 0 });
        t.is(firstDifference(seen, expected), undefined, `${length} bytes: what is on ecryptfs`);
      }
      await client.close({ fd });
    },
  );
}
