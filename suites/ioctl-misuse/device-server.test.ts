import { concat, pattern, text } from '../lib/bytes.ts';
import { ioctlOn32, needs32Bit } from '../lib/calls-32.ts';
import { SyscallError } from '../lib/client.ts';
import { DeviceServer, needsDevices, type Answer } from '../lib/device-server.ts';
import { u32 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';
import { askAgain, ioctlAnswer, RETRY, type Piece } from '../lib/ioctl-answer.ts';

/**
 * ioctl(2) of a character device whose server is in user space (CUSE), by the code that does it for files: such a
 * server may say what it wants of the caller's memory, and is asked again with that.
 */

/** include/uapi/linux/fuse.h */
const [COMPAT, UNRESTRICTED, FOR_32_BITS] = [1, 2, 8];
const MAX_IOV = 256;
/** Of a request, where the server has not said how many pages it may have. */
const MOST_BYTES = 32 * 4096;
/** Without direction and size: nothing comes along by itself. */
const REQUEST = 0x6701;
/** Where no process has memory. */
const NOWHERE = 16n;

async function outcomeOf(call: Promise<{ ret: number; arg: Uint8Array | null }>): Promise<unknown> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof SyscallError) return error.errno;
    throw error;
  }
}

guestTest(
  'the server of a device is asked again with what it wants of the caller’s memory',
  async (t, guest) => {
    await needsDevices(guest);
    await using client = await guest.client();
    await using server = await DeviceServer.start(guest);
    const fd = await server.open(client);
    const memory = pattern(64, 3);
    const call = client.ioctl({ fd, request: REQUEST, arg: memory });
    const asked = await server.serve([
      ({ arg }) => askAgain([[arg, 16]]),
      ({ arg }) =>
        askAgain(
          [
            [arg + 8n, 4],
            [arg + 32n, 8],
          ],
          [
            [arg + 48n, 3],
            [arg + 56n, 1],
            [arg + 60n, 4],
          ],
        ),
      () => ioctlAnswer(42, pattern(5, 5)),
    ]);
    t.deepEqual(
      asked.map(({ flags, outSize, data }) => [flags, outSize, data]),
      [
        [UNRESTRICTED, 0, new Uint8Array()],
        [UNRESTRICTED, 0, memory.slice(0, 16)],
        [UNRESTRICTED, 8, concat(memory.slice(8, 12), memory.slice(32, 40))],
      ],
    );
    const expected = memory.slice();
    expected.set(pattern(5, 5).subarray(0, 3), 48);
    expected.set(pattern(5, 5).subarray(3, 4), 56);
    expected.set(pattern(5, 5).subarray(4), 60);
    t.deepEqual(await call, { ret: 42, arg: expected }, 'what the caller has then');
    await server.close(client, fd);
  },
);

const many = (count: number, at: bigint): Piece[] =>
  Array.from({ length: count }, (_none, nth) => [at + BigInt(nth), 1] as const);

/** What the first answer asks for, and what comes of it: an errno, or the sizes that the second request has. */
const WANTED: Readonly<Record<string, readonly [(at: bigint) => Uint8Array, string | [number, number]]>> = {
  nothing: [() => askAgain([]), [0, 0]],
  'as many pieces as there may be': [(at) => askAgain(many(MAX_IOV, at)), [MAX_IOV, 0]],
  'as many to write': [(at) => askAgain([], many(MAX_IOV, at)), [0, MAX_IOV]],
  'as many, of both kinds': [(at) => askAgain(many(200, at), many(MAX_IOV - 200, at)), [200, MAX_IOV - 200]],
  'more pieces to read': [() => askAgain([], [], [MAX_IOV + 1, 0]), 'ENOMEM'],
  'more pieces to write': [() => askAgain([], [], [0, MAX_IOV + 1]), 'ENOMEM'],
  'more pieces of both kinds': [() => askAgain([], [], [200, MAX_IOV - 199]), 'ENOMEM'],
  'so many that the sum is small': [(at) => askAgain([[at, 1]], [], [0xffff_ffff, 2]), 'ENOMEM'],
  'more pieces than it names': [(at) => askAgain([[at, 1]], [], [2, 0]), 'EIO'],
  'fewer pieces than it names': [(at) => askAgain([[at, 1]], [[at, 1]], [1, 0]), 'EIO'],
  'part of a piece': [(at) => askAgain([[at, 1]]).subarray(0, 28), 'EIO'],
  'as many bytes as there may be': [(at) => askAgain([], [[at, MOST_BYTES]]), [0, MOST_BYTES]],
  'one byte more to read': [(at) => askAgain([[at, MOST_BYTES + 1]]), 'ENOMEM'],
  'one byte more to write': [(at) => askAgain([], [[at, MOST_BYTES + 1]]), 'ENOMEM'],
  'one byte more, in two pieces': [
    (at) =>
      askAgain(
        [],
        [
          [at, MOST_BYTES],
          [at, 1],
        ],
      ),
    'ENOMEM',
  ],
  'a length that is none': [(at) => askAgain([[at, 0xffff_ffff_ffff_ffffn]]), 'ENOMEM'],
  'a length that is none, to write': [(at) => askAgain([], [[at, 0xffff_ffff_ffff_ffffn]]), 'ENOMEM'],
  'memory that is not there': [() => askAgain([[NOWHERE, 8]]), 'EFAULT'],
};

