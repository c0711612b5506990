import { pattern } from '../lib/bytes.ts';
import type { BatchCall } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';

const HEADER_BYTES = 8192;
/** Several, for memory is not the same every time. */
const TIMES = 4;

guestTest(
  'an empty lower file gets a header of its own when it is opened, whichever file was opened before it (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const numbers = Array.from({ length: TIMES }, (_none, nth) => nth);
    {
      await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
      for (const nth of numbers)
        await client.writeFile({ path: ecryptfs.file(`f${nth}`), data: pattern(5000) });
      t.is(await ecryptfs.unmount(), 'ok');
    }
    for (const nth of numbers) await client.writeFile({ path: `${lower}/empty${nth}`, data: '' });
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    // One thread opens them, so that it gets the memory into which it has read the header before.
    const calls = numbers
      .flatMap((nth) => [`f${nth}`, `empty${nth}`])
      .flatMap((name, nth): BatchCall[] => [
        { call: 'open', args: { path: ecryptfs.file(name), flags: 'O_RDWR' } },
        { call: 'close', args: { fd: { ref: { of: 2 * nth } } } },
      ]);
    const results = await client.batch({ calls, oneThread: true });
    t.true(
      results.every((result) => 'value' in result),
      'all are opened',
    );
    for (const nth of numbers) {
      const name = `empty${nth}`;
      t.is((await client.stat({ path: ecryptfs.file(name) })).size, 0, `${name}: it is empty still`);
      t.is((await client.stat({ path: `${lower}/${name}` })).size, HEADER_BYTES, `${name}: its header below`);
    }
  },
);
