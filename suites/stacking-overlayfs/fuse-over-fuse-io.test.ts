import { bytes, firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { RequestRecord } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { openFlagNames } from '../lib/open-flag-names.ts';
import { Witness, type WitnessOptions } from '../lib/witness.ts';

const FILE_BYTES = 20_000;

/** `f` of 20000 bytes, open. */
async function openBelow(
  guest: TestGuest,
  client: Client,
  options: WitnessOptions & { readonly flags?: string } = {},
): Promise<{ witness: Witness; fd: number }> {
  const witness = await Witness.mount(guest, options);
  await client.writeFile({ path: witness.upper.backing('f'), data: pattern(FILE_BYTES) });
  const fd = await client.open({ path: witness.upper.file('f'), flags: options.flags ?? 'O_RDWR' });
  if ((await witness.backingOpens()).length === 0) throw new Error('the file is not in passthrough mode');
  return { witness, fd };
}

/** `READ 5000@100`. */
function extent({ opcode, args }: RequestRecord): string {
  return `${opcode} ${Number(args['size'])}@${Number(args['offset'])}`;
}

type Call = (client: Client, fd: number) => Promise<unknown>;

/** One call, and the one request that the backing file gets of it. */
const TRANSFERS: Readonly<Record<string, readonly [sent: string, Call]>> = {
  read: ['READ 5000@100', (client, fd) => client.pread({ fd, count: 5000, offset: 100 })],
  'read past the end': ['READ 100@30000', (client, fd) => client.pread({ fd, count: 100, offset: 30_000 })],
  write: ['WRITE 5000@100', (client, fd) => client.pwrite({ fd, data: pattern(5000), offset: 100 })],
  readv: ['READ 12@7', (client, fd) => client.preadv2({ fd, counts: [5, 0, 7], offset: 7 })],
  writev: [
    'WRITE 12@7',
    (client, fd) => client.pwritev2({ fd, chunks: [pattern(5), pattern(7)], offset: 7 }),
  ],
  'asynchronous read': [
    'READ 4096@8192',
    (client, fd) => client.aio({ operations: [{ op: 'pread', fd, count: 4096, offset: 8192 }] }),
  ],
  'asynchronous write': [
    'WRITE 10@19995',
    (client, fd) => client.aio({ operations: [{ op: 'pwrite', fd, data: pattern(10), offset: 19_995 }] }),
  ],
  'write with RWF_APPEND': [
    `WRITE 3@${FILE_BYTES + 5}`,
    (client, fd) => client.pwritev2({ fd, chunks: [pattern(3)], offset: 0, flags: 'RWF_APPEND' }),
  ],
  'splice to the file': ['WRITE 30@50', spliceIn],
};

async function spliceIn(client: Client, fd: number): Promise<void> {
  const [fdIn, end] = await client.pipe({});
  await client.write({ fd: end, data: pattern(30) });
  await client.splice({ fdIn, fdOut: fd, offOut: 50, length: 30 });
  for (const one of [fdIn, end]) await client.close({ fd: one });
}

guestTest(
  'one call is one request to the backing file, at its offset and of its size (A1, A2, A6, A25, K22)',
  async (t, guest) => {
    await using client = await guest.client();
    const { witness, fd } = await openBelow(guest, client);
    await using _witness = witness;
    for (const [what, [sent, work]] of Object.entries(TRANSFERS)) {
      const after = await witness.lower.position();
      await work(client, fd);
      t.deepEqual((await witness.sent(['READ', 'WRITE'], after)).map(extent), [sent], what);
    }
    const model = await client.readFile({ path: witness.upper.backing('f') });
    t.is(firstDifference(await client.pread({ fd, count: 30_000, offset: 0 }), model), undefined);
    await client.close({ fd });
    t.deepEqual(await witness.upper.dataRequests(), []);
  },
);

guestTest(
  'calls without data, and calls that are refused, send nothing to the backing file (A35)',
  async (t, guest) => {
    await using client = await guest.client();
    const { witness, fd } = await openBelow(guest, client);
    await using _witness = witness;
    const after = await witness.lower.position();
    t.is((await client.pread({ fd, count: 0, offset: 0 })).length, 0);
    t.is(await client.pwrite({ fd, data: '', offset: 30_000 }), 0);
    t.is(await client.errno.pread({ fd, count: 1, offset: -1 }), 'EINVAL');
    t.is(await client.errno.pwrite({ fd, data: 'x', offset: -1 }), 'EINVAL');
    t.deepEqual((await witness.sent(['READ', 'WRITE'], after)).map(extent), []);
    t.is((await client.stat({ path: witness.upper.backing('f') })).size, FILE_BYTES);
    await client.close({ fd });
  },
);

guestTest(
  'a transfer is as large below as the call, whatever the upper server’s limits are (A37)',
  async (t, guest) => {
    await using client = await guest.client();
    const init = { maxWrite: 4096, maxPages: 1, maxReadahead: 4096 };
    const { witness, fd } = await openBelow(guest, client, { upper: { init } });
    await using _witness = witness;
    const after = await witness.lower.position();
    t.is(await client.pwrite({ fd, data: pattern(300_000), offset: 0 }), 300_000);
    t.is((await client.pread({ fd, count: 300_000, offset: 0 })).length, 300_000);
    const sent = (await witness.sent(['READ', 'WRITE'], after)).map(extent);
    t.deepEqual(sent, ['WRITE 300000@0', 'READ 300000@0']);
    await client.close({ fd });
  },
);

/** What asks for data to be on the disk, and the FSYNC of the backing file that comes after the write. */
const SYNCS = [
  { open: 'O_RDWR', rwf: '', fsync: null },
  { open: 'O_RDWR|O_DSYNC', rwf: '', fsync: 'data' },
  { open: 'O_RDWR|O_SYNC', rwf: '', fsync: 'all' },
  { open: 'O_RDWR', rwf: 'RWF_DSYNC', fsync: 'data' },
  { open: 'O_RDWR', rwf: 'RWF_SYNC', fsync: 'all' },
] as const;

guestTest(
  'O_SYNC and O_DSYNC, of the open or of one write, make the backing file durable (A6, A31)',
  async (t, guest) => {
    await using client = await guest.client();
    await using witness = await Witness.mount(guest, { io: 'cached' });
    await client.writeFile({ path: witness.upper.backing('f'), data: pattern(FILE_BYTES) });
    for (const { open, rwf, fsync } of SYNCS) {
      const fd = await client.open({ path: witness.upper.file('f'), flags: open });
      const writes: Readonly<Record<string, Call>> = {
        write: () => client.pwritev2({ fd, chunks: [pattern(9)], offset: 3, flags: rwf }),
        ...(rwf === ''
          ? {
              'asynchronous write': () =>
                client.aio({ operations: [{ op: 'pwrite', fd, data: pattern(9), offset: 3 }] }),
              'splice to the file': () => spliceIn(client, fd),
            }
          : {}),
      };
      for (const [what, write] of Object.entries(writes)) {
        const after = await witness.lower.position();
        await write(client, fd);
        const kinds = (await witness.sent(['WRITE', 'FSYNC'], after)).map(({ opcode, args }) => {
          if (opcode === 'WRITE') return 'WRITE';
          return Number(args['fsync_flags']) & 1 ? 'FSYNC of data' : 'FSYNC of all';
        });
        const expected = fsync === null ? ['WRITE'] : ['WRITE', `FSYNC of ${fsync}`];
        t.deepEqual(kinds, expected, `${what}, ${[open, rwf].filter(Boolean).join(' and ')}`);
      }
      await client.close({ fd });
    }
    t.deepEqual(await witness.upper.dataRequests(), []);
  },
);

guestTest(
  'RWF_SYNC and RWF_DSYNC of one write reach the backing file, and only that write (A6)',
  async (t, guest) => {
    await using client = await guest.client();
    const { witness, fd } = await openBelow(guest, client);
    await using _witness = witness;
    for (const [rwf, expected] of [
      ['RWF_DSYNC', 'O_RDWR|O_DSYNC'],
      ['', 'O_RDWR'],
      ['RWF_SYNC', 'O_RDWR|O_SYNC'],
      ['RWF_HIPRI', 'O_RDWR'],
    ] as const) {
      const after = await witness.lower.position();
      await client.pwritev2({ fd, chunks: [bytes('x')], offset: 0, flags: rwf });
      const [write] = await witness.sent('WRITE', after);
      t.is(openFlagNames(write?.args['flags']), expected, rwf);
    }
    await client.close({ fd });
  },
);

guestTest(
  'fsync and close are the server’s business and send nothing to the backing file themselves (A31, C17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { witness, fd } = await openBelow(guest, client);
    await using _witness = witness;
    await client.pwrite({ fd, data: 'x', offset: 0 });
    const after = await witness.lower.position();
    await client.fsync({ fd });
    await client.fdatasync({ fd });
    const copy = await client.dup({ fd });
    await client.close({ fd: copy });
    t.deepEqual(await witness.upper.opcodes({ opcode: ['FSYNC', 'FLUSH'] }), ['FSYNC', 'FSYNC', 'FLUSH']);
    t.deepEqual((await witness.sent(['FSYNC', 'FLUSH', 'RELEASE'], after)).map(extent), []);
    await client.close({ fd });
  },
);

