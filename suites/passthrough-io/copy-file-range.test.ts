import { firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { u64 } from '../lib/entry-answer.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Either of them, as the kernel is old or new. */
const COPY = ['COPY_FILE_RANGE', 'COPY_FILE_RANGE_64'] as const;

interface Pair {
  readonly fdIn: number;
  readonly fdOut: number;
}

async function openPair(client: Client, fuse: FuseMount): Promise<Pair> {
  const fdIn = await client.open({ path: fuse.file('from'), flags: 'O_RDWR|O_CREAT' });
  const fdOut = await client.open({ path: fuse.file('to'), flags: 'O_RDWR|O_CREAT' });
  return { fdIn, fdOut };
}

guestTest('copy_file_range is the server’s work (A24)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: 3600 });
  await using client = await guest.client();
  const data = pattern(12_000);
  await client.writeFile({ path: fuse.backing('from'), data });
  const pair = await openPair(client, fuse);

  t.is(await client.copy_file_range({ ...pair, offIn: 1000, offOut: 0, length: 50_000 }), 11_000);
  const back = await client.pread({ fd: pair.fdOut, offset: 0, count: 20_000 });
  t.is(firstDifference(back, data.subarray(1000)), undefined, 'through the descriptor');
  t.is((await client.fstat({ fd: pair.fdOut })).size, 11_000);
  const nodes = [await fuse.nodeid('/from'), await fuse.nodeid('/to')];
  for (const fd of [pair.fdIn, pair.fdOut]) await client.close({ fd });
  const copied = await client.readFile({ path: fuse.backing('to') });
  t.is(firstDifference(copied, data.subarray(1000)), undefined, 'in the backing file');
  const requests = await fuse.requests({ opcode: COPY });
  t.deepEqual(
    requests.map(({ nodeid, args }) => [nodeid, Number(args['nodeid_out'])]),
    [nodes],
    'from which file, and to which',
  );
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'copy_file_range between two mounts is a splice of backing files, of which no server knows (A24)',
  async (t, guest) => {
    await using one = await guest.mountFuse();
    await using other = await guest.mountFuse();
    await using client = await guest.client();
    const data = pattern(12_000);
    await client.writeFile({ path: one.backing('from'), data });
    const fdIn = await client.open({ path: one.file('from'), flags: 'O_RDONLY' });
    const fdOut = await client.open({ path: other.file('to'), flags: 'O_RDWR|O_CREAT' });
    t.is(await client.copy_file_range({ fdIn, offIn: 1000, fdOut, offOut: 0, length: 5000 }), 5000);
    for (const fd of [fdIn, fdOut]) await client.close({ fd });
    const copied = await client.readFile({ path: other.backing('to') });
    t.is(firstDifference(copied, data.subarray(1000, 6000)), undefined);
    for (const fuse of [one, other]) {
      t.deepEqual(await fuse.opcodes({ opcode: [...COPY, 'READ', 'WRITE'] }), []);
    }
  },
);

guestTest(
  'copy_file_range that the server does not know is a splice of backing files (A24)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    const data = pattern(12_000);
    await client.writeFile({ path: fuse.backing('from'), data });
    await fuse.fail({ opcode: COPY }, 'ENOSYS');
    const pair = await openPair(client, fuse);

    t.is(await client.copy_file_range({ ...pair, length: 7000 }), 7000);
    const refused = (await fuse.requests({ opcode: COPY })).length;
    t.is(await client.copy_file_range({ ...pair, length: 7000 }), 5000, 'at the positions, up to the end');
    t.is((await fuse.requests({ opcode: COPY })).length, refused, 'ENOSYS is remembered');
    for (const fd of [pair.fdIn, pair.fdOut]) await client.close({ fd });
    t.is(firstDifference(await client.readFile({ path: fuse.backing('to') }), data), undefined);
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('copy_file_range right after an extending write sees what was written (A24)', async (t, guest) => {
  // The kernel compares with the size it knows before it asks anybody.
  await using fuse = await guest.mountFuse({ attrValidS: 3600 });
  await using client = await guest.client();
  const data = pattern(9000);
  const pair = await openPair(client, fuse);

  t.is(await client.pwrite({ fd: pair.fdIn, data, offset: 0 }), 9000);
  t.is(await client.copy_file_range({ ...pair, offIn: 0, offOut: 0, length: 9000 }), 9000);
  t.is(firstDifference(await client.readFile({ path: fuse.backing('to') }), data), undefined);
  for (const fd of [pair.fdIn, pair.fdOut]) await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('without passthrough: what is copied over the cache is read at once (A24)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: 3600 });
  await using client = await guest.client();
  const data = pattern(12_000);
  await client.writeFile({ path: fuse.backing('from'), data });
  await client.writeFile({ path: fuse.backing('to'), data: new Uint8Array(12_000).fill(7) });
  const pair = await openPair(client, fuse);
  await client.pread({ fd: pair.fdOut, count: 12_000, offset: 0 });
  t.is(await client.copy_file_range({ ...pair, offIn: 100, offOut: 5000, length: 6000 }), 6000);
  const expected = new Uint8Array(12_000).fill(7);
  expected.set(data.subarray(100, 6100), 5000);
  const back = await client.pread({ fd: pair.fdOut, count: 12_000, offset: 0 });
  t.is(firstDifference(back, expected), undefined);
  for (const fd of [pair.fdIn, pair.fdOut]) await client.close({ fd });
});

guestTest('an answer that more was copied than was asked for is EIO (A24)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('from'), data: pattern(1000) });
  const pair = await openPair(client, fuse);
  const copy = () => client.errno.copy_file_range({ ...pair, offIn: 0, offOut: 0, length: 500 });
  // As many bytes as there are, in either answer: a u32 and padding, or a u64.
  const takeBack = await fuse.rule({
    match: { opcode: COPY },
    action: { do: 'body', body: u64(501n) },
  });
  t.is(await copy(), 'EIO');
  await takeBack();
  t.is(await copy(), 'ok', 'and the files work on');
  for (const fd of [pair.fdIn, pair.fdOut]) await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'no more is asked to be copied at once than an answer can count, in whole pages (A24)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    const length = 5 * 2 ** 30;
    await client.writeFile({ path: fuse.backing('from'), data: '' });
    await client.truncate({ path: fuse.backing('from'), length });
    const pair = await openPair(client, fuse);
    await fuse.rule({ match: { opcode: COPY }, action: { do: 'body', body: u64(4096n) } });
    t.is(await client.copy_file_range({ ...pair, offIn: 0, offOut: 0, length }), 4096);
    const { opcode, args } = await fuse.waitFor({ opcode: COPY });
    t.is(args['len'], opcode === 'COPY_FILE_RANGE' ? 0xffff_f000 : length, opcode);
    for (const fd of [pair.fdIn, pair.fdOut]) await client.close({ fd });
  },
);
