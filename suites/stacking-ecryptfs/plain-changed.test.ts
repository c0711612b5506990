import { concat, firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { memoryThatEnds } from '../lib/memory-that-ends.ts';
import { ecryptfsOptions, type StackedMount } from '../lib/stacked-mount.ts';

/** Files that ecryptfs shows as they are: what a truncation changes besides the size, and a write that ends early. */

const PAGE = 4096;

async function withPlainFiles(guest: TestGuest, client: Client, lower: string): Promise<StackedMount> {
  const options = ecryptfsOptions(await guest.ecryptfsKey(), { more: ['ecryptfs_passthrough'] });
  return guest.mount({ source: lower, type: 'ecryptfs', options }, client);
}

guestTest(
  'a truncation of a file that ecryptfs shows as it is takes the setuid bits away below',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'plain');
    const below = `${lower}/f`;
    await client.writeFile({ path: below, data: pattern(PAGE) });
    await client.chown({ path: below, uid: 1500, gid: 1500 });
    await using ecryptfs = await withPlainFiles(guest, client, lower);
    const path = ecryptfs.file('f');
    await using owner = await guest.client();
    await owner.setCredentials({ uid: 1500, gid: 1500 });
    const bits = async () => ((await client.stat({ path: below })).mode & 0o7777).toString(8);
    for (const [mode, length] of [
      [0o4755, 3000],
      [0o2755, 2000],
      [0o6755, 1000],
    ] as const) {
      await client.chmod({ path, mode });
      t.is(await bits(), mode.toString(8), 'set');
      await owner.truncate({ path, length });
      t.is(await bits(), '755', `${mode.toString(8)}, once the owner has cut the file`);
      t.is((await client.stat({ path: below })).size, length, 'size below');
    }
  },
);

guestTest(
  'a write at the end from memory that ends makes a file that ecryptfs shows as it is longer by what there was',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'plain');
    const [from, there] = [pattern(PAGE, 7), PAGE / 2];
    const lengths = [12, PAGE];
    for (const length of lengths)
      await client.writeFile({ path: `${lower}/${length}`, data: pattern(length) });
    await using ecryptfs = await withPlainFiles(guest, client, lower);
    const map = await memoryThatEnds(client, from);
    for (const length of lengths) {
      const name = String(length);
      const fd = await client.open({ path: ecryptfs.file(name), flags: 'O_RDWR|O_APPEND' });
      const written = await client.writeFrom({ fd, map, offset: PAGE - there, length: PAGE });
      t.is(written, there, `behind ${name} bytes: what there is of the memory`);
      t.is((await client.fstat({ fd })).size, length + there, `behind ${name} bytes: size`);
      await client.close({ fd });
      const stored = await client.readFile({ path: `${lower}/${name}` });
      t.is(stored.length, length + there, `behind ${name} bytes: size of the lower file`);
      const wanted = concat(pattern(length), from.subarray(PAGE - there));
      t.is(firstDifference(stored, wanted), undefined, `behind ${name} bytes: the lower file`);
    }
    await client.munmap({ map });
  },
);