guestTest(
  'what fails below fails above with the same errno, and a short transfer is short (A39)',
  async (t, guest) => {
    await using client = await guest.client();
    const { witness, fd } = await openBelow(guest, client);
    await using _witness = witness;
    const operation = { fd, offset: 0 };
    for (const errno of ['EIO', 'ENOSPC', 'EDQUOT', 'EFBIG', 'EPERM', 'ESTALE', 'ENODEV']) {
      const takeBack = await witness.lower.rule({
        match: { opcode: ['READ', 'WRITE'] },
        action: { do: 'error', errno },
      });
      t.is(await client.errno.pread({ ...operation, count: 10 }), errno, `read: ${errno}`);
      t.is(await client.errno.pwrite({ ...operation, data: 'x' }), errno, `write: ${errno}`);
      const [read, write] = await client.aio({
        operations: [
          { op: 'pread', ...operation, count: 10 },
          { op: 'pwrite', ...operation, data: bytes('x') },
        ],
      });
      t.deepEqual([read?.result, write?.result], [errno, errno], `asynchronous: ${errno}`);
      t.is(
        await client.errno.splice({ fdIn: await fullPipe(client), fdOut: fd, offOut: 0, length: 1 }),
        errno,
      );
      await takeBack();
    }
    const short = new Uint8Array(8);
    short[0] = 4;
    const takeBack = await witness.lower.rule({
      match: { opcode: 'WRITE' },
      action: { do: 'body', body: short },
    });
    t.is(await client.pwrite({ ...operation, data: pattern(10) }), 4, 'a short write');
    await takeBack();
    t.is((await client.fstat({ fd })).size, FILE_BYTES);
    await client.close({ fd });
    t.deepEqual(await witness.upper.dataRequests(), []);
  },
);

