import { firstDifference, pattern } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

const PAGE = 4096;

guestTest(
  'direct asynchronous writes over what is there complete with their counts and let the filesystem freeze (A25)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ attrValidS: 3600 });
    await using client = await guest.client();
    const before = pattern(8 * PAGE);
    await client.writeFile({ path: fuse.backing('f'), data: before });
    const native = await client.open({ path: fuse.backing('f'), flags: 'O_RDONLY' });
    await client.fsync({ fd: native });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_DIRECT' });
    const old = (await client.fstat({ fd })).mtimeNs;

    // Blocks that are allocated and written: only then are the writes really queued.
    const data = pattern(PAGE, 2);
    const operations = [1, 3, 6].map((nth) => ({ op: 'pwrite' as const, fd, data, offset: nth * PAGE }));
    const completions = await client.aio({ operations });
    t.deepEqual(
      completions.map(({ result }) => result),
      [PAGE, PAGE, PAGE],
      'each completes with its count',
    );
    const expected = Uint8Array.from(before);
    for (const { offset } of operations) expected.set(data, offset);
    const got = await client.readFile({ path: fuse.backing('f') });
    t.is(firstDifference(got, expected), undefined, 'the backing file');
    t.true((await client.fstat({ fd })).mtimeNs > old, 'the time of the last change');
    await client.close({ fd });

    // Freezing waits for the end of every write.
    const frozen = await guest.tryRun(['fsfreeze', '--freeze', fuse.backing('')], { timeoutMs: 20_000 });
    await guest.tryRun(['fsfreeze', '--unfreeze', fuse.backing('')]);
    await client.close({ fd: native });
    t.is(frozen.code, 0, `no write is left that has not ended: ${frozen.stderr}`);
    t.deepEqual(await fuse.dataRequests(), []);
  },
);