guestTest(
  'the server of a device may want so many pieces and bytes, of memory that there is',
  async (t, guest) => {
    await needsDevices(guest);
    await using client = await guest.client();
    await using server = await DeviceServer.start(guest);
    const fd = await server.open(client);
    for (const [what, [want, expected]] of Object.entries(WANTED)) {
      const call = outcomeOf(client.ioctl({ fd, request: REQUEST, arg: pattern(512) }));
      const refused = typeof expected === 'string';
      const answers: Answer[] = [({ arg }) => want(arg), ...(refused ? [] : [() => ioctlAnswer(7)])];
      const [, second] = await server.serve(answers);
      if (refused) t.is(await server.unlessAsked(call), expected, what);
      else {
        t.deepEqual([second?.data.length, second?.outSize], expected, what);
        t.like(await call, { ret: 7 }, what);
      }
    }
    const call = outcomeOf(client.ioctl({ fd, request: REQUEST, arg: pattern(8) }));
    await server.serve([({ arg }) => askAgain([], [[arg, 4]]), () => ioctlAnswer(0, pattern(5))]);
    t.is(await call, 'EIO', 'more data than there is room for');
    await server.close(client, fd);
  },
);

guestTest(
  'the server of a device that is restricted gets what the number says, and nothing else',
  async (t, guest) => {
    await needsDevices(guest);
    await using client = await guest.client();
    await using server = await DeviceServer.start(guest, { unrestricted: false });
    const fd = await server.open(client);
    const request = 0xc008_6701;
    const call = outcomeOf(client.ioctl({ fd, request, arg: pattern(8) }));
    const asked = await server.serve([() => ioctlAnswer(7, pattern(8, 5))]);
    t.like(asked[0], { flags: 0, outSize: 8, data: pattern(8) });
    t.deepEqual(await call, { ret: 7, arg: pattern(8, 5) });
    const again_ = outcomeOf(client.ioctl({ fd, request, arg: pattern(8) }));
    await server.serve([({ arg }) => askAgain([[arg, 8]])]);
    t.is(await again_, 'EIO', 'one that wants more');
    await server.close(client, fd);
  },
);

guestTest('that there is a new device is announced', async (t, guest) => {
  await needsDevices(guest);
  await using client = await guest.client();
  // Other events may come meanwhile, which make it more.
  const announced = async (): Promise<number> =>
    Number(text(await client.readFile({ path: '/sys/kernel/uevent_seqnum' })));
  const before = await announced();
  await using server = await DeviceServer.start(guest);
  t.true((await announced()) > before, `an event tells of ${server.path}`);
});

guestTest('the server of a device for 32-bit programs names their memory in 32 bits', async (t, guest) => {
  await needsDevices(guest);
  await needs32Bit(guest);
  const old = (at: bigint, length: number): Uint8Array =>
    concat(u32(0), u32(RETRY), u32(1), u32(0), u32(Number(at)), u32(length));
  const EIO = -5;
  for (const [minor, rows] of [
    [
      36,
      [
        ['as later servers do', (at: bigint) => askAgain([[at, 8]]), 7, 'data'],
        ['as early servers did', (at: bigint) => old(at, 8), EIO, 'EIO'],
        ['in more bits', (at: bigint) => askAgain([[at + (1n << 32n), 8]]), EIO, undefined],
        ['of a length in more bits', (at: bigint) => askAgain([[at, 1n << 32n]]), EIO, undefined],
      ],
    ],
    [
      15,
      [
        ['as a 64-bit server', (at: bigint) => askAgain([[at, 8]]), 7, 'data'],
        ['as a 32-bit server', (at: bigint) => old(at, 8), 7, 'EINVAL'],
        ['in part', (at: bigint) => old(at, 8).subarray(0, 20), EIO, 'EIO'],
      ],
    ],
  ] as const) {
    await using client = await guest.client();
    await using server = await DeviceServer.start(guest, { minor });
    const fd = await server.open(client);
    for (const [how, want, in32, in64] of rows) {
      const what = `version 7.${minor}: ${how}`;
      const call = ioctlOn32(guest, client, { pid: client.pid, fd }, { request: REQUEST, arg: pattern(8) });
      const answers: Answer[] = [({ arg }) => want(arg), ...(in32 === 7 ? [() => ioctlAnswer(7)] : [])];
      const [first, second] = await server.serve(answers);
      t.is(await call, in32, what);
      t.is(first?.flags, COMPAT | UNRESTRICTED | FOR_32_BITS, what);
      if (in32 === 7) t.deepEqual(second?.data, pattern(8), what);
      if (in64 === undefined) continue;
      const wide = outcomeOf(client.ioctl({ fd, request: REQUEST, arg: pattern(8) }));
      await server.serve([({ arg }) => want(arg), ...(in64 === 'data' ? [() => ioctlAnswer(7)] : [])]);
      if (in64 === 'data') t.like(await wide, { ret: 7 }, `${what}, to a 64-bit program`);
      else t.is(await wide, in64, `${what}, to a 64-bit program`);
    }
    await server.close(client, fd);
  }
});
