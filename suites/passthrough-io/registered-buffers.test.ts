import { firstDifference, pattern, text } from '../lib/bytes.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { answerRequest, nextRequest, outHeader } from '../lib/raw-server.ts';

/** Buffers that were registered with io_uring (io_uring_register(2)): pages of the kernel's own to a filesystem. */

const PAGE = 4096;
/** What the kernel wants room for before it gives a request away. */
const ROOM = 2 * 1024 * 1024;

/** How the server answers the open; `null`: in passthrough mode. */
const MODES: readonly (readonly [what: string, openFlags: number | null, flags: string])[] = [
  ['passthrough', null, 'O_RDWR'],
  ['passthrough with O_DIRECT', null, 'O_RDWR|O_DIRECT'],
  ['cached', 0, 'O_RDWR'],
  ['cached with O_DIRECT', 0, 'O_RDWR|O_DIRECT'],
  ['DIRECT_IO', OpenFlag.DIRECT_IO, 'O_RDWR'],
];

guestTest('registered buffers of io_uring have the right bytes in every mode (A26)', async (t, guest) => {
  await using client = await guest.client();
  for (const [what, openFlags, flags] of MODES) {
    await using fuse = await guest.mountFuse();
    if (openFlags !== null) await fuse.answerOpen('OPEN', { openFlags, backingId: 0 });
    const old = pattern(4 * PAGE);
    await client.writeFile({ path: fuse.backing('f'), data: old });
    const fd = await client.open({ path: fuse.file('f'), flags });
    const data = pattern(2 * PAGE, 5);
    const done = await client.uringChain({
      operations: [
        { op: 'pread', fd, count: 2 * PAGE, offset: PAGE },
        { op: 'pwrite', fd, data, offset: 2 * PAGE },
        { op: 'fsync', fd },
        { op: 'pread', fd, count: 4 * PAGE, offset: 0 },
      ],
      fixed: true,
    });
    t.deepEqual(
      done.map(({ result }) => result),
      [2 * PAGE, 2 * PAGE, 0, 4 * PAGE],
      what,
    );
    const [first, , , last] = done.map((each) => each.data ?? new Uint8Array());
    t.is(firstDifference(first ?? old, old.subarray(PAGE, 3 * PAGE)), undefined, `${what}: the first read`);
    const wanted = Uint8Array.from(old);
    wanted.set(data, 2 * PAGE);
    t.is(firstDifference(last ?? old, wanted), undefined, `${what}: after the write`);
    await client.close({ fd });
    const stored = await client.readFile({ path: fuse.backing('f') });
    t.is(firstDifference(stored, wanted), undefined, `${what}: the backing file`);
    if (openFlags === null) t.deepEqual(await fuse.dataRequests(), [], what);
  }
});

guestTest(
  'requests are neither read into nor answered from registered buffers, and none is lost by trying (A26)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await using server = await guest.client();
    const fd = await fuse.server.lendDevice(server);
    await fuse.server.kill('SIGKILL');
    const asking = client.errno.stat({ path: fuse.file('none') });
    const read = { operations: [{ op: 'pread', fd, count: ROOM, offset: 0 }] } as const;
    const results = async (args: Parameters<typeof server.uringChain>[0]): Promise<unknown[]> => {
      return (await server.uringChain(args)).map(({ result }) => result);
    };
    t.deepEqual(await results({ operations: [...read.operations], fixed: true }), ['EINVAL'], 'a request');
    const { unique, args } = await nextRequest(server, fd);
    t.is(text(args), 'none\0', 'it is there for who has a buffer of their own');
    const data = outHeader({ unique, error: -13, bodyBytes: 0 });
    const answer = { operations: [{ op: 'pwrite' as const, fd, data, offset: 0 }] };
    t.deepEqual(await results({ ...answer, fixed: true }), ['EINVAL'], 'an answer');
    t.deepEqual(await results(answer), [data.length], 'the same from a buffer of their own');
    t.is(await asking, 'EACCES');
    t.is(await answerRequest(server, fd, { unique, error: -13 }), 'ENOENT', 'it was answered');
    await server.close({ fd });
  },
);
