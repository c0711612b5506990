import { concat, firstDifference, pattern } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

const PAGE = 4096;

for (const flags of ['O_RDWR', 'O_RDWR|O_DIRECT']) {
  guestTest(`AIO on ${flags} completes with the count and the data (A25)`, async (t, guest) => {
    await using fuse = await guest.mountFuse({ attrValidS: 3600 });
    await using client = await guest.client();
    const data = pattern(2 * PAGE);
    await client.writeFile({ path: fuse.backing('f'), data });
    const fd = await client.open({ path: fuse.file('f'), flags });
    const added = pattern(2 * PAGE, 7);

    const written = await client.aio({
      operations: [
        { op: 'pwrite', fd, data: added.subarray(0, PAGE), offset: 2 * PAGE },
        { op: 'pwrite', fd, data: added.subarray(PAGE), offset: 3 * PAGE },
      ],
    });
    t.deepEqual(
      written.map(({ result }) => result),
      [PAGE, PAGE],
    );
    t.is((await client.fstat({ fd })).size, 4 * PAGE, 'the size is right when the write has completed');
    const expected = concat(data, added);
    const read = await client.aio({
      operations: [
        { op: 'pread', fd, count: PAGE, offset: PAGE },
        { op: 'pread', fd, count: 3 * PAGE, offset: 2 * PAGE },
        { op: 'pread', fd, count: PAGE, offset: 4 * PAGE },
      ],
    });
    t.deepEqual(
      read.map(({ result }) => result),
      [PAGE, 2 * PAGE, 0],
    );
    const back = concat(...read.map((each) => each.data ?? new Uint8Array()));
    t.is(firstDifference(back, expected.subarray(PAGE)), undefined);
    await client.close({ fd });
    t.is(firstDifference(await client.readFile({ path: fuse.backing('f') }), expected), undefined, 'backing');
    t.deepEqual(await fuse.dataRequests(), []);
  });
}

guestTest('AIO that fails completes with the error of the backing file (A25)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: pattern(2 * PAGE) });
  const outcomes = async (path: string): Promise<unknown> => {
    const fd = await client.open({ path, flags: 'O_RDWR|O_DIRECT' });
    const misaligned = [
      { op: 'pread' as const, fd, count: 100, offset: 3 },
      { op: 'pwrite' as const, fd, data: pattern(100), offset: 3 },
    ];
    const results: unknown[] = [];
    for (const operation of misaligned) {
      try {
        results.push((await client.aio({ operations: [operation] })).map(({ result }) => result));
      } catch (error) {
        results.push((error as { errno?: string }).errno);
      }
    }
    await client.close({ fd });
    return results;
  };

  t.deepEqual(await outcomes(fuse.file('f')), await outcomes(fuse.backing('f')));
  t.deepEqual(await fuse.dataRequests(), []);
});
