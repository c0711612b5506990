import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';
import { allOf } from '../lib/all-of.ts';

/** Numbers of names from several lower layers: one and the same by stat, in the list of the directory, and in /proc. */

/** The first lower layer has the directories too, so that they are merged. */
const FIRST = ['d/', 'd/of-first', 'twin'];
const SECOND = ['d/', 'd/of-second', 'd/sub/', 'd/sub/x', 'f', 'copied', 'd/copied'];
const COPIED = ['copied', 'd/copied'];

/** Where the first lower layer is; the second and the upper one are on ext4. What xino is for is the tmpfs. */
const PLACES = [
  ['ext4', undefined],
  ['tmpfs', 'xino=on'],
] as const;

async function twoLower(guest: TestGuest, client: Client, place: 'ext4' | 'tmpfs', options?: string) {
  const [first, at] = [await guest.directory(place, 'first'), await guest.directory('ext4', 'layers')];
  const [second, upper, work] = [`${at}/second`, `${at}/upper`, `${at}/work`];
  for (const path of [second, upper, work]) await client.mkdir({ path });
  await fill(client, first, FIRST);
  await client.link({ from: `${first}/twin`, to: `${first}/twin2` });
  await fill(client, second, SECOND);
  const mount = () => guest.mountOverlay({ lower: [first, second], upper, work, options }, client);
  return { second, upper, mount };
}

/** By path: the number that stat tells, the one that the directory lists, and that of the inode itself. */
async function numbersOf(client: Client, overlay: StackedMount) {
  const tree = await client.tree({ path: overlay.path });
  const fds = await allOf(
    client,
    tree.map(({ path }) => ({ call: 'open', args: { path: overlay.file(path), flags: 'O_RDONLY' } })),
  );
  const infos = await allOf(
    client,
    fds.map((fd) => ({ call: 'readFile', args: { path: `/proc/${client.pid}/fdinfo/${String(fd)}` } })),
  );
  await allOf(
    client,
    fds.map((fd) => ({ call: 'close', args: { fd } })),
  );
  const found = new Map<string, { stat: string; listed: string | undefined; inner: string | undefined }>();
  for (const [nth, { path, entry, ino }] of tree.entries()) {
    const info = text(infos[nth] as Uint8Array);
    found.set(path, { stat: ino, listed: entry?.ino, inner: /^ino:\t(\d+)$/m.exec(info)?.[1] });
  }
  return found;
}

for (const [place, options] of PLACES) {
  guestTest(
    `names of several lower layers, the first on ${place}, are listed with the numbers that stat tells, and these last`,
    async (t, guest) => {
      await using client = await guest.client();
      const { second, upper, mount } = await twoLower(guest, client, place, options);
      const told: Map<string, string>[] = [];
      for (const when of ['at first', 'copied up', 'mounted again']) {
        await using overlay = await mount();
        if (when === 'copied up') {
          for (const name of COPIED) {
            await client.chmod({ path: overlay.file(name), mode: 0o600 });
            const { ino } = await client.stat({ path: `${second}/${name}` });
            t.not((await client.stat({ path: `${upper}/${name}` })).ino, ino, `${name} is another file now`);
          }
        }
        const numbers = await numbersOf(client, overlay);
        t.is(numbers.size, 1 + 10, [...numbers.keys()].join(' '));
        for (const [path, { stat, listed, inner }] of numbers) {
          if (path !== '.') t.is(listed, stat, `${when}: ${path} in the list of its directory`);
          t.is(inner, stat, `${when}: ${path} in /proc`);
        }
        told.push(new Map([...numbers].map(([path, { stat }]) => [path, stat])));
      }
      const [before, copied, again] = told;
      t.deepEqual(copied, before, 'copied up: as at first');
      t.deepEqual(again, before, 'mounted again: as at first');
    },
  );
}