/** The end of a pipe with one byte in it. */
async function fullPipe(client: Client): Promise<number> {
  const [fdIn, end] = await client.pipe({});
  await client.write({ fd: end, data: 'x' });
  await client.close({ fd: end });
  return fdIn;
}

const BLOCK = 4096;

/** Ways to write a block behind the end of a file. */
const EXTENDING: Readonly<Record<string, Call>> = {
  pwrite: (client, fd) => client.pwrite({ fd, data: pattern(BLOCK), offset: BLOCK }),
  AIO: (client, fd) =>
    client.aio({ operations: [{ op: 'pwrite', fd, data: pattern(BLOCK), offset: BLOCK }] }),
  io_uring: (client, fd) =>
    client.uringChain({ operations: [{ op: 'pwrite', fd, data: pattern(BLOCK), offset: BLOCK }] }),
};

for (const [how, io, flags] of [
  ['cached', 'cached', 'O_RDWR'],
  ['direct', 'cached', 'O_RDWR|O_DIRECT'],
  ['cached by the client, direct below', 'direct', 'O_RDWR'],
  ['direct by the client and below', 'direct', 'O_RDWR|O_DIRECT'],
] as const) {
  guestTest(
    `a write behind the end, ${how}, makes the file longer before anybody is asked (A25, A26, A41)`,
    async (t, guest) => {
      await using client = await guest.client();
      const options = { io, upper: { attrValidS: 3600 }, lowerInit: { addFlags: ['ASYNC_DIO'] } } as const;
      await using witness = await Witness.mount(guest, options);
      for (const [call, work] of Object.entries(EXTENDING)) {
        await client.writeFile({ path: witness.upper.backing(call), data: pattern(BLOCK) });
        const fd = await client.open({ path: witness.upper.file(call), flags });
        t.is((await client.fstat({ fd })).size, BLOCK);
        await work(client, fd);
        t.is((await client.stat({ path: witness.upper.backing(call) })).size, 2 * BLOCK, `${call}, below`);
        const { size } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
        t.is(size, 2 * BLOCK, call);
        await client.close({ fd });
      }
      t.deepEqual(await witness.upper.dataRequests(), []);
    },
  );
}
