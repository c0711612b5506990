import { firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';

const PAGE = 4096;

guestTest('O_DIRECT moves aligned data between memory and the backing file (A10)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: 3600 });
  await using client = await guest.client();
  const data = pattern(4 * PAGE);
  await client.writeFile({ path: fuse.backing('f'), data });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_DIRECT' });
  const buffered = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });

  const page = await client.pread({ fd, count: PAGE, offset: 2 * PAGE });
  t.is(firstDifference(page, data.subarray(2 * PAGE, 3 * PAGE)), undefined);
  const added = pattern(2 * PAGE, 5);
  t.is(await client.pwrite({ fd, data: added, offset: 3 * PAGE }), 2 * PAGE);
  t.is((await client.fstat({ fd })).size, 5 * PAGE);
  const seen = await client.pread({ fd: buffered, count: 2 * PAGE, offset: 3 * PAGE });
  t.is(firstDifference(seen, added), undefined, 'a buffered descriptor sees it at once');
  await client.close({ fd });
  await client.close({ fd: buffered });
  const back = await client.readFile({ path: fuse.backing('f') });
  t.is(firstDifference(back.subarray(3 * PAGE), added), undefined, 'and so does the backing path');
  t.is(back.length, 5 * PAGE);
  t.deepEqual(await fuse.dataRequests(), []);
});

/** Alignment of memory, of the position, of the length: each wrong in turn. */
const TRANSFERS = [
  { misalign: 0, offset: 0, count: PAGE },
  { misalign: 1, offset: 0, count: PAGE },
  { misalign: 256, offset: 0, count: PAGE },
  { misalign: 512, offset: 512, count: 512 },
  { misalign: 0, offset: 100, count: PAGE },
  { misalign: 0, offset: 0, count: 100 },
  { misalign: 0, offset: PAGE, count: PAGE + 1 },
];

async function outcomes(client: Client, path: string): Promise<string[]> {
  const results: string[] = [];
  const fd = await client.open({ path, flags: 'O_RDWR|O_DIRECT' });
  for (const { misalign, offset, count } of TRANSFERS) {
    const read = await client.errno.pread({ fd, misalign, offset, count });
    const write = await client.errno.pwrite({ fd, misalign, offset, data: pattern(count) });
    results.push(`memory +${misalign}, ${count} bytes at ${offset}: read ${read}, write ${write}`);
  }
  await client.close({ fd });
  return results;
}

for (const backing of ['ext4', 'tmpfs'] as const) {
  guestTest(`misaligned O_DIRECT fails as it does on ${backing} itself (A11)`, async (t, guest) => {
    await using fuse = await guest.mountFuse({ root: backing });
    await using client = await guest.client();
    for (const name of ['f', 'native']) {
      await client.writeFile({ path: fuse.backing(name), data: pattern(4 * PAGE) });
    }

    const seen = await outcomes(client, fuse.file('f'));
    t.deepEqual(await fuse.dataRequests(), []);
    if (!guest.expected.heedsDirect) {
      // The server has not opened its file with O_DIRECT, and that is what counts.
      t.deepEqual(
        seen.filter((line) => !line.endsWith('read ok, write ok')),
        [],
      );
      return;
    }
    t.deepEqual(seen, await outcomes(client, fuse.backing('native')));
    const [through, native] = [fuse.backing('f'), fuse.backing('native')];
    const contents = await client.readFile({ path: through });
    t.is(firstDifference(contents, await client.readFile({ path: native })), undefined);
  });
}
