import type { ExecutionContext } from 'ava';
import { bytes, firstDifference, pattern } from '../lib/bytes.ts';
import { SyscallError, type Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';

const PAGE = 4096;

/** What a call gave, errors included: data as it is, so that contents are compared too. */
async function outcome(call: Promise<unknown>): Promise<unknown> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof SyscallError) return error.errno;
    throw error;
  }
}

interface Sequence {
  readonly flags: string;
  readonly steps: (client: Client, fd: number) => readonly (() => Promise<unknown>)[];
}

const MAPPED = 'a shared mapping';

/** Each is done on a file of three pages through FUSE and on one of the backing filesystem itself. */
const SEQUENCES: Readonly<Record<string, Sequence>> = {
  'reads that are not allowed, or ask for nothing': {
    flags: 'O_WRONLY',
    steps: (client, fd) => [
      () => client.pread({ fd, count: 10, offset: 0 }),
      () => client.preadv2({ fd, counts: [], offset: 0 }),
      () => client.pwrite({ fd, data: '', offset: 0 }),
      () => client.pwrite({ fd, data: '', offset: 5 * PAGE }),
      () => client.pwritev2({ fd, chunks: [], offset: 0 }),
      () => client.pwrite({ fd, data: 'x', offset: -1 }),
      () => client.lseek({ fd, offset: 0, whence: 'SEEK_END' }),
    ],
  },
  'writes that are not allowed, and reads around the end': {
    flags: 'O_RDONLY',
    steps: (client, fd) => [
      () => client.pwrite({ fd, data: 'x', offset: 0 }),
      () => client.ftruncate({ fd, length: 0 }),
      () => client.pread({ fd, count: 0, offset: 0 }),
      () => client.pread({ fd, count: 10, offset: -1 }),
      () => client.pread({ fd, count: 10, offset: 3 * PAGE - 4 }),
      () => client.pread({ fd, count: 10, offset: 2 ** 45 }),
      () => client.fallocate({ fd, offset: 0, length: PAGE }),
    ],
  },
  positions: {
    flags: 'O_RDWR',
    steps: (client, fd) => [
      () => client.read({ fd, count: 7 }),
      () => client.write({ fd, data: 'position' }),
      () => client.lseek({ fd, offset: -3, whence: 'SEEK_CUR' }),
      () => client.read({ fd, count: 10 }),
      () => client.lseek({ fd, offset: -100, whence: 'SEEK_SET' }),
      () => client.lseek({ fd, offset: 10, whence: 'SEEK_END' }),
      () => client.write({ fd, data: 'beyond' }),
      () => client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' }),
      () => client.lseek({ fd, offset: -16, whence: 'SEEK_END' }),
      () => client.read({ fd, count: 100 }),
    ],
  },
  'data and holes': {
    flags: 'O_RDWR',
    steps: (client, fd) => [
      () => client.ftruncate({ fd, length: 20 * PAGE }),
      () => client.pwrite({ fd, data: 'island', offset: 10 * PAGE }),
      () => client.lseek({ fd, offset: 0, whence: 'SEEK_HOLE' }),
      () => client.lseek({ fd, offset: 3 * PAGE, whence: 'SEEK_DATA' }),
      () => client.lseek({ fd, offset: 10 * PAGE, whence: 'SEEK_HOLE' }),
      () => client.lseek({ fd, offset: 15 * PAGE, whence: 'SEEK_DATA' }),
      () => client.lseek({ fd, offset: 20 * PAGE, whence: 'SEEK_HOLE' }),
    ],
  },
  'appending, with splice': {
    flags: 'O_RDWR|O_APPEND',
    steps: (client, fd) => [
      () => client.pwrite({ fd, data: 'appended', offset: 0 }),
      () => spliced(client, fd, 'spliced'),
      () => client.pwritev2({ fd, chunks: [bytes('vector')], offset: 1, flags: 'RWF_APPEND' }),
      () => client.lseek({ fd, offset: 0, whence: 'SEEK_END' }),
    ],
  },
  'space taken and given back': {
    flags: 'O_RDWR',
    steps: (client, fd) => [
      () => client.fallocate({ fd, mode: 'FALLOC_FL_KEEP_SIZE', offset: 0, length: 8 * PAGE }),
      () => client.lseek({ fd, offset: 0, whence: 'SEEK_END' }),
      () => client.fallocate({ fd, mode: 'FALLOC_FL_PUNCH_HOLE', offset: 0, length: PAGE }),
      () => {
        const mode = 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE';
        return client.fallocate({ fd, mode, offset: 100, length: PAGE });
      },
      () => client.fallocate({ fd, offset: 0, length: 0 }),
      () => client.ftruncate({ fd, length: -1 }),
      () => client.ftruncate({ fd, length: PAGE + 1 }),
      () => client.pread({ fd, count: 3 * PAGE, offset: 0 }),
    ],
  },
  'copies within the file': {
    flags: 'O_RDWR',
    steps: (client, fd) => [
      () => client.copy_file_range({ fdIn: fd, offIn: 0, fdOut: fd, offOut: 2 * PAGE, length: PAGE }),
      () => client.copy_file_range({ fdIn: fd, offIn: 0, fdOut: fd, offOut: 10, length: PAGE }),
      () => client.copy_file_range({ fdIn: fd, offIn: 50 * PAGE, fdOut: fd, offOut: 0, length: 10 }),
      () => client.pread({ fd, count: 4 * PAGE, offset: 0 }),
    ],
  },
  [MAPPED]: {
    flags: 'O_RDWR',
    steps: (client, fd) => {
      const map = client.mmap({ fd, length: 3 * PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
      return [
        async () => client.mwrite({ map: await map, offset: PAGE, data: 'stored' }),
        () => client.pread({ fd, count: 10, offset: PAGE }),
        () => client.pwrite({ fd, data: 'written', offset: PAGE + 3 }),
        async () => client.mread({ map: await map, offset: PAGE, length: 20 }),
        async () => client.msync({ map: await map, flags: 'MS_SYNC' }),
        async () => client.munmap({ map: await map }),
      ];
    },
  },
  'asynchronous I/O': {
    flags: 'O_RDWR',
    steps: (client, fd) => [
      () => client.aio({ operations: [{ op: 'pwrite', fd, data: bytes('aio'), offset: 3 * PAGE - 1 }] }),
      () => client.aio({ operations: [{ op: 'pread', fd, count: 100, offset: 3 * PAGE - 4 }] }),
      () => client.aio({ operations: [{ op: 'pread', fd, count: 100, offset: -1 }] }),
      () => client.aio({ operations: [{ op: 'fsync', fd }] }),
    ],
  },
};

async function spliced(client: Client, fdOut: number, data: string): Promise<unknown> {
  const [fdIn, end] = await client.pipe({});
  await client.write({ fd: end, data });
  const result = await outcome(client.splice({ fdIn, fdOut, length: data.length }));
  for (const fd of [fdIn, end]) await client.close({ fd });
  return result;
}

async function perform(client: Client, path: string, { flags, steps }: Sequence): Promise<unknown[]> {
  const fd = await client.open({ path, flags });
  const outcomes: unknown[] = [];
  for (const step of steps(client, fd)) outcomes.push(await outcome(step()));
  const { size, blocks } = await client.fstat({ fd });
  await client.close({ fd });
  return [...outcomes, { size, blocks }];
}

async function compare(
  t: ExecutionContext,
  client: Client,
  paths: { through: string; behind: string; native: string; name: string },
): Promise<void> {
  const { through, behind, native, name } = paths;
  const sequence = SEQUENCES[name];
  if (sequence === undefined) throw new Error(`no sequence ${name}`);
  for (const path of [behind, native]) await client.writeFile({ path, data: pattern(3 * PAGE) });
  t.deepEqual(await perform(client, through, sequence), await perform(client, native, sequence), name);
  const [one, other] = [await client.readFile({ path: behind }), await client.readFile({ path: native })];
  t.is(firstDifference(one, other), undefined, `${name}: contents`);
}

for (const backing of ['ext4', 'tmpfs'] as const) {
  guestTest(`calls give on a passthrough file what they give on ${backing} itself`, async (t, guest) => {
    await using fuse = await guest.mountFuse({ root: backing, attrValidS: 3600 });
    await using client = await guest.client();
    // Side by side: no two of them have a file in common.
    const names = Object.keys(SEQUENCES).filter((name) => guest.expected.mapsBackingFile || name !== MAPPED);
    const compared = names.map((name, index) => {
      const [through, behind] = [fuse.file(`f${index}`), fuse.backing(`f${index}`)];
      return compare(t, client, { through, behind, native: fuse.backing(`native${index}`), name });
    });
    await Promise.all(compared);
    t.deepEqual(await fuse.dataRequests(), []);
  });
}
